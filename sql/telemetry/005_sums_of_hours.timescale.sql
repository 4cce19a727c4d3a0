/* On TimescaleDB hours and days are summed up by continuous aggregates. They are refreshed from the first reading on and not
   from 90 days ago: what is refreshed is what got a reading since, so a late one of any age is summed up with the next run. */
select remove_continuous_aggregate_policy('plane.measurement_hourly');
select remove_continuous_aggregate_policy('plane.measurement_daily');
select add_continuous_aggregate_policy('plane.measurement_hourly', start_offset => null, end_offset => interval '1 hour', schedule_interval => interval '10 minutes');
select add_continuous_aggregate_policy('plane.measurement_daily', start_offset => null, end_offset => interval '1 day', schedule_interval => interval '1 hour');

alter table tel_series add column last_hour timestamptz(3) not null default '-infinity';
comment on column tel_series.last_hour is 'The latest reading is not before it: where to begin to look.';

/* TimescaleDB notes itself what is late. */
create function plane.readings_late_before(tenant uuid) returns timestamptz language sql as 'select null::timestamptz';
grant execute on function plane.readings_late_before to tenantry_app;
create function plane.mark_hours(tenant uuid) returns void language sql as 'select';
revoke execute on function plane.mark_hours from public;
grant execute on function plane.mark_hours to tenantry_app;

/* Hours are summed up by TimescaleDB; what is left is where to look for the latest reading of each series. */
create function plane.sum_up_hours(tenant uuid) returns boolean
language plpgsql security definer set search_path = public, pg_temp as $$
begin
  if tenant is distinct from plane.tenant_id() then
    return false;
  end if;
  with latest as (
    select s.series_id, m.ts from tel_series s
    cross join lateral (
      select ts from plane.measurement m where m.series_id = s.series_id and m.ts >= s.last_hour order by ts desc limit 1
    ) as m
    where s.tenant_id = tenant
  )
  update tel_series s set last_hour = date_trunc('hour', l.ts, 'UTC') from latest l
  where s.series_id = l.series_id and s.last_hour is distinct from date_trunc('hour', l.ts, 'UTC');
  return false;
end
$$;
revoke execute on function plane.sum_up_hours from public;
grant execute on function plane.sum_up_hours to tenantry_app;

/* Lets go of what is older than it is kept, by TimescaleDB's own policy. */
create function plane.keep_readings(days int) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  kept interval := (
    select (config ->> 'drop_after')::interval from timescaledb_information.jobs
    where proc_name = 'policy_retention' and hypertable_schema = 'plane' and hypertable_name = 'measurement');
begin
  if kept is distinct from make_interval(days => days) then
    perform public.remove_retention_policy('plane.measurement', if_exists => true);
    perform public.add_retention_policy('plane.measurement', drop_after => make_interval(days => days));
  end if;
  return 0;
end
$$;
revoke execute on function plane.keep_readings from public;
grant execute on function plane.keep_readings to tenantry_app;
