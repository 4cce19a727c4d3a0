// The ledger: what was there when, what sets it right, and until when it is closed.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue, type Stocked, stockUp } from '../../support/erp.ts'

const { tenant } = await testApp(t)
const adjust = (acme: TestTenant, c: Stocked, quantity: string, extra: object = {}) =>
  acme.admin.post('/erp/stock/adjustments', { product_id: c.product, location_id: c.store, quantity, reason: 'Counted', ...extra })
const issue = (acme: TestTenant, c: Stocked, quantity: string, extra: object = {}) =>
  acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity, ...extra })
const onHand = async (acme: TestTenant, c: Stocked) =>
  Number((await acme.viewer.get(`/erp/stock?product_id=${c.product}&location_id=${c.store}`)).data[0]?.quantity ?? 0)
const clean = async (t: { same: (a: unknown, b: unknown) => void }, acme: TestTenant) =>
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])

t.test('what is there is set right, with a reason', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  t.match(await adjust(acme, c, '10'), {
    status: 201,
    data: [{ quantity: '10.000000', source_type: 'stock_adjustment', reason: 'Counted' }],
  })
  t.match(await adjust(acme, c, '-2.5'), { status: 201, data: [{ quantity: '2.500000' }] })
  t.equal(await onHand(acme, c), 7.5)
  t.match(await adjust(acme, c, '-8'), { status: 409, body: { detail: 'insufficient_stock' } })
  for (const quantity of ['0', '-0', '1e3', '', '--1', '1.1234567', '99999999999999'])
    t.match(await adjust(acme, c, quantity), { status: 400, body: { detail: 'invalid_body' } }, quantity)
  t.match(await adjust(acme, c, '1', { reason: '' }), { status: 400 })
  t.match(await adjust(acme, c, '1', { product_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await adjust(acme, c, '1', { location_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await adjust(acme, c, '1', { effective_at: '2999-01-01T00:00:00Z' }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await acme.operator.post('/erp/stock/adjustments', {}), { status: 403 }, 'an operator moves stock and does not explain it away')
  const lots = await catalogue(acme, { lotTracked: true })
  await stockUp(acme, lots, '5', { code: 'L1' })
  const [lot] = (await acme.viewer.get(`/erp/lots?product_id=${lots.product}`)).data
  t.match(await adjust(acme, lots, '1'), { status: 400, body: { error: { details: { rule: 'lot_needed' } } } })
  t.match(await adjust(acme, lots, '1', { lot_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await adjust(acme, c, '1', { lot_id: lot.id }), { status: 400, body: { error: { details: { rule: 'no_lot' } } } })
  t.equal((await adjust(acme, lots, '1', { lot_id: lot.id })).status, 201)
  await clean(t, acme)
})

t.test('a move is undone by its opposite, once, also when twenty try', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '10')
  const [move] = (await issue(acme, c, '4')).data
  const reverse = (id: string, body: object = { reason: 'Not sold after all' }) => acme.admin.post(`/erp/stock/moves/${id}/reverse`, body)
  const answers = await Promise.all(times(20, () => reverse(move.id)))
  t.same(tally(answers), { 201: 1, 409: 19 })
  t.ok(answers.every(({ status, body }) => status === 201 || body.detail === 'already_exists'))
  t.equal(await onHand(acme, c), 10)
  const undone = answers.find(({ status }) => status === 201)!.data
  t.match(undone, { from_location_id: move.to_location_id, to_location_id: move.from_location_id, quantity: '4.000000' })
  t.match(await reverse(undone.id), { status: 409, body: { detail: 'invalid_transition' } }, 'what undoes is not undone')
  const card = (await acme.viewer.get(`/erp/stock/card?product_id=${c.product}`)).data
  t.match(await reverse(card[0].id), { status: 409, body: { detail: 'invalid_transition' } }, 'a receipt is taken back by its document')
  t.equal((await reverse(newId())).status, 404)
  t.match(await reverse(move.id, { reason: 'x' }), { status: 400 })
  const [moved] = (
    await acme.operator.post('/erp/stock/transfers', {
      product_id: c.product,
      from_location_id: c.store,
      to_location_id: c.other,
      quantity: '10',
    })
  ).data
  await issue(acme, c, '7', { location_id: c.other })
  t.match(await reverse(moved.id), { status: 409, body: { detail: 'insufficient_stock' } }, 'seven of them have gone on')
  t.match(await reverse(moved.id, { reason: 'Too early', effective_at: '2020-01-01T00:00:00Z' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.equal((await acme.operator.post(`/erp/stock/moves/${moved.id}/reverse`, { reason: 'No right' })).status, 403)
  await clean(t, acme)
})

t.test('the card has every move in its order, with what was there after it, page after page', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '100')
  const sign = (line: { change: string }) => Number(line.change)
  for (let n = 1; n <= 7; n++) await issue(acme, c, String(n))
  await acme.operator.post('/erp/stock/transfers', {
    product_id: c.product,
    from_location_id: c.store,
    to_location_id: c.other,
    quantity: '30',
  })
  // Written last and effective before: it stands where it belongs.
  await adjust(acme, c, '5', { effective_at: '2026-01-01T00:00:00Z' })
  const card = async (query = '') => acme.viewer.get(`/erp/stock/card?product_id=${c.product}${query}`)
  const all = (await card()).data
  t.same(all.map(sign), [5, 100, -1, -2, -3, -4, -5, -6, -7, 0])
  t.same(
    all.map((line: { balance: string }) => Number(line.balance)),
    [5, 105, 104, 102, 99, 95, 90, 84, 77, 77],
  )
  const store = (await card(`&location_id=${c.store}`)).data
  t.same([sign(store.at(-1)), Number(store.at(-1).balance)], [-30, 47])
  t.equal(await onHand(acme, c), 47)
  const pages = []
  for (let cursor = ''; ; ) {
    const page = await card(`&limit=3${cursor && `&cursor=${cursor}`}`)
    pages.push(...page.data)
    if (!page.body.pagination.next_cursor) break
    cursor = page.body.pagination.next_cursor
  }
  t.same(pages, all, 'balances go on over the pages')
  t.same((await card(`&from=2026-06-01T00:00:00Z&limit=1`)).data[0].balance, '105.000000', 'from a day on, with what was there before')
  t.same((await card('&to=2026-06-01T00:00:00Z')).data.map(sign), [5])
  const { body } = await card('&limit=3')
  t.match(await acme.viewer.get(`/erp/stock/card?product_id=${newId()}&cursor=${body.pagination.next_cursor}`), {
    status: 400,
    body: { detail: 'invalid_cursor' },
  })
  t.match(await acme.viewer.get('/erp/stock/card'), { status: 400 })
  const stranger = await tenant()
  t.same((await stranger.viewer.get(`/erp/stock/card?product_id=${c.product}`)).data, [])
})

t.test('what is closed stays as it is: nothing is effective there any more', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '50', undefined, { received_at: '2025-12-01T00:00:00Z' })
  const period = async () => (await acme.viewer.get('/erp/stock/period')).data
  const close = (closed_through: string | null, version: number, client = acme.admin) =>
    client.put('/erp/stock/period', { closed_through, version })
  t.same(await period(), { closed_through: null, version: 1 })
  const at = new Date().toISOString()
  t.match(await close(at, 1, acme.operator), { status: 403 })
  t.match(await close('2999-01-01T00:00:00Z', 1), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await close(at, 7), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await close(at, 1), { status: 200, data: { closed_through: at, version: 2 } })
  t.match(await close(at, 1), { status: 409 })
  const back = { effective_at: '2026-01-01T00:00:00Z' }
  t.match(await issue(acme, c, '1', back), { status: 409, body: { detail: 'period_closed' } })
  t.match(await adjust(acme, c, '1', back), { status: 409, body: { detail: 'period_closed' } })
  t.equal((await issue(acme, c, '1')).status, 201, 'what is effective later goes on')
  t.match(await close(null, 2), { status: 200, data: { closed_through: null, version: 3 } })
  t.equal((await issue(acme, c, '1', back)).status, 201)
  // Another organization has its own books.
  await clean(t, acme)
})

t.test('closing races moves: each is there before, or is refused', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '1000', undefined, { received_at: '2025-12-01T00:00:00Z' })
  for (let version = 1; version <= 4; version++) {
    const at = new Date(Date.now() - 1_000).toISOString()
    const moves = times(20, () => issue(acme, c, '1', { effective_at: at }))
    const closed = await acme.admin.put('/erp/stock/period', { closed_through: at, version })
    t.equal(closed.status, 200)
    const seen = (await acme.viewer.get(`/erp/stock/card?product_id=${c.product}&to=${at}&limit=200`)).data.length
    const answers = await Promise.all(moves)
    t.ok(answers.every(({ status, body }) => status === 201 || body.detail === 'period_closed'))
    const after = (await acme.viewer.get(`/erp/stock/card?product_id=${c.product}&to=${at}&limit=200`)).data.length
    t.equal(after, seen, 'once it is closed nothing comes to it')
  }
  await clean(t, acme)
})
