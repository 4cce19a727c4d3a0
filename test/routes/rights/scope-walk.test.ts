// The walk across organizations and workspaces of one tenant: whoever works in one finds no row of another, in any form.
import type { RouteOptions } from 'fastify'
import { Client as Database } from 'pg'
import t from 'tap'
import { buildApp } from '../../../server/app.ts'
import { type Client, type TestTenant, testApp, upload } from '../../support/app.ts'
import { EventReader } from '../../support/event-stream.ts'
import { quietLog, testServices } from '../../support/services.ts'

const { app, tenant, runtime } = await testApp(t)
await app.listen({ host: '127.0.0.1', port: 0 })

/** Stands in every text of the scope that must not be seen. */
const CANARY = 'CANARY'

interface Operation {
  method: string
  url: string
}

async function operations(): Promise<Operation[]> {
  const found: Operation[] = []
  const app = await buildApp(runtime.services, quietLog, {
    onRoute: (route: RouteOptions) => {
      const { platform, service, permission } = route.config?.access ?? {}
      for (const method of [route.method].flat()) if (permission && !platform && !service) found.push({ method, url: route.url })
    },
  })
  await app.ready()
  await app.close()
  return found
}

const must = async (answer: Promise<{ status: number; text: string; data: { id: string; code: string; lines: { id: string }[] } }>) => {
  const { status, text, data } = await answer
  if (status >= 300) throw new Error(text)
  return data
}

/** Records of each kind, made by `who` where they work; returns every id. */
async function seed(acme: TestTenant, who: Client, mark: string): Promise<string[]> {
  const name = `${mark} name`
  const ids: string[] = []
  const make = async (path: string, body: object) => {
    const data = await must(who.post(path, body))
    ids.push(data.id)
    return data
  }
  const party = await make('/erp/parties', { code: `${mark}-P`, name, roles: ['supplier', 'client'] })
  await make('/erp/party-contacts', { party_id: party.id, name, email: `${mark.toLowerCase()}@partner.example` })
  const uom = await make('/erp/uoms', { code: `${mark}-U`, name, dimension: 'count' })
  const product = await make('/erp/products', { code: `${mark}-PR`, name, uom_id: uom.id })
  const store = await make('/erp/locations', { code: `${mark}-L`, name })
  const other = await make('/erp/locations', { code: `${mark}-L2`, name })
  await make('/erp/price-lists', { code: `${mark}-PL`, name, currency: 'EUR' })
  await make('/erp/taxes', { code: `${mark}-T`, name, rate: '21' })
  await make('/erp/exchange-rates', { currency: 'USD', rate: '0.9', valid_from: '2026-01-01' })
  await make('/telemetry/devices', { code: `${mark.toLowerCase()}-device`, name })
  await make('/telemetry/device-profiles', { code: `${mark}-DP`, name, metrics: [] })
  ids.push(...(await documents(acme, who, mark, { party: party.id, product: product.id, store: store.id, other: other.id })))
  return ids
}

interface Goods {
  party: string
  product: string
  store: string
  other: string
}

/** A document of each kind in the workspace, or organization, where `who` works. */
async function documents(acme: TestTenant, who: Client, mark: string, goods: Goods): Promise<string[]> {
  const lines = [{ product_id: goods.product, quantity: '5', unit_price: '2' }]
  const order = await must(who.post('/erp/purchase-orders', { supplier_id: goods.party, currency: 'EUR', notes: mark, lines }))
  await must(who.post(`/erp/purchase-orders/${order.id}/submit`, { version: 1 }))
  await must(acme.admin.post(`/erp/purchase-orders/${order.id}/approve`, { version: 2 }))
  await must(who.post(`/erp/purchase-orders/${order.id}/send`, { version: 3 }))
  const receipt = await must(
    who.post('/erp/goods-receipts', {
      order_id: order.id,
      location_id: goods.store,
      notes: mark,
      lines: [{ order_line_id: order.lines[0]!.id, quantity: '5' }],
    }),
  )
  const transfer = await must(
    who.post('/erp/stock-transfers', {
      from_location_id: goods.store,
      to_location_id: goods.other,
      notes: mark,
      lines: [{ product_id: goods.product, quantity: '1' }],
    }),
  )
  const count = await must(who.post('/erp/stock-counts', { location_id: goods.store, notes: mark }))
  const exported = await must(who.post('/erp/exports', { entity: 'erp_party', format: 'csv', query: { q: mark } }))
  const file = await must(upload(who, `${mark} text`, `${mark}.txt`) as never)
  return [order.id, order.lines[0]!.id, receipt.id, transfer.id, count.id, exported.id, file.id]
}

const LISTED = /^\/api\/v1\/[^:]+$/
const FORMS = ['', '?limit=200', `?q=${CANARY}`, '?count=exact', '?expand=supplier,lines', '?expand=lines', '?expand=addresses,contacts']

/** Reads everything that there is to read, with every id that is foreign, and returns what should not have been found. */
async function leaksTo(who: Client, foreign: readonly string[], mark: string): Promise<string[]> {
  const leaks: string[] = []
  const look = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await who.get(path, headers)
    if (answer.status >= 500) leaks.push(`${path}: ${answer.status}`)
    // An echo of the question is no finding: only what was answered with success is.
    const found = answer.status < 300 && (answer.text.includes(mark) || foreign.some((id) => answer.text.includes(id)))
    if (found) leaks.push(`${path} ${headers.accept ?? ''}: ${answer.text.slice(0, 200)}`)
  }
  for (const { method, url } of await operations()) {
    if (method !== 'GET' || url.endsWith('/events/stream')) continue
    const path = url.replace('/api/v1', '')
    if (LISTED.test(url)) {
      for (const form of FORMS) await look(`${path}${form}`)
      await look(path, { accept: 'text/csv' })
      if (path === '/audit') for (const plane of ['control', 'telemetry']) await look(`${path}?plane=${plane}&limit=200`)
    } else {
      for (const id of foreign) await look(path.replace(/:\w+/g, id))
    }
  }
  for (const id of foreign) {
    for (const entity of ['erp_purchase_order', 'erp_goods_receipt', 'erp_product'])
      await look(`/files/attached?entity=${entity}&entity_id=${id}`)
    await look(`/audit?entity_id=${id}`)
    await look(`/erp/stock?product_id=${id}`)
    await look(`/erp/stock/card?product_id=${id}`)
  }
  return leaks
}

/** The sum of versions and the count of every record of some scope: changes when anything in it does. */
async function fingerprint(tenantId: string, ids: readonly string[]): Promise<string> {
  const { admin } = testServices()
  const result: string[] = []
  for (const url of [admin.data, admin.telemetry]) {
    const database = new Database({ connectionString: url })
    await database.connect()
    const { rows } = await database.query<{ name: string }>(`
      select c.table_name as name from information_schema.columns c join information_schema.columns i using (table_schema, table_name)
      where c.table_schema = 'public' and c.column_name = 'tenant_id' and i.column_name = 'id'
        and c.table_name <> 'erp_export' order by 1`) // exports are written by whatever worker runs beside this test
    for (const { name } of rows) {
      const { rows: found } = await database.query(
        `select md5(string_agg(to_jsonb(r)::text, '' order by id)) as sum from "${name}" r where tenant_id = $1 and id::text = any($2)`,
        [tenantId, ids],
      )
      if (found[0].sum) result.push(`${name} ${found[0].sum}`)
    }
    await database.end()
  }
  return result.join('\n')
}

/** Tries to change every foreign record by every operation; returns what was not refused. */
async function changesBy(who: Client, foreign: readonly string[]): Promise<string[]> {
  const passed: string[] = []
  for (const { method, url } of await operations()) {
    if (method === 'GET' || !url.includes(':')) continue
    for (const id of foreign) {
      const path = url.replace('/api/v1', '').replace(/:\w+/g, id)
      const body = { name: 'Mine', notes: 'mine', reason: 'for the test', version: 1 }
      for (const headers of [{}, { 'if-match': '"1"' }] as Record<string, string>[]) {
        const call = { POST: who.post, PATCH: who.patch, PUT: who.put }[method]
        const answer = call ? await call(path, 'if-match' in headers ? undefined : body, headers) : await who.delete(path, headers)
        if (answer.status < 300 || answer.status >= 500) passed.push(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 200)}`)
      }
    }
  }
  return passed
}

async function listen(t: { teardown(work: () => unknown): void }, acme: TestTenant, who: Client): Promise<EventReader> {
  const reader = new EventReader(app, acme.host, { token: who.token })
  t.teardown(() => reader.close())
  return reader.ready()
}

t.test('across organizations: 0 foreign rows and no change for the administrator of another organization', async (t) => {
  const acme = await tenant()
  const [, two] = acme.organizations
  const second = await acme.user('admin', { organizationId: two!.id })
  const heard = await listen(t, acme, second)
  const foreign = await seed(acme, acme.manager, CANARY)
  const before = await fingerprint(acme.id, foreign)
  t.ok(before.split('\n').length >= 12, 'records of many tables')
  t.same(await leaksTo(second, foreign, CANARY), [])
  t.same(await changesBy(second, foreign), [])
  t.equal(await fingerprint(acme.id, foreign), before, 'every record is as it was')
  const own = await must(second.post('/erp/parties', { code: 'OWN', name: 'Own', roles: ['client'] }))
  await heard.until(() => JSON.stringify(heard.told).includes(own.id))
  t.notOk(JSON.stringify(heard.told).includes(CANARY), 'no event of the other organization')
  t.ok((await leaksTo(acme.manager, foreign, CANARY)).length > 20, 'the walk finds what there is to find')
})

t.test('across workspaces: 0 foreign documents and no change for the manager of another workspace', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const scoped = (workspaceId: string) => acme.user('manager', { organizationId: one!.id, workspaceId })
  const [inNorth, inSouth] = [await scoped(north!.id), await scoped(south!.id)]
  const create = async (path: string, body: object) => (await must(acme.admin.post(path, body))).id
  const uom = await create('/erp/uoms', { code: 'PCS', name: 'Piece', dimension: 'count' })
  const goods = {
    party: await create('/erp/parties', { code: 'SHARED', name: 'Shared', roles: ['supplier'] }),
    product: await create('/erp/products', { code: 'ROSE', name: 'Rose', uom_id: uom }),
    store: await create('/erp/locations', { code: 'STORE', name: 'Store' }),
    other: await create('/erp/locations', { code: 'OTHER', name: 'Other' }),
  }
  const heard = await listen(t, acme, inSouth)
  const foreign = await documents(acme, inNorth, CANARY, goods)
  const before = await fingerprint(acme.id, foreign)
  t.same(await leaksTo(inSouth, foreign, CANARY), [])
  t.same(await changesBy(inSouth, foreign), [])
  t.equal(await fingerprint(acme.id, foreign), before, 'every document is as it was')
  const lines = [{ product_id: goods.product, quantity: '1', unit_price: '1' }]
  const own = await must(inSouth.post('/erp/purchase-orders', { supplier_id: goods.party, currency: 'EUR', lines }))
  await heard.until(() => JSON.stringify(heard.told).includes(own.id))
  t.notOk(JSON.stringify(heard.told).includes(CANARY), 'no event of the other workspace')
  t.ok((await leaksTo(inNorth, foreign, CANARY)).length > 10, 'the walk finds what there is to find')
})
