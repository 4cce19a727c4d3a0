// No statement about stock reads a table of all tenants from its beginning, with 20,000 products in it.
import t from 'tap'
import {
  issueStock,
  releaseStock,
  reservationList,
  reserveStock,
  stockCard,
  stockLevels,
  stockValue,
  totalStockValue,
  verifyStock,
} from '../../domain/erp/inventory/index.ts'
import { products } from '../../domain/erp/products/index.ts'
import { Database, listRows, newId, parseListQuery, type Tx } from '../../domain/kernel/index.ts'
import { testApp } from '../support/app.ts'
import { catalogue, stockUp } from '../support/erp.ts'
import { connectTo, testServices } from '../support/services.ts'
import { seedStock } from '../support/stock-seed.ts'

const { tenant } = await testApp(t)
const services = testServices()
const admin = await connectTo(t, services.admin.data)
const acme = await tenant()
const c = await catalogue(acme)
const organization = acme.organizations[0]!.id
await acme.admin.post('/erp/custom-fields', { entity: 'erp_product', code: 'pot', label: 'Pot', kind: 'number', filterable: true })
await stockUp(acme, c, '10')
await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1', destination: 'loss' })
await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1' })
const place = async (code: string) =>
  (await admin.query('select id from erp_location where tenant_id = $1 and code = $2', [acme.id, code])).rows[0].id
const [losses, clients] = [await place('VIRTUAL-LOSS'), await place('VIRTUAL-CLIENT')]
await admin.query(
  `insert into erp_product (id, tenant_id, organization_id, code, name, uom_id, custom)
   select gen_random_uuid(), $1, $2, 'BULK-' || n, 'Plant ' || n, $3, jsonb_build_object('pot', n) from generate_series(1, 20000) n`,
  [acme.id, organization, c.uom],
)
await seedStock(admin, { tenant: acme.id, organization, places: [c.store, c.other], losses, clients, movesEach: 3 })
await admin.query('analyze erp_custom_value')
const product = (await admin.query(`select id from erp_product where tenant_id = $1 and code = 'BULK-7000'`, [acme.id])).rows[0]
  .id as string

t.test('what the application asks', async (t) => {
  const asked: { sql: string; values: readonly unknown[] }[] = []
  const capture = {
    name: 'capture',
    beforeQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }) => void asked.push(query),
  }
  const database = new Database(services.app.data, { max: 1, interceptors: [capture as never] })
  t.teardown(() => database.close())
  const reader = await connectTo(t, services.app.data)
  await reader.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const scope = { ...acme.scope, currency: 'EUR' }
  const as_of = '2026-01-03T12:00:00Z'
  const question = { limit: 50, after: null }
  const source_id = newId()
  const list = (query: Record<string, string>) => (tx: Tx) => listRows(tx, products.spec, parseListQuery(products.spec, query))
  const reads: [string, (tx: Tx) => Promise<unknown>][] = [
    ['stock of a product', (tx) => stockLevels(tx, { ...question, product_id: product })],
    ['stock of a product then', (tx) => stockLevels(tx, { ...question, product_id: product, as_of })],
    ['value of a product', (tx) => stockValue(tx, { ...question, product_id: product, by: 'product' })],
    ['value of a product by lot then', (tx) => stockValue(tx, { ...question, product_id: product, by: 'lot', as_of })],
    ['card', (tx) => stockCard(tx, { product_id: product, limit: 50, after: null })],
    ['proof of a product', (tx) => verifyStock(tx, { product_id: product })],
    ['by a field of one’s own', list({ 'custom.pot': '7000' })],
    ['between fields of one’s own', list({ 'custom.pot.gt': '100', 'custom.pot.lt': '110' })],
    ['sorted by a field of one’s own', list({ sort: 'custom.pot', limit: '20' })],
    ['reservations', (tx) => listRows(tx, reservationList, parseListQuery(reservationList, { source_id }))],
  ]
  for (const [, work] of reads) await database.read(scope, work)
  await database.write(scope, async (tx) => {
    await issueStock(tx, {
      product_id: product,
      location_id: (await stockLevels(tx, { ...question, product_id: product }))[0]!.location_id,
      quantity: '1',
    })
    await reserveStock(tx, { location_id: c.store, source_id, lines: [{ product_id: c.product, quantity: '1' }] })
    await releaseStock(tx, source_id)
  })
  const statements = asked.filter(({ sql }) => /\berp_/.test(sql) && /^\s*(with|select|insert|update|delete)\b/i.test(sql))
  t.ok(statements.length > 20, `${statements.length} statements`)
  for (const { sql, values } of statements) {
    await reader.query('begin')
    const { rows } = await reader.query(`explain ${sql}`, values as unknown[])
    await reader.query('rollback')
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
    t.notMatch(
      plan,
      /Seq Scan on (erp_product|erp_stock_(move|layer|quant|value)|erp_custom_value)\b/,
      sql.replace(/\s+/g, ' ').slice(0, 120),
    )
  }
  // What asks for everything reads everything, of its tenant.
  await database.read(scope, (tx) => totalStockValue(tx, { as_of }))
})

t.test('what the triggers do', async (t) => {
  // Statements of triggers are planned for as many rows as a connection's first call has: here for many.
  await admin.query(
    `insert into erp_stock_move (id, tenant_id, organization_id, product_id, from_location_id, to_location_id, quantity, effective_at, source_type)
     select gen_random_uuid(), tenant_id, organization_id, product_id, location_id, $2, 1, now(), 'test' from erp_stock_quant
     where tenant_id = $1 and not negative_allowed and quantity > 1 order by product_id limit 500`,
    [acme.id, clients],
  )
  const plans: string[] = []
  admin.on('notice', ({ message }) => void plans.push(String(message)))
  await admin.query(
    `load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on; set client_min_messages = log`,
  )
  const [from] = (await admin.query(`select location_id from erp_stock_quant where product_id = $1 and not negative_allowed`, [product]))
    .rows
  const insert = (at: string) =>
    admin.query(
      `insert into erp_stock_move (id, tenant_id, organization_id, product_id, from_location_id, to_location_id, quantity, effective_at, source_type)
       values (gen_random_uuid(), $1, $2, $3, $4, $5, 1, $6, 'test')`,
      [acme.id, organization, product, from.location_id, clients, at],
    )
  await insert('2026-01-03T00:00:00Z')
  await insert(new Date().toISOString())
  await admin.query(`update erp_product set custom = '{"pot": 1}' where id = $1`, [product])
  const small = plans.splice(0)
  await admin.query(`update erp_product set custom = '{"pot": 2}' where tenant_id = $1 and code like 'BULK-1___'`, [acme.id])
  await admin.query('set client_min_messages = warning')
  t.ok(small.length > 20 && plans.length > 0, `${small.length} plans`)
  for (const plan of small) t.notMatch(plan, /Seq Scan on (erp_product|erp_stock_(move|layer|quant|value)|erp_custom_value)\b/)
  for (const plan of plans) t.notMatch(plan, /Join Filter: .*n\.id = o\.id/, 'a thousand before and after are not joined each with each')
})
