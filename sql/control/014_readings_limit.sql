alter table platform_plan_limits drop constraint platform_plan_limits_metric_check;
alter table platform_plan_limits add constraint platform_plan_limits_metric_check
  check (metric in ('users', 'records', 'devices', 'storage', 'api_calls', 'readings'));
comment on column platform_plan_limits.amount is 'Null is without limit; storage in bytes, api calls a month, readings a minute.';
