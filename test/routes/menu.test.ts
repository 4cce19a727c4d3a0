// The menu: all there is to open, in the reader's words and the tenant's order.
import { Client } from 'pg'
import t from 'tap'
import { newId, sql } from '../../domain/kernel/index.ts'
import { eventually, testApp } from '../support/app.ts'
import { testServices } from '../support/services.ts'

const { app, tenant } = await testApp(t)
const { control } = app.services.planes

interface Node {
  code: string
  label: string
  path: string | null
  children: Node[]
}
const flat = (nodes: Node[]): Node[] => nodes.flatMap((node) => [node, ...flat(node.children)])
const labels = (nodes: Node[]) => Object.fromEntries(flat(nodes).map(({ code, label }) => [code, label]))

t.test('registry, menu and routes cannot drift apart', async (t) => {
  const owner = new Client({ connectionString: testServices().admin.control })
  await owner.connect()
  t.teardown(() => owner.end())
  const modules = (await owner.query<{ code: string; requires: string[] }>('select code, requires from platform_product_modules')).rows
  const items = (await owner.query('select code, parent, labels, path, module, permission from platform_menu_items')).rows
  const registered = [...app.permissions.entries()].map(([permission, entry]) => ({ permission, ...entry }))

  const asked = new Set(registered.flatMap(({ module }) => module ?? []))
  t.same([...asked].sort(), modules.map(({ code }) => code).sort(), 'each module opens a route, and each route’s module is registered')
  for (const { code, requires } of modules) {
    t.ok(
      requires.every((needed) => asked.has(needed)),
      `what ${code} needs is there`,
    )
    t.ok(
      items.some(({ module, path }) => module === code && path),
      `${code} is in the menu`,
    )
  }
  // Asked for in the middle of other work, not opened by itself.
  const asides = ['rbac.explain.read', 'events.stream.read']
  const lists = registered.filter(({ routes }) => routes.some((route) => /^GET [^:]*$/.test(route)))
  for (const { code, path, module, permission, labels } of items) {
    t.same(Object.keys(labels).sort(), ['az', 'en', 'es', 'pt', 'tr'], `${code} has its label in each language`)
    if (!path) continue
    const entry = app.permissions.get(permission)
    t.ok(entry?.routes.includes(`GET /api/v1${path}`), `${code} opens a route that asks for its permission`)
    t.equal(entry?.module ?? null, module, `${code} has the module of its route`)
  }
  for (const { permission } of lists.filter(({ permission }) => permission.endsWith('.read') && !asides.includes(permission))) {
    t.ok(
      items.some((item) => item.permission === permission),
      `${permission} can be found in the menu`,
    )
  }
  for (const { parent } of items) if (parent) t.ok(items.some(({ code }) => code === parent))
})

t.test('labels in the reader’s language, then the tenant’s, then English', async (t) => {
  const acme = await tenant()
  const menu = async () => labels((await acme.viewer.get('/menu')).data)
  t.equal((await menu())['erp.parties'], 'Parties')
  await control.write(acme.scope, (tx) => tx.query(sql.run`update tenants set locale = 'tr' where id = ${tx.tenantId}`))
  t.equal((await eventually(menu, (m) => m['erp.parties'] !== 'Parties', 5))['erp.parties'], 'Cariler')
  t.equal((await acme.viewer.patch('/auth/me', { locale: 'az' })).status, 200)
  t.equal((await menu())['erp.parties'], 'Tərəfdaşlar')
})

t.test('the tenant’s own order and words, at the next request', async (t) => {
  const acme = await tenant()
  const menu = async () => (await acme.viewer.get('/menu')).data as Node[]
  const before = await acme.viewer.get('/menu')
  const overrides = {
    telemetry: { sort: 0 },
    'erp.parties': { sort: 9, labels: { en: 'Growers', es: 'Viveros' } },
    'erp.inventory.lots': { hidden: true },
  }
  t.match(await acme.viewer.put('/menu/overrides', overrides), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.admin.put('/menu/overrides', overrides), { status: 200, data: overrides })
  const after = await menu()
  t.equal(after[0]!.code, 'telemetry')
  t.same(
    after
      .find(({ code }) => code === 'erp')!
      .children.map(({ code }) => code)
      .at(-1),
    'erp.parties',
  )
  t.equal(labels(after)['erp.parties'], 'Growers')
  t.notOk('erp.inventory.lots' in labels(after))
  t.equal((await acme.viewer.get('/menu', { 'if-none-match': String(before.headers.etag) })).status, 200, 'the old ETag is no longer right')
  await acme.viewer.patch('/auth/me', { locale: 'es' })
  t.equal(labels(await menu())['erp.parties'], 'Viveros')
  t.same((await acme.admin.get('/menu/overrides')).data, overrides)
  t.match(await acme.admin.put('/menu/overrides', { 'erp.none': { sort: 1 } }), {
    status: 400,
    body: { detail: 'invalid_reference', error: { details: { entries: ['erp.none'] } } },
  })
  t.match(await acme.admin.put('/menu/overrides', { telemetry: { sort: -1 } }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await acme.admin.put('/menu/overrides', { telemetry: { labels: { xx: 'X' } } }), {
    status: 400,
    body: { detail: 'invalid_body' },
  })
  t.equal((await acme.admin.put('/menu/overrides', {})).status, 200)
  t.equal((await menu())[0]!.code, 'erp')
  const other = await tenant()
  t.equal(labels((await other.viewer.get('/menu')).data)['erp.parties'], 'Parties')
})

t.test('only what one may open is there: groups without entries are left out, and a change of rights shows', async (t) => {
  const acme = await tenant()
  const codes = async () => flat((await acme.operator.get('/menu')).data).map(({ code }) => code)
  t.ok((await codes()).includes('company.organizations'))
  t.notOk((await codes()).includes('company.users'), 'the seeded operator reads business data')
  const deny = (permission: string) =>
    acme.admin.post(`/users/${acme.operator.userId}/overrides`, { permission, effect: 'deny', reason: `test ${newId()}` })
  for (const permission of ['erp.purchase_order.read', 'erp.goods_receipt.read', 'erp.exchange_rate.read'])
    t.equal((await deny(permission)).status, 201)
  const left = await codes()
  t.notOk(left.includes('erp.procurement'), 'a group that is empty is gone')
  t.ok(left.includes('erp.inventory.stock'))
})
