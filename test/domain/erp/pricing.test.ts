// Prices: the rule that wins is the right one, and the answer says which.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'

const { tenant } = await testApp(t)
let serial = 0
const make = async (acme: TestTenant, path: string, body: object) => {
  const answer = await acme.admin.post(path, body)
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.data
}
/** A tenant with a unit, a box of twelve, a product and two companies, one of the other. */
async function shop() {
  const acme = await tenant()
  const piece = await make(acme, '/erp/uoms', { code: 'PCS', name: 'Piece', dimension: 'count' })
  const box = await make(acme, '/erp/uoms', { code: 'BOX', name: 'Box', dimension: 'count' })
  await make(acme, '/erp/uom-conversions', { from_uom_id: box.id, to_uom_id: piece.id, numerator: 12, denominator: 1 })
  const vat = await make(acme, '/erp/taxes', { code: 'VAT', name: 'VAT', rate: '21' })
  const rose = await make(acme, '/erp/products', {
    code: 'ROSE',
    name: 'Rose',
    uom_id: piece.id,
    list_price: '3.00',
    currency: 'EUR',
    tax_id: vat.id,
  })
  const group = await make(acme, '/erp/parties', { code: 'GROUP', name: 'Group', roles: ['client'] })
  const client = await make(acme, '/erp/parties', { code: 'SHOP', name: 'Shop', roles: ['client'], parent_id: group.id })
  const list = (extra: object = {}) => make(acme, '/erp/price-lists', { code: `L${++serial}`, name: 'Prices', currency: 'EUR', ...extra })
  const item = (price_list: { id: string }, price: string, extra: object = {}) =>
    make(acme, '/erp/price-list-items', { price_list_id: price_list.id, product_id: rose.id, price, ...extra })
  const ask = async (extra: object = {}, line: object = {}) =>
    (
      await acme.operator.post('/erp/prices/resolve', {
        currency: 'EUR',
        lines: [{ product_id: rose.id, quantity: '10', ...line }],
        ...extra,
      })
    ).data
  const price = async (extra: object = {}, line: object = {}) => {
    const [{ unit_price, rule }] = (await ask(extra, line)).lines
    return [unit_price, rule?.kind ?? null]
  }
  return { acme, piece, box, vat, rose, group, client, list, item, ask, price }
}

t.test('contract before client before list before the product’s own; the nearer company first', async (t) => {
  const { rose, group, client, list, item, ask, price } = await shop()
  const of = { client_id: client.id }
  t.same(await price(of), ['3.0000', 'product'])
  const everybody = await list()
  await item(everybody, '2.50')
  t.same(await price(of), ['2.5000', 'list'])
  t.same(await price(), ['2.5000', 'list'])
  const groups = await list({ kind: 'client', client_id: group.id })
  await item(groups, '2.40')
  t.same(await price(of), ['2.4000', 'client'], 'what the group has, its shop has')
  t.same(await price(), ['2.5000', 'list'], 'others have not')
  const own = await list({ kind: 'client', client_id: client.id })
  await item(own, '2.45')
  t.same(await price(of), ['2.4500', 'client'], 'its own goes before, though it is dearer')
  const agreed = await list({ kind: 'contract', client_id: group.id })
  const { id: item_id } = await item(agreed, '2.00')
  t.match((await ask(of)).lines[0], {
    product_id: rose.id,
    unit_price: '2.0000',
    rule: {
      kind: 'contract',
      price_list_id: agreed.id,
      price_list_code: agreed.code,
      item_id,
      client_id: group.id,
      minimum_quantity: '0.000000',
    },
  })
})

t.test('quantity breaks, days, currencies, lists that are off', async (t) => {
  const { acme, list, item, price } = await shop()
  const l = await list({ valid_from: '2027-01-01', valid_to: '2027-12-31' })
  const on = (day: string) => ({ on: day })
  await item(l, '2.50')
  await item(l, '2.00', { minimum_quantity: '100' })
  await item(l, '1.80', { minimum_quantity: '100', valid_from: '2027-06-01', valid_to: '2027-06-30' })
  t.same(await price(on('2026-12-31')), ['3.0000', 'product'])
  t.same(await price(on('2027-01-01')), ['2.5000', 'list'])
  t.same(await price(on('2027-12-31')), ['2.5000', 'list'], 'the last day counts')
  t.same(await price(on('2028-01-01')), ['3.0000', 'product'])
  t.same(await price(on('2027-03-01'), { quantity: '99.999999' }), ['2.5000', 'list'])
  t.same(await price(on('2027-03-01'), { quantity: '100' }), ['2.0000', 'list'])
  t.same(await price(on('2027-06-15'), { quantity: '100' }), ['1.8000', 'list'], 'what began last')
  t.same(await price({ ...on('2027-03-01'), currency: 'USD' }), [null, null], 'nothing says what it costs in dollars')
  await acme.admin.patch(`/erp/price-lists/${l.id}`, { active: false, version: 1 })
  t.same(await price(on('2027-03-01')), ['3.0000', 'product'])
  t.match(await acme.admin.delete(`/erp/price-lists/${l.id}`, { 'if-match': '"2"' }), { status: 409, body: { detail: 'in_use' } })
})

t.test('amounts: units, tax on top and within, rounded to the smallest coin, and the three agree', async (t) => {
  const { acme, box, vat, piece, list, item, ask } = await shop()
  t.match(await ask({}, { quantity: '2', uom_id: box.id }), {
    lines: [{ base_quantity: '24.000000', unit_price: '36.0000', net: '72.0000', tax: '15.1200', gross: '87.1200', tax_rate: '21.000000' }],
    net: '72.0000',
    tax: '15.1200',
    gross: '87.1200',
  })
  const retail = await list({ tax_included: true })
  await item(retail, '1.99')
  // 7 × 1.99 = 13.93 with 21 % within: 13.93 / 1.21 = 11.5123…, so 11.51 and 2.42.
  t.match((await ask({}, { quantity: '7' })).lines[0], { tax_included: true, gross: '13.9300', net: '11.5100', tax: '2.4200' })
  const yen = await list({ currency: 'JPY' })
  await item(yen, '333.3')
  // 333.3 yen are 333; ten per cent of it, half up, are 33.3 → 366.
  await acme.admin.patch(`/erp/taxes/${vat.id}`, { rate: '10', version: 1 })
  t.match((await ask({ currency: 'JPY' }, { quantity: '1' })).lines[0], { net: '333.0000', tax: '33.0000', gross: '366.0000' })
  const free = await make(acme, '/erp/products', { code: 'FREE', name: 'Free', uom_id: piece.id, list_price: '0.005', currency: 'EUR' })
  t.match((await ask({ lines: [{ product_id: free.id, quantity: '1' }] })).lines[0], {
    tax_rate: null,
    net: '0.0100',
    tax: '0.0000',
    gross: '0.0100',
  })
})

t.test('a hundred lines at once, each with its own rule; more are refused, as is what is not there', async (t) => {
  const { acme, piece, rose, list, ask } = await shop()
  const products = (
    await acme.admin.post('/erp/products/bulk', { rows: times(100, (n) => ({ code: `P${n}`, name: `P ${n}`, uom_id: piece.id })) })
  ).data.map(({ id }: { id: string }) => id) as string[]
  const l = await list()
  await acme.admin.post('/erp/price-list-items/bulk', {
    rows: products.map((product_id, n) => ({ price_list_id: l.id, product_id, price: `${n}.5` })),
  })
  const answer = await ask({ lines: products.map((product_id) => ({ product_id, quantity: '1' })) })
  t.same(
    answer.lines.map((line: { unit_price: string }) => Number(line.unit_price)),
    times(100, (n) => n + 0.5),
  )
  t.equal(answer.gross, '5000.0000')
  const refuse = (body: object) =>
    acme.operator.post('/erp/prices/resolve', { currency: 'EUR', lines: [{ product_id: rose.id, quantity: '1' }], ...body })
  t.match(await refuse({ lines: times(101, () => ({ product_id: rose.id, quantity: '1' })) }), {
    status: 400,
    body: { detail: 'invalid_body' },
  })
  t.match(await refuse({ lines: [] }), { status: 400 })
  t.match(await refuse({ lines: [{ product_id: newId(), quantity: '1' }] }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await refuse({ lines: [{ product_id: rose.id, quantity: '1', uom_id: newId() }] }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(await refuse({ client_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await refuse({ currency: 'euro' }), { status: 400 })
  const stranger = await shop()
  t.match(await stranger.acme.operator.post('/erp/prices/resolve', { currency: 'EUR', lines: [{ product_id: rose.id, quantity: '1' }] }), {
    status: 400,
  })
  for (const body of [
    { kind: 'client' },
    { kind: 'list', client_id: (await make(acme, '/erp/parties', { code: 'X', name: 'X', roles: ['client'] })).id },
    { valid_from: '2027-02-01', valid_to: '2027-01-01' },
  ])
    t.match(await acme.admin.post('/erp/price-lists', { code: 'BAD', name: 'Bad', currency: 'EUR', ...body }), {
      status: 400,
      body: { detail: 'invalid_value' },
    })
})

t.test('the price of one product among many is found by an index', async (t) => {
  const { acme, rose, list, item } = await shop()
  const l = await list()
  await item(l, '1')
  const owner = new Client({ connectionString: testServices().admin.data })
  await owner.connect()
  t.teardown(() => owner.end())
  const organization = acme.organizations[0]!.id
  await owner.query('begin')
  await owner.query(`set local session_replication_role = replica`)
  await owner.query(
    `insert into erp_price_list_item (id, tenant_id, organization_id, price_list_id, product_id, price) select gen_random_uuid(), $1, $2, $3, gen_random_uuid(), 1 from generate_series(1, 20000)`,
    [acme.id, organization, l.id],
  )
  await owner.query('analyze erp_price_list_item')
  const { rows } = await owner.query(
    `explain select price from erp_price_list_item i where i.tenant_id = $1 and i.organization_id = $2 and i.product_id = $3 and i.deleted_at is null`,
    [acme.id, organization, rose.id],
  )
  t.match(rows.map((r) => r['QUERY PLAN']).join('\n'), /erp_price_list_item_product_id/)
  await owner.query('rollback')
})
