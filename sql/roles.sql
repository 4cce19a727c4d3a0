-- Run first, by the role that `npm run migrate` connects as. Needs CREATEROLE (or the roles made by hand) and, for the
-- extensions, a trusted-extension right on the database. Idempotent.
do $$
declare
  name text;
begin
  foreach name in array array['tenantry_owner', 'tenantry_app', 'tenantry_reader'] loop
    if not exists (select from pg_roles where rolname = name) then
      begin
        execute format('create role %I nologin', name);
      exception when duplicate_object or unique_violation then null; -- another migration made it meanwhile
      end;
    end if;
  end loop;
  execute format('grant create, connect on database %I to tenantry_owner', current_database());
  execute format('grant connect on database %I to tenantry_app, tenantry_reader', current_database());
  execute format('alter database %I set timezone to ''UTC''', current_database());
end
$$;
grant create, usage on schema public to tenantry_owner;
revoke create on schema public from public;
grant usage on schema public to tenantry_app, tenantry_reader;
create extension if not exists pg_trgm;
create extension if not exists btree_gin;
