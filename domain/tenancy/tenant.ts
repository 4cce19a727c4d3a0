import { type Static, Type } from 'typebox'
import { nullable, oneOf, sql, Timestamp, Uuid } from '../kernel/index.ts'

const Availability = oneOf(['enabled', 'blocked', 'disabled'])

/** Everything about a tenant that deciding on a request needs, read at once and cached. */
export const Tenant = Type.Object(
  {
    id: Uuid,
    slug: Type.String(),
    name: Type.String(),
    kind: oneOf(['customer', 'platform']),
    status: oneOf(['pending', 'active', 'suspended', 'closed']),
    trial_ends_at: nullable(Timestamp),
    locale: Type.String(),
    timezone: Type.String(),
    currency: Type.String(),
    mode: oneOf(['shared', 'schema', 'database']),
    catalog_key: Type.String(),
    telemetry_key: Type.String(),
    state: oneOf(['provisioning', 'ready', 'moving', 'failed']),
    subscription_status: nullable(Type.String()),
    grace_ends_at: nullable(Timestamp),
    plan: nullable(Type.String()),
    limits: Type.Record(Type.String(), nullable(Type.Integer())),
    modules: Type.Record(Type.String(), Availability),
    domains: Type.Array(Type.String()),
    flags: Type.Record(Type.String(), Type.Unknown()),
    security: Type.Object({ session_idle_minutes: Type.Integer(), session_absolute_hours: Type.Integer() }),
    maintenance_until: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type Tenant = Static<typeof Tenant>

/** Reads tenants whole; the caller adds the condition. Control-plane catalogues (plans, modules) have no tenant. */
export const selectTenant = sql.fragment`
  select t.id, t.slug, t.name, t.kind, t.status, t.trial_ends_at, t.locale, t.timezone, t.currency,
    p.mode, p.catalog_key, p.telemetry_key, p.state,
    s.status as subscription_status, s.grace_ends_at, coalesce(s.plan, e.plan) as plan,
    coalesce((select jsonb_object_agg(l.metric, l.amount) from platform_plan_limits l where l.plan = coalesce(s.plan, e.plan)), '{}') as limits,
    coalesce((
      select jsonb_object_agg(m.module, case when m.expires_at <= now() then 'blocked' else m.availability end)
      from tenant_platform_product_modules m
      left join platform_product_modules pm on pm.code = m.module
      left join tenant_platform_products tp on tp.tenant_id = t.id and tp.product = pm.product
      where m.tenant_id = t.id and (tp.availability is null or tp.availability = 'enabled')), '{}') as modules,
    array(select d.domain from tenant_domains d where d.tenant_id = t.id and d.verified_at is not null) as domains,
    coalesce((select jsonb_object_agg(f.flag, f.value) from tenant_feature_flags f
      where f.tenant_id = t.id and (f.expires_at is null or f.expires_at > now())), '{}') as flags,
    jsonb_build_object('session_idle_minutes', 10080, 'session_absolute_hours', 720) ||
      coalesce((select s.value from tenant_settings s where s.tenant_id = t.id and s.name = 'security'), '{}') as security,
    (select max(w.ends_at) from platform_maintenance_windows w where w.starts_at <= now() and w.ends_at > now()) as maintenance_until
  from tenants t
  join tenant_connection_profiles p on p.tenant_id = t.id
  left join billing_subscriptions s on s.tenant_id = t.id and s.status <> 'cancelled'
  left join lateral (select plan from tenant_platform_products where tenant_id = t.id and plan is not null limit 1) e on true`
