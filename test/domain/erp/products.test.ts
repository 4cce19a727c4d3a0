// Products: their numbers check, their units stay what they were, kits hold no ring.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue, stockUp } from '../../support/erp.ts'

const { tenant } = await testApp(t)
let serial = 0
const make = async (acme: TestTenant, path: string, body: object) => {
  const answer = await acme.admin.post(path, body)
  if (answer.status !== 201) throw new Error(answer.text)
  return answer.data
}
const unit = (acme: TestTenant, dimension: string) => make(acme, '/erp/uoms', { code: `U${++serial}`, name: 'Unit', dimension })
const product = (acme: TestTenant, uom_id: string, extra: object = {}) =>
  make(acme, '/erp/products', { code: `PR${++serial}`, name: `Product ${serial}`, uom_id, ...extra })
const remove = (acme: TestTenant, path: string, version = 1) => acme.admin.delete(path, { 'if-match': `"${version}"` })

t.test('a barcode is a GTIN whose last digit checks the others, and belongs to one product', async (t) => {
  const acme = await tenant()
  const { id: uom_id } = await unit(acme, 'count')
  // From GS1's own examples: GTIN-13, GTIN-12, GTIN-8, GTIN-14.
  for (const barcode of ['4006381333931', '614141000036', '40170725', '10614141000415'])
    t.equal((await product(acme, uom_id, { barcode })).barcode, barcode)
  const wrong = (barcode: string) => acme.admin.post('/erp/products', { code: `W${++serial}`, name: 'Wrong', uom_id, barcode })
  t.match(await wrong('4006381333932'), { status: 400, body: { detail: 'invalid_value', error: { details: { rule: 'gtin' } } } })
  t.match(await wrong('40063813339'), { status: 400, body: { detail: 'invalid_body' } }, 'eleven digits are none')
  t.match(await wrong('4006381333931'), { status: 409, body: { detail: 'already_exists' } })
  t.match(await acme.admin.post('/erp/products/bulk', { rows: [{ code: 'B1', name: 'B', uom_id, barcode: '40170726' }] }), { status: 400 })
  const { id: product_id } = await product(acme, uom_id)
  const variant = { product_id, code: 'RED', name: 'Red', attributes: { colour: 'red' }, barcode: '12345670' }
  t.match(await make(acme, '/erp/product-variants', variant), variant)
  t.match(await acme.admin.post('/erp/product-variants', { ...variant, code: 'BLUE', barcode: '12345671' }), { status: 400 })
  t.match(await remove(acme, `/erp/products/${product_id}`), { status: 409, body: { detail: 'in_use' } }, 'it has a variant')
})

t.test('what stock is counted by stays, once there is a move', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const other = await unit(acme, 'count')
  const change = (version: number, body: object) => acme.admin.patch(`/erp/products/${c.product}`, { ...body, version })
  t.match(await change(1, { uom_id: other.id }), { status: 200 })
  t.match(await change(2, { uom_id: c.uom }), { status: 200 })
  await stockUp(acme, c, '5')
  t.match(await change(3, { uom_id: other.id }), { status: 409, body: { detail: 'in_use', error: { details: { columns: ['uom_id'] } } } })
  t.match(await change(3, { kind: 'service' }), { status: 409, body: { detail: 'in_use' } })
  t.match(await change(3, { lot_tracked: true }), { status: 409, body: { detail: 'in_use' } })
  t.match(await change(3, { name: 'Another name', uom_id: c.uom }), { status: 200 })
  t.match(await remove(acme, `/erp/products/${c.product}`, 4), {
    status: 409,
    body: { error: { details: { by: [{ entity: 'erp_stock_quant' }] } } },
  })
  t.match(await remove(acme, `/erp/locations/${c.store}`), { status: 409, body: { detail: 'in_use' } }, 'something lies there')
  t.match(await remove(acme, `/erp/uoms/${c.uom}`), {
    status: 409,
    body: { error: { details: { by: [{ entity: 'erp_product', ids: [c.product] }] } } },
  })
})

t.test('the unit changes while goods come in: whoever is second sees the first', async (t) => {
  const acme = await tenant()
  const other = await unit(acme, 'count')
  for (let round = 0; round < 3; round++) {
    const c = await catalogue(acme)
    const received = stockUp(acme, c, '7').then(
      () => true,
      () => false,
    )
    const changed = await acme.admin.patch(`/erp/products/${c.product}`, { uom_id: other.id, version: 1 })
    const there = await received
    if (changed.status === 200) {
      // The order was written before in the old unit: it cannot be received any more, or was converted by nobody.
      const [stock] = (await acme.admin.get(`/erp/stock?product_id=${c.product}&location_id=${c.store}`)).data
      t.ok(!there || stock.quantity === '7.000000')
    } else t.match(changed, { status: 409, body: { detail: 'in_use' } })
  }
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
})

t.test('units convert within a dimension; across, for one product', async (t) => {
  const acme = await tenant()
  const [kilo, gram, litre] = [await unit(acme, 'mass'), await unit(acme, 'mass'), await unit(acme, 'volume')]
  const convert = (body: object) => acme.admin.post('/erp/uom-conversions', { numerator: 1000, denominator: 1, ...body })
  t.equal((await convert({ from_uom_id: kilo.id, to_uom_id: gram.id })).status, 201)
  t.match(await convert({ from_uom_id: litre.id, to_uom_id: gram.id }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { rule: 'dimension' } } },
  })
  const honey = await product(acme, gram.id)
  const dense = await convert({ product_id: honey.id, from_uom_id: litre.id, to_uom_id: gram.id, numerator: 1420 })
  t.equal(dense.status, 201)
  t.match(
    await acme.admin.patch(`/erp/uom-conversions/${dense.data.id}`, { product_id: null, version: 1 }),
    { status: 400 },
    'for all it is none',
  )
  t.match(await convert({ from_uom_id: kilo.id, to_uom_id: kilo.id }), { status: 400 })
  t.match(await convert({ from_uom_id: kilo.id, to_uom_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await convert({ from_uom_id: kilo.id, to_uom_id: gram.id, numerator: 0 }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await remove(acme, `/erp/uoms/${gram.id}`), { status: 409, body: { detail: 'in_use' } })
})

t.test('a kit holds products and kits, and never itself, also when twenty put it together at once', async (t) => {
  const acme = await tenant()
  const { id: uom_id } = await unit(acme, 'count')
  const kits = await Promise.all(times(4, () => product(acme, uom_id, { kind: 'kit' })))
  const plain = await product(acme, uom_id)
  const put = (kit: { id: string }, component: { id: string }, quantity = '2') =>
    acme.admin.post('/erp/product-components', { kit_id: kit.id, component_id: component.id, quantity })
  t.match(await put(kits[0]!, plain), { status: 201, data: { quantity: '2.000000' } })
  t.match(await put(kits[0]!, plain), { status: 409, body: { detail: 'already_exists' } })
  t.match(await put(plain, kits[0]!), { status: 400, body: { error: { details: { rule: 'kit' } } } })
  t.match(await put(kits[1]!, kits[1]!), { status: 400 })
  t.match(await put(kits[1]!, plain, '0'), { status: 400, body: { detail: 'invalid_body' } })
  const answers = await Promise.all(times(20, (n) => put(kits[n % 4]!, kits[(n + 1) % 4]!)))
  t.equal(tally(answers)[201], 3, 'the fourth would close the ring')
  t.ok(answers.some(({ body }) => body?.error?.details?.rule === 'acyclic'))
  const rows = times(2, (n) => ({ kit_id: kits[n]!.id, component_id: kits[1 - n]!.id, quantity: '1' }))
  t.match(await acme.admin.post('/erp/product-components/bulk', { rows }), { status: 400 }, 'nor two in one request')
  const [two, three] = [await product(acme, uom_id, { kind: 'kit' }), await product(acme, uom_id, { kind: 'kit' })]
  const { id: part } = (await put(two, three)).data
  t.equal((await remove(acme, `/erp/product-components/${part}`)).status, 204)
  t.equal((await put(three, two)).status, 201)
  t.match(await acme.admin.post(`/erp/product-components/${part}/recover`), {
    status: 400,
    body: { error: { details: { rule: 'acyclic' } } },
  })
  const mine = (await acme.viewer.get(`/erp/product-components?kit_id=${kits[0]!.id}`)).data
  t.ok(mine.length >= 1)
  t.match(await remove(acme, `/erp/products/${plain.id}`), { status: 409, body: { detail: 'in_use' } })
})

t.test('what others call it: one code of a client for one product', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const { id: client_id } = await make(acme, '/erp/parties', { code: 'CL', name: 'Client', roles: ['client'] })
  const theirs = { client_id, product_id: c.product, client_code: '88-1234', client_name: 'Rosen' }
  t.match(await make(acme, '/erp/client-products', theirs), theirs)
  t.match(await acme.admin.post('/erp/client-products', theirs), { status: 409, body: { detail: 'already_exists' } })
  const price = {
    supplier_id: c.supplier,
    product_id: c.product,
    supplier_code: 'S-1',
    price: '1.25',
    currency: 'EUR',
    minimum_quantity: '100',
  }
  await make(acme, '/erp/supplier-products', price)
  const listed = (await acme.viewer.get(`/erp/supplier-products?supplier_id=${c.supplier}&expand=product`)).data
  t.match(listed, [{ price: '1.2500', minimum_quantity: '100.000000', product: { id: c.product } }])
  t.match(await remove(acme, `/erp/parties/${client_id}`), {
    status: 409,
    body: { error: { details: { by: [{ entity: 'erp_client_product' }] } } },
  })
})

t.test('headings and places hold no ring', async (t) => {
  const acme = await tenant()
  for (const path of ['/erp/product-categories', '/erp/locations']) {
    const ring: { id: string }[] = []
    for (const code of ['A', 'B', 'C']) ring.push(await make(acme, path, { code, name: code }))
    const under = (n: number) => acme.admin.patch(`${path}/${ring[n % 3]!.id}`, { parent_id: ring[(n + 1) % 3]!.id, version: 1 })
    t.same(tally(await Promise.all(times(3, under))), { 200: 2, 400: 1 }, path)
    const parent = (await acme.viewer.get(path)).data.find(({ id }: { id: string }) => ring.some((one) => one.id === id))
    t.ok(parent)
  }
})

t.test('goods that come without a last day get it from how long their product keeps', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme, { lotTracked: true })
  await acme.admin.patch(`/erp/products/${c.product}`, { shelf_life_days: 30, version: 1 })
  await stockUp(acme, c, '5', { code: 'FRESH' })
  await stockUp(acme, c, '5', { code: 'SAID', expires_on: '2030-01-01' })
  const lots = (await acme.viewer.get(`/erp/lots?product_id=${c.product}`)).data
  const on = (code: string) => lots.find((lot: { code: string }) => lot.code === code).expires_on
  t.equal(on('SAID'), '2030-01-01')
  const days = (Date.parse(on('FRESH')) - Date.now()) / 86_400_000
  t.ok(days > 28.9 && days < 30.1, on('FRESH'))
})
