insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.annotations', 'telemetry', '{"en":"Annotations","es":"Anotaciones","pt":"Anotações","tr":"Notlar","az":"Qeydlər"}', '/telemetry/annotations', 'edit-3', 10, 'telemetry.devices', 'telemetry.annotation.read'),
  ('platform.trials', 'platform', '{"en":"Trials","es":"Pruebas","pt":"Testes","tr":"Denemeler","az":"Sınaqlar"}', '/superadmin/trials', 'clock', 11, null, 'platform.tenant_activity.read');
