/* A change of rights is in the trail by the row that changed: the tenant's epoch, which tells the processes of it, is a trace,
   and so is the moment from which a user's links count. */
create or replace function plane.audit() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_nestloop = off as $$
declare
  masked text[] := coalesce(tg_argv[0], '{}')::text[];
  tenant_column text := coalesce(tg_argv[1], 'tenant_id');
  parent text := tg_argv[2];
  -- An organization's own row has its id where all others name it.
  owner text := case when tg_table_name = 'res_organizations' then 'id' else 'organization_id' end;
  hidden text[] := masked || array[tenant_column, 'organization_id', parent];
  traces constant text[] := '{version,updated_at,last_login_at,last_used_at,used_at,counter,last_organization_id,last_workspace_id,last_seen_at,access_epoch,links_from}';
  actor uuid := nullif(current_setting('tenantry.actor_id', true), '')::uuid;
  impersonator uuid := nullif(current_setting('tenantry.impersonator_id', true), '')::uuid;
  actor_name text := nullif(current_setting('tenantry.actor_name', true), '');
  correlation text := nullif(current_setting('tenantry.correlation_id', true), '');
begin
  if tg_op = 'INSERT' and parent is null then
    insert into plane.audit_events (tenant_id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> 'id')::uuid, 'insert', actor, impersonator, actor_name, jsonb_strip_nulls(j - masked), correlation, now()
    from (select to_jsonb(n) as j from new_rows n offset 0) as rows;
  elsif tg_op = 'INSERT' then
    insert into plane.audit_events (tenant_id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> parent)::uuid, 'insert', actor, impersonator, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_strip_nulls(j - hidden))), correlation, now()
    from (select to_jsonb(n) as j from new_rows n offset 0) as rows group by j ->> tenant_column, j ->> owner, j ->> parent;
  elsif tg_op = 'DELETE' and parent is null then
    insert into plane.audit_events (tenant_id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> 'id')::uuid, 'delete', actor, impersonator, actor_name, jsonb_strip_nulls(j - masked), correlation, now()
    from (select to_jsonb(o) as j from old_rows o offset 0) as rows;
  elsif tg_op = 'DELETE' then
    insert into plane.audit_events (tenant_id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> parent)::uuid, 'delete', actor, impersonator, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_strip_nulls(j - hidden))), correlation, now()
    from (select to_jsonb(o) as j from old_rows o offset 0) as rows group by j ->> tenant_column, j ->> owner, j ->> parent;
  else
    insert into plane.audit_events (tenant_id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, created_at)
    with changed as (
      select j, diff
      from (select to_jsonb(n) as j, to_jsonb(o) as before from new_rows n join old_rows o using (id) offset 0) as rows,
      lateral (
        select coalesce(jsonb_object_agg(key, case when key = any (masked) then '["***", "***"]'::jsonb else jsonb_build_array(before -> key, value) end), '{}') as diff
        from jsonb_each(j) where value is distinct from before -> key and key <> all (traces)
      ) as compared
      where diff <> '{}'
    )
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> 'id')::uuid, 'update', actor, impersonator, actor_name, diff, correlation, now()
    from changed where parent is null
    union all
    select (j ->> tenant_column)::uuid, (j ->> owner)::uuid, tg_table_name, (j ->> parent)::uuid, 'update', actor, impersonator, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_build_object('id', j -> 'id') || diff)), correlation, now()
    from changed where parent is not null group by j ->> tenant_column, j ->> owner, j ->> parent;
  end if;
  return null;
end
$$;

/* The trail about a user or a role: by the assignments, overrides, keys, factors and sessions that name them. */
create index audit_events_user on plane.audit_events (tenant_id, (diff ->> 'user_id'), created_at desc) where diff ? 'user_id';
create index audit_events_role on plane.audit_events (tenant_id, (diff ->> 'role_id'), created_at desc) where diff ? 'role_id';
