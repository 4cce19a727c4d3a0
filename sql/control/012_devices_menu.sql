insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.device_profiles', 'telemetry', '{"en":"Kinds of devices","es":"Tipos de dispositivo","pt":"Tipos de dispositivo","tr":"Cihaz türleri","az":"Cihaz növləri"}', '/telemetry/device-profiles', 'sliders', 3, 'telemetry.devices', 'telemetry.device_profile.read'),
  ('telemetry.metrics', 'telemetry', '{"en":"Metrics","es":"Métricas","pt":"Métricas","tr":"Ölçütler","az":"Göstəricilər"}', '/telemetry/metrics', 'bar-chart-2', 4, 'telemetry.devices', 'telemetry.metric.read');
