-- An alert says why it ended, and who ended it where a user did.
alter table tel_alert
  add column cleared_by uuid,
  add column cleared_cause text check (cleared_cause in ('condition', 'user', 'rule', 'device')),
  add column clear_reason text check (length(clear_reason) between 3 and 2000);
comment on column tel_alert.cleared_cause is 'Condition: no longer true; user: cleared by hand; rule, device: changed so that the rule no longer applies. Null of alerts that ended before this was kept.';
create index tel_alert_open_device on tel_alert (tenant_id, device_id) where status <> 'cleared';
create index tel_rule_state_alert on tel_rule_state (tenant_id, alert_id) where alert_id is not null;
create index tel_series_metric on tel_series (tenant_id, metric_id);

/* Tenants with rules that time alone can raise: silence, and a limit that is exceeded for some seconds. It tells no more than that. */
create function plane.tenants_with_timed_rules() returns uuid[]
language sql stable security definer set search_path = public, pg_temp as $$
  select coalesce(array_agg(distinct tenant_id), '{}') from tel_rule
  where enabled and deleted_at is null
    and jsonb_path_exists(condition, '$.** ? (@.kind == "silence" || (@.kind == "threshold" && @.for_seconds > 0))')
$$;
revoke execute on function plane.tenants_with_timed_rules from public;
grant execute on function plane.tenants_with_timed_rules to tenantry_app;
