insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.calibrations', 'telemetry', '{"en":"Calibrations","es":"Calibraciones","pt":"Calibrações","tr":"Kalibrasyonlar","az":"Kalibrləmələr"}', '/telemetry/calibrations', 'crosshair', 10, 'telemetry.devices', 'telemetry.calibration.read');
