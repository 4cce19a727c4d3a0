-- What every database of the product has, whatever it holds: who is asking, isolation, audit, outbox.
create schema plane;
grant usage on schema plane to tenantry_app, tenantry_reader;

create function plane.tenant_id() returns uuid language sql stable parallel safe
  as $$ select nullif(current_setting('tenantry.tenant_id', true), '')::uuid $$;
comment on function plane.tenant_id is 'The tenant that this connection is bound to; null when unbound, which matches no row.';

/* Puts a table behind row security. The application sees the bound tenant's rows and nothing when unbound; with
   `platform`, a connection bound to the platform (tenant resolution, relay) sees all. The owner, who migrates and never
   serves requests, sees all: otherwise FORCE would hide the rows from its backfills. */
create procedure plane.protect(target regclass, platform boolean default false, rights text default 'select, insert, update, delete', tenant_column text default 'tenant_id')
language plpgsql as $$
declare
  condition text := format('%I = nullif(current_setting(''tenantry.tenant_id'', true), '''')::uuid', tenant_column);
begin
  if platform then
    condition := condition || ' or current_setting(''tenantry.platform'', true) = ''on''';
  end if;
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  execute format('create policy tenant on %s to tenantry_app, tenantry_reader using (%s) with check (%s)', target, condition, condition);
  execute format('create policy owner on %s to tenantry_owner using (true) with check (true)', target);
  execute format('grant %s on %s to tenantry_app', rights, target);
  execute format('grant select on %s to tenantry_reader', target);
end
$$;

create table plane.audit_events (
  id uuid not null default gen_random_uuid(),
  tenant_id uuid not null,
  entity text not null,
  entity_id uuid,
  action text not null,
  actor_id uuid,
  actor_name text,
  diff jsonb not null default '{}',
  correlation_id text,
  address text,
  created_at timestamptz(3) not null default now(),
  primary key (tenant_id, created_at, id)
) partition by range (created_at);
comment on table plane.audit_events is 'Append-only trail of every change; the application may insert and read, nothing else.';
create index audit_events_entity on plane.audit_events (tenant_id, entity_id, created_at desc);
call plane.protect('plane.audit_events', true, 'select, insert');

create table plane.audit_seals (
  tenant_id uuid not null,
  hour timestamptz(3) not null,
  rows int not null,
  root bytea not null,
  previous bytea,
  created_at timestamptz(3) not null default now(),
  primary key (tenant_id, hour)
);
comment on table plane.audit_seals is 'A Merkle root of each tenant and hour of the trail, chained to the one before.';
call plane.protect('plane.audit_seals', true, 'select, insert');

/* Makes the audit partitions of the months from now to `ahead` months later. Runs as the owner, so that the timed job
   needs no right to create tables. */
create function plane.make_audit_partitions(ahead int default 3) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  month date;
  part text;
  made int := 0;
begin
  for month in select generate_series(date_trunc('month', now()), date_trunc('month', now()) + make_interval(months => ahead), interval '1 month') loop
    part := 'audit_events_' || to_char(month, 'YYYY_MM');
    if to_regclass('plane.' || part) is null then
      execute format('create table plane.%I partition of plane.audit_events for values from (%L) to (%L)', part, month, month + interval '1 month');
      call plane.protect(format('plane.%I', part)::regclass, true, 'select');
      made := made + 1;
    end if;
  end loop;
  return made;
end
$$;
revoke execute on function plane.make_audit_partitions from public;
grant execute on function plane.make_audit_partitions to tenantry_app;
select plane.make_audit_partitions();

/* Statement triggers with transition tables: one insert into the trail for a statement, however many rows it wrote.
   The argument lists columns to mask. */
create function plane.audit() returns trigger language plpgsql as $$
declare
  masked text[] := coalesce(tg_argv[0], '{}')::text[];
  tenant_column text := coalesce(tg_argv[1], 'tenant_id');
begin
  if tg_op = 'INSERT' then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'insert',
           nullif(current_setting('tenantry.actor_id', true), '')::uuid, nullif(current_setting('tenantry.actor_name', true), ''),
           jsonb_strip_nulls(j - masked), nullif(current_setting('tenantry.correlation_id', true), ''), now()
    from (select to_jsonb(n) as j from new_rows n) as rows;
  elsif tg_op = 'UPDATE' then
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'update',
           nullif(current_setting('tenantry.actor_id', true), '')::uuid, nullif(current_setting('tenantry.actor_name', true), ''),
           diff, nullif(current_setting('tenantry.correlation_id', true), ''), now()
    from (select to_jsonb(n) as j, to_jsonb(o) as before from new_rows n join old_rows o using (id)) as rows,
    lateral (
      select coalesce(jsonb_object_agg(key, case when key = any (masked) then '["***", "***"]'::jsonb else jsonb_build_array(before -> key, value) end), '{}') as diff
      from jsonb_each(j) where value is distinct from before -> key and key not in ('version', 'updated_at')
    ) as changed
    where diff <> '{}';
  else
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select (j ->> tenant_column)::uuid, tg_table_name, (j ->> 'id')::uuid, 'delete',
           nullif(current_setting('tenantry.actor_id', true), '')::uuid, nullif(current_setting('tenantry.actor_name', true), ''),
           jsonb_strip_nulls(j - masked), nullif(current_setting('tenantry.correlation_id', true), ''), now()
    from (select to_jsonb(o) as j from old_rows o) as rows;
  end if;
  return null;
end
$$;

create procedure plane.audited(target regclass, masked text[] default '{}', tenant_column text default 'tenant_id')
language plpgsql as $$
begin
  execute format('create trigger audit_insert after insert on %s referencing new table as new_rows for each statement execute function plane.audit(%L, %L)', target, masked, tenant_column);
  execute format('create trigger audit_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function plane.audit(%L, %L)', target, masked, tenant_column);
  execute format('create trigger audit_delete after delete on %s referencing old table as old_rows for each statement execute function plane.audit(%L, %L)', target, masked, tenant_column);
end
$$;

create table plane.event_outbox (
  event_id uuid primary key,
  tenant_id uuid not null,
  position bigint generated always as identity,
  type text not null,
  entity_id uuid not null,
  version int not null,
  occurred_at timestamptz(3) not null,
  data jsonb not null,
  correlation_id text,
  status text not null default 'pending' check (status in ('pending', 'dispatched', 'failed')),
  attempts int not null default 0,
  error text,
  available_at timestamptz(3) not null default now(),
  dispatched_at timestamptz(3)
);
comment on column plane.event_outbox.position is 'Given while the entity''s row is locked, so it follows commit order within an entity.';
create index event_outbox_pending on plane.event_outbox (position) where status = 'pending';
create index event_outbox_entity on plane.event_outbox (tenant_id, entity_id, position) where status = 'pending';
create index event_outbox_dispatched on plane.event_outbox (dispatched_at) where status = 'dispatched';
create index event_outbox_stream on plane.event_outbox (tenant_id, position);
call plane.protect('plane.event_outbox', true);
grant usage on all sequences in schema plane to tenantry_app;

create table plane.idempotency_keys (
  tenant_id uuid not null,
  actor_id uuid not null,
  key text not null check (length(key) between 1 and 255),
  fingerprint bytea not null,
  answer jsonb,
  created_at timestamptz(3) not null default now(),
  primary key (tenant_id, actor_id, key)
);
comment on table plane.idempotency_keys is 'The primary key makes a second request wait for the first; the answer is written with the effect, in one transaction.';
create index idempotency_keys_age on plane.idempotency_keys (created_at);
call plane.protect('plane.idempotency_keys', true);

create table plane.consumer_inbox (
  tenant_id uuid not null,
  consumer text not null,
  event_id uuid not null,
  created_at timestamptz(3) not null default now(),
  primary key (consumer, event_id)
);
comment on table plane.consumer_inbox is 'What a consumer has done, written with its effect, so that a redelivery changes nothing.';
create index consumer_inbox_age on plane.consumer_inbox (created_at);
call plane.protect('plane.consumer_inbox', true);

create table plane.erp_number_sequence (
  tenant_id uuid not null,
  organization_id uuid not null,
  series text not null,
  year int not null,
  value bigint not null check (value > 0),
  primary key (tenant_id, organization_id, series, year)
);
call plane.protect('plane.erp_number_sequence');

/* Ids of a tenant's live rows whose text matches, or null when there are more than `cap`. Runs as the owner, whose policy
   is `true`: only then may the planner use the trigram index, because LIKE is not leakproof and would otherwise be
   checked after row security. The tenant asked for must be the tenant that is bound. */
create function plane.search_ids(target text, names text[], tenant uuid, organization uuid, pattern text, cap int) returns uuid[]
language plpgsql stable security definer set search_path = public, pg_temp as $$
declare
  found uuid[];
  matches text;
begin
  if tenant is distinct from plane.tenant_id() then
    return '{}';
  end if;
  select string_agg(format('%I ilike $3', name), ' or ') into matches from unnest(names) as name;
  execute format('select array(select id from %I where tenant_id = $1 and ($2 is null or organization_id = $2) and deleted_at is null and (%s) limit $4)', target, matches)
    into found using tenant, organization, pattern, cap + 1;
  return case when cardinality(found) > cap then null else found end;
end
$$;
revoke execute on function plane.search_ids from public;
grant execute on function plane.search_ids to tenantry_app, tenantry_reader;
