-- Who is notified of alerts, and what was sent.
create table tel_notification_channel (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  name text not null,
  kind text not null check (kind in ('mail')),
  enabled boolean not null default true,
  user_ids uuid[] not null default '{}',
  addresses text[] not null default '{}',
  severities text[] not null default '{}' check (severities <@ array['info', 'warning', 'critical']),
  rule_ids uuid[] not null default '{}',
  on_raise boolean not null default true,
  on_clear boolean not null default true,
  repeat_minutes int check (repeat_minutes between 5 and 10080),
  escalate_to_id uuid,
  escalate_after_minutes int check (escalate_after_minutes between 1 and 10080),
  flap_limit int not null default 4 check (flap_limit between 1 and 1000),
  quiet_from text check (quiet_from ~ '^([01]\d|2[0-3]):[0-5]\d$'),
  quiet_until text check (quiet_until ~ '^([01]\d|2[0-3]):[0-5]\d$'),
  time_zone text not null default 'UTC',
  snoozed_until timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id),
  foreign key (tenant_id, escalate_to_id) references tel_notification_channel (tenant_id, id),
  check ((escalate_to_id is null) = (escalate_after_minutes is null)),
  check ((quiet_from is null) = (quiet_until is null))
);
comment on column tel_notification_channel.severities is 'None is all of them; the same of rule_ids.';
create index tel_notification_channel_recent on tel_notification_channel (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_notification_channel_name on tel_notification_channel (tenant_id, organization_id, name, id) where deleted_at is null;
create index tel_notification_channel_enabled on tel_notification_channel (tenant_id, organization_id, enabled, id) where deleted_at is null;
create index tel_notification_channel_escalate_to on tel_notification_channel (tenant_id, escalate_to_id) where deleted_at is null;
create index tel_notification_channel_search on tel_notification_channel using gin (tenant_id, name gin_trgm_ops) where deleted_at is null;
call plane.protect('tel_notification_channel');
call plane.audited('tel_notification_channel');

create table tel_alert_notification (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  alert_id uuid not null,
  channel_id uuid not null,
  kind text not null check (kind in ('raised', 'repeated', 'escalated', 'cleared')),
  number int not null default 0,
  message_id uuid not null,
  sent_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  foreign key (tenant_id, alert_id) references tel_alert (tenant_id, id),
  foreign key (tenant_id, channel_id) references tel_notification_channel (tenant_id, id)
);
comment on table tel_alert_notification is 'Each notification once: the key decides between workers that look at the same time.';
comment on column tel_alert_notification.message_id is 'Notifications of one channel that go out as one message.';
create unique index tel_alert_notification_once on tel_alert_notification (tenant_id, alert_id, channel_id, kind, number);
create index tel_alert_notification_recent on tel_alert_notification (tenant_id, organization_id, created_at desc, id desc);
create index tel_alert_notification_alert_id on tel_alert_notification (tenant_id, organization_id, alert_id, created_at desc, id desc);
create index tel_alert_notification_channel_id on tel_alert_notification (tenant_id, organization_id, channel_id, created_at desc, id desc);
create index tel_alert_notification_channel on tel_alert_notification (tenant_id, channel_id, created_at);
create index tel_alert_notification_unsent on tel_alert_notification (tenant_id, message_id) where sent_at is null;
create index tel_alert_open on tel_alert (tenant_id, organization_id, created_at) where status = 'raised';
create index tel_alert_cleared on tel_alert (tenant_id, organization_id, updated_at) where status = 'cleared';
call plane.protect('tel_alert_notification');

/* Tenants that have channels. It tells no more than that. */
create function plane.tenants_with_notification_channels() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
  select coalesce(array_agg(distinct tenant_id), '{}') from tel_notification_channel where enabled and deleted_at is null
$$;
revoke execute on function plane.tenants_with_notification_channels from public;
grant execute on function plane.tenants_with_notification_channels to tenantry_app;
