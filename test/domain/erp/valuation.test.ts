// What stock is worth: worked examples, and what must hold of any.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { catalogue, type Stocked, sentOrder } from '../../support/erp.ts'

const { tenant } = await testApp(t)

const on = (day: string) => `2026-${day}T12:00:00.000Z`
type Method = 'average' | 'fifo'

async function valued(cost_method: Method, also: object = {}) {
  const acme = await tenant()
  const c = await catalogue(acme)
  const made = await acme.admin.post('/erp/products', { code: `V-${cost_method}`, name: 'Valued', uom_id: c.uom, cost_method, ...also })
  return { acme, c: { ...c, product: made.data.id as string } }
}

/** Buys at a day: a receipt of an order at that price. */
async function buy(acme: TestTenant, c: Stocked, quantity: string, price: string, at?: string) {
  const order = await sentOrder(acme, c, quantity, price)
  const answer = await acme.operator.post('/erp/goods-receipts', {
    order_id: order.id,
    location_id: c.store,
    ...(at ? { received_at: at } : {}),
    lines: [{ order_line_id: order.line, quantity }],
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.data.lines[0].move_id as string
}
const sell = async (acme: TestTenant, c: Stocked, quantity: string, at?: string) => {
  const answer = await acme.operator.post('/erp/stock/issues', {
    product_id: c.product,
    location_id: c.store,
    quantity,
    ...(at ? { effective_at: at } : {}),
  })
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.data[0].id as string
}
const worth = async (acme: TestTenant, c: Stocked, query = '') => {
  const [row] = (await acme.admin.get(`/erp/stock/value?product_id=${c.product}${query}`)).data
  return row ? [Number(row.quantity), Number(row.value)] : [0, 0]
}
/** What each move changed the value by, in their order. */
const values = async (acme: TestTenant, c: Stocked) =>
  (await acme.admin.get(`/erp/stock/card?product_id=${c.product}&limit=200&value=true`)).data.map((line: { value: string }) =>
    Number(line.value),
  )
const proven = async (test: Pick<typeof t, 'same'>, acme: TestTenant) =>
  test.same((await acme.viewer.get('/erp/stock/verify')).data.differences, [], 'the ledger and what is kept agree')

// Horngren, Datar, Rajan: the usual periodic table of purchases and sales, worked perpetually, as IAS 2.25 allows:
// 100 at 10, 60 at 15, sold 120, 40 at 20, sold 50.
for (const [method, expected] of [
  // 100 × 10 + 20 × 15 = 1,300; then 40 × 15 + 10 × 20 = 800; left 30 × 20.
  ['fifo', [1000, 900, -1300, 800, -800, 600]],
  // (1,000 + 900) / 160 = 11.875: 120 cost 1,425; (475 + 800) / 80 = 15.9375: 50 cost 796.875; left 30 × 15.9375.
  ['average', [1000, 900, -1425, 800, -796.875, 478.125]],
] as const) {
  t.test(`${method}: what leaves, and what is left`, async (t) => {
    const { acme, c } = await valued(method)
    await buy(acme, c, '100', '10', on('01-01'))
    await buy(acme, c, '60', '15', on('01-10'))
    await sell(acme, c, '120', on('01-12'))
    await buy(acme, c, '40', '20', on('01-20'))
    await sell(acme, c, '50', on('01-25'))
    t.same(await values(acme, c), expected.slice(0, 5))
    t.same(await worth(acme, c), [30, expected[5]])
    t.same(await worth(acme, c, `&as_of=${on('01-11')}`), [160, 1900])
    t.same(await worth(acme, c, `&as_of=${on('01-13')}`), [40, 1900 + expected[2]])
    t.same(await worth(acme, c, `&as_of=2025-12-31T00:00:00Z`), [0, 0])
    await proven(t, acme)
  })

  t.test(`${method}: what is written late is valued where it falls, with all that came after`, async (t) => {
    const { acme, c } = await valued(method)
    // The same as above, in another order.
    await buy(acme, c, '60', '15', on('01-10'))
    await buy(acme, c, '40', '20', on('01-20'))
    await sell(acme, c, '50', on('01-25'))
    await buy(acme, c, '100', '10', on('01-01'))
    await sell(acme, c, '120', on('01-12'))
    t.same(await values(acme, c), expected.slice(0, 5))
    t.same(await worth(acme, c), [30, expected[5]])
    await proven(t, acme)
  })
}

t.test('what comes back has the value with which it left', async (t) => {
  const { acme, c } = await valued('fifo')
  await buy(acme, c, '10', '10', on('02-01'))
  await buy(acme, c, '10', '20', on('02-02'))
  const sold = await sell(acme, c, '15', on('02-03'))
  t.same(await worth(acme, c), [5, 100])
  t.equal((await acme.admin.post(`/erp/stock/moves/${sold}/reverse`, { reason: 'Sent back', effective_at: on('02-04') })).status, 201)
  t.same(await values(acme, c), [100, 200, -200, 200])
  t.same(await worth(acme, c), [20, 300])
  // What came first at 10 turns out to have come at 12 each, a day before: what was sold and came back has that value too.
  await buy(acme, c, '10', '12', on('01-31'))
  t.same(await values(acme, c), [120, 100, 200, -170, 170])
  await sell(acme, c, '5', on('02-05'))
  t.same((await values(acme, c)).at(-1), -50, 'the oldest that was left was there before it came back')
  await proven(t, acme)
})

t.test('a third of a cent is nowhere lost: all parts of a layer make the whole', async (t) => {
  for (const method of ['fifo', 'average'] as const) {
    const { acme, c } = await valued(method)
    await acme.admin.post('/erp/stock/adjustments', {
      product_id: c.product,
      location_id: c.store,
      quantity: '3',
      cost: '10',
      reason: 'Opening',
    })
    for (const _ of [1, 2, 3]) await sell(acme, c, '1')
    const each = (await values(acme, c)).slice(1)
    t.equal(
      each.reduce((sum: number, value: number) => sum + Math.round(value * 10_000), 0),
      -100_000,
      `${method}: ${each}`,
    )
    t.same(await worth(acme, c), [0, 0])
    await proven(t, acme)
  }
})

t.test('below zero things leave at the last cost, and what comes makes up for it; what was before stays as it is', async (t) => {
  for (const [method, left] of [
    ['fifo', 60],
    ['average', 60],
  ] as const) {
    const { acme, c } = await valued(method)
    const place = (await acme.admin.post('/erp/locations', { code: 'NEG', name: 'May owe', allow_negative: true })).data.id
    const there = { ...c, store: place }
    await buy(acme, there, '5', '10', on('03-01'))
    await sell(acme, there, '10', on('03-02'))
    t.same(await worth(acme, c), [-5, -50], method)
    await buy(acme, there, '10', '12', on('03-03'))
    t.same(await worth(acme, c), [5, left])
    t.same(await values(acme, c), [50, -100, 110], '120 came; ten more than had been thought of what was owed')
    t.same(await worth(acme, c, `&as_of=${on('03-02')}`), [-5, -50], 'what was is not changed')
    await sell(acme, there, '5', on('03-04'))
    t.same(await worth(acme, c), [0, 0])
    await proven(t, acme)
    const inLots = (await acme.admin.post('/erp/products', { code: 'LOTS', name: 'In lots', uom_id: c.uom, lot_tracked: true })).data.id
    t.match(
      await acme.operator.post('/erp/stock/issues', { product_id: inLots, location_id: place, quantity: '1' }),
      { status: 409, body: { detail: 'insufficient_stock' } },
      'nobody owes a lot without saying which',
    )
    const { version } = (await acme.admin.get(`/erp/locations/${place}`)).data
    await sell(acme, there, '1', on('03-05'))
    const owed = await acme.admin.patch(`/erp/locations/${place}`, { allow_negative: false, version })
    t.match(owed, { status: 409, body: { detail: 'insufficient_stock' } }, 'it owes one')
    t.match(await acme.admin.patch(`/erp/locations/${place}`, { kind: 'supplier', version }), { status: 409, body: { detail: 'in_use' } })
  }
})

t.test('no moment since has less than nothing, whatever is written late', async (t) => {
  const { acme, c } = await valued('average')
  await buy(acme, c, '10', '1', on('04-01'))
  await sell(acme, c, '8', on('04-10'))
  await buy(acme, c, '20', '1', on('04-20'))
  const late = (quantity: string, at: string) =>
    acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity, effective_at: at })
  t.match(await late('3', on('04-05')), {
    status: 409,
    body: { detail: 'insufficient_stock', error: { details: { available: '2.000000' } } },
  })
  t.match(await late('1', on('03-31')), { status: 409, body: { detail: 'insufficient_stock' } })
  t.equal((await late('2', on('04-05'))).status, 201)
  t.equal((await late('20', on('04-20'))).status, 201)
  const moved = (quantity: string) =>
    acme.operator.post('/erp/stock/transfers', { product_id: c.product, from_location_id: c.other, to_location_id: c.store, quantity })
  t.match(await moved('1'), { status: 409 })
  await proven(t, acme)
})

t.test('lots are picked of which there were enough then', async (t) => {
  const { acme, c } = await valued('fifo', { lot_tracked: true })
  const lot = async (code: string, expires_on: string, at: string) => {
    const order = await sentOrder(acme, c, '5', '1')
    const lines = [{ order_line_id: order.line, quantity: '5', lot: { code, expires_on } }]
    t.equal(
      (await acme.operator.post('/erp/goods-receipts', { order_id: order.id, location_id: c.store, received_at: at, lines })).status,
      201,
    )
  }
  await lot('LATE', '2030-01-01', on('05-01'))
  await lot('SOON', '2027-01-01', on('05-10'))
  const issue = await acme.operator.post('/erp/stock/issues', {
    product_id: c.product,
    location_id: c.store,
    quantity: '2',
    effective_at: on('05-05'),
  })
  const late = (await acme.admin.get(`/erp/lots?product_id=${c.product}&code=LATE`)).data[0].id
  t.match(issue, { status: 201, data: [{ lot_id: late }] }, 'the one that expires sooner had not come')
  const byLot = (await acme.admin.get(`/erp/stock/value?product_id=${c.product}&by=lot`)).data
  t.same(byLot.map((row: { quantity: string; value: string }) => [row.quantity, row.value]).sort(), [
    ['3.000000', '3.0000'],
    ['5.000000', '5.0000'],
  ])
  await proven(t, acme)
})

t.test('a receipt in another currency needs its rate, and is valued in the organization’s', async (t) => {
  const { acme, c } = await valued('average')
  await acme.manager.post('/erp/exchange-rates', { currency: 'USD', rate: '0.92', valid_from: '2020-01-01' })
  const draft = await acme.operator.post('/erp/purchase-orders', {
    supplier_id: c.supplier,
    currency: 'USD',
    lines: [{ product_id: c.product, quantity: '7', unit_price: '3.3333' }],
  })
  const { id, lines } = draft.data
  await acme.operator.post(`/erp/purchase-orders/${id}/submit`, { version: 1 })
  await acme.admin.post(`/erp/purchase-orders/${id}/approve`, { version: 2 })
  await acme.operator.post(`/erp/purchase-orders/${id}/send`, { version: 3 })
  const receive = (rate: object) =>
    acme.operator.post('/erp/goods-receipts', {
      order_id: id,
      location_id: c.store,
      lines: [{ order_line_id: lines[0].id, quantity: '7' }],
      ...rate,
    })
  t.match(await receive({}), { status: 400, body: { detail: 'invalid_value', error: { details: { path: 'exchange_rate' } } } })
  t.match(await receive({ exchange_rate: '0' }), { status: 400 })
  t.match(await receive({ exchange_rate: '0.92' }), { status: 201, data: { exchange_rate: '0.920000000' } })
  t.same(await worth(acme, c), [7, 21.4665], '7 × 3.3333 × 0.92, rounded once')
  const other = await sentOrder(acme, c, '1', '2')
  t.match(
    await acme.operator.post('/erp/goods-receipts', {
      order_id: other.id,
      location_id: c.store,
      exchange_rate: '1.1',
      lines: [{ order_line_id: other.line, quantity: '1' }],
    }),
    { status: 400, body: { detail: 'invalid_value' } },
  )
})

t.test('receipts before sales that race them: one after the other, whoever is first', async (t) => {
  for (const method of ['fifo', 'average'] as const) {
    const { acme, c } = await valued(method)
    await buy(acme, c, '200', '1', on('06-01'))
    const days = ['05-01', '05-05', '05-09', '05-12', '05-15', '05-18', '05-21', '05-24', '05-27', '05-30']
    const answers = await Promise.all([
      ...times(20, () => acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '3' })),
      ...days.map((day, n) =>
        acme.admin.post('/erp/stock/adjustments', {
          product_id: c.product,
          location_id: n % 2 ? c.store : c.other,
          quantity: '7',
          cost: String(10 + n),
          effective_at: on(day),
          reason: 'Found late',
        }),
      ),
    ])
    t.ok(answers.every(({ status }) => status === 201))
    t.same((await worth(acme, c))[0], 210)
    await proven(t, acme)
  }
})

t.test('what all of it is worth; nobody sees another tenant’s', async (t) => {
  const { acme, c } = await valued('average')
  await buy(acme, c, '4', '2.5')
  t.same((await acme.admin.get('/erp/stock/value/total')).data, { products: 1, value: '10.0000', currency: 'EUR' })
  t.same((await acme.admin.get(`/erp/stock/value/total?location_id=${c.store}`)).data.value, '10.0000')
  t.same((await acme.admin.get(`/erp/stock/value/total?location_id=${c.other}`)).data.value, '0.0000')
  t.same((await acme.admin.get(`/erp/stock/value/total?as_of=2020-01-01T00:00:00Z`)).data.products, 0)
  const stranger = await tenant()
  t.same((await stranger.admin.get(`/erp/stock/value?product_id=${c.product}`)).data, [])
  t.same((await stranger.admin.get('/erp/stock/value/total')).data.value, '0.0000')
  t.match(await acme.admin.get('/erp/stock/value?by=shelf'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.admin.patch(`/erp/products/${c.product}`, { cost_method: 'fifo', version: 1 }), {
    status: 409,
    body: { detail: 'in_use' },
  })
  t.match(await acme.admin.get(`/erp/stock/value?product_id=${newId()}`), { status: 200, data: [] })
})

t.test('pages of stock and of its value go on where they ended', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const { data: made } = await acme.admin.post('/erp/products/bulk', {
    rows: times(7, (n) => ({ code: `P-${n}`, name: `P ${n}`, uom_id: c.uom })),
  })
  for (const { id } of made as { id: string }[])
    for (const location_id of [c.store, c.other])
      await acme.admin.post('/erp/stock/adjustments', { product_id: id, location_id, quantity: '2', cost: '3', reason: 'Opening' })
  for (const question of [
    '/erp/stock?',
    `/erp/stock?as_of=${new Date(Date.now() + 5000).toISOString()}&`,
    '/erp/stock/value?',
    '/erp/stock/value?by=location&',
  ]) {
    const all = (await acme.admin.get(question)).data
    t.equal(all.length, question.includes('value?') && !question.includes('by') ? 7 : 14)
    const pages: unknown[] = []
    for (let cursor = ''; ; ) {
      const page = await acme.admin.get(`${question}limit=3${cursor && `&cursor=${cursor}`}`)
      t.equal(page.status, 200)
      pages.push(...page.data)
      if (!page.body.pagination.next_cursor) break
      cursor = page.body.pagination.next_cursor
    }
    t.same(pages, all, question)
  }
})

t.test('a serial number is one piece in one place', async (t) => {
  const { acme, c } = await valued('fifo', { lot_tracked: true, serial_tracked: true })
  const order = await sentOrder(acme, c, '3', '100')
  const receive = (lines: object) =>
    acme.operator.post('/erp/goods-receipts', {
      order_id: order.id,
      location_id: c.store,
      lines: [{ order_line_id: order.line, ...lines }],
    })
  t.match(await receive({ quantity: '3' }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await receive({ quantity: '3', serials: ['A', 'B'] }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await receive({ quantity: '2', serials: ['A', 'A'] }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await receive({ quantity: '2', serials: ['A', 'B'] }), { status: 201 })
  t.match(await receive({ quantity: '1', serials: ['A'] }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { rule: 'serial' } } },
  })
  const [{ id: lot_id }] = (await acme.admin.get(`/erp/lots?product_id=${c.product}&code=A`)).data
  const adjust = (location_id: string) =>
    acme.admin.post('/erp/stock/adjustments', { product_id: c.product, location_id, lot_id, quantity: '1', reason: 'Found' })
  t.match(await adjust(c.other), { status: 400 })
  const moved = await acme.operator.post('/erp/stock/transfers', {
    product_id: c.product,
    from_location_id: c.store,
    to_location_id: c.other,
    lot_id,
    quantity: '1',
  })
  t.equal(moved.status, 201, moved.text)
  t.equal((await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.other, quantity: '1' })).status, 201)
  const raced = await Promise.all(times(20, (n) => adjust(n % 2 ? c.store : c.other)))
  t.equal(raced.filter(({ status }) => status === 201).length, 1, 'it comes back once, wherever')
  t.match(await acme.admin.post('/erp/products', { code: 'S', name: 'S', uom_id: c.uom, serial_tracked: true }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  await proven(t, acme)
})

t.test('a kit is issued as what it is put together from', async (t) => {
  const { acme, c } = await valued('average')
  const product = async (body: object) => (await acme.admin.post('/erp/products', { uom_id: c.uom, name: 'K', ...body })).data.id as string
  const [kit, inner, soil, service] = [
    await product({ code: 'KIT', kind: 'kit' }),
    await product({ code: 'INNER', kind: 'kit' }),
    await product({ code: 'SOIL' }),
    await product({ code: 'HELP', kind: 'service' }),
  ]
  const part = (kit_id: string, component_id: string, quantity: string) =>
    acme.admin.post('/erp/product-components', { kit_id, component_id, quantity })
  await part(kit, inner, '2')
  await part(kit, service, '1')
  await part(kit, soil, '0.5')
  await part(inner, c.product, '3')
  await part(inner, soil, '1')
  const put = (product_id: string, quantity: string) =>
    acme.admin.post('/erp/stock/adjustments', { product_id, location_id: c.store, quantity, cost: quantity, reason: 'Opening' })
  await put(c.product, '12')
  await put(soil, '5')
  const issue = (quantity: string) => acme.operator.post('/erp/stock/issues', { product_id: kit, location_id: c.store, quantity })
  t.match(await issue('3'), { status: 409, body: { detail: 'insufficient_stock' } })
  const issued = await issue('2')
  t.same(
    issued.data.map((move: { product_id: string; quantity: string }) => [move.product_id, Number(move.quantity)]).sort(),
    [
      [c.product, 12],
      [soil, 5],
    ].sort(),
  )
  t.same((await acme.viewer.get('/erp/stock')).data, [], 'nothing was left of the one that failed')
  const empty = await product({ code: 'EMPTY', kind: 'kit' })
  t.match(await acme.operator.post('/erp/stock/issues', { product_id: empty, location_id: c.store, quantity: '1' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  await proven(t, acme)
})
