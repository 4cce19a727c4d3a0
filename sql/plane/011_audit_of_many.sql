/* When a device was heard of is a trace of use: the trail of devices was nothing else.

   And a trigger's statements are planned once a connection, for as many rows as its first call was given. Before and after
   of one row were joined each with each; ten thousand rows in the same connection were then, too. */
create or replace function plane.audit() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_nestloop = off as $$
declare
  masked text[] := coalesce(tg_argv[0], '{}')::text[];
  tenant_column text := coalesce(tg_argv[1], 'tenant_id');
  parent text := tg_argv[2];
  hidden text[] := masked || array[tenant_column, 'organization_id', parent];
  traces constant text[] := '{version,updated_at,last_login_at,last_used_at,used_at,counter,last_organization_id,last_workspace_id,last_seen_at}';
  actor uuid := nullif(current_setting('tenantry.actor_id', true), '')::uuid;
  actor_name text := nullif(current_setting('tenantry.actor_name', true), '');
  correlation text := nullif(current_setting('tenantry.correlation_id', true), '');
begin
  if tg_op = 'INSERT' and parent is null then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'insert', actor, actor_name, jsonb_strip_nulls(j - masked), correlation, now()
    from (select to_jsonb(n) as j from new_rows n offset 0) as rows;
  elsif tg_op = 'INSERT' then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> parent)::uuid, 'insert', actor, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_strip_nulls(j - hidden))), correlation, now()
    from (select to_jsonb(n) as j from new_rows n offset 0) as rows group by j ->> tenant_column, j ->> parent;
  elsif tg_op = 'DELETE' and parent is null then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'delete', actor, actor_name, jsonb_strip_nulls(j - masked), correlation, now()
    from (select to_jsonb(o) as j from old_rows o offset 0) as rows;
  elsif tg_op = 'DELETE' then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> parent)::uuid, 'delete', actor, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_strip_nulls(j - hidden))), correlation, now()
    from (select to_jsonb(o) as j from old_rows o offset 0) as rows group by j ->> tenant_column, j ->> parent;
  else
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    with changed as (
      select j, diff
      from (select to_jsonb(n) as j, to_jsonb(o) as before from new_rows n join old_rows o using (id) offset 0) as rows,
      lateral (
        select coalesce(jsonb_object_agg(key, case when key = any (masked) then '["***", "***"]'::jsonb else jsonb_build_array(before -> key, value) end), '{}') as diff
        from jsonb_each(j) where value is distinct from before -> key and key <> all (traces)
      ) as compared
      where diff <> '{}'
    )
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'update', actor, actor_name, diff, correlation, now()
    from changed where parent is null
    union all
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> parent)::uuid, 'update', actor, actor_name,
           jsonb_build_object('lines', jsonb_agg(jsonb_build_object('id', j -> 'id') || diff)), correlation, now()
    from changed where parent is not null group by j ->> tenant_column, j ->> parent;
  end if;
  return null;
end
$$;
