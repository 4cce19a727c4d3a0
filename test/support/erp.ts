// Arranging ERP data through the API, as a user would.
import type { TestTenant } from './app.ts'

export interface Stocked {
  supplier: string
  uom: string
  product: string
  store: string
  other: string
}

let serial = 0

const create = async (tenant: TestTenant, path: string, body: object): Promise<string> => {
  const answer = await tenant.admin.post(path, body)
  if (answer.status !== 201) throw new Error(`${path}: ${answer.text}`)
  return answer.data.id
}

/** A supplier, a unit, a product and two stores. */
export async function catalogue(tenant: TestTenant, { lotTracked = false } = {}): Promise<Stocked> {
  const n = ++serial
  const [supplier, uom, store, other] = await Promise.all([
    create(tenant, '/erp/parties', { code: `S${n}`, name: `Supplier ${n}`, roles: ['supplier'] }),
    create(tenant, '/erp/uoms', { code: `PCS${n}`, name: 'Piece', dimension: 'count' }),
    create(tenant, '/erp/locations', { code: `ST${n}`, name: 'Store' }),
    create(tenant, '/erp/locations', { code: `OT${n}`, name: 'Other store' }),
  ])
  const product = await create(tenant, '/erp/products', { code: `P${n}`, name: `Rose ${n}`, uom_id: uom, lot_tracked: lotTracked })
  return { supplier, uom, product, store, other }
}

/** An order that was approved and sent. */
export async function sentOrder(tenant: TestTenant, { supplier, product }: Stocked, quantity: string, price = '2') {
  const draft = await tenant.operator.post('/erp/purchase-orders', {
    supplier_id: supplier,
    currency: 'EUR',
    lines: [{ product_id: product, quantity, unit_price: price }],
  })
  const { id, lines } = draft.data
  await tenant.operator.post(`/erp/purchase-orders/${id}/submit`, { version: 1 })
  await tenant.admin.post(`/erp/purchase-orders/${id}/approve`, { version: 2 })
  const sent = await tenant.operator.post(`/erp/purchase-orders/${id}/send`, { version: 3 })
  if (sent.status !== 200) throw new Error(sent.text)
  return { id: id as string, line: lines[0].id as string, version: 4 }
}

/** Puts stock into the first store by a receipt. */
export async function stockUp(
  tenant: TestTenant,
  stocked: Stocked,
  quantity: string,
  lot?: { code: string; expires_on?: string },
  { received_at, price = '2' }: { received_at?: string; price?: string } = {},
): Promise<void> {
  const order = await sentOrder(tenant, stocked, quantity, price)
  const receipt = await tenant.operator.post('/erp/goods-receipts', {
    order_id: order.id,
    location_id: stocked.store,
    ...(received_at ? { received_at } : {}),
    lines: [{ order_line_id: order.line, quantity, ...(lot ? { lot } : {}) }],
  })
  if (receipt.status !== 201) throw new Error(receipt.text)
}
