/* Series of which hours could not be summed up in the last run. Their hours stay in tel_hour_late: they are read as they are,
   and tried again with the next run. Other series go on. */
create table tel_hour_failure (
  tenant_id uuid not null,
  series_id bigint not null,
  error text not null,
  failed_at timestamptz(3) not null default now(),
  primary key (tenant_id, series_id)
);
comment on table tel_hour_failure is 'Series of which hours could not be summed up in the last run.';
call plane.protect('tel_hour_failure', rights => 'select');
