-- Rules are watched on devices, and what they raise is a rule's and a device's.
alter table tel_rule
  drop column metric_id,
  add column profile_id uuid,
  add column site_id uuid,
  add column batch_id uuid,
  add foreign key (tenant_id, profile_id) references tel_device_profile (tenant_id, id);
create index tel_rule_recent on tel_rule (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_rule_name on tel_rule (tenant_id, organization_id, name, id) where deleted_at is null;
create index tel_rule_device_id on tel_rule (tenant_id, organization_id, device_id, id) where deleted_at is null;
create index tel_rule_profile_id on tel_rule (tenant_id, organization_id, profile_id, id) where deleted_at is null;
create index tel_rule_site_id on tel_rule (tenant_id, organization_id, site_id, id) where deleted_at is null;
create index tel_rule_batch_id on tel_rule (tenant_id, organization_id, batch_id, id) where deleted_at is null;
create index tel_rule_severity on tel_rule (tenant_id, organization_id, severity, id) where deleted_at is null;
create index tel_rule_enabled on tel_rule (tenant_id, organization_id, enabled, id) where deleted_at is null;
create index tel_rule_search on tel_rule using gin (tenant_id, name gin_trgm_ops) where deleted_at is null;

alter table tel_alert
  drop column series_id,
  add column device_id uuid not null,
  add column name text not null,
  add column severity text not null check (severity in ('info', 'warning', 'critical')),
  add column metric text,
  add column acknowledged_by uuid,
  add column deleted_at timestamptz(3),
  add foreign key (tenant_id, device_id) references tel_device (tenant_id, id);
create unique index tel_alert__rule_id__device_id_key on tel_alert (tenant_id, rule_id, device_id) where status <> 'cleared';
create index tel_alert_raised_at on tel_alert (tenant_id, organization_id, raised_at desc, id desc) where deleted_at is null;
create index tel_alert_recent on tel_alert (tenant_id, organization_id, created_at desc, id desc) where deleted_at is null;
create index tel_alert_status on tel_alert (tenant_id, organization_id, status, raised_at desc, id desc) where deleted_at is null;
create index tel_alert_severity on tel_alert (tenant_id, organization_id, severity, raised_at desc, id desc) where deleted_at is null;
create index tel_alert_device_id on tel_alert (tenant_id, organization_id, device_id, raised_at desc, id desc) where deleted_at is null;
create index tel_alert_rule_id on tel_alert (tenant_id, organization_id, rule_id, raised_at desc, id desc) where deleted_at is null;

create table tel_rule_state (
  tenant_id uuid not null,
  rule_id uuid not null,
  device_id uuid not null,
  rule_version int not null,
  leaves jsonb not null,
  alert_id uuid,
  primary key (tenant_id, rule_id, device_id),
  foreign key (tenant_id, rule_id) references tel_rule (tenant_id, id),
  foreign key (tenant_id, device_id) references tel_device (tenant_id, id),
  foreign key (tenant_id, alert_id) references tel_alert (tenant_id, id)
);
comment on table tel_rule_state is 'Rules on devices of which anything is true, or an alert is open: none stands for nothing.';
comment on column tel_rule_state.leaves is 'Of each thing that the condition is made of: since when it has been so, and whether for long enough.';
create index tel_rule_state_device_id on tel_rule_state (tenant_id, device_id);
call plane.protect('tel_rule_state');

/* Which tenants have rules of silence: whoever looks for it need not ask each. Of no tenant it tells more than that. */
create function plane.tenants_watching_silence() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
  select coalesce(array_agg(distinct tenant_id), '{}') from tel_rule
  where enabled and deleted_at is null and jsonb_path_exists(condition, '$.** ? (@.kind == "silence")')
$$;
revoke execute on function plane.tenants_watching_silence from public;
grant execute on function plane.tenants_watching_silence to tenantry_app;
