// What one tenant has: its plan, and where it differs from it by a grant, a trial or a decision of the staff.
import { type Static, Type } from 'typebox'
import { failure, jsonTime, newId, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'
import {
  decisionsOf,
  lockCustomer,
  mailAdministrators,
  RegistrationRecord,
  recordDecision,
  registrationOf,
  Tenant,
  TenantDecision,
  tenantOf,
} from '../tenancy/index.ts'

export const Offer = Type.Object(
  {
    availability: oneOf(['enabled', 'blocked', 'disabled'], {
      description: 'enabled; blocked: shown with what would unlock it, and what was written can be read; disabled: not shown at all',
    }),
    source: oneOf(['grant', 'trial']),
    expires_at: Type.Optional(nullable(Timestamp)),
  },
  { additionalProperties: false },
)
export type Offer = Static<typeof Offer>

const Difference = Type.Object(
  {
    code: Type.String(),
    plan: nullable(Type.String()),
    availability: Type.String(),
    source: Type.String(),
    expires_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
const Differences = Type.Object(
  { products: Type.Array(Difference), module_offers: Type.Array(Difference) },
  { additionalProperties: false },
)

/** A tenant as the platform's staff sees it: what follows for it, and from which products and offers. */
export const TenantSheet = Type.Object({
  ...Tenant.properties,
  ...Differences.properties,
  registration: nullable(RegistrationRecord),
  decisions: Type.Array(TenantDecision, { description: 'What staff decided about it, the newest first' }),
})

/** Throws `not_found`. */
export async function tenantSheet(tx: Tx): Promise<Static<typeof TenantSheet>> {
  const tenant = await tenantOf(tx)
  const differences = await tx.one(sql.prepared(Differences)`
    select coalesce((select jsonb_agg(jsonb_build_object('code', product, 'plan', plan, 'availability', availability, 'source', source, 'expires_at', ${jsonTime('expires_at')}) order by product)
        from tenant_platform_products where tenant_id = ${tx.tenantId}), '[]') as products,
      coalesce((select jsonb_agg(jsonb_build_object('code', module, 'plan', null, 'availability', availability, 'source', source, 'expires_at', ${jsonTime('expires_at')}) order by module)
        from tenant_platform_product_modules where tenant_id = ${tx.tenantId}), '[]') as module_offers`)
  return { ...tenant, ...differences, registration: await registrationOf(tx), decisions: [...(await decisionsOf(tx))] }
}

/**
 * Puts the tenant on a plan, with all products. Trials of products end with that, and grants that have run out: the plan
 * decides again. What the old plan had and the new one lacks stays readable; where the tenant uses more than the new limits,
 * nothing is taken from it and nothing more is let in. Throws `not_found`, `invalid_transition` for a tenant that is pending
 * or closed, `invalid_reference` for a plan that is not there.
 */
export async function assignPlan(tx: Tx, plan: string, transition: 'change_plan' | 'convert' = 'change_plan'): Promise<void> {
  await lockCustomer(tx, transition)
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    insert into tenant_platform_products as p (id, tenant_id, product, plan, availability, source)
    select gen_random_uuid(), ${tx.tenantId}, code, ${plan}, 'enabled', 'plan' from platform_products
    on conflict (tenant_id, product) do update set plan = excluded.plan, version = p.version + 1, updated_at = ${now} where p.plan is distinct from excluded.plan`)
  await tx.query(sql.run`
    update tenant_platform_products set source = 'plan', expires_at = null, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and availability = 'enabled' and (source = 'trial' or expires_at <= ${now}) and expires_at is not null`)
  await tx.query(sql.run`
    update billing_subscriptions set plan = ${plan}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and status <> 'cancelled' and plan <> ${plan}`)
  await recordDecision(tx, transition === 'convert' ? 'platform.tenant.converted' : 'platform.tenant.plan_changed', { plan })
  await mailAdministrators(tx, transition === 'convert' ? 'tenant_converted' : 'plan_changed', { plan })
}

/** Lets the plan decide about a product again. Throws `not_found` where it does. */
export async function withdrawProduct(tx: Tx, product: string): Promise<void> {
  await lockCustomer(tx, 'offer')
  const { rowCount } = await tx.query(sql.run`
    update tenant_platform_products set availability = 'enabled', expires_at = null, version = version + 1, updated_at = ${tx.now.toISOString()},
      source = case when exists (select from billing_subscriptions b where b.tenant_id = ${tx.tenantId} and b.status <> 'cancelled') then 'plan' else 'trial' end
    where tenant_id = ${tx.tenantId} and product = ${product} and (availability <> 'enabled' or expires_at is not null or source = 'grant')`)
  if (rowCount === 0) throw failure('not_found')
}

async function putOffer(
  tx: Tx,
  what: 'product' | 'module',
  code: string,
  { availability, source, expires_at = null }: Offer,
): Promise<void> {
  const table = sql.identifier([what === 'product' ? 'tenant_platform_products' : 'tenant_platform_product_modules'])
  const column = sql.identifier([what])
  await lockCustomer(tx, 'offer') // one change after the other: each sees what the one before left
  const isModule = what === 'module'
  await tx.query(sql.run`
    insert into ${table} as o (id, tenant_id, ${column}, availability, source, expires_at ${isModule ? sql.fragment`, had` : sql.fragment``})
    values (${newId()}, ${tx.tenantId}, ${code}, ${availability}, ${source}, ${expires_at} ${isModule ? sql.fragment`, ${availability === 'enabled'}` : sql.fragment``})
    on conflict (tenant_id, ${column}) do update set availability = excluded.availability, source = excluded.source, expires_at = excluded.expires_at,
      ${isModule ? sql.fragment`had = o.had or excluded.had,` : sql.fragment``} version = o.version + 1, updated_at = ${tx.now.toISOString()}`)
}

/** Gives, blocks or hides a product. Throws `not_found`, `invalid_reference`. */
export const offerProduct = (tx: Tx, product: string, offer: Offer): Promise<void> => putOffer(tx, 'product', product, offer)

/**
 * Gives a module beyond the plan, for good or until a moment, or takes or hides one that the plan has. Throws
 * `not_found`, `invalid_reference`, and `module_requires` while the tenant lacks a module that this one needs.
 */
export async function offerModule(tx: Tx, module: string, offer: Offer): Promise<void> {
  await putOffer(tx, 'module', module, offer)
  const { availability, expires_at = null } = offer
  if (availability !== 'enabled' || (expires_at !== null && Date.parse(expires_at) <= tx.now.getTime())) return
  const { modules } = await tenantOf(tx)
  if (modules[module] === 'enabled') return
  const { requires } = await tx.one(sql.prepared(Type.Object({ requires: Type.Array(Type.String()) }, { additionalProperties: false }))`
    select requires from platform_product_modules where code = ${module}`)
  throw failure('module_requires', { module, requires: requires.filter((needed) => modules[needed] !== 'enabled') })
}

/** Lets the plan decide again; what was written while the module was there stays readable. Throws `not_found`. */
export async function withdrawModule(tx: Tx, module: string): Promise<void> {
  await lockCustomer(tx, 'offer')
  const forgotten = await tx.query(sql.run`
    delete from tenant_platform_product_modules where tenant_id = ${tx.tenantId} and module = ${module} and source <> 'plan' and not had`)
  if (forgotten.rowCount > 0) return
  const { rowCount } = await tx.query(sql.run`
    update tenant_platform_product_modules set availability = 'blocked', source = 'plan', expires_at = null, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and module = ${module} and source <> 'plan'`)
  if (rowCount === 0) throw failure('not_found')
}
