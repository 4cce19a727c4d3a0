import t from 'tap'
import { override } from '../../domain/access/index.ts'
import { eventually, testApp } from '../support/app.ts'
import { catalogue, stockUp } from '../support/erp.ts'

const { tenant, runtime } = await testApp(t)

t.test('a list brings what its rows refer to, for the whole page, and what they consist of', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '5')
  await stockUp(acme, c, '7')
  const orders = await acme.viewer.get('/erp/purchase-orders?expand=supplier,lines&sort=code')
  t.equal(orders.status, 200, orders.text)
  t.equal(orders.data.length, 2)
  for (const order of orders.data) {
    t.equal(order.supplier.id, order.supplier_id)
    t.same(order.lines, (await acme.viewer.get(`/erp/purchase-orders/${order.id}`)).data.lines)
  }
  t.notOk('supplier' in (await acme.viewer.get('/erp/purchase-orders')).data[0], 'only when asked for')
  const [receipt] = (await acme.viewer.get('/erp/goods-receipts?expand=order,lines')).data
  t.equal(receipt.order.id, receipt.order_id)
  t.equal(receipt.lines.length, 1)
})

t.test('null where there is nothing, fields beside it, and an empty page', async (t) => {
  const acme = await tenant()
  await catalogue(acme)
  const products = await acme.viewer.get('/erp/products?expand=uom,category&fields=code')
  t.same(Object.keys(products.data[0]).sort(), ['category', 'code', 'uom'])
  t.equal(products.data[0].category, null)
  t.match(products.data[0].uom.code, /^PCS/)
  t.same((await acme.viewer.get('/erp/purchase-orders?expand=supplier,lines')).data, [])
  t.match((await acme.viewer.get('/erp/products?expand=uom', { accept: 'text/csv' })).text, /^code,name,/)
})

t.test('an expansion that is not there is refused, and one that its reader may not see', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '1')
  t.match(await acme.viewer.get('/erp/products?expand=supplier'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.viewer.get('/erp/parties?expand=x'), { status: 400, body: { detail: 'invalid_query' } })
  t.equal((await acme.viewer.get('/erp/purchase-orders?expand=supplier')).status, 200)
  await runtime.services.planes.control.write(acme.scope, (tx) => override(tx, acme.viewer.userId, 'erp.party.read', 'deny', 'no'))
  t.match(
    await eventually(
      () => acme.viewer.get('/erp/purchase-orders?expand=supplier'),
      (a) => a.status !== 200,
    ),
    {
      status: 403,
      body: { detail: 'permission_denied', error: { details: { permission: 'erp.party.read' } } },
    },
  )
  t.equal((await acme.viewer.get('/erp/purchase-orders?expand=lines')).status, 200)
})
