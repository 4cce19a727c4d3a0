/* What tenants do with the platform, for its staff: added up by each process and written every few seconds, kept 90 days.
   Neither paths nor contents: how many requests of which feature, how long they took, and which users made them. */
create table tenant_activity (
  tenant_id uuid not null references tenants,
  hour timestamptz(3) not null,
  feature text not null,
  requests bigint not null,
  changes bigint not null,
  errors bigint not null,
  duration_ms bigint not null,
  database_ms bigint not null,
  primary key (tenant_id, hour, feature)
);
comment on column tenant_activity.feature is 'The module of the routes, or the area of their permission: erp.parties, identity.';
comment on column tenant_activity.errors is 'Answers of 500 and above.';
create index tenant_activity_hour on tenant_activity (hour, tenant_id);
call plane.protect('tenant_activity', true);

create table tenant_user_activity (
  tenant_id uuid not null references tenants,
  day date not null,
  user_id uuid not null,
  feature text not null,
  requests bigint not null,
  changes bigint not null,
  last_at timestamptz(3) not null,
  primary key (tenant_id, day, user_id, feature)
);
create index tenant_user_activity_day on tenant_user_activity (day, tenant_id);
call plane.protect('tenant_user_activity', true);
create index res_sessions_impersonated on res_sessions (tenant_id, expires_at) where impersonated_by is not null;
