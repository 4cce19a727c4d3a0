/* On plain PostgreSQL hours are summed up by a timed job, and are right at every moment all the same. Of each tenant it is
   kept until when hours are summed up; readings since then are read as they are. Whoever writes a reading of an hour before
   that names the hour in `tel_hour_late`, in the same transaction; until it is summed up anew it is read as it is, too. */
create table tel_hour_state (
  tenant_id uuid primary key,
  marked_until timestamptz(3) not null default '-infinity',
  summed_until timestamptz(3) not null default '-infinity'
);
comment on column tel_hour_state.marked_until is 'Who writes a reading before it names the hour in tel_hour_late.';
comment on column tel_hour_state.summed_until is 'Hours before it are in tel_hour_sum; never after marked_until.';
call plane.protect('tel_hour_state', rights => 'select');

create table tel_hour_sum (
  tenant_id uuid not null,
  series_id bigint not null,
  bucket timestamptz(3) not null,
  count bigint not null,
  sum double precision not null,
  min double precision not null,
  max double precision not null,
  first double precision not null,
  last double precision not null,
  primary key (series_id, bucket)
);
call plane.protect('tel_hour_sum', rights => 'select');

create table tel_hour_late (
  id bigint generated always as identity primary key,
  tenant_id uuid not null,
  series_id bigint not null,
  hour timestamptz(3) not null
);
comment on table tel_hour_late is 'Hours that got a reading after they were summed up; one may stand here many times.';
create index tel_hour_late_series on tel_hour_late (series_id, hour);
create index tel_hour_late_tenant on tel_hour_late (tenant_id, id);
call plane.protect('tel_hour_late', rights => 'select, insert');
grant usage on all sequences in schema public to tenantry_app;

alter table tel_series add column last_hour timestamptz(3) not null default '-infinity';
comment on column tel_series.last_hour is 'The latest reading is not before it: where to begin to look.';

/* Before which moment a reading is late, for as long as the transaction lasts: it cannot be moved until then, as the one
   who moves it waits for this lock. Asked before anything is written. */
create function plane.readings_late_before(tenant uuid) returns timestamptz language plpgsql as $$
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('readings of ' || tenant, 0));
  return (select marked_until from tel_hour_state where tenant_id = tenant); -- a statement of its own sees what the lock waited for
end
$$;
grant execute on function plane.readings_late_before to tenantry_app;

/* Before hours are summed up: from here on who writes into them says so. Committed by itself, as those who write see it then. */
create function plane.mark_hours(tenant uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tenant is distinct from plane.tenant_id() then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('readings of ' || tenant, 0));
  insert into tel_hour_state as s (tenant_id, marked_until) values (tenant, date_trunc('hour', now(), 'UTC'))
  on conflict (tenant_id) do update set marked_until = greatest(s.marked_until, excluded.marked_until);
end
$$;
revoke execute on function plane.mark_hours from public;
grant execute on function plane.mark_hours to tenantry_app;

create function plane.hour_sums(series bigint, since timestamptz, until timestamptz) returns table
  (tenant_id uuid, bucket timestamptz(3), count bigint, sum double precision, min double precision, max double precision, first double precision, last double precision)
language sql stable rows 24 as $$
  select m.tenant_id, date_trunc('hour', m.ts, 'UTC'), count(*), sum(m.value), min(m.value), max(m.value),
    (array_agg(m.value order by m.ts))[1], (array_agg(m.value order by m.ts desc))[1]
  from public.tel_measurement m where m.series_id = series and m.ts >= since and m.ts < until group by 1, 2
$$;

/* Sums up hours that are marked, a week of them and 20,000 late ones at most; says whether there is more. */
create function plane.sum_up_hours(tenant uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  marked timestamptz;
  since timestamptz;
  until timestamptz;
  late int;
begin
  if tenant is distinct from plane.tenant_id() then
    return false;
  end if;
  -- Whoever sums up holds the row; a second one waits, and finds it done.
  select marked_until, summed_until into marked, since from tel_hour_state where tenant_id = tenant for update;
  if not found then
    return false;
  end if;
  if since = '-infinity' then
    select date_trunc('hour', min(f.ts), 'UTC') into since
    from tel_series s cross join lateral (select m.ts from tel_measurement m where m.series_id = s.series_id order by m.ts limit 1) as f
    where s.tenant_id = tenant;
    since := least(coalesce(since, marked), marked);
  end if;
  until := least(marked, since + interval '7 days');
  with summed as (
    insert into tel_hour_sum (tenant_id, series_id, bucket, count, sum, min, max, first, last)
    select h.tenant_id, s.series_id, h.bucket, h.count, h.sum, h.min, h.max, h.first, h.last
    from tel_series s cross join lateral plane.hour_sums(s.series_id, since, until) as h
    where s.tenant_id = tenant
    returning series_id, bucket
  )
  update tel_series s set last_hour = l.hour from (select series_id, max(bucket) as hour from summed group by 1) as l where s.series_id = l.series_id;
  update tel_hour_state set summed_until = until where tenant_id = tenant;
  with late_hours as (
    delete from tel_hour_late where id in (select id from tel_hour_late where tenant_id = tenant and hour < until order by id limit 20000)
    returning series_id, hour
  ), summed as (
    insert into tel_hour_sum (tenant_id, series_id, bucket, count, sum, min, max, first, last)
    select h.tenant_id, l.series_id, h.bucket, h.count, h.sum, h.min, h.max, h.first, h.last
    from (select distinct series_id, hour from late_hours) as l cross join lateral plane.hour_sums(l.series_id, l.hour, l.hour + interval '1 hour') as h
    on conflict (series_id, bucket) do update
    set (count, sum, min, max, first, last) = (excluded.count, excluded.sum, excluded.min, excluded.max, excluded.first, excluded.last)
    returning series_id, bucket
  )
  update tel_series s set last_hour = greatest(s.last_hour, l.hour) from (select series_id, max(bucket) as hour from summed group by 1) as l where s.series_id = l.series_id;
  get diagnostics late = row_count;
  return until < marked or late > 0;
end
$$;
revoke execute on function plane.sum_up_hours from public;
grant execute on function plane.sum_up_hours to tenantry_app;

create or replace view tel_hourly with (security_invoker = true) as
  select h.tenant_id, h.series_id, h.bucket::timestamptz as bucket, h.count, h.min, h.max, h.sum / h.count as avg, h.first, h.last
  from tel_hour_sum h
  where not exists (select from tel_hour_late l where l.series_id = h.series_id and l.hour = h.bucket)
  union all
  select h.tenant_id, l.series_id, h.bucket, h.count, h.min, h.max, h.sum / h.count, h.first, h.last
  from (
    select distinct series_id, hour from tel_hour_late
    where hour < (select summed_until from tel_hour_state where tenant_id = plane.tenant_id())
  ) as l cross join lateral plane.hour_sums(l.series_id, l.hour, l.hour + interval '1 hour') as h
  union all
  select tenant_id, series_id, date_trunc('hour', ts, 'UTC'), count(*), min(value), max(value), avg(value),
    (array_agg(value order by ts))[1], (array_agg(value order by ts desc))[1]
  from tel_measurement
  -- The value comes whole out of the subquery: behind row security an index is asked for plain values alone.
  where ts >= (select coalesce(max(summed_until), '-infinity') from tel_hour_state where tenant_id = plane.tenant_id())
  group by tenant_id, series_id, date_trunc('hour', ts, 'UTC');

create or replace view tel_daily with (security_invoker = true) as
  select tenant_id, series_id, date_trunc('day', bucket, 'UTC') as bucket, sum(count)::bigint as count, min(min) as min, max(max) as max,
    sum(avg * count) / sum(count)::double precision as avg, (array_agg(first order by bucket))[1] as first, (array_agg(last order by bucket desc))[1] as last
  from tel_hourly group by tenant_id, series_id, date_trunc('day', bucket, 'UTC');

/* Makes the partitions from `behind` months ago to `ahead` months from now, and of every month that a late reading is of;
   what fell into the default partition meanwhile is moved. Runs as the owner for the timed job. */
create or replace function plane.make_measurement_partitions(behind int default 2, ahead int default 2) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  month timestamptz;
  part text;
  made int := 0;
begin
  for month in
    select generate_series(date_trunc('month', now(), 'UTC') - make_interval(months => behind), date_trunc('month', now(), 'UTC') + make_interval(months => ahead), interval '1 month')
    union
    select distinct date_trunc('month', ts, 'UTC') from tel_measurement_default
  loop
    part := 'tel_measurement_' || to_char(month at time zone 'UTC', 'YYYY_MM');
    if to_regclass('public.' || part) is null then
      execute format('create table %I (like tel_measurement including defaults including constraints)', part);
      execute format('with late as (delete from tel_measurement_default where ts >= %L and ts < %L returning *) insert into %I select * from late', month, month + interval '1 month', part);
      execute format('alter table tel_measurement attach partition %I for values from (%L) to (%L)', part, month, month + interval '1 month');
      call plane.protect(part::regclass, rights => 'select');
      made := made + 1;
    end if;
  end loop;
  return made;
end
$$;

/* Lets go of what is older than it is kept: whole months, and the hours of them. Says how many months went. */
create function plane.keep_readings(days int) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  part text;
  gone int := 0;
  oldest timestamptz := date_trunc('month', now() - make_interval(days => days), 'UTC');
begin
  set local lock_timeout = '5s'; -- who waits for the table holds up all that comes after: the job tries again in an hour
  for part in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'tel_measurement'::regclass and c.relname ~ '^tel_measurement_\d{4}_\d{2}$'
      and to_timestamp(right(c.relname, 7) || ' +00', 'YYYY_MM TZH') < oldest
  loop
    execute format('drop table %I', part);
    gone := gone + 1;
  end loop;
  if gone > 0 then
    delete from tel_hour_sum where bucket < oldest;
  end if;
  return gone;
end
$$;
revoke execute on function plane.keep_readings from public;
grant execute on function plane.keep_readings to tenantry_app;
