-- Notes on what was measured: of a device, or of one of its metrics, at a moment or over a time.
create table tel_annotation (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  device_id uuid not null,
  metric text check (length(metric) between 1 and 64),
  starts_at timestamptz(3) not null,
  ends_at timestamptz(3),
  text text not null check (length(text) between 1 and 2000),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id),
  check (ends_at >= starts_at)
);
comment on column tel_annotation.metric is 'The code of one metric; null is of the whole device.';
comment on column tel_annotation.ends_at is 'Null is a moment.';
create index tel_annotation_recent on tel_annotation (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_annotation_starts_at on tel_annotation (tenant_id, organization_id, starts_at, id) where deleted_at is null;
create index tel_annotation_device_id on tel_annotation (tenant_id, organization_id, device_id, starts_at) where deleted_at is null;
create index tel_annotation_metric on tel_annotation (tenant_id, organization_id, metric, id) where deleted_at is null;
create index tel_annotation_search on tel_annotation using gin (tenant_id, text gin_trgm_ops) where deleted_at is null;
call plane.protect('tel_annotation');
call plane.audited('tel_annotation');
