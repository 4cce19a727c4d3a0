/* How many readings were taken in of each minute, by when Kafka had them: what a plan's limit is held against, so that a
   backlog that is worked off at once is no flood. */
create table tel_intake (
  tenant_id uuid not null,
  minute timestamptz(3) not null,
  readings bigint not null,
  primary key (tenant_id, minute)
) with (fillfactor = 50);
call plane.protect('tel_intake', true);
