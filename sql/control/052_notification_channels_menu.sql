insert into platform_menu_items (code, parent, labels, path, icon, sort, module, permission) values
  ('telemetry.notification_channels', 'telemetry', '{"en":"Notifications","es":"Notificaciones","pt":"Notificações","tr":"Bildirimler","az":"Bildirişlər"}', '/telemetry/notification-channels', 'mail', 8, 'telemetry.devices', 'telemetry.notification_channel.read');
