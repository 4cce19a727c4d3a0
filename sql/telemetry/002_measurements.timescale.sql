/* The big table on TimescaleDB: a hypertable that is compressed by series, and continuous aggregates.

   TimescaleDB refuses the columnstore and continuous aggregates on a table with row security. So the application gets no
   right to the hypertable at all; it sees it through views that run as their owner and show the bound tenant's rows only:
   `security_barrier` lets no function of a query look at a row before the view's condition did, and the check option
   refuses rows of another tenant. */
create table plane.measurement (
  tenant_id uuid not null,
  series_id bigint not null,
  ts timestamptz(3) not null,
  value double precision not null,
  quality smallint not null default 0,
  primary key (series_id, ts)
);
select create_hypertable('plane.measurement', by_range('ts', interval '7 days'));
alter table plane.measurement set (timescaledb.enable_columnstore = true, timescaledb.segmentby = 'tenant_id, series_id', timescaledb.orderby = 'ts desc');
call add_columnstore_policy('plane.measurement', after => interval '14 days');
-- Older readings are refused on arrival.
select add_retention_policy('plane.measurement', drop_after => interval '10 years');

create view tel_measurement with (security_barrier = true) as
  select tenant_id, series_id, ts, value, quality from plane.measurement where tenant_id = plane.tenant_id()
  with local check option;
comment on column tel_measurement.quality is '0 good, 1 uncertain, 2 bad';
alter view tel_measurement alter column quality set default 0;
grant select, insert, update, delete on tel_measurement to tenantry_app;
grant select on tel_measurement to tenantry_reader;

create materialized view plane.measurement_hourly with (timescaledb.continuous, timescaledb.materialized_only = false) as
  select tenant_id, series_id, time_bucket(interval '1 hour', ts) as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         first(value, ts) as first, last(value, ts) as last
  from plane.measurement group by tenant_id, series_id, time_bucket(interval '1 hour', ts)
  with no data;
create materialized view plane.measurement_daily with (timescaledb.continuous, timescaledb.materialized_only = false) as
  select tenant_id, series_id, time_bucket(interval '1 day', ts) as bucket, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
         first(value, ts) as first, last(value, ts) as last
  from plane.measurement group by tenant_id, series_id, time_bucket(interval '1 day', ts)
  with no data;
-- Late readings are taken up for as long as a bucket is refreshed; older buckets are computed when somebody refreshes them.
select add_continuous_aggregate_policy('plane.measurement_hourly', start_offset => interval '90 days', end_offset => interval '1 hour', schedule_interval => interval '30 minutes');
select add_continuous_aggregate_policy('plane.measurement_daily', start_offset => interval '400 days', end_offset => interval '1 day', schedule_interval => interval '6 hours');

create view tel_hourly with (security_barrier = true) as select * from plane.measurement_hourly where tenant_id = plane.tenant_id();
create view tel_daily with (security_barrier = true) as select * from plane.measurement_daily where tenant_id = plane.tenant_id();
grant select on tel_hourly, tel_daily to tenantry_app, tenantry_reader;

/* The timed job asks for partitions; here TimescaleDB makes them itself. */
create function plane.make_measurement_partitions(behind int default 2, ahead int default 2) returns int
language sql as 'select 0';
revoke execute on function plane.make_measurement_partitions from public;
grant execute on function plane.make_measurement_partitions to tenantry_app;
