/* How far readings from Kafka are written, by partition: all that the brokers had at that moment is durable. Silence of
   devices is decided as of then, so that messages that wait are no silence. Of the platform: no tenant's data. */
create table platform_ingest_progress (
  topic text not null,
  partition int not null,
  written_until timestamptz(3) not null,
  primary key (topic, partition)
);
grant select, insert, update, delete on platform_ingest_progress to tenantry_app;
