import t from 'tap'
import { type Client, tally, testApp, times } from '../../support/app.ts'
import { catalogue, sentOrder, stockUp } from '../../support/erp.ts'

const { tenant } = await testApp(t)

async function draft(acme: Awaited<ReturnType<typeof tenant>>, by: 'operator' | 'admin' | 'manager' = 'operator', price = '2') {
  const c = await catalogue(acme)
  const answer = await acme[by].post('/erp/purchase-orders', {
    supplier_id: c.supplier,
    currency: 'EUR',
    lines: [
      { product_id: c.product, quantity: '10', unit_price: price },
      { product_id: c.product, quantity: '0.333', unit_price: '0.0051' },
    ],
  })
  return { c, answer, path: `/erp/purchase-orders/${answer.data?.id}` }
}

t.test('draft → submitted → approved → sent → partially received → received → closed', async (t) => {
  const acme = await tenant()
  const { c, answer, path } = await draft(acme)
  t.match(answer, {
    status: 201,
    data: { status: 'draft', total: '20.0017', code: /^PO-\d{4}-00001$/, allowed_transitions: ['submit', 'cancel'] },
  })
  const step = async (name: string, version: number, by: 'operator' | 'admin' = 'operator') => acme[by].post(`${path}/${name}`, { version })
  t.match(await step('submit', 1), { status: 200, data: { status: 'submitted', submitted_at: String } })
  t.match(await step('approve', 2, 'admin'), { status: 200, data: { status: 'approved', approved_by: acme.admin.userId } })
  t.match(await step('send', 3), { status: 200, data: { status: 'sent' } })
  const [first, second] = answer.data.lines
  const receive = (line: string, quantity: string) =>
    acme.operator.post('/erp/goods-receipts', {
      order_id: answer.data.id,
      location_id: c.store,
      lines: [{ order_line_id: line, quantity }],
    })
  const receipt = await receive(first.id, '4')
  t.match(receipt, { status: 201, data: { code: /^GR-/, lines: [{ quantity: '4.000000', move_id: String }] } })
  t.match((await acme.viewer.get(path)).data, { status: 'partially_received', version: 5, allowed_transitions: ['close'] })
  t.match(await step('cancel', 5), { status: 403 })
  t.match(await acme.admin.post(`${path}/cancel`, { version: 5 }), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(await receive(first.id, '7'), { status: 409, body: { detail: 'over_receipt', error: { details: { at_most: '10.000000' } } } })
  t.equal((await receive(first.id, '6')).status, 201)
  t.equal((await receive(second.id, '0.333')).status, 201)
  t.match((await acme.viewer.get(path)).data, { status: 'received' })
  t.match(await acme.admin.post(`${path}/close`, { version: 7 }), { status: 200, data: { status: 'closed', allowed_transitions: [] } })
  t.match((await acme.viewer.get(`/erp/goods-receipts/${receipt.data.id}`)).data, { order_id: answer.data.id })
  t.equal((await acme.viewer.get(`/erp/goods-receipts?order_id=${answer.data.id}`)).data.length, 3)
  t.same(
    (await acme.viewer.get(`${path}/history`)).data
      .map((h: { diff: { status?: unknown } }) => h.diff.status)
      .filter(Array.isArray)
      .at(-1),
    ['draft', 'submitted'],
  )
})

t.test('nobody approves his own, and nobody above his limit', async (t) => {
  const acme = await tenant()
  const own = await draft(acme, 'manager')
  await acme.manager.post(`${own.path}/submit`, { version: 1 })
  t.match(await acme.manager.post(`${own.path}/approve`, { version: 2 }), { status: 403, body: { detail: 'self_approval' } })
  t.equal((await acme.admin.post(`${own.path}/approve`, { version: 2, comment: 'fine' })).status, 200)
  const large = await draft(acme, 'operator', '5000')
  await acme.operator.post(`${large.path}/submit`, { version: 1 })
  t.match(await acme.operator.post(`${large.path}/approve`, { version: 2 }), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.manager.post(`${large.path}/approve`, { version: 2 }), {
    status: 403,
    body: { detail: 'approval_limit', error: { details: { limit: '10000' } } },
  })
  t.equal((await acme.admin.post(`${large.path}/approve`, { version: 2 })).status, 200)
})

t.test('F10: whoever requested, edited or submitted an order does not approve it', async (t) => {
  const acme = await tenant()
  const { path, answer } = await draft(acme, 'operator', '1')
  const { product_id } = answer.data.lines[0]
  const edit = (who: Client, version: number) => who.patch(path, { lines: [{ product_id, quantity: '1', unit_price: '9000' }], version })
  t.match(await edit(acme.manager, 1), { status: 200, data: { edited_by: [acme.manager.userId] } })
  t.match(await edit(acme.manager, 2), { status: 200, data: { edited_by: [acme.manager.userId] } }, 'each user once')
  t.match(await acme.operator.post(`${path}/submit`, { version: 3 }), { data: { submitted_by: acme.operator.userId } })
  const approve = (who: Client) => who.post(`${path}/approve`, { version: 4 })
  t.match(await approve(acme.manager), { status: 403, body: { detail: 'self_approval' } }, 'the editor')
  const other = await acme.user('manager')
  t.equal((await approve(other)).status, 200)
  const second = await draft(acme, 'operator', '1')
  await acme.manager.post(`${second.path}/submit`, { version: 1 })
  t.match(
    await acme.manager.post(`${second.path}/approve`, { version: 2 }),
    { status: 403, body: { detail: 'self_approval' } },
    'the one who submitted it',
  )
})

t.test('F11: an approval limit is compared in the organization’s currency, at the rate of the day', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const submitted = async (currency: string, unit_price: string) => {
    const { data } = await acme.operator.post('/erp/purchase-orders', {
      supplier_id: c.supplier,
      currency,
      lines: [{ product_id: c.product, quantity: '1', unit_price }],
    })
    await acme.operator.post(`/erp/purchase-orders/${data.id}/submit`, { version: 1 })
    return (who: Client) => who.post(`/erp/purchase-orders/${data.id}/approve`, { version: 2 })
  }
  const approve = await submitted('KWD', '9999')
  const missing = { status: 409, body: { detail: 'exchange_rate_missing', error: { details: { currency: 'KWD' } } } }
  t.match(await approve(acme.manager), missing)
  t.match(await approve(acme.admin), missing, 'also for an approver without limit')
  const keeper = await acme.user('manager')
  const rate = (currency: string, value: string, valid_from: string) =>
    keeper.post('/erp/exchange-rates', { currency, rate: value, valid_from })
  t.match(await rate('EUR', '1.1', '2020-01-01'), { status: 400, body: { detail: 'invalid_value' } }, 'the own currency')
  t.equal((await rate('KWD', '0.5', '2020-01-01')).status, 201)
  t.equal((await rate('KWD', '3.1', '2021-01-01')).status, 201)
  t.equal((await rate('KWD', '0.1', '2999-01-01')).status, 201)
  t.match(await rate('KWD', '3.1', '2021-01-01'), { status: 409, body: { detail: 'already_exists' } })
  t.match(await approve(acme.manager), {
    status: 403,
    body: { detail: 'approval_limit', error: { details: { amount: '30996.9000', currency: 'EUR', limit: '10000' } } },
  })
  t.equal((await (await submitted('KWD', '3000'))(acme.manager)).status, 200)
  t.equal((await approve(acme.admin)).status, 200)
})

t.test('F11: nobody approves by a rate of their own, or after changing the currency of the organization', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const submitted = async () => {
    const { data } = await acme.operator.post('/erp/purchase-orders', {
      supplier_id: c.supplier,
      currency: 'KWD',
      lines: [{ product_id: c.product, quantity: '1', unit_price: '900000' }],
    })
    await acme.operator.post(`/erp/purchase-orders/${data.id}/submit`, { version: 1 })
    return (who: Client) => who.post(`/erp/purchase-orders/${data.id}/approve`, { version: 2 })
  }
  const own = { status: 403, body: { detail: 'self_approval' } }
  const low = await acme.manager.post('/erp/exchange-rates', { currency: 'KWD', rate: '0.000001', valid_from: '2020-01-01' })
  const approve = await submitted()
  t.match(await approve(acme.manager), own, 'the author of the rate')
  await acme.admin.post('/erp/exchange-rates', { currency: 'KWD', rate: '3', valid_from: '2021-01-01' })
  const high = (await acme.viewer.get('/erp/exchange-rates?valid_from=2021-01-01')).data[0]
  t.equal((await acme.manager.delete(`/erp/exchange-rates/${high.id}`, { 'if-match': '"1"' })).status, 204)
  t.match(await (await submitted())(acme.manager), own, 'the rate that is left is theirs')
  t.equal((await acme.manager.delete(`/erp/exchange-rates/${low.data.id}`, { 'if-match': '"1"' })).status, 204)
  const other = await acme.user('manager')
  await other.post('/erp/exchange-rates', { currency: 'KWD', rate: '0.000001', valid_from: '2022-01-01' })
  t.match(await approve(acme.manager), own, 'changed since the order was made')
  const [one] = acme.organizations
  t.match(await acme.admin.patch(`/organizations/${one!.id}`, { currency: 'KWD', version: 1 }), {
    status: 409,
    body: { detail: 'in_use', error: { details: { currency: 'EUR' } } },
  })
})

t.test('F11: the limit is the approver’s where the order belongs', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  await acme.admin.post('/rbac/roles', { code: 'small', name: 'Small', permissions: ['erp.*'] })
  const settings = { approval_limits: { admin: null, manager: '10000', small: '10' }, version: 1 }
  t.equal((await acme.admin.patch(`/organizations/${one!.id}/settings`, settings)).status, 200)
  const approver = await acme.user('manager', { organizationId: one!.id, workspaceId: north!.id })
  await acme.admin.post(`/users/${approver.userId}/roles`, { role: 'small', organization_id: one!.id, workspace_id: south!.id })
  const inSouth = await acme.user('manager', { organizationId: one!.id, workspaceId: south!.id })
  const c = await catalogue(acme)
  const { data } = await inSouth.post('/erp/purchase-orders', {
    supplier_id: c.supplier,
    currency: 'EUR',
    lines: [{ product_id: c.product, quantity: '1', unit_price: '500' }],
  })
  await inSouth.post(`/erp/purchase-orders/${data.id}/submit`, { version: 1 })
  t.match(await approver.post(`/erp/purchase-orders/${data.id}/approve`, { version: 2 }), {
    status: 403,
    body: { detail: 'approval_limit', error: { details: { limit: '10' } } },
  })
})

t.test('twenty approvals, one approval', async (t) => {
  const acme = await tenant()
  const { path } = await draft(acme)
  await acme.operator.post(`${path}/submit`, { version: 1 })
  t.same(tally(await Promise.all(times(20, () => acme.admin.post(`${path}/approve`, { version: 2 })))), { 200: 1, 409: 19 })
})

t.test('cancel races receive: one of them wins and the books say the same', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const order = await sentOrder(acme, c, '5')
  const [cancel, receive] = await Promise.all([
    acme.admin.post(`/erp/purchase-orders/${order.id}/cancel`, { version: order.version, reason: 'late' }),
    acme.operator.post('/erp/goods-receipts', {
      order_id: order.id,
      location_id: c.store,
      lines: [{ order_line_id: order.line, quantity: '5' }],
    }),
  ])
  t.same([cancel.status, receive.status].sort(), cancel.status === 200 ? [200, 409] : [201, 409])
  const stock = (await acme.admin.get(`/erp/stock?product_id=${c.product}`)).data
  t.equal(stock.length, receive.status === 201 ? 1 : 0)
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
})

t.test('only a draft is changed; lines are replaced whole', async (t) => {
  const acme = await tenant()
  const { c, path } = await draft(acme)
  const changed = await acme.operator.patch(
    path,
    { notes: 'soon', lines: [{ product_id: c.product, quantity: '3', unit_price: '1' }] },
    { 'if-match': '"1"' },
  )
  t.match(changed, { status: 200, data: { version: 2, total: '3.0000', notes: 'soon' } })
  t.equal(changed.data.lines.length, 1)
  t.match(await acme.operator.patch(path, { notes: 'x' }, { 'if-match': '"1"' }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await acme.operator.patch(path, { status: 'approved' }, { 'if-match': '"2"' }), { status: 400, body: { detail: 'invalid_body' } })
  await acme.operator.post(`${path}/submit`, { version: 2 })
  t.match(await acme.operator.patch(path, { notes: 'x' }, { 'if-match': '"3"' }), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(await acme.operator.post(`${path}/submit`, { version: 3 }), {
    status: 409,
    body: { detail: 'invalid_transition', error: { details: { allowed_transitions: ['approve', 'cancel'] } } },
  })
})

t.test('numbers are gapless though twenty draft at once', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const answers = await Promise.all(
    times(20, (i) =>
      acme.operator.post('/erp/purchase-orders', {
        supplier_id: c.supplier,
        currency: 'EUR',
        lines:
          i % 4 === 0
            ? [{ product_id: c.store, quantity: '1', unit_price: '1' }]
            : [{ product_id: c.product, quantity: '1', unit_price: '1' }],
      }),
    ),
  )
  t.same(tally(answers), { 201: 15, 400: 5 })
  t.same(
    answers
      .filter((a) => a.status === 201)
      .map((a) => Number(a.data.code.slice(-5)))
      .sort((a, b) => a - b),
    times(15, (i) => i + 1),
  )
})

t.test('a receipt holds what came against the order, the product and the place', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme, { lotTracked: true })
  const order = await sentOrder(acme, c, '5')
  const receive = (body: object, line: object = {}) =>
    acme.operator.post('/erp/goods-receipts', {
      order_id: order.id,
      location_id: c.store,
      lines: [{ order_line_id: order.line, quantity: '1', ...line }],
      ...body,
    })
  t.match(await receive({}), { status: 400, body: { detail: 'invalid_value', error: { details: { path: 'lines/0/lot' } } } })
  t.match(await receive({}, { lot: { code: 'L' }, order_line_id: c.product }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await receive({ location_id: c.product }, { lot: { code: 'L' } }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await receive({ order_id: c.product }, { lot: { code: 'L' } }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await receive({ received_at: '2999-01-01T00:00:00Z' }, { lot: { code: 'L' } }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.equal((await receive({}, { lot: { code: 'L', expires_on: '2030-01-01' } })).status, 201)
  await t.rejects(stockUp(acme, c, '1'), /lot/)
})
