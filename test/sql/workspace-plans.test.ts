// Lists of one workspace's documents and of one organization's trail are read by their own indexes, among 20,000 others.
import t from 'tap'
import { auditPage } from '../../domain/audit/index.ts'
import { purchaseOrderList } from '../../domain/erp/procurement/index.ts'
import { Database, listRows, newId, parseListQuery, type Reach, type Tx } from '../../domain/kernel/index.ts'
import { testApp } from '../support/app.ts'
import { catalogue } from '../support/erp.ts'
import { connectTo, testServices } from '../support/services.ts'

const { tenant } = await testApp(t)
const services = testServices()
const admin = await connectTo(t, services.admin.data)
const acme = await tenant()
const c = await catalogue(acme)
const [one] = acme.organizations
const [north, south] = one!.workspaces
await admin.query(
  `insert into erp_purchase_order (id, tenant_id, organization_id, workspace_id, code, supplier_id, currency, requested_by)
   select gen_random_uuid(), $1, $2, case when n % 1000 = 0 then $3::uuid else $4::uuid end, 'BULK-' || n, $5, 'EUR', $6 from generate_series(1, 20000) n`,
  [acme.id, one!.id, south!.id, north!.id, c.supplier, newId()],
)
await admin.query('analyze erp_purchase_order')
await admin.query('analyze plane.audit_events')

const reach: Reach = { tenant: false, organizations: [], workspaces: [south!.id], whole: new Set() }

t.test('each statement walks an index that begins with the tenant and the scope', async (t) => {
  const asked: { sql: string; values: readonly unknown[] }[] = []
  const capture = { beforeQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }) => void asked.push(query) }
  const database = new Database(services.app.data, { max: 1, interceptors: [{ name: 'capture', ...capture } as never] })
  t.teardown(() => database.close())
  const reader = await connectTo(t, services.app.data)
  await reader.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const plansOf = async (within: Reach, work: (tx: Tx) => Promise<unknown>) => {
    asked.length = 0
    await database.read({ ...acme.scope, reach: within }, work)
    const plans: string[] = []
    for (const { sql, values } of asked.filter(({ sql }) => /from "?(erp_purchase_order|plane\.audit_events)/.test(sql))) {
      const { rows } = await reader.query(`explain ${sql}`, values as unknown[])
      plans.push(rows.map((row) => row['QUERY PLAN']).join('\n'))
    }
    t.ok(plans.length > 0)
    return plans.join('\n')
  }
  const list = (query: Record<string, string>) => (tx: Tx) => listRows(tx, purchaseOrderList, parseListQuery(purchaseOrderList, query))
  t.match(await plansOf(reach, list({})), /Index Scan using erp_purchase_order_workspace/, 'the newest of a workspace')
  t.notMatch(await plansOf(reach, list({ sort: 'total' })), /Seq Scan on erp_purchase_order\b/, 'sorted otherwise')
  const organization: Reach = { tenant: false, organizations: [one!.id], workspaces: [], whole: new Set() }
  t.notMatch(await plansOf(organization, (tx) => auditPage(tx, {}, 50, null)), /Seq Scan on audit_events/, 'the trail of an organization')
})
