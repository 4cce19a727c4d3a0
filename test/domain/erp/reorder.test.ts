// Low stock: what raises an alert, what ends it, and who has the last word when many look at once.
import t from 'tap'
import { reviewReorderRules } from '../../../domain/erp/inventory/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { catalogue, stockUp } from '../../support/erp.ts'

const { tenant, runtime } = await testApp(t)
const data = runtime.services.planes.data.get('main')!
const review = (acme: TestTenant, product: string) => data.write(acme.scope, (tx) => reviewReorderRules(tx, product))
const rule = async (acme: TestTenant, body: object): Promise<{ id: string; version: number }> => {
  const made = await acme.admin.post('/erp/reorder-rules', { target: '20', ...body })
  if (made.status !== 201) throw new Error(made.text)
  return made.data
}
const alerts = async (acme: TestTenant, product: string): Promise<{ status: string; on_hand: string; location_id: string }[]> =>
  (await acme.viewer.get(`/erp/stock-alerts?product_id=${product}&sort=created_at`)).data
const issue = (acme: TestTenant, product_id: string, location_id: string, quantity: string) =>
  acme.operator.post('/erp/stock/issues', { product_id, location_id, quantity })

t.test('what is below a place counts as being in it', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const below = async (code: string, parent_id: string) =>
    (await acme.admin.post('/erp/locations', { code, name: code, parent_id, level: 'bin' })).data.id as string
  const shelf = await below('SHELF', c.store)
  const bin = await below('BIN', shelf)
  await stockUp(acme, c, '10')
  await acme.operator.post('/erp/stock/transfers', { product_id: c.product, from_location_id: c.store, to_location_id: bin, quantity: '6' })
  await rule(acme, { product_id: c.product, location_id: c.store, minimum: '10' })
  await rule(acme, { product_id: c.product, location_id: shelf, minimum: '7' })
  await rule(acme, { product_id: c.product, location_id: c.other, minimum: '0' })
  await review(acme, c.product)
  t.match(await alerts(acme, c.product), [{ status: 'raised', on_hand: '6.000000', location_id: shelf }], 'the store has ten, four and six')
  await issue(acme, c.product, bin, '1')
  await review(acme, c.product)
  t.same(
    (await alerts(acme, c.product)).map(({ status, on_hand, location_id }) => [status, on_hand, location_id]).sort(),
    [
      ['raised', '6.000000', shelf],
      ['raised', '9.000000', c.store],
    ].sort(),
  )
})

t.test('a rule that is deleted clears its alert, one that comes back raises it again', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const { id, version } = await rule(acme, { product_id: c.product, location_id: c.store, minimum: '1' })
  await review(acme, c.product)
  t.match(await alerts(acme, c.product), [{ status: 'raised', on_hand: '0.000000' }])
  t.equal((await acme.admin.delete(`/erp/reorder-rules/${id}`, { 'if-match': `"${version}"` })).status, 204)
  await review(acme, c.product)
  t.match(await alerts(acme, c.product), [{ status: 'cleared' }])
  t.equal((await acme.admin.post(`/erp/reorder-rules/${id}/recover`, {})).status, 200)
  await review(acme, c.product)
  t.same((await alerts(acme, c.product)).map(({ status }) => status).sort(), ['cleared', 'raised'])
})

t.test('twenty look while stock goes and comes: the last word is by the latest stock', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await rule(acme, { product_id: c.product, location_id: c.store, minimum: '10' })
  for (let round = 0; round < 5; round++) {
    await stockUp(acme, c, '10')
    await Promise.all(times(20, async () => review(acme, c.product)))
    t.equal((await alerts(acme, c.product)).filter(({ status }) => status === 'raised').length, 0)
    // Each change is followed by a look of its own, as each is by an event; the others come whenever they come.
    await Promise.all([
      ...times(10, async () => {
        t.equal((await issue(acme, c.product, c.store, '1')).status, 201)
        await review(acme, c.product)
      }),
      ...times(10, () => review(acme, c.product)),
    ])
    t.match(
      (await alerts(acme, c.product)).filter(({ status }) => status === 'raised'),
      [{ status: 'raised' }],
      'one, though all saw it',
    )
  }
})
