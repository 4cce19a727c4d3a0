-- Corrections of single devices: from a time on, the stored value is value × factor + offset.
create table tel_calibration (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  device_id uuid not null,
  metric text not null check (length(metric) between 1 and 64),
  valid_from timestamptz(3) not null,
  factor double precision not null default 1 check (factor <> 0),
  "offset" double precision not null default 0,
  note text check (length(note) between 1 and 500),
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id)
);
comment on table tel_calibration is 'A calibration holds until the next one of its device and metric begins, so two never overlap.';
create unique index tel_calibration__device_id__metric__valid_from_key on tel_calibration (tenant_id, device_id, metric, valid_from) where deleted_at is null;
create index tel_calibration_recent on tel_calibration (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_calibration_valid_from on tel_calibration (tenant_id, organization_id, valid_from, id) where deleted_at is null;
create index tel_calibration_device_id on tel_calibration (tenant_id, organization_id, device_id, valid_from, id) where deleted_at is null;
create index tel_calibration_metric on tel_calibration (tenant_id, organization_id, metric, id) where deleted_at is null;
call plane.protect('tel_calibration');
call plane.audited('tel_calibration');

alter table tel_device add column calibration_version int not null default 0;
comment on column tel_device.calibration_version is 'Grows with each change of its calibrations; 0: it never had any, and ingest looks for none.';
