-- Roles, permissions, assignments and overrides.
create table res_permissions (
  code text primary key check (code ~ '^[a-z_]+(\.[a-z_]+)+$'),
  description text not null,
  module text,
  dangerous boolean not null default false
);
comment on table res_permissions is 'The global registry, the same for every tenant; written by migration from the routes.';
grant select on res_permissions to tenantry_app, tenantry_reader;

create table res_roles (
  id uuid primary key,
  tenant_id uuid not null references tenants,
  code text not null,
  name text not null,
  template text,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  deleted_at timestamptz(3),
  unique (tenant_id, id)
);
create unique index res_roles__code_key on res_roles (tenant_id, code) where deleted_at is null;
call plane.protect('res_roles', true);
call plane.audited('res_roles');

create table res_role_permissions (
  id uuid primary key,
  tenant_id uuid not null,
  role_id uuid not null,
  permission text not null check (permission ~ '^(\*|[a-z_]+(\.[a-z_]+)*\.\*|[a-z_]+(\.[a-z_]+)+|\*(\.[a-z_]+)+)$'),
  created_at timestamptz(3) not null default now(),
  unique (tenant_id, role_id, permission),
  foreign key (tenant_id, role_id) references res_roles (tenant_id, id)
);
comment on column res_role_permissions.permission is 'A code, or a pattern: `erp.*` is everything under erp, `*.read` every read.';
call plane.protect('res_role_permissions', true);
call plane.audited('res_role_permissions');

create table res_user_roles (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  role_id uuid not null,
  organization_id uuid,
  workspace_id uuid,
  expires_at timestamptz(3),
  granted_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  check (workspace_id is null or organization_id is not null),
  unique nulls not distinct (tenant_id, user_id, role_id, organization_id, workspace_id),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id),
  foreign key (tenant_id, role_id) references res_roles (tenant_id, id),
  foreign key (tenant_id, organization_id) references res_organizations (tenant_id, id),
  foreign key (tenant_id, organization_id, workspace_id) references res_workspaces (tenant_id, organization_id, id)
);
comment on table res_user_roles is 'Scope: no organization is the whole tenant, no workspace the whole organization.';
create index res_user_roles_role on res_user_roles (tenant_id, role_id);
call plane.protect('res_user_roles', true);
call plane.audited('res_user_roles');

create table res_user_permission_overrides (
  id uuid primary key,
  tenant_id uuid not null,
  user_id uuid not null,
  permission text not null,
  effect text not null check (effect in ('allow', 'deny')),
  organization_id uuid,
  workspace_id uuid,
  reason text not null check (length(reason) between 1 and 500),
  expires_at timestamptz(3),
  granted_by uuid,
  version int not null default 1,
  created_at timestamptz(3) not null default now(),
  updated_at timestamptz(3) not null default now(),
  check (workspace_id is null or organization_id is not null),
  foreign key (tenant_id, user_id) references res_users (tenant_id, id),
  foreign key (tenant_id, organization_id) references res_organizations (tenant_id, id),
  foreign key (tenant_id, organization_id, workspace_id) references res_workspaces (tenant_id, organization_id, id)
);
create index res_user_permission_overrides_user on res_user_permission_overrides (tenant_id, user_id);
call plane.protect('res_user_permission_overrides', true);
call plane.audited('res_user_permission_overrides');

/* Raises the tenant's access epoch with any change to who may do what, in the same transaction, and announces it. A
   trigger, so that no code path can forget it. */
create function plane.raise_access_epoch() returns trigger language plpgsql as $$
declare
  tenant uuid;
begin
  for tenant in select distinct tenant_id from changed loop
    update tenants set access_epoch = access_epoch + 1 where id = tenant;
    perform pg_notify('tenantry_access', tenant::text);
  end loop;
  return null;
end
$$;
create function plane.announce_tenant() returns trigger language plpgsql as $$
begin
  perform pg_notify('tenantry_access', id::text) from changed;
  return null;
end
$$;
do $$
declare
  target text;
begin
  foreach target in array array['res_roles', 'res_role_permissions', 'res_user_roles', 'res_user_permission_overrides', 'res_organizations', 'res_workspaces', 'res_organization_settings', 'tenant_domains'] loop
    execute format('create trigger epoch_insert after insert on %I referencing new table as changed for each statement execute function plane.raise_access_epoch()', target);
    execute format('create trigger epoch_update after update on %I referencing new table as changed for each statement execute function plane.raise_access_epoch()', target);
    execute format('create trigger epoch_delete after delete on %I referencing old table as changed for each statement execute function plane.raise_access_epoch()', target);
  end loop;
end
$$;
create trigger announce after update on tenants referencing new table as changed for each statement execute function plane.announce_tenant();

/* A user whose state or password changed, or a session that was revoked, must stop working at the next request. */
create function plane.raise_epoch_of_users() returns trigger language plpgsql as $$
declare
  tenant uuid;
begin
  for tenant in
    select distinct n.tenant_id from new_rows n join old_rows o using (id)
    where (to_jsonb(n) -> 'status', to_jsonb(n) -> 'password_hash', to_jsonb(n) -> 'revoked_at', to_jsonb(n) -> 'kind', to_jsonb(n) -> 'verified_at', to_jsonb(n) -> 'expires_at', to_jsonb(n) -> 'permissions')
      is distinct from (to_jsonb(o) -> 'status', to_jsonb(o) -> 'password_hash', to_jsonb(o) -> 'revoked_at', to_jsonb(o) -> 'kind', to_jsonb(o) -> 'verified_at', to_jsonb(o) -> 'expires_at', to_jsonb(o) -> 'permissions')
  loop
    update tenants set access_epoch = access_epoch + 1 where id = tenant;
    perform pg_notify('tenantry_access', tenant::text);
  end loop;
  return null;
end
$$;
create trigger epoch_update after update on res_users referencing old table as old_rows new table as new_rows for each statement execute function plane.raise_epoch_of_users();
create trigger epoch_update after update on res_sessions referencing old table as old_rows new table as new_rows for each statement execute function plane.raise_epoch_of_users();
create trigger epoch_update after update on res_api_keys referencing old table as old_rows new table as new_rows for each statement execute function plane.raise_epoch_of_users();
