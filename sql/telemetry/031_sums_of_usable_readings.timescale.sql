/* Hours and days are summed up of readings of quality good and uncertain within ±1e100: bad ones are not meant to count, and
   one larger value, stored before such values were refused, ends the refresh of all tenants. Aggregates of readings have the
   same condition (domain/telemetry/quality.ts). A continuous aggregate cannot be changed, so it is made again: until its policy
   has filled it, it is worked out from the readings (materialized_only = false). */
drop view tel_hourly;
drop view tel_daily;
drop materialized view plane.measurement_hourly;
drop materialized view plane.measurement_daily;

create materialized view plane.measurement_hourly with (timescaledb.continuous, timescaledb.materialized_only = false) as
  select tenant_id, series_id, time_bucket(interval '1 hour', ts) as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         first(value, ts) as first, last(value, ts) as last
  from plane.measurement where value >= '-1e100'::float8 and value <= '1e100'::float8 and quality < 2
  group by tenant_id, series_id, time_bucket(interval '1 hour', ts)
  with no data;
create materialized view plane.measurement_daily with (timescaledb.continuous, timescaledb.materialized_only = false) as
  select tenant_id, series_id, time_bucket(interval '1 day', ts) as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         first(value, ts) as first, last(value, ts) as last
  from plane.measurement where value >= '-1e100'::float8 and value <= '1e100'::float8 and quality < 2
  group by tenant_id, series_id, time_bucket(interval '1 day', ts)
  with no data;
select add_continuous_aggregate_policy('plane.measurement_hourly', start_offset => null, end_offset => interval '1 hour', schedule_interval => interval '10 minutes');
select add_continuous_aggregate_policy('plane.measurement_daily', start_offset => null, end_offset => interval '1 day', schedule_interval => interval '1 hour');

create view tel_hourly with (security_barrier = true) as select * from plane.measurement_hourly where tenant_id = plane.tenant_id();
create view tel_daily with (security_barrier = true) as select * from plane.measurement_daily where tenant_id = plane.tenant_id();
grant select on tel_hourly, tel_daily to tenantry_app, tenantry_reader;
