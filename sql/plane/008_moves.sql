/* A tenant is moved while it works. What changes meanwhile is noted by triggers that stand on the tables of both places for
   as long as the move lasts, whoever writes; and the place where the tenant is not at home takes nothing. */
create table plane.move_sides (
  tenant_id uuid not null,
  home text not null,
  closed boolean not null,
  copied text[] not null default '{}',
  primary key (tenant_id, home)
);
comment on table plane.move_sides is 'A place between which a tenant moves, by the schema of its tables; closed is the one where it does not live, copied which tables are there.';
call plane.protect('plane.move_sides', rights => 'select');

create sequence plane.changed_rows_seq;
create table plane.changed_rows (
  tenant_id uuid not null,
  home text not null,
  entity text not null,
  key jsonb not null,
  seq bigint not null default nextval('plane.changed_rows_seq'),
  primary key (tenant_id, home, entity, key)
);
comment on table plane.changed_rows is 'Rows of a tenant that moves which changed since they were copied. A number that grew says that one changed again.';
call plane.protect('plane.changed_rows', rights => 'select');

/* Notes the key of a changed row. Arguments: the schema of the place, the tenant, the table, the columns of its key.

   The fence: whoever writes for the tenant shares a lock of the place until he commits, and looks whether it is closed
   after he has it. Whoever closes the place holds that lock alone: then all who wrote have committed and their rows are
   noted, and all who come see that it is closed. Writers across tenants (relay, upkeep) change nothing that a tenant sees
   and pass. */
create function plane.note_change() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  place constant text := tg_argv[0];
  tenant constant uuid := tg_argv[1];
  changed jsonb;
begin
  if current_setting('tenantry.platform', true) is distinct from 'on' then
    perform pg_advisory_xact_lock_shared(plane.move_lock(tenant, place));
    if exists (select from plane.move_sides where tenant_id = tenant and home = place and closed) then
      raise exception 'this tenant is moved, and does not live here' using errcode = 'TN503';
    end if;
  end if;
  if tg_op = 'DELETE' then changed := to_jsonb(old); else changed := to_jsonb(new); end if;
  insert into plane.changed_rows (tenant_id, home, entity, key)
  select tenant, place, tg_argv[2], jsonb_object_agg(name, changed -> name) from unnest(tg_argv[3]::text[]) as name
  on conflict (tenant_id, home, entity, key) do update set seq = excluded.seq;
  return null;
end
$$;
revoke execute on function plane.note_change from public;

create function plane.move_lock(tenant uuid, place text) returns bigint language sql immutable parallel safe
  as $$ select hashtextextended('move ' || tenant || ' ' || place, 0) $$;

/* With the month that it begins with, so that a trail which was written elsewhere finds its partitions. */
drop function plane.make_audit_partitions(int);
create function plane.make_audit_partitions(ahead int default 3, since timestamptz default now()) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  month timestamptz;
  part text;
  made int := 0;
begin
  for month in select generate_series(date_trunc('month', since), date_trunc('month', now()) + make_interval(months => ahead), interval '1 month') loop
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
