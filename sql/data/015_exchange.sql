-- Records by the thousand: read from a file and looked at, then taken in all at once or not at all; and written to a file.
create table erp_import (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  entity text not null,
  status text not null default 'reading' check (status in ('reading', 'ready', 'applying', 'done', 'failed', 'cancelled')),
  file_id uuid not null,
  encoding text not null,
  columns text[] not null default '{}',
  mapping jsonb not null default '{}',
  lines int not null default 0,
  wrong int not null default 0,
  taken int not null default 0,
  failure jsonb,
  requested_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id),
  foreign key (tenant_id, file_id) references file_object (tenant_id, id)
);
comment on column erp_import.mapping is 'Column of the file → property of the record; the next file with the same columns is read the same way.';
comment on column erp_import.lines is 'Read so far; wrong: of these, with errors; taken: records that were made.';
create index erp_import_status on erp_import (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_import_entity on erp_import (tenant_id, organization_id, entity, id) where deleted_at is null;
create index erp_import_recent on erp_import (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_import');
call plane.audited('erp_import');
call plane.counted('erp_import');

create table erp_import_line (
  tenant_id uuid not null,
  import_id uuid not null,
  line int not null,
  record jsonb not null,
  errors jsonb,
  primary key (tenant_id, import_id, line),
  foreign key (tenant_id, import_id) references erp_import (tenant_id, id)
);
comment on table erp_import_line is 'What was read, a line each: reading goes on after the last one, and taking in needs no file.';
create index erp_import_line_wrong on erp_import_line (tenant_id, import_id, line) where errors is not null;
call plane.protect('erp_import_line');

create table erp_export (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  workspace_id uuid,
  entity text not null,
  format text not null check (format in ('csv', 'xlsx')),
  query jsonb not null default '{}',
  status text not null default 'queued' check (status in ('queued', 'done', 'failed')),
  file_id uuid,
  records int,
  failure jsonb,
  requested_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
create index erp_export_status on erp_export (tenant_id, organization_id, status, id) where deleted_at is null;
create index erp_export_recent on erp_export (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
call plane.protect('erp_export');
call plane.audited('erp_export');
call plane.counted('erp_export');
