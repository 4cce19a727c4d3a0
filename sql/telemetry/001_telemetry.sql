-- Devices, what they measure, and the rules over it. The big table itself is in the next file, in two editions.
create table tel_device (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  site_id uuid,
  batch_id uuid,
  tags text[] not null default '{}',
  last_seen_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on column tel_device.code is 'What the device calls itself, unique in the tenant: messages carry it.';
create unique index tel_device__code_key on tel_device (tenant_id, code) where deleted_at is null;
create index tel_device_recent on tel_device (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_device_code on tel_device (tenant_id, organization_id, code, id) where deleted_at is null;
create index tel_device_search on tel_device using gin (tenant_id, code gin_trgm_ops, name gin_trgm_ops) where deleted_at is null;
call plane.protect('tel_device');
call plane.audited('tel_device');

create table tel_device_key (
  id uuid primary key,
  tenant_id uuid not null,
  device_id uuid not null,
  key_hash bytea not null,
  hint text not null,
  expires_at timestamptz(3),
  revoked_at timestamptz(3),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, key_hash),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id)
);
comment on column tel_device_key.key_hash is 'SHA-256 of a random 256-bit key: nothing to guess, so no slow hash is needed.';
create index tel_device_key_device on tel_device_key (tenant_id, device_id);
call plane.protect('tel_device_key');
call plane.audited('tel_device_key', '{key_hash}');

create table tel_metric (
  id uuid primary key,
  tenant_id uuid not null,
  code text not null check (length(code) between 1 and 64),
  unit text,
  kind text not null default 'gauge' check (kind in ('gauge', 'counter')),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id)
);
create unique index tel_metric__code_key on tel_metric (tenant_id, code);
call plane.protect('tel_metric');
call plane.audited('tel_metric');

create table tel_series (
  series_id bigint generated always as identity primary key,
  tenant_id uuid not null,
  device_id uuid not null,
  metric_id uuid not null,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, device_id, metric_id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id),
  foreign key (tenant_id, metric_id) references tel_metric (tenant_id, id)
);
call plane.protect('tel_series');
grant usage on all sequences in schema public to tenantry_app;

create table tel_rule (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  name text not null,
  device_id uuid,
  metric_id uuid,
  condition jsonb not null,
  severity text not null default 'warning' check (severity in ('info', 'warning', 'critical')),
  enabled boolean not null default true,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id)
);
call plane.protect('tel_rule');
call plane.audited('tel_rule');

create table tel_alert (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  rule_id uuid not null,
  series_id bigint,
  status text not null default 'raised' check (status in ('raised', 'acknowledged', 'cleared')),
  raised_at timestamptz(3) not null,
  acknowledged_at timestamptz(3),
  cleared_at timestamptz(3),
  value double precision,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  foreign key (tenant_id, rule_id) references tel_rule (tenant_id, id)
);
create unique index tel_alert__rule_id__series_id_key on tel_alert (tenant_id, rule_id, series_id) nulls not distinct where status <> 'cleared';
call plane.protect('tel_alert');
call plane.audited('tel_alert');

create table tel_rejection (
  tenant_id uuid not null,
  device text not null,
  reason text not null,
  hour timestamptz(3) not null,
  count bigint not null default 0,
  last_at timestamptz(3) not null,
  primary key (tenant_id, device, reason, hour)
);
comment on table tel_rejection is 'How many readings of a device were refused, by reason and hour.';
call plane.protect('tel_rejection');
