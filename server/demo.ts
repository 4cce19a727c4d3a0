// The demo tenants of development, through the same functions that real tenants are made with.
import { assignRole } from '../domain/access/index.ts'
import { locations } from '../domain/erp/inventory/index.ts'
import { parties } from '../domain/erp/parties/index.ts'
import { products, uoms } from '../domain/erp/products/index.ts'
import { createUser, hashed } from '../domain/identity/index.ts'
import { newId, systemScope } from '../domain/kernel/index.ts'
import { createTenant, type NewTenant, type Planes } from '../domain/tenancy/index.ts'

export const DEMO_PASSWORD = 'tenantry-demo'
const ROLES = ['admin', 'manager', 'operator', 'viewer'] as const

const organizations = (names: readonly [string, string]): NewTenant['organizations'] => [
  {
    code: 'main',
    name: names[0],
    workspaces: [
      { code: 'north', name: 'North' },
      { code: 'south', name: 'South' },
    ],
  },
  { code: 'second', name: names[1], workspaces: [] },
]

const TENANTS: NewTenant[] = [
  { slug: 'acme', name: 'Acme Nursery', terms: 'trial', plan: 'professional', organizations: organizations(['Acme Plants', 'Acme Seeds']) },
  {
    slug: 'globex',
    name: 'Globex Retail',
    terms: 'paid',
    plan: 'enterprise',
    organizations: organizations(['Globex Stores', 'Globex Online']),
  },
]

const CATALOGUE: Record<string, { code: string; name: string; lot_tracked: boolean }[]> = {
  acme: [
    { code: 'ROSE', name: 'Rose, potted', lot_tracked: true },
    { code: 'SOIL', name: 'Potting soil', lot_tracked: false },
  ],
  globex: [{ code: 'MUG', name: 'Coffee mug', lot_tracked: false }],
}

/** Seeds what is missing; a second run changes nothing. */
export async function seedDemo(planes: Planes, existing: (slug: string) => Promise<boolean>): Promise<void> {
  for (const tenant of TENANTS) {
    if (await existing(tenant.slug)) continue
    const made = await createTenant(planes.control, tenant, newId())
    const users = await Promise.all(
      ROLES.map((role) => hashed({ email: `${role}@${tenant.slug}.example`, name: `${tenant.name} ${role}`, password: DEMO_PASSWORD })),
    )
    const scope = systemScope(made.id, 'demo', newId())
    await planes.control.write(scope, async (tx) => {
      for (const [at, user] of users.entries()) await assignRole(tx, await createUser(tx, user), made.roles[ROLES[at]!])
    })
    const context = { organizationId: made.organizations[0]!.id, workspaceId: null }
    await planes.data.get('main')!.write({ ...scope, context }, async (tx) => {
      const [piece] = await uoms.createMany(tx, [
        { code: 'PCS', name: 'Piece', dimension: 'count' },
        { code: 'KG', name: 'Kilogram', dimension: 'mass' },
      ])
      await parties.create(tx, { code: 'SUPPLIER-1', name: 'Green Fields Growers', roles: ['supplier'] })
      await parties.create(tx, { code: 'CLIENT-1', name: 'City Gardens', roles: ['client'] })
      await locations.create(tx, { code: 'STORE', name: 'Main store', kind: 'internal', level: 'site' })
      await products.createMany(
        tx,
        CATALOGUE[tenant.slug]!.map((product) => ({ ...product, uom_id: piece!.id })),
      )
    })
  }
  if (await existing('admin')) return
  const staff = await createTenant(
    planes.control,
    {
      slug: 'admin',
      name: 'Platform',
      kind: 'platform',
      terms: 'paid',
      plan: 'enterprise',
      organizations: [{ code: 'platform', name: 'Platform', workspaces: [] }],
    },
    newId(),
  )
  const root = await hashed({ email: 'root@platform.example', name: 'Platform root', password: DEMO_PASSWORD })
  await planes.control.write(systemScope(staff.id, 'demo', newId()), async (tx) => {
    await assignRole(tx, await createUser(tx, root), staff.roles.admin)
  })
}
