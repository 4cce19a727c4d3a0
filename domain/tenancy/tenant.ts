import { type Static, Type } from 'typebox'
import { failure, jsonTime, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

/**
 * What a tenant has of a module: all of it; what it wrote while it had it, to read; nothing yet, with the plan that would
 * give it; or nothing that it should see.
 */
export const Availability = oneOf(['enabled', 'read_only', 'blocked', 'disabled'])
export type Availability = Static<typeof Availability>

/** A feature flag as it was set; which users it is on for follows in `flagsFor`. */
export const Flag = Type.Object(
  {
    value: Type.Unknown({ description: 'What the feature reads: true, a number, a text, an object' }),
    percentage: nullable(Type.Integer({ minimum: 0, maximum: 100, description: 'Of the users, always the same ones; null is all' })),
    user_ids: Type.Array(Uuid, { maxItems: 1000, uniqueItems: true, description: 'Users who have it in any case' }),
    expires_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type Flag = Static<typeof Flag>

const MenuLabel = Type.String({ minLength: 1, maxLength: 80 })

/** How a tenant's menu differs from the platform's, by entry: another place among its siblings, other words, not there at all. */
export const MenuOverrides = Type.Record(
  Type.String({ maxLength: 64 }),
  Type.Object(
    {
      sort: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000 })),
      labels: Type.Optional(
        Type.Partial(
          Type.Object({ en: MenuLabel, es: MenuLabel, pt: MenuLabel, tr: MenuLabel, az: MenuLabel }, { additionalProperties: false }),
          { additionalProperties: false },
        ),
      ),
      hidden: Type.Optional(Type.Boolean()),
    },
    { additionalProperties: false },
  ),
  { maxProperties: 500, examples: [{ 'erp.parties': { sort: 9, labels: { en: 'Growers' } } }] },
)
export type MenuOverrides = Static<typeof MenuOverrides>

export const PlatformNotice = Type.Object(
  {
    id: Uuid,
    kind: oneOf(['announcement', 'maintenance']),
    level: oneOf(['info', 'warning']),
    title: nullable(Type.String()),
    message: Type.String(),
    starts_at: Timestamp,
    ends_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)

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
    schema_name: nullable(Type.String()),
    database_name: nullable(Type.String()),
    migration_version: Type.Integer(),
    state: oneOf(['provisioning', 'ready', 'moving', 'failed']),
    /** False in the moment of a switch from one place to another. */
    writable: Type.Boolean(),
    subscription_status: nullable(Type.String()),
    grace_ends_at: nullable(Timestamp),
    plan: nullable(Type.String()),
    limits: Type.Record(Type.String(), nullable(Type.Integer())),
    modules: Type.Record(Type.String(), Availability),
    domains: Type.Array(Type.String()),
    flags: Type.Record(Type.String(), Flag),
    menu: MenuOverrides,
    security: Type.Object({
      session_idle_minutes: Type.Integer(),
      session_absolute_hours: Type.Integer(),
      sso_counts_as_mfa: Type.Boolean(),
    }),
    maintenance_until: nullable(Timestamp),
    /** What staff tells the tenant's users now. */
    notices: Type.Array(PlatformNotice),
    /** When something of this ends or begins by the clock, and it has to be read again. */
    changes_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type Tenant = Static<typeof Tenant>

/**
 * A tenant's modules. What differs from the plan is written down, the rest follows from it: a grant or trial that runs
 * gives a module, one that ended leaves what was written with it to be read, as does a module that the plan had before.
 * A product that is blocked or hidden until a moment is decided by the plan after it.
 * A module that the tenant never had is blocked, also where staff wrote that down.
 * A module that needs one which is not there does not work either.
 */
const modulesOf = sql.fragment`(
    with recursive had as (
      select m.code, m.requires, case
          when o.hidden or (tm.availability = 'disabled' and tm.live) then 'disabled'
          when o.running and tm.live and tm.source <> 'plan' then case
            when tm.availability = 'enabled' then 'enabled' when tm.had or pm.module is not null then 'read_only' else 'blocked' end
          when o.running and pm.module is not null then 'enabled'
          when tm.had or (o.ended and pm.module is not null) then 'read_only'
          else 'blocked'
        end as availability
      from platform_product_modules m
      left join tenant_platform_products tp on tp.tenant_id = t.id and tp.product = m.product
      cross join lateral (select coalesce(tp.availability, 'enabled') = 'enabled' as given, tp.expires_at is null or tp.expires_at > now() as live) as p
      cross join lateral (select p.given = p.live as running, p.given and not p.live as ended, tp.availability = 'disabled' and p.live as hidden) as o
      left join platform_plan_modules pm on pm.plan = coalesce(tp.plan, s.plan, e.plan) and pm.module = m.code
      left join lateral (select x.module, x.availability, x.source, x.had, (x.expires_at is null or x.expires_at > now()) as live
        from tenant_platform_product_modules x where x.tenant_id = t.id and x.module = m.code) as tm on true
    ), lacking as (
      select code from had where availability <> 'enabled'
      union
      select h.code from had h join lacking l on l.code = any(h.requires)
    )
    select coalesce(jsonb_object_agg(code, case when availability = 'enabled' and code = any(l.codes) then 'read_only' else availability end), '{}')
    from had cross join (select coalesce(array_agg(code), '{}') as codes from lacking) as l)`

/** Whether an announcement or window is meant for the tenant `t`: for all customers, those of a plan, or this one. */
const isFor = (alias: 'w' | 'a') => {
  const column = (name: string) => sql.identifier([alias, name])
  return sql.fragment`(t.kind = 'customer' and (${column('target_tenant_id')} is null or ${column('target_tenant_id')} = t.id)
      and (${column('target_plan')} is null or ${column('target_plan')} = coalesce(s.plan, e.plan)))`
}

/** What staff tells the tenant now, and the maintenance of the next seven days. */
const noticesOf = sql.fragment`coalesce((
    select jsonb_agg(jsonb_build_object('id', n.id, 'kind', n.kind, 'level', n.level, 'title', n.title, 'message', n.message,
      'starts_at', ${jsonTime('n.starts_at')}, 'ends_at', ${jsonTime('n.ends_at')}) order by n.starts_at, n.id)
    from (
      select a.id, 'announcement' as kind, a.level, a.title, a.body as message, a.starts_at, a.ends_at from platform_announcements a
      where a.starts_at <= now() and (a.ends_at is null or a.ends_at > now()) and ${isFor('a')}
      union all
      select w.id, 'maintenance', 'warning', null, w.message, w.starts_at, w.ends_at from platform_maintenance_windows w
      where w.starts_at <= now() + interval '7 days' and w.ends_at > now() and ${isFor('w')}
    ) as n), '[]')`

/** Reads tenants whole; the caller adds the condition. Control-plane catalogues (plans, modules) have no tenant. */
export const selectTenant = sql.fragment`
  select t.id, t.slug, t.name, t.kind, t.status, t.trial_ends_at, t.locale, t.timezone, t.currency,
    p.mode, p.catalog_key, p.telemetry_key, p.schema_name, p.database_name, p.migration_version, p.state, p.writable,
    s.status as subscription_status, s.grace_ends_at, coalesce(s.plan, e.plan) as plan,
    coalesce((select jsonb_object_agg(l.metric, l.amount) from platform_plan_limits l where l.plan = coalesce(s.plan, e.plan)), '{}') as limits,
    ${modulesOf} as modules,
    array(select d.domain from tenant_domains d where d.tenant_id = t.id and d.verified_at is not null) as domains,
    coalesce((select jsonb_object_agg(f.flag, jsonb_build_object('value', f.value, 'percentage', f.percentage, 'user_ids', f.user_ids, 'expires_at', f.expires_at))
      from tenant_feature_flags f where f.tenant_id = t.id and (f.expires_at is null or f.expires_at > now())), '{}') as flags,
    coalesce((select s.value from tenant_settings s where s.tenant_id = t.id and s.name = 'menu'), '{}') as menu,
    jsonb_build_object('session_idle_minutes', 10080, 'session_absolute_hours', 720, 'sso_counts_as_mfa', false) ||
      coalesce((select s.value from tenant_settings s where s.tenant_id = t.id and s.name = 'security'), '{}') as security,
    (select max(w.ends_at) from platform_maintenance_windows w where w.starts_at <= now() and w.ends_at > now() and ${isFor('w')}) as maintenance_until,
    ${noticesOf} as notices,
    (select min(at) from (
      select expires_at as at from tenant_platform_product_modules where tenant_id = t.id
      union all select expires_at from tenant_platform_products where tenant_id = t.id
      union all select expires_at from tenant_feature_flags where tenant_id = t.id
      union all select starts_at from platform_maintenance_windows where starts_at > now()
      union all select starts_at from platform_announcements where starts_at > now()
    ) as ends where at > now()) as changes_at
  from tenants t
  join tenant_connection_profiles p on p.tenant_id = t.id
  left join billing_subscriptions s on s.tenant_id = t.id and s.status <> 'cancelled'
  left join lateral (select plan from tenant_platform_products where tenant_id = t.id and plan is not null limit 1) e on true`

/**
 * Makes whoever else locks this tenant wait until the transaction ends. In a statement of its own: what is read after it
 * sees what the one before committed. Throws `not_found`.
 */
export async function lockTenant(tx: Tx): Promise<void> {
  const { rowCount } = await tx.query(sql.run`select 1 from tenants where id = ${tx.tenantId} for no key update`)
  if (rowCount === 0) throw failure('not_found')
}

const Locked = Type.Object(
  {
    kind: oneOf(['customer', 'platform']),
    status: oneOf(['pending', 'active', 'suspended', 'closed']),
    version: Type.Integer(),
  },
  { additionalProperties: false },
)

/**
 * Locks a customer that staff is about to change; returns its status and version. Throws `not_found` where there is none:
 * the platform's own tenant is no customer. Throws `invalid_transition` for one that is in none of the states `from`: a
 * registration is not changed before it is approved, nor a closed tenant at all.
 */
export async function lockCustomer(
  tx: Tx,
  transition: string,
  from: readonly Tenant['status'][] = ['active', 'suspended'],
): Promise<Pick<Static<typeof Locked>, 'status' | 'version'>> {
  const found = await tx.maybeOne(
    sql.prepared(Locked)`select kind, status, version from tenants where id = ${tx.tenantId} for no key update`,
  )
  if (found?.kind !== 'customer') throw failure('not_found')
  if (!from.includes(found.status)) throw failure('invalid_transition', { status: found.status, transition })
  return found
}

/** The tenant of a unit of work on the control plane, as it is in it. Throws `not_found`. */
export async function tenantOf(tx: Tx): Promise<Tenant> {
  const found = await tx.maybeOne(sql.type(Tenant)`${selectTenant} where t.id = ${tx.tenantId}`)
  if (!found) throw failure('not_found')
  return found
}
