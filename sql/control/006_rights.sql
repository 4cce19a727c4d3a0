-- Managing organizations, roles and rights: the paths that their lists are read by.
create index res_organizations_recent on res_organizations (tenant_id, created_at desc, id desc) where deleted_at is null;
create index res_organizations_name on res_organizations (tenant_id, name, id) where deleted_at is null;
create index res_organizations_search on res_organizations using gin (tenant_id, code gin_trgm_ops, name gin_trgm_ops) where deleted_at is null;
create index res_workspaces_organization on res_workspaces (tenant_id, organization_id, id) where deleted_at is null;
create index res_workspaces_code on res_workspaces (tenant_id, code, id) where deleted_at is null;
create index res_workspaces_name on res_workspaces (tenant_id, name, id) where deleted_at is null;
create index res_workspaces_recent on res_workspaces (tenant_id, created_at desc, id desc) where deleted_at is null;
create index res_roles_name on res_roles (tenant_id, name, id) where deleted_at is null;
create index res_roles_recent on res_roles (tenant_id, created_at desc, id desc) where deleted_at is null;
create index res_user_roles_place on res_user_roles (tenant_id, organization_id, workspace_id);

/* A transaction that changes rights says so to whoever commits it: he waits until every process has heard. */
create or replace function plane.raise_access_epoch() returns trigger language plpgsql as $$
declare
  tenant uuid;
begin
  for tenant in select distinct tenant_id from changed loop
    update tenants set access_epoch = access_epoch + 1 where id = tenant;
    perform pg_notify('tenantry_access', tenant::text), set_config('tenantry.rights_changed', 'on', true);
  end loop;
  return null;
end
$$;
create or replace function plane.announce_tenant() returns trigger language plpgsql as $$
begin
  perform pg_notify('tenantry_access', id::text), set_config('tenantry.rights_changed', 'on', true) from changed;
  return null;
end
$$;
