// Makes a tenant: its row, profile, modules, seeded roles and organizations.
import { type Database, newId, sql, systemScope, type Tx } from '../kernel/index.ts'
import { organizations, workspaces } from './organizations.ts'

export interface NewTenant {
  slug: string
  name: string
  kind?: 'customer' | 'platform'
  /** `trial` for 30 days with every module of the plan, or `paid`. */
  terms: 'trial' | 'paid'
  plan: string
  currency?: string
  organizations: { code: string; name: string; workspaces: { code: string; name: string }[] }[]
}

export interface ProvisionedTenant {
  id: string
  organizations: { id: string; code: string; workspaces: { id: string; code: string }[] }[]
  roles: Record<'admin' | 'manager' | 'operator' | 'viewer', string>
}

/** What the seeded roles may do. A pattern covers everything below it; `*.read` every read. */
const SEEDED_ROLES = {
  admin: { name: 'Admin', permissions: ['*'] },
  manager: { name: 'Manager', permissions: ['erp.*', 'telemetry.*', 'rbac.explain.read', '*.read'] },
  operator: {
    name: 'Operator',
    permissions: [
      '*.read',
      'erp.purchase_order.create',
      'erp.purchase_order.update',
      'erp.purchase_order.submit',
      'erp.purchase_order.send',
      'erp.goods_receipt.create',
      'erp.stock.issue',
      'erp.stock.transfer',
    ],
  },
  viewer: { name: 'Viewer', permissions: ['*.read'] },
} as const

/** Creates a tenant ready for use, in one transaction. Throws `already_exists` for a taken slug. */
export async function createTenant(control: Database, tenant: NewTenant, correlationId: string): Promise<ProvisionedTenant> {
  const id = newId()
  return control.write(systemScope(id, 'provisioning', correlationId), async (tx) => {
    const trialEnds = new Date(tx.now.getTime() + 30 * 86_400_000).toISOString()
    await tx.query(sql.run`
      insert into tenants (id, slug, name, kind, status, trial_ends_at, currency, approved_at)
      values (${id}, ${tenant.slug}, ${tenant.name}, ${tenant.kind ?? 'customer'}, 'active', ${tenant.terms === 'trial' ? trialEnds : null}, ${tenant.currency ?? 'EUR'}, ${tx.now.toISOString()})`)
    await tx.query(sql.run`insert into tenant_connection_profiles (id, tenant_id, state) values (${newId()}, ${tx.tenantId}, 'ready')`)
    if (tenant.terms === 'paid') {
      await tx.query(
        sql.run`insert into billing_subscriptions (id, tenant_id, plan, status) values (${newId()}, ${tx.tenantId}, ${tenant.plan}, 'active')`,
      )
    }
    const source = tenant.terms === 'trial' ? 'trial' : 'plan'
    await tx.query(sql.run`
      insert into tenant_platform_products (id, tenant_id, product, plan, availability, source)
      select gen_random_uuid(), ${tx.tenantId}, code, ${tenant.plan}, 'enabled', ${source} from platform_products`)
    const roles = {} as ProvisionedTenant['roles']
    for (const [code, role] of Object.entries(SEEDED_ROLES)) {
      const roleId = newId()
      roles[code as keyof typeof roles] = roleId
      await tx.query(
        sql.run`insert into res_roles (id, tenant_id, code, name, template) values (${roleId}, ${tx.tenantId}, ${code}, ${role.name}, ${code})`,
      )
      await tx.query(sql.run`
        insert into res_role_permissions (id, tenant_id, role_id, permission)
        select gen_random_uuid(), ${tx.tenantId}, ${roleId}, p from unnest(${sql.array([...role.permissions], 'text')}) as p`)
    }
    const places = []
    for (const organization of tenant.organizations) places.push(await createOrganization(tx, organization))
    return { id, organizations: places, roles }
  })
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
