-- Kinds of devices: what they measure, how that becomes what is kept, and how often they are heard of.
create table tel_device_profile (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  code text not null,
  name text not null,
  expected_interval_seconds int not null default 300 check (expected_interval_seconds between 1 and 604800),
  other_metrics boolean not null default true,
  metrics jsonb not null default '[]',
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
comment on column tel_device_profile.metrics is 'By metric: value × factor + offset is what is kept, and between what limits it makes sense.';
create unique index tel_device_profile__code_key on tel_device_profile (tenant_id, organization_id, code) where deleted_at is null;
create index tel_device_profile_name on tel_device_profile (tenant_id, organization_id, name, id) where deleted_at is null;
create index tel_device_profile_recent on tel_device_profile (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('tel_device_profile');
call plane.audited('tel_device_profile');

alter table tel_device
  add column profile_id uuid,
  add column expected_interval_seconds int check (expected_interval_seconds between 1 and 604800),
  add foreign key (tenant_id, profile_id) references tel_device_profile (tenant_id, id);
comment on column tel_device.expected_interval_seconds is 'How often it is heard of, where that is not as its profile says.';
create index tel_device_name on tel_device (tenant_id, organization_id, name, id) where deleted_at is null;
create index tel_device_profile_id on tel_device (tenant_id, organization_id, profile_id, id) where deleted_at is null;
create index tel_device_site_id on tel_device (tenant_id, organization_id, site_id, id) where deleted_at is null;
create index tel_device_batch_id on tel_device (tenant_id, organization_id, batch_id, id) where deleted_at is null;
create index tel_device_tags on tel_device using gin (tenant_id, organization_id, tags) where deleted_at is null;
create index tel_device_last_seen_at on tel_device (tenant_id, organization_id, last_seen_at, id) where deleted_at is null;

create index tel_metric_recent on tel_metric (tenant_id, created_at desc, id desc);
comment on column tel_metric.kind is 'gauge: a level that is measured; counter: a count that only grows until it begins anew.';
