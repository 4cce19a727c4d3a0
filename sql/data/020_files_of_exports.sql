-- Exports belong to the user who asked for them, and end; a job that keeps killing its process is set aside.
alter table file_object
  add column origin text not null default 'upload' check (origin in ('upload', 'export')),
  add column sealed boolean not null default false,
  add column read_permissions text[] not null default '{}',
  add column expires_at timestamptz(3);
comment on column file_object.origin is 'upload: the user''s own bytes; export: records of the ERP, written by a worker.';
comment on column file_object.sealed is 'Its bytes are encrypted in the store under the tenant''s key.';
comment on column file_object.read_permissions is 'Needed, beside file.object.read, by users other than the one in uploaded_by; of an export by every user who downloads it.';
comment on column file_object.expires_at is 'From then on the file is not served; the hourly job removes its bytes. Null for files that stay.';
create index file_object_expires_at on file_object (tenant_id, expires_at) where expires_at is not null and deleted_at is null;

alter table erp_import add column starts int not null default 0;
comment on column erp_import.starts is 'How often a worker has begun its present step without an orderly end; set aside after three.';
alter table erp_export
  add column starts int not null default 0,
  add column expires_at timestamptz(3);
comment on column erp_export.starts is 'As erp_import.starts.';
comment on column erp_export.expires_at is 'When its file is removed.';

/* Files of exports and sources of imports from before: readable as the records are, and exports end in a week. */
update file_object f
set origin = 'export', read_permissions = array[regexp_replace(e.entity, '_', '.') || '.read'], expires_at = now() + interval '7 days'
from erp_export e where e.tenant_id = f.tenant_id and e.file_id = f.id;
update erp_export set expires_at = now() + interval '7 days' where status = 'done';
update file_object f
set read_permissions = (
  select array_agg(distinct regexp_replace(i.entity, '_', '.') || '.read')
  from erp_import i where i.tenant_id = f.tenant_id and i.file_id = f.id)
where origin = 'upload' and exists (select from erp_import i where i.tenant_id = f.tenant_id and i.file_id = f.id);
