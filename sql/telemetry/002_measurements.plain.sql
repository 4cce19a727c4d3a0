-- The big table on plain PostgreSQL: monthly partitions, and views of the names that TimescaleDB's aggregates have.
create table tel_measurement (
  tenant_id uuid not null,
  series_id bigint not null,
  ts timestamptz(3) not null,
  value double precision not null,
  quality smallint not null default 0,
  primary key (series_id, ts)
) partition by range (ts);
comment on column tel_measurement.quality is '0 good, 1 uncertain, 2 bad';
create table tel_measurement_default partition of tel_measurement default;
call plane.protect('tel_measurement');
call plane.protect('tel_measurement_default', rights => 'select');

/* Makes the partitions from `behind` months ago to `ahead` months from now; runs as the owner for the timed job. Rows of
   the month that fell into the default partition meanwhile are moved. */
create function plane.make_measurement_partitions(behind int default 2, ahead int default 2) returns int
language plpgsql security definer set search_path = public, pg_temp as $$
declare
  month timestamptz;
  part text;
  made int := 0;
begin
  for month in select generate_series(date_trunc('month', now(), 'UTC') - make_interval(months => behind), date_trunc('month', now(), 'UTC') + make_interval(months => ahead), interval '1 month') loop
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
revoke execute on function plane.make_measurement_partitions from public;
grant execute on function plane.make_measurement_partitions to tenantry_app;
select plane.make_measurement_partitions();

create view tel_hourly with (security_invoker = true) as
  select tenant_id, series_id, date_trunc('hour', ts, 'UTC') as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
  from tel_measurement group by tenant_id, series_id, date_trunc('hour', ts, 'UTC');
create view tel_daily with (security_invoker = true) as
  select tenant_id, series_id, date_trunc('day', ts, 'UTC') as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
  from tel_measurement group by tenant_id, series_id, date_trunc('day', ts, 'UTC');
grant select on tel_hourly, tel_daily to tenantry_app, tenantry_reader;
