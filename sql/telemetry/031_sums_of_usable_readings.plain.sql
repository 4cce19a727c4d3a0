/* Hours are summed up of readings of quality good and uncertain within ±1e100: bad ones are not meant to count, and larger
   values, which were stored before they were refused, overflow. Aggregates of readings have the same condition
   (domain/telemetry/quality.ts). */
create or replace function plane.hour_sums(series bigint, since timestamptz, until timestamptz) returns table
  (tenant_id uuid, bucket timestamptz(3), count bigint, sum double precision, min double precision, max double precision, first double precision, last double precision)
language sql stable rows 24 as $$
  select m.tenant_id, date_trunc('hour', m.ts, 'UTC'), count(*), sum(m.value), min(m.value), max(m.value),
    (array_agg(m.value order by m.ts))[1], (array_agg(m.value order by m.ts desc))[1]
  from public.tel_measurement m
  where m.series_id = series and m.ts >= since and m.ts < until and m.value between '-1e100'::float8 and '1e100'::float8 and m.quality < 2
  group by 1, 2
$$;

/* Before hours are summed up: from here on who writes into them says so. Committed by itself, as those who write see it then.
   What failed in the run before is forgotten: this run tells anew. */
create or replace function plane.mark_hours(tenant uuid) returns void
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tenant is distinct from plane.tenant_id() then
    return;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('readings of ' || tenant, 0));
  insert into tel_hour_state as s (tenant_id, marked_until) values (tenant, date_trunc('hour', now(), 'UTC'))
  on conflict (tenant_id) do update set marked_until = greatest(s.marked_until, excluded.marked_until);
  delete from tel_hour_failure where tenant_id = tenant;
end
$$;

/* Sums up the hours of series between two moments; says of how many hours. Throws data exceptions. */
create function plane.sum_up_series(series bigint[], since timestamptz, until timestamptz) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  hours int;
begin
  with summed as (
    insert into tel_hour_sum (tenant_id, series_id, bucket, count, sum, min, max, first, last)
    select h.tenant_id, s.id, h.bucket, h.count, h.sum, h.min, h.max, h.first, h.last
    from unnest(series) as s (id) cross join lateral plane.hour_sums(s.id, since, until) as h
    returning series_id, bucket
  ), latest as (
    update tel_series s set last_hour = greatest(s.last_hour, l.hour)
    from (select series_id, max(bucket) as hour from summed group by 1) as l where s.series_id = l.series_id
  )
  select count(*) into hours from summed;
  return hours;
end
$$;
revoke execute on function plane.sum_up_series from public;

/* Notes that hours of a series could not be summed up. */
create function plane.note_hour_failure(tenant uuid, series bigint, message text) returns void
language sql security definer set search_path = public, pg_temp as $$
  insert into tel_hour_failure (tenant_id, series_id, error) values (tenant, series, left(message, 500))
  on conflict (tenant_id, series_id) do update set error = excluded.error, failed_at = now()
$$;
revoke execute on function plane.note_hour_failure from public;

/* Sums up hours that are marked, a week of them and 20,000 late ones at most; says whether there is more. A series whose
   values cannot be summed up holds up no other: its hours become late ones, and stay so. */
create or replace function plane.sum_up_hours(tenant uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  marked timestamptz;
  since timestamptz;
  until timestamptz;
  late_series bigint[];
  late_hours timestamptz[];
  one bigint;
  hour timestamptz;
  done int := 0;
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
  begin
    perform plane.sum_up_series(array(select series_id from tel_series where tenant_id = tenant), since, until);
  exception when data_exception then
    for one in select series_id from tel_series where tenant_id = tenant loop
      begin
        perform plane.sum_up_series(array[one], since, until);
      exception when data_exception then
        perform plane.note_hour_failure(tenant, one, sqlerrm);
        insert into tel_hour_late (tenant_id, series_id, hour)
        select distinct tenant, one, date_trunc('hour', m.ts, 'UTC') from tel_measurement m where m.series_id = one and m.ts >= since and m.ts < until;
      end;
    end loop;
  end;
  update tel_hour_state set summed_until = until where tenant_id = tenant;

  with taken as (
    delete from tel_hour_late where id in (
      select l.id from tel_hour_late l where l.tenant_id = tenant and l.hour < until
        and not exists (select from tel_hour_failure f where f.tenant_id = tenant and f.series_id = l.series_id)
      order by l.id limit 20000)
    returning series_id, tel_hour_late.hour
  )
  select array_agg(t.series_id), array_agg(t.hour) into late_series, late_hours from (select distinct series_id, taken.hour from taken) as t;
  if late_series is null then
    return until < marked;
  end if;
  -- Also those of which nothing is left that counts.
  delete from tel_hour_sum s using unnest(late_series, late_hours) as l (series_id, hour) where s.series_id = l.series_id and s.bucket = l.hour;
  begin
    perform plane.sum_up_series(array[l.series_id], l.hour, l.hour + interval '1 hour') from unnest(late_series, late_hours) as l (series_id, hour);
  exception when data_exception then
    for one, hour in select l.series_id, l.hour from unnest(late_series, late_hours) as l (series_id, hour) loop
      begin
        perform plane.sum_up_series(array[one], hour, hour + interval '1 hour');
      exception when data_exception then
        perform plane.note_hour_failure(tenant, one, sqlerrm);
        insert into tel_hour_late (tenant_id, series_id, hour) values (tenant, one, hour);
      end;
    end loop;
  end;
  return true;
end
$$;

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
    and value between '-1e100'::float8 and '1e100'::float8 and quality < 2
  group by tenant_id, series_id, date_trunc('hour', ts, 'UTC');

/* Hours that were summed up with readings that do not count are summed up anew. Nobody sums up meanwhile. */
lock table tel_hour_state in exclusive mode;
insert into tel_hour_late (tenant_id, series_id, hour)
select distinct m.tenant_id, m.series_id, date_trunc('hour', m.ts, 'UTC')
from tel_measurement m join tel_hour_state s on s.tenant_id = m.tenant_id and m.ts < s.summed_until
where not (m.value between '-1e100'::float8 and '1e100'::float8 and m.quality < 2);
