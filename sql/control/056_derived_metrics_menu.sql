insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.derived_metrics', 'telemetry', '{"en":"Derived metrics","es":"Métricas derivadas","pt":"Métricas derivadas","tr":"Türetilmiş ölçütler","az":"Törəmə göstəricilər"}', '/telemetry/derived-metrics', 'divide-square', 11, 'telemetry.devices', 'telemetry.derived_metric.read');
