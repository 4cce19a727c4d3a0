import t from 'tap'
import { tally, testApp, times } from '../../support/app.ts'
import { catalogue, sentOrder, stockUp } from '../../support/erp.ts'

const { tenant } = await testApp(t)

t.test('twenty clients, ten pieces: ten issues succeed, ten get insufficient_stock, the ledger agrees', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '10')
  const answers = await Promise.all(
    times(20, () => acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1' })),
  )
  t.same(tally(answers), { 201: 10, 409: 10 })
  t.same([...new Set(answers.filter((a) => a.status === 409).map((a) => a.body.detail))], ['insufficient_stock'])
  t.same((await acme.admin.get('/erp/stock/verify')).data, { differences: [], products: 1 })
  t.same((await acme.admin.get(`/erp/stock?product_id=${c.product}`)).data, [])
})

t.test('transfers both ways at once neither deadlock nor lose anything', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '20')
  const move = (from: string, to: string) =>
    acme.operator.post('/erp/stock/transfers', { product_id: c.product, from_location_id: from, to_location_id: to, quantity: '1' })
  await Promise.all(times(10, () => move(c.store, c.other)))
  const answers = await Promise.all(times(20, (i) => (i % 2 ? move(c.store, c.other) : move(c.other, c.store))))
  t.same(tally(answers), { 201: 20 })
  const stock = (await acme.admin.get(`/erp/stock?product_id=${c.product}`)).data
  t.equal(
    stock.reduce((sum: number, row: { quantity: string }) => sum + Number(row.quantity), 0),
    20,
  )
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
})

t.test('twenty receipts of one order: what was ordered comes in, not more', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const order = await sentOrder(acme, c, '10')
  const answers = await Promise.all(
    times(20, () =>
      acme.operator.post('/erp/goods-receipts', {
        order_id: order.id,
        location_id: c.store,
        lines: [{ order_line_id: order.line, quantity: '1' }],
      }),
    ),
  )
  t.same(tally(answers), { 201: 10, 409: 10 })
  t.equal((await acme.admin.get(`/erp/purchase-orders/${order.id}`)).data.status, 'received')
  t.same((await acme.admin.get(`/erp/stock?product_id=${c.product}`)).data[0].quantity, '10.000000')
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
})

t.test('stock leaves earliest expiry first, and over several lots', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme, { lotTracked: true })
  await stockUp(acme, c, '5', { code: 'LATE', expires_on: '2030-01-01' })
  await stockUp(acme, c, '5', { code: 'SOON', expires_on: '2027-01-01' })
  const lots = (await acme.admin.get(`/erp/lots?product_id=${c.product}`)).data as { id: string; code: string }[]
  const codeOf = (id: string) => lots.find((lot) => lot.id === id)?.code
  const issue = await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '7' })
  t.same(
    issue.data.map((m: { lot_id: string; quantity: string }) => [codeOf(m.lot_id), m.quantity]),
    [
      ['SOON', '5.000000'],
      ['LATE', '2.000000'],
    ],
  )
})

t.test('stock as of a moment is the sum of what was effective by then', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const order = await sentOrder(acme, c, '10')
  await acme.operator.post('/erp/goods-receipts', {
    order_id: order.id,
    location_id: c.store,
    received_at: '2026-03-01T00:00:00Z',
    lines: [{ order_line_id: order.line, quantity: '4' }],
  })
  await acme.operator.post('/erp/goods-receipts', {
    order_id: order.id,
    location_id: c.store,
    received_at: '2026-05-01T00:00:00Z',
    lines: [{ order_line_id: order.line, quantity: '6' }],
  })
  const asOf = async (at: string) =>
    (await acme.admin.get(`/erp/stock?product_id=${c.product}&as_of=${at}`)).data.map((row: { quantity: string }) => row.quantity)
  t.same(await asOf('2026-02-01T00:00:00Z'), [])
  t.same(await asOf('2026-04-01T00:00:00Z'), ['4.000000'])
  t.same(await asOf('2026-06-01T00:00:00Z'), ['10.000000'])
})

t.test('a unit is converted exactly or refused', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '30')
  const box = (await acme.admin.post('/erp/uoms', { code: 'BOX', name: 'Box of twelve', dimension: 'count' })).data.id
  const issue = (quantity: string) =>
    acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity, uom_id: box })
  t.match(await issue('1'), { status: 400, body: { detail: 'invalid_reference' } })
  await acme.admin.post('/erp/uom-conversions', { from_uom_id: box, to_uom_id: c.uom, numerator: 12, denominator: 1 })
  t.equal((await issue('2')).data[0].quantity, '24.000000')
  const third = (await acme.admin.post('/erp/uoms', { code: 'THIRD', name: 'A third', dimension: 'count' })).data.id
  await acme.admin.post('/erp/uom-conversions', { from_uom_id: third, to_uom_id: c.uom, numerator: 1, denominator: 3 })
  t.match(await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1', uom_id: third }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
})

t.test('nonsense is refused and leaves nothing', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '5')
  const issue = (body: object) =>
    acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1', ...body })
  for (const quantity of ['0', '-1', '1e3', '0.0000001', '99999999999999', 1, null])
    t.match(await issue({ quantity }), { status: 400, body: { detail: 'invalid_body' } }, `quantity ${quantity}`)
  t.match(await issue({ location_id: c.product }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await issue({ effective_at: '2999-01-01T00:00:00Z' }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await acme.viewer.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1' }), {
    status: 403,
    body: { detail: 'permission_denied' },
  })
  t.equal((await acme.admin.get(`/erp/stock?product_id=${c.product}`)).data[0].quantity, '5.000000')
})
