/* How far each Kafka consumer of each worker process is, told every few seconds by that process. Rows that are not
   renewed belong to processes that are gone. Not replicated by moves and of no tenant. */
create table platform_consumer_progress (
  instance uuid not null,
  consumer text not null,
  lag bigint not null,
  blocked_since timestamptz(3),
  last_error text,
  reported_at timestamptz(3) not null,
  primary key (instance, consumer)
);
comment on table platform_consumer_progress is 'Lag and blocked batches of the Kafka consumers of each worker process.';
grant select, insert, update, delete on platform_consumer_progress to tenantry_app;
