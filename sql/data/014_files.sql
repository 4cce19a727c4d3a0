-- Files and what they belong to. The bytes lie in a store; here is what is known of them.
create table file_object (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  name text not null,
  size bigint not null check (size > 0),
  sha256 char(64) not null,
  media_type text not null,
  scan text not null default 'pending' check (scan in ('pending', 'clean', 'infected', 'unscanned')),
  finding text,
  width int,
  height int,
  uploaded_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  custom jsonb not null default '{}',
  unique (tenant_id, id)
);
comment on column file_object.media_type is 'What the bytes are, by themselves; not what somebody called them.';
comment on column file_object.scan is 'pending: in quarantine; unscanned: there is no scanner. Only clean and unscanned ones are served.';
create index file_object_sha256 on file_object (tenant_id, organization_id, sha256, id) where deleted_at is null;
create index file_object_media_type on file_object (tenant_id, organization_id, media_type, id) where deleted_at is null;
create index file_object_scan on file_object (tenant_id, organization_id, scan, id) where deleted_at is null;
create index file_object_recent on file_object (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index file_object_name on file_object (tenant_id, organization_id, name, id) where deleted_at is null;
call plane.protect('file_object');
call plane.audited('file_object');
call plane.counted('file_object');

create table file_link (
  id uuid primary key,
  tenant_id uuid not null,
  organization_id uuid not null,
  file_id uuid not null,
  entity text not null,
  entity_id uuid not null,
  role text not null default 'document' check (role in ('document', 'image')),
  created_by uuid,
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, id),
  unique (tenant_id, entity_id, file_id),
  foreign key (tenant_id, file_id) references file_object (tenant_id, id)
);
comment on table file_link is 'A file belongs to any number of records.';
create index file_link_file on file_link (tenant_id, file_id);
call plane.protect('file_link');
call plane.audited('file_link');

/* Bytes count against the plan while somebody has them. */
create function file_count_bytes() returns trigger language plpgsql security definer as $$
begin
  perform plane.use(new.tenant_id, 'storage', case when new.deleted_at is null then new.size else -new.size end,
    nullif(current_setting('tenantry.storage_allowed', true), '')::bigint);
  return null;
end
$$;
create trigger count_bytes_made after insert on file_object for each row execute function file_count_bytes();
create trigger count_bytes_marked after update of deleted_at on file_object for each row
  when ((old.deleted_at is null) <> (new.deleted_at is null)) execute function file_count_bytes();
