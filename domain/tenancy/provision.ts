// Makes a tenant: its row, where it lives, what it bought, seeded roles, organizations.
import { Type } from 'typebox'
import { type Database, newId, sql, systemScope, type Tx, Uuid } from '../kernel/index.ts'
import { organizations, workspaces } from './organizations.ts'
import { placeFor } from './storage.ts'
import type { Tenant } from './tenant.ts'

export interface NewTenant {
  slug: string
  name: string
  kind?: Tenant['kind']
  /** `trial` for 30 days with every module of the plan, or `paid`. */
  terms: 'trial' | 'paid'
  plan: string
  currency?: string
  /** Together with others where nothing is said; a schema or database of its own is served once `makeHome` has made it. */
  home?: { mode: Tenant['mode']; catalog_key: string }
  organizations: { code: string; name: string; workspaces: { code: string; name: string }[] }[]
}

export interface ProvisionedTenant {
  id: string
  organizations: { id: string; code: string; workspaces: { id: string; code: string }[] }[]
  roles: Record<RoleCode, string>
}

/** Reading business data. Security data (trail, sessions, keys, rights, identity providers, policy) is the administrator's. */
const BUSINESS_READS = [
  'erp.*.read',
  'telemetry.*.read',
  'file.object.read',
  'events.stream.read',
  'tenant.organization.read',
  'tenant.workspace.read',
] as const

/** The permissions of the seeded roles. */
export const SEEDED_ROLES = {
  admin: { name: 'Admin', permissions: ['*'] },
  manager: {
    name: 'Manager',
    permissions: ['erp.*', 'telemetry.*', 'file.*', 'events.stream.read', 'tenant.organization.read', 'tenant.workspace.read'],
  },
  operator: {
    name: 'Operator',
    permissions: [
      ...BUSINESS_READS,
      'erp.purchase_order.create',
      'erp.purchase_order.update',
      'erp.purchase_order.submit',
      'erp.purchase_order.send',
      'erp.goods_receipt.create',
      'erp.stock.issue',
      'erp.stock.transfer',
      'erp.stock_reservation.create',
      'erp.stock_reservation.release',
      'erp.stock_transfer.create',
      'erp.stock_transfer.ship',
      'erp.stock_transfer.receive',
      'erp.stock_count.create',
      'erp.stock_count.count',
      'erp.stock_count.submit',
      'erp.price.resolve',
      'telemetry.alert.acknowledge',
    ],
  },
  viewer: { name: 'Viewer', permissions: [...BUSINESS_READS] },
} as const
export type RoleCode = keyof typeof SEEDED_ROLES

/** The permissions that seeded roles had before they were limited to business data; `npm run script -- narrow-seeded-roles`. */
export const FORMER_SEEDED_ROLES: Partial<Record<RoleCode, readonly string[]>> = {
  manager: ['erp.*', 'telemetry.*', 'rbac.explain.read', '*.read'],
  operator: ['*.read', ...SEEDED_ROLES.operator.permissions.filter((code) => !(BUSINESS_READS as readonly string[]).includes(code))],
  viewer: ['*.read'],
}

/**
 * Creates a tenant in one transaction, without asking anybody. Throws `already_exists` for a taken slug.
 * @param also what else belongs to it, in the same transaction: its first user
 */
export async function createTenant(
  control: Database,
  tenant: NewTenant,
  correlationId: string,
  also: (tx: Tx, made: ProvisionedTenant) => Promise<void> = async () => {},
): Promise<ProvisionedTenant> {
  const id = newId()
  return control.write(systemScope(id, 'provisioning', correlationId), async (tx) => {
    const trialEnds = new Date(tx.now.getTime() + 30 * 86_400_000).toISOString()
    await tx.query(sql.run`
      insert into tenants (id, slug, name, kind, status, trial_ends_at, currency, approved_at)
      values (${id}, ${tenant.slug}, ${tenant.name}, ${tenant.kind ?? 'customer'}, 'active', ${tenant.terms === 'trial' ? trialEnds : null}, ${tenant.currency ?? 'EUR'}, ${tx.now.toISOString()})`)
    const { mode, catalog_key } = tenant.home ?? { mode: 'shared', catalog_key: 'main' }
    await assignHome(tx, mode, catalog_key)
    if (tenant.terms === 'paid') {
      await tx.query(
        sql.run`insert into billing_subscriptions (id, tenant_id, plan, status) values (${newId()}, ${tx.tenantId}, ${tenant.plan}, 'active')`,
      )
    }
    await offerPlan(tx, tenant.plan, tenant.terms === 'trial' ? 'trial' : 'plan')
    const roles = await seedRoles(tx, tenant.kind)
    const places = []
    for (const organization of tenant.organizations) places.push(await createOrganization(tx, organization))
    const made = { id, organizations: places, roles }
    await also(tx, made)
    return made
  })
}

/** Says where the tenant will live, or that it will live elsewhere before it was made; together with others it can be served at once. */
export async function assignHome(tx: Tx, mode: Tenant['mode'], catalogKey: string): Promise<void> {
  const place = placeFor(tx.tenantId, mode, catalogKey)
  await tx.query(sql.run`
    insert into tenant_connection_profiles (id, tenant_id, mode, catalog_key, schema_name, database_name, state)
    values (${newId()}, ${tx.tenantId}, ${mode}, ${catalogKey}, ${place.schema_name}, ${place.database_name}, ${mode === 'shared' ? 'ready' : 'provisioning'})
    on conflict (tenant_id) do update set mode = excluded.mode, catalog_key = excluded.catalog_key, schema_name = excluded.schema_name,
      database_name = excluded.database_name, state = excluded.state`)
}

/** Every product on one plan. Done again it changes what another plan was chosen for, and nothing else. */
export async function offerPlan(tx: Tx, plan: string, source: 'trial' | 'plan'): Promise<void> {
  await tx.query(sql.run`
    insert into tenant_platform_products as p (id, tenant_id, product, plan, availability, source)
    select gen_random_uuid(), ${tx.tenantId}, code, ${plan}, 'enabled', ${source} from platform_products
    on conflict (tenant_id, product) do update set plan = excluded.plan, version = p.version + 1, updated_at = ${tx.now.toISOString()}
    where p.plan is distinct from excluded.plan`)
}

/** The permissions of a seeded role in a kind of tenant; in the platform's own, its staff also reads the platform's records. */
export const seededPermissions = (code: RoleCode, kind: Tenant['kind'] = 'customer'): readonly string[] => [
  ...SEEDED_ROLES[code].permissions,
  ...(kind === 'platform' && code !== 'admin' ? ['platform.*.read'] : []),
]

const SeededRole = Type.Object({ id: Uuid, code: Type.Unsafe<RoleCode>(Type.String()) }, { additionalProperties: false })

/** Creates the seeded roles that a tenant lacks, and leaves the others as they are; returns the ids of all by code. */
export async function seedRoles(tx: Tx, kind: Tenant['kind'] = 'customer'): Promise<Record<RoleCode, string>> {
  const roles = (Object.keys(SEEDED_ROLES) as RoleCode[]).map((code) => ({
    id: newId(),
    code,
    name: SEEDED_ROLES[code].name,
    permissions: seededPermissions(code, kind),
  }))
  await tx.query(sql.run`
    insert into res_roles (id, tenant_id, code, name, template)
    select id, ${tx.tenantId}, code, name, code
    from ${sql.unnest(
      roles.map(({ id, code, name }) => [id, code, name]),
      ['uuid', 'text', 'text'],
    )} as r (id, code, name)
    on conflict (tenant_id, code) where deleted_at is null do nothing`)
  // Of a role that was there the new id is none: its permissions are left alone.
  await tx.query(sql.run`
    insert into res_role_permissions (id, tenant_id, role_id, permission)
    select gen_random_uuid(), ${tx.tenantId}, p.role_id, p.permission
    from ${sql.unnest(
      roles.flatMap(({ id, permissions }) => permissions.map((permission) => [id, permission])),
      ['uuid', 'text'],
    )} as p (role_id, permission) join res_roles r on r.tenant_id = ${tx.tenantId} and r.id = p.role_id`)
  const all = await tx.any(sql.prepared(SeededRole)`
    select id, code from res_roles where tenant_id = ${tx.tenantId} and deleted_at is null and code = any(${sql.array(Object.keys(SEEDED_ROLES), 'text')})`)
  return Object.fromEntries(all.map(({ code, id }) => [code, id])) as Record<RoleCode, string>
}

/** An organization with its settings and workspaces. */
export async function createOrganization(
  tx: Tx,
  organization: NewTenant['organizations'][number],
): Promise<ProvisionedTenant['organizations'][number]> {
  const { id } = await organizations.create(tx, { code: organization.code, name: organization.name })
  const made = organization.workspaces.map((workspace) => ({ ...workspace, organization_id: id }))
  const places = made.length > 0 ? await workspaces.createMany(tx, made) : []
  return { id, code: organization.code, workspaces: places.map(({ id, code }) => ({ id, code })) }
}

/** Whether the tenant of the unit of work has an organization. */
export const hasOrganization = (tx: Tx): Promise<boolean> =>
  tx.exists(sql.run`select 1 from res_organizations where tenant_id = ${tx.tenantId} and deleted_at is null`)
