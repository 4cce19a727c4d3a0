-- How much a tenant uses, and the limit of its plan, held where the rows are written.
create table plane.usage_changes (
  tenant_id uuid not null,
  metric text not null,
  id bigint not null generated always as identity,
  amount bigint not null,
  primary key (tenant_id, metric, id) include (amount)
);
comment on table plane.usage_changes is 'What is used is the sum. Changes and not a counter, whose row would make every writer of a tenant wait for every other.';
call plane.protect('plane.usage_changes', true, 'select');

/* Notes a change of what a tenant uses, and refuses with TN403 what `allowed` has no room for; null is without limit.

   Exact under concurrency: writers far from the limit share a lock of the tenant and metric, writers near it hold it
   alone. Far is where even 256 writers like this one would fit; the database serves fewer at once. Whoever holds it
   alone therefore sees every change of the others, and whoever shared it and finds himself near begins again. */
create function plane.use(tenant uuid, what text, added bigint, allowed bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  change bigint;
  used bigint;
  room_for constant int := 256;
  shared boolean;
begin
  insert into plane.usage_changes (tenant_id, metric, amount) values (tenant, what, added) returning id into change;
  if added > 0 and allowed is not null then
    select sum(amount) into used from plane.usage_changes where tenant_id = tenant and metric = what;
    shared := used + room_for * added <= allowed;
    if shared then
      perform pg_advisory_xact_lock_shared(hashtextextended(tenant || ' ' || what, 0));
    else
      perform pg_advisory_xact_lock(hashtextextended(tenant || ' ' || what, 0));
    end if;
    select sum(amount) into used from plane.usage_changes where tenant_id = tenant and metric = what;
    if used > allowed then
      raise exception 'no room for % more %', added, what
        using errcode = 'TN403', detail = jsonb_build_object('metric', what, 'limit', allowed, 'used', used - added)::text;
    elsif shared and used + room_for * added > allowed then
      raise exception 'came near the limit of % meanwhile', what using errcode = 'serialization_failure';
    end if;
  end if;
  -- Now and then the changes become one. What another does the same to at once is left to him.
  if change % 512 = 0 then
    with gone as (
      delete from plane.usage_changes where (tenant_id, metric, id) in (
        select tenant_id, metric, id from plane.usage_changes where tenant_id = tenant and metric = what for update skip locked)
      returning amount)
    insert into plane.usage_changes (tenant_id, metric, amount) select tenant, what, sum(amount) from gone having count(*) > 0;
  end if;
end
$$;
revoke execute on function plane.use from public;

create function plane.count_made() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform plane.use(tenant_id, 'records', count(*), nullif(current_setting('tenantry.records_allowed', true), '')::bigint)
  from new_rows group by tenant_id;
  return null;
end
$$;

create function plane.count_marked() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform plane.use(new.tenant_id, 'records', case when new.deleted_at is null then 1 else -1 end,
    nullif(current_setting('tenantry.records_allowed', true), '')::bigint);
  return null;
end
$$;

/* Counts a table's rows as records of the plan: master data and documents, neither their lines nor what follows from them. */
create procedure plane.counted(target regclass) language plpgsql as $$
begin
  execute format('insert into plane.usage_changes (tenant_id, metric, amount) select tenant_id, ''records'', count(*) from %s %s group by tenant_id', target,
    case when exists (select from pg_attribute where attrelid = target and attname = 'deleted_at' and not attisdropped) then 'where deleted_at is null' else '' end);
  execute format('create trigger count_made after insert on %s referencing new table as new_rows for each statement execute function plane.count_made()', target);
  if exists (select from pg_attribute where attrelid = target and attname = 'deleted_at' and not attisdropped) then
    execute format('create trigger count_marked after update of deleted_at on %s for each row
      when ((old.deleted_at is null) <> (new.deleted_at is null)) execute function plane.count_marked()', target);
  end if;
end
$$;
