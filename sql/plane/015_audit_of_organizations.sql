/* Entries of the trail carry the organization of the record that changed, so that its administrator reads them and no other
   organization's; and the staff member who acted in a user's place. Entries of before have neither: only who reads the
   whole tenant's trail sees them. */
alter table plane.audit_events add column organization_id uuid;
alter table plane.audit_events add column impersonator_id uuid;
comment on column plane.audit_events.organization_id is 'Of the record that changed; null for records of the whole tenant.';
comment on column plane.audit_events.impersonator_id is 'The platform staff member who acted in the place of actor_id.';
create index audit_events_organization on plane.audit_events (tenant_id, organization_id, created_at desc, id desc);

/* An entry without the new columns keeps the leaf that it was sealed with. */
create or replace function plane.audit_leaf(e plane.audit_events) returns bytea language sql stable parallel safe as $$
  select sha256(convert_to((jsonb_build_array(e.id, e.tenant_id, e.entity, e.entity_id, e.action, e.actor_id, e.actor_name, e.diff,
    e.correlation_id, e.address, extract(epoch from e.created_at))
    || case when e.organization_id is null and e.impersonator_id is null then '[]'::jsonb else jsonb_build_array(e.organization_id, e.impersonator_id) end)::text, 'UTF8'))
$$;

create or replace function plane.audit() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp set enable_nestloop = off as $$
declare
  masked text[] := coalesce(tg_argv[0], '{}')::text[];
  tenant_column text := coalesce(tg_argv[1], 'tenant_id');
  parent text := tg_argv[2];
  -- An organization's own row has its id where all others name it.
  owner text := case when tg_table_name = 'res_organizations' then 'id' else 'organization_id' end;
  hidden text[] := masked || array[tenant_column, 'organization_id', parent];
  traces constant text[] := '{version,updated_at,last_login_at,last_used_at,used_at,counter,last_organization_id,last_workspace_id,last_seen_at}';
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
