insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.alerts', 'telemetry', '{"en":"Alerts","es":"Alertas","pt":"Alertas","tr":"Uyarılar","az":"Xəbərdarlıqlar"}', '/telemetry/alerts', 'bell', 6, 'telemetry.devices', 'telemetry.alert.read'),
  ('telemetry.rules', 'telemetry', '{"en":"Rules","es":"Reglas","pt":"Regras","tr":"Kurallar","az":"Qaydalar"}', '/telemetry/rules', 'eye', 7, 'telemetry.devices', 'telemetry.rule.read');
