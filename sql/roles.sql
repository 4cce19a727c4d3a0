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
  -- Compiling pays for statements that run for minutes; for one that reads a tenant in a millisecond it took three seconds.
  execute format('alter database %I set jit to off', current_database());
end
$$;
grant create, usage on schema public to tenantry_owner;
revoke create on schema public from public;
grant usage on schema public to tenantry_app, tenantry_reader;
-- Apart from every table, so that a session whose path is a tenant's own schema finds operators and no other tenant's tables.
create schema if not exists extensions;
grant usage on schema extensions to tenantry_owner, tenantry_app, tenantry_reader;
create extension if not exists pg_trgm schema extensions;
create extension if not exists btree_gin schema extensions;
do $$
declare
  name text;
begin
  for name in select extname from pg_extension where extname in ('pg_trgm', 'btree_gin') and extnamespace <> 'extensions'::regnamespace loop
    execute format('alter extension %I set schema extensions', name);
  end loop;
end
$$;
