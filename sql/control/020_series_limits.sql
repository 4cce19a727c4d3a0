-- Plans limit what devices may make: metrics of a device, and metrics and series of a tenant.
alter table platform_plan_limits drop constraint platform_plan_limits_metric_check;
alter table platform_plan_limits add constraint platform_plan_limits_metric_check
  check (metric in ('users', 'records', 'devices', 'storage', 'api_calls', 'readings', 'device_metrics', 'metrics', 'series'));
comment on column platform_plan_limits.amount is
  'Null is without limit; storage in bytes, api calls a month, readings a minute. What is not named is without limit, but for device_metrics (200), metrics (5,000) and series (50,000).';

/* Plans whose devices are many, or without limit, have series in proportion; what a tenant has already it keeps. */
insert into platform_plan_limits (plan, metric, amount)
select p.code, 'series', d.amount * 20
from platform_plans p left join platform_plan_limits d on d.plan = p.code and d.metric = 'devices'
where d.amount is null or d.amount > 2500
on conflict do nothing;
