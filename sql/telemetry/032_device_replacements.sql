-- A device whose hardware is replaced keeps its id, its code, its series and their history; each replacement is recorded.
alter table tel_device
  add column serial_number text check (length(serial_number) between 1 and 100),
  add column replaced_at timestamptz(3);
comment on column tel_device.serial_number is 'Of the hardware that is in use.';
comment on column tel_device.replaced_at is 'When its hardware was replaced last.';

create table tel_device_replacement (
  id uuid primary key,
  tenant_id uuid not null,
  device_id uuid not null,
  previous_serial_number text,
  serial_number text,
  reason text check (length(reason) between 1 and 500),
  replaced_by uuid,
  replaced_at timestamptz(3) not null,
  unique (tenant_id, id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id)
);
comment on table tel_device_replacement is 'Hardware that was replaced; the series of the device go on.';
create index tel_device_replacement_device on tel_device_replacement (tenant_id, device_id, replaced_at desc, id desc);
call plane.protect('tel_device_replacement', rights => 'select, insert');
call plane.audited('tel_device_replacement');
