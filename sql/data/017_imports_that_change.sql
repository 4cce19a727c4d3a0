-- A file may change records that are there: found by their code, and only as they were when the file was read.
alter table erp_import add column mode text not null default 'create' check (mode in ('create', 'update', 'upsert'));
comment on column erp_import.mode is 'Whether records are made, those that are there changed, or either, by code.';
alter table erp_import_line
  add column record_id uuid,
  add column record_version int,
  add check ((record_id is null) = (record_version is null));
comment on column erp_import_line.record_id is 'The record that the line changes, as of record_version; null for one that it makes.';
