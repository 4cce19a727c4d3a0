/* The trail, cheaper and tighter. The function runs as the owner, whose policy is `true`: the rows' tenant comes from the
   changed rows themselves, which row security has already let through, so nothing is checked twice. `offset 0` keeps the
   planner from making a row's JSON anew for each use of it.

   A third argument names the column of the document that a row is a part of. Parts are recorded together: one entry for
   a statement and document, under the document's id, with all lines. */
create or replace function plane.audit() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  masked text[] := coalesce(tg_argv[0], '{}')::text[];
  tenant_column text := coalesce(tg_argv[1], 'tenant_id');
  parent text := tg_argv[2];
  hidden text[] := masked || array[tenant_column, 'organization_id', parent];
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
        from jsonb_each(j) where value is distinct from before -> key and key not in ('version', 'updated_at')
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

/* The triggers of a table; called again, they are replaced. With `parent`, its rows are recorded as lines of the document
   that this column names. */
drop procedure plane.audited(regclass, text[], text);
create procedure plane.audited(target regclass, masked text[] default '{}', tenant_column text default 'tenant_id', parent text default null)
language plpgsql as $$
declare
  arguments text := format('%L, %L', masked, tenant_column) || case when parent is null then '' else format(', %L', parent) end;
begin
  execute format('create or replace trigger audit_insert after insert on %s referencing new table as new_rows for each statement execute function plane.audit(%s)', target, arguments);
  execute format('create or replace trigger audit_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function plane.audit(%s)', target, arguments);
  execute format('create or replace trigger audit_delete after delete on %s referencing old table as old_rows for each statement execute function plane.audit(%s)', target, arguments);
end
$$;

/* Events and answers live for hours: compressing them costs more than the bytes. */
alter table plane.event_outbox alter column data set storage external, set (toast_tuple_target = 8160);
alter table plane.idempotency_keys alter column answer set storage external, set (toast_tuple_target = 8160);
