// Held, on its way, counted, and what else it cost: always with the ledger in agreement.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue, type Stocked, stockUp } from '../../support/erp.ts'

const { tenant } = await testApp(t)

const proven = async (test: Pick<typeof t, 'same'>, acme: TestTenant) =>
  test.same((await acme.viewer.get('/erp/stock/verify')).data.differences, [], 'the ledger and what is kept agree')
const available = async (acme: TestTenant, c: Stocked, place = c.store) => {
  const rows = (await acme.viewer.get(`/erp/stock?product_id=${c.product}&location_id=${place}`)).data as {
    quantity: string
    available: string
  }[]
  return rows.reduce(([all, free], row) => [all! + Number(row.quantity), free! + Number(row.available)], [0, 0])
}
const refused = (detail: string, status = 409) => ({ status, body: { detail } })

async function stocked(quantity = '10') {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, quantity, undefined, { received_at: '2026-01-01T00:00:00Z' })
  const line = (quantity: string, also: object = {}) => ({ product_id: c.product, quantity, ...also })
  return { acme, c, line }
}

t.test('what is held is there, and for nobody else', async (t) => {
  const { acme, c, line } = await stocked()
  const hold = (quantity: string, also: object = {}) =>
    acme.operator.post('/erp/stock-reservations', { location_id: c.store, lines: [line(quantity)], ...also })
  const source_id = newId()
  t.match(await hold('7', { source_id }), { status: 201, data: [{ quantity: '7.000000', source_id }] })
  t.same(await available(acme, c), [10, 3])
  t.match(await hold('4'), refused('insufficient_stock'))
  const issue = (quantity: string) => acme.operator.post('/erp/stock/issues', { location_id: c.store, ...line(quantity) })
  t.match(await issue('4'), refused('insufficient_stock'))
  t.equal((await issue('2')).status, 201)
  t.match(
    await acme.admin.post('/erp/stock/adjustments', { location_id: c.store, ...line('-2'), reason: 'Broken' }),
    refused('insufficient_stock'),
    'not even by mistake',
  )
  const taken = await acme.operator.post('/erp/stock-reservations/issue', { source_id })
  t.match(taken, { status: 201, data: [{ quantity: '7.000000', source_type: 'reservation', source_id }] })
  t.same(await available(acme, c), [1, 1])
  t.match(await acme.operator.post('/erp/stock-reservations/issue', { source_id }), refused('not_found', 404))
  t.match(await acme.operator.post('/erp/stock-reservations/release', { source_id }), refused('not_found', 404))
  const held = (await hold('1')).data[0]
  t.match(await acme.viewer.get(`/erp/stock-reservations/${held.id}`), { status: 200, data: { id: held.id } })
  t.equal((await acme.viewer.get(`/erp/stock-reservations?source_id=${held.source_id}`)).data.length, 1)
  t.equal((await acme.operator.post('/erp/stock-reservations/release', { source_id: held.source_id })).status, 200)
  t.same(await available(acme, c), [1, 1])
  t.match(await hold('1', { expires_at: '2020-01-01T00:00:00Z' }), refused('invalid_value', 400))
  t.match(await hold('1', { location_id: newId() }), refused('invalid_reference', 400))
  t.equal((await acme.viewer.post('/erp/stock-reservations', { location_id: c.store, lines: [line('1')] })).status, 403)
  const stranger = await tenant()
  t.equal((await stranger.operator.post('/erp/stock-reservations/release', { source_id: held.source_id })).status, 404)
  t.equal((await stranger.viewer.get(`/erp/stock-reservations/${held.id}`)).status, 404)
  await proven(t, acme)
})

t.test('what was held until a moment gives way after it', async (t) => {
  const { acme, c, line } = await stocked()
  const expires_at = new Date(Date.now() + 400).toISOString()
  await acme.operator.post('/erp/stock-reservations', { location_id: c.store, expires_at, lines: [line('10')] })
  const issue = () => acme.operator.post('/erp/stock/issues', { location_id: c.store, ...line('6') })
  t.match(await issue(), refused('insufficient_stock'))
  await new Promise((resolve) => setTimeout(resolve, 500))
  t.equal((await issue()).status, 201)
  t.same(await available(acme, c), [4, 4])
  await proven(t, acme)
})

t.test('twenty clients hold the last ten pieces', async (t) => {
  const { acme, c, line } = await stocked()
  const hold = () => acme.operator.post('/erp/stock-reservations', { location_id: c.store, lines: [line('1')] })
  const answers = await Promise.all(times(20, hold))
  t.same(tally(answers), { 201: 10, 409: 10 })
  t.same(await available(acme, c), [10, 0])
  const held = answers.filter(({ status }) => status === 201).map(({ data }) => data[0].source_id)
  const both = await Promise.all(
    held.flatMap((source_id) => [
      acme.operator.post('/erp/stock-reservations/issue', { source_id }),
      acme.operator.post('/erp/stock-reservations/release', { source_id }),
    ]),
  )
  t.equal(both.filter(({ status }) => status < 300).length, 10, 'each is taken or given up, never both')
  await proven(t, acme)
})

t.test('goods on their way are in neither place, and arrive in parts', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme, { lotTracked: true })
  await stockUp(acme, c, '6', { code: 'LATE', expires_on: '2030-01-01' })
  await stockUp(acme, c, '4', { code: 'SOON', expires_on: '2027-01-01' })
  const draft = await acme.operator.post('/erp/stock-transfers', {
    from_location_id: c.store,
    to_location_id: c.other,
    lines: [{ product_id: c.product, quantity: '7' }],
  })
  t.match(draft, { status: 201, data: { status: 'draft', allowed_transitions: ['ship', 'cancel'] } })
  t.match(draft.data.code, /^ST-\d{4}-00001$/)
  const { id, lines } = draft.data
  const move = (name: string, version: number, body: object = {}) =>
    acme.manager.post(`/erp/stock-transfers/${id}/${name}`, { version, ...body })
  t.match(await move('receive', 1), refused('invalid_transition'))
  t.match(await move('ship', 9), refused('version_conflict'))
  t.match(await move('ship', 1), { status: 200, data: { status: 'shipped' } })
  t.same(
    [await available(acme, c), await available(acme, c, c.other)],
    [
      [3, 3],
      [0, 0],
    ],
  )
  t.match(await move('receive', 2, { lines: [{ line_id: lines[0].id, quantity: '8' }] }), refused('over_receipt'))
  t.match(await move('receive', 2, { lines: [{ line_id: newId(), quantity: '1' }] }), refused('invalid_reference', 400))
  t.match(await move('receive', 2, { lines: [{ line_id: lines[0].id, quantity: '5' }] }), {
    status: 200,
    data: { status: 'partially_received', version: 3, lines: [{ received_quantity: '5.000000' }] },
  })
  t.match(await move('cancel', 3, { reason: 'Too late' }), refused('invalid_transition'))
  t.same(await available(acme, c, c.other), [5, 5])
  const empty = (await acme.admin.post('/erp/locations', { code: 'EMPTY', name: 'Empty' })).data.id
  await acme.operator.post('/erp/stock-transfers', {
    from_location_id: c.store,
    to_location_id: empty,
    lines: [{ product_id: c.product, quantity: '1' }],
  })
  t.match(await acme.admin.delete(`/erp/locations/${empty}`, { 'if-match': '"1"' }), {
    status: 409,
    body: { detail: 'in_use', error: { details: { by: [{ entity: 'erp_stock_transfer' }] } } },
  })
  t.match(await move('receive', 3), { status: 200, data: { status: 'received', version: 5 } })
  const there = (await acme.viewer.get(`/erp/stock?location_id=${c.other}`)).data
  t.same(there.map((row: { quantity: string }) => Number(row.quantity)).sort(), [3, 4], 'the lots that were shipped')
  t.equal((await acme.viewer.get(`/erp/stock-transfers?status=received`)).data.length, 1)
  t.equal((await acme.viewer.post('/erp/stock-transfers', { from_location_id: c.store, to_location_id: c.other, lines: [] })).status, 403)
  await proven(t, acme)
})

t.test('a transfer is called off, or closed with what was lost', async (t) => {
  const { acme, c, line } = await stocked()
  const ship = async (quantity: string) => {
    const { data } = await acme.operator.post('/erp/stock-transfers', {
      from_location_id: c.store,
      to_location_id: c.other,
      lines: [line(quantity)],
    })
    t.equal((await acme.operator.post(`/erp/stock-transfers/${data.id}/ship`, { version: 1 })).status, 200)
    return data.id
  }
  const off = await ship('10')
  t.same(await available(acme, c), [0, 0])
  t.match(await acme.admin.post(`/erp/stock-transfers/${off}/cancel`, { version: 2, reason: 'Road is closed' }), {
    status: 200,
    data: { status: 'cancelled' },
  })
  t.same(await available(acme, c), [10, 10])
  const lost = await ship('4')
  await acme.operator.post(`/erp/stock-transfers/${lost}/receive`, {
    version: 2,
    lines: [{ line_id: (await acme.viewer.get(`/erp/stock-transfers/${lost}`)).data.lines[0].id, quantity: '3' }],
  })
  t.match(await acme.admin.post(`/erp/stock-transfers/${lost}/close`, { version: 3, reason: 'One fell off' }), {
    status: 200,
    data: { status: 'closed' },
  })
  t.same(
    [await available(acme, c), await available(acme, c, c.other)],
    [
      [6, 6],
      [3, 3],
    ],
  )
  t.same((await acme.admin.get('/erp/stock/value/total')).data.value, '18.0000', 'nine of two each')
  t.match(
    await acme.operator.post('/erp/stock-transfers', { from_location_id: c.store, to_location_id: c.other, lines: [line('1'), line('2')] }),
    refused('already_exists'),
  )
  t.match(
    await acme.operator.post('/erp/stock-transfers', { from_location_id: c.store, to_location_id: c.store, lines: [line('1')] }),
    refused('invalid_value', 400),
  )
  await proven(t, acme)
})

t.test('cancelling races shipping: one of them, and the goods are where it says', async (t) => {
  const { acme, c, line } = await stocked('20')
  for (let n = 0; n < 5; n++) {
    const { data } = await acme.operator.post('/erp/stock-transfers', {
      from_location_id: c.store,
      to_location_id: c.other,
      lines: [line('2')],
    })
    const answers = await Promise.all(
      times(20, (i) =>
        i % 2
          ? acme.admin.post(`/erp/stock-transfers/${data.id}/cancel`, { version: 1, reason: 'Race' })
          : acme.operator.post(`/erp/stock-transfers/${data.id}/ship`, { version: 1 }),
      ),
    )
    t.equal(answers.filter(({ status }) => status === 200).length, 1)
  }
  const shipped = (await acme.viewer.get('/erp/stock-transfers?status=shipped')).data.length
  t.same(await available(acme, c), [20 - 2 * shipped, 20 - 2 * shipped])
  await proven(t, acme)
})

t.test('a blind count tells nothing, is approved by another, and is posted while things are taken', async (t) => {
  const { acme, c, line } = await stocked()
  const started = await acme.operator.post('/erp/stock-counts', { location_id: c.store })
  t.match(started, { status: 201, data: { status: 'counting', blind: true, lines: [{ product_id: c.product, expected_quantity: null }] } })
  const { id } = started.data
  const move = (name: string, version: number, who = acme.operator, body: object = {}) =>
    who.post(`/erp/stock-counts/${id}/${name}`, { version, ...body })
  t.match(await move('submit', 1), refused('invalid_value', 400), 'nothing was counted yet')
  const note = (body: object) => acme.operator.put(`/erp/stock-counts/${id}/lines`, { lines: [body] })
  t.match(await note(line('8')), {
    status: 200,
    data: { lines: [{ counted_quantity: '8.000000', expected_quantity: null, difference: null }] },
  })
  t.match(await note({ ...line('8'), lot_id: newId() }), refused('invalid_value', 400))
  t.match(await acme.operator.put(`/erp/stock-counts/${id}/lines`, { lines: [line('1'), line('2')] }), refused('invalid_value', 400))
  // Three are taken after they were counted: ten less two that are not there, less three.
  const issue = (quantity: string) => acme.operator.post('/erp/stock/issues', { location_id: c.store, ...line(quantity) })
  t.equal((await issue('3')).status, 201)
  t.match(await move('submit', 1), { status: 200, data: { lines: [{ expected_quantity: '10.000000', difference: '-2.000000' }] } })
  t.match(await move('approve', 2), { status: 403 }, 'an operator may not')
  t.match(await move('approve', 2, acme.manager), { status: 200 })
  const [posted] = await Promise.all([move('post', 3, acme.manager), ...times(19, () => issue('0.1'))])
  t.equal(posted.status, 200, posted.text)
  t.same(
    await available(acme, c),
    [10 - 3 - 2 - 1.9, 10 - 3 - 2 - 1.9].map((n) => Number(n.toFixed(6))),
  )
  t.match(await note(line('1')), refused('invalid_transition'))
  await proven(t, acme)
})

t.test('who counted does not approve; what was not expected is found; what differs too much is counted again', async (t) => {
  const { acme, c } = await stocked()
  const made = await acme.admin.post('/erp/products', { code: 'NEW', name: 'New', uom_id: c.uom })
  const { data } = await acme.admin.post('/erp/stock-counts', { location_id: c.store, blind: false })
  t.equal(
    (
      await acme.admin.put(`/erp/stock-counts/${data.id}/lines`, {
        lines: [
          { product_id: c.product, quantity: '10' },
          { product_id: made.data.id, quantity: '5' },
        ],
      })
    ).status,
    200,
  )
  const move = (name: string, version: number, who = acme.admin, body: object = {}) =>
    who.post(`/erp/stock-counts/${data.id}/${name}`, { version, ...body })
  t.equal((await move('submit', 1)).status, 200)
  t.match(await move('approve', 2), refused('self_approval', 403))
  t.match(await move('recount', 2), { status: 200, data: { status: 'counting' } })
  await acme.admin.put(`/erp/stock-counts/${data.id}/lines`, { lines: [{ product_id: made.data.id, quantity: '4' }] })
  await move('submit', 3)
  t.equal((await move('approve', 4, acme.manager)).status, 200)
  t.equal((await move('post', 5, acme.manager)).status, 200)
  t.same((await acme.viewer.get(`/erp/stock?product_id=${made.data.id}`)).data[0].quantity, '4.000000')
  const none = (await acme.admin.post('/erp/stock-counts', { location_id: c.other })).data
  t.match(await acme.admin.post(`/erp/stock-counts/${none.id}/cancel`, { version: 1, reason: 'Not today' }), {
    status: 200,
    data: { status: 'cancelled' },
  })
  t.match(await acme.admin.post('/erp/stock-counts', { location_id: newId() }), refused('invalid_reference', 400))
  const inLots = async (code: string) => {
    const other = await catalogue(acme, { lotTracked: true })
    await stockUp(acme, other, '1', { code })
    return { product_id: other.product, lot_id: (await acme.viewer.get(`/erp/lots?product_id=${other.product}`)).data[0].id as string }
  }
  const [one, two] = [await inLots('ONE'), await inLots('TWO')]
  const lots = (await acme.admin.post('/erp/stock-counts', { location_id: c.other })).data
  const noted = (line: object) => acme.admin.put(`/erp/stock-counts/${lots.id}/lines`, { lines: [{ quantity: '1', ...line }] })
  t.match(await noted({ product_id: one.product_id, lot_id: two.lot_id }), refused('invalid_reference', 400), 'another product’s lot')
  t.match(await noted({ product_id: one.product_id, lot_id: newId() }), refused('invalid_reference', 400))
  t.match(await noted({ product_id: one.product_id }), refused('invalid_value', 400))
  t.equal((await noted(one)).status, 200)
  const stranger = await tenant()
  t.equal((await stranger.admin.get(`/erp/stock-counts/${data.id}`)).status, 404)
  await proven(t, acme)
})

t.test('freight is a part of what goods cost, from the moment they came', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const other = (await acme.admin.post('/erp/products', { code: 'SECOND', name: 'Second', uom_id: c.uom, cost_method: 'fifo' })).data
    .id as string
  // One receipt of 60 at 10 and 40 at 5: 800; freight of 100 is 75 and 25 by value, 60 and 40 by quantity.
  const draft = await acme.operator.post('/erp/purchase-orders', {
    supplier_id: c.supplier,
    currency: 'EUR',
    lines: [
      { product_id: c.product, quantity: '60', unit_price: '10' },
      { product_id: other, quantity: '40', unit_price: '5' },
    ],
  })
  const { id, lines } = draft.data
  await acme.operator.post(`/erp/purchase-orders/${id}/submit`, { version: 1 })
  await acme.admin.post(`/erp/purchase-orders/${id}/approve`, { version: 2 })
  await acme.operator.post(`/erp/purchase-orders/${id}/send`, { version: 3 })
  const receipt = await acme.operator.post('/erp/goods-receipts', {
    order_id: id,
    location_id: c.store,
    received_at: '2026-02-01T00:00:00Z',
    lines: lines.map((line: { id: string; quantity: string }) => ({ order_line_id: line.id, quantity: line.quantity })),
  })
  t.equal((await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '30' })).status, 201)
  const value = async (product: string, query = '') =>
    (await acme.admin.get(`/erp/stock/value?product_id=${product}${query}`)).data[0]?.value
  t.same([await value(c.product), await value(other)], ['300.0000', '200.0000'])
  const post = (body: object) =>
    acme.manager.post('/erp/landed-costs', { description: 'Freight', amount: '100', receipt_ids: [receipt.data.id], ...body })
  const landed = await post({})
  t.equal(landed.status, 201, landed.text)
  t.same(landed.data.lines.map((line: { amount: string }) => line.amount).sort(), ['25.0000', '75.0000'])
  t.same([await value(c.product), await value(other)], ['337.5000', '225.0000'], 'half of the first has gone, with its half of the freight')
  t.same(await value(c.product, '&as_of=2026-02-02T00:00:00Z'), '675.0000')
  const byQuantity = await post({ split_by: 'quantity', amount: '0.01' })
  t.equal(
    byQuantity.data.lines.reduce((sum: number, line: { amount: string }) => sum + Number(line.amount) * 10_000, 0),
    100,
  )
  t.match(await acme.manager.post(`/erp/landed-costs/${landed.data.id}/reverse`, { version: 1, reason: 'Another container' }), {
    status: 200,
    data: { status: 'reversed' },
  })
  t.match(await acme.manager.post(`/erp/landed-costs/${byQuantity.data.id}/reverse`, { version: 1, reason: 'Another container' }), {
    status: 200,
  })
  t.same([await value(c.product), await value(other)], ['300.0000', '200.0000'])
  t.match(await post({ receipt_ids: [newId()] }), refused('invalid_reference', 400))
  t.match(await post({ amount: '0' }), { status: 400 })
  t.equal((await acme.operator.post('/erp/landed-costs', { description: 'F', amount: '1', receipt_ids: [receipt.data.id] })).status, 403)
  const [raced] = await Promise.all([
    post({}),
    ...times(10, () => acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '1' })),
  ])
  t.equal(raced.status, 201)
  await proven(t, acme)
  await acme.admin.put('/erp/stock/period', { closed_through: '2026-02-28T00:00:00Z', version: 1 })
  t.match(await post({}), refused('period_closed'))
  const stranger = await tenant()
  t.match(
    await stranger.admin.post('/erp/landed-costs', { description: 'F', amount: '1', receipt_ids: [receipt.data.id] }),
    refused('invalid_reference', 400),
  )
  t.equal((await stranger.admin.get(`/erp/landed-costs/${raced.data.id}`)).status, 404)
})

t.test('a transfer’s goods are moved by the transfer alone, and its state follows from its moves', async (t) => {
  const { acme, c, line } = await stocked()
  const made = await acme.operator.post('/erp/stock-transfers', { from_location_id: c.store, to_location_id: c.other, lines: [line('4')] })
  const { id } = made.data
  const hold = acme.operator.post('/erp/stock-reservations', { location_id: c.store, source_id: id, lines: [line('1')] })
  t.match(await hold, { status: 400, body: { detail: 'invalid_value', error: { details: { path: 'source_id' } } } })
  t.equal((await acme.operator.post(`/erp/stock-transfers/${id}/ship`, { version: 1 })).status, 200)
  t.equal((await acme.operator.post(`/erp/stock-transfers/${id}/receive`, { version: 2 })).status, 200)
  t.same(await available(acme, c, c.other), [4, 4])
  await proven(t, acme)
})

t.test('landed costs reach receipts of workspaces that the user reaches', async (t) => {
  const { acme, c } = await stocked()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const [receipt] = (await acme.admin.get('/erp/goods-receipts')).data
  const cost = (who: typeof acme.admin) =>
    who.post('/erp/landed-costs', { description: 'Freight', amount: '10', receipt_ids: [receipt.id] })
  const manager = (workspaceId: string) => acme.user('manager', { organizationId: one!.id, workspaceId })
  const there = receipt.workspace_id === north!.id ? [north!, south!] : [south!, north!]
  t.match(await cost(await manager(there[1]!.id)), { status: 400, body: { detail: 'invalid_reference' } })
  t.equal((await cost(await manager(there[0]!.id))).status, 201)
  t.ok(c.product)
})
