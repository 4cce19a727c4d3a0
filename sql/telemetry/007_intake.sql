/* How many readings were taken in of each minute, by when Kafka had them: what a plan's limit is held against, so that a
   backlog that is worked off at once is no flood. */
create table tel_intake (
  tenant_id uuid not null,
  minute timestamptz(3) not null,
  readings bigint not null,
  primary key (tenant_id, minute)
) with (fillfactor = 50);
call plane.protect('tel_intake');

/* Lets go of minutes of which Kafka has no message any more; for the timed job. */
create function plane.forget_intake(days int) returns void
language sql security definer set search_path = public, pg_temp as $$
  delete from tel_intake where minute < now() - make_interval(days => days)
$$;
revoke execute on function plane.forget_intake from public;
grant execute on function plane.forget_intake to tenantry_app;
