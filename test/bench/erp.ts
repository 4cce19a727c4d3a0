// Reading and writing the ERP, against the same SQL without us.
import { auth, bare, data, first, measured, note, ours, results, tenants } from './harness.ts'

export async function list() {
  note('list …')
  const listLimit = await measured('list: bare Fastify + pg', bare, '/list', { headers: {} })
  const listOurs = await measured('list: ours', ours, '/api/v1/erp/products', { headers: auth(first) })
  results.push({ name: 'list', ratio: listOurs.rate / listLimit.rate, ours: listOurs.rate, limit: listLimit.rate, unit: 'req/s' })
}

const JSON_TYPE = { 'content-type': 'application/json' }

/** Purchase orders of ten lines; the tenants take turns, because what is numbered and locked is an organization's own. */
const orders = () => ({
  headers: tenants.map((one) => ({ ...auth(one), ...JSON_TYPE, 'idempotency-key': '@unique' })),
  body: tenants.map((one) =>
    JSON.stringify({
      supplier_id: one.supplier,
      currency: 'EUR',
      lines: Array.from({ length: 10 }, () => ({ product_id: one.product, quantity: '1', unit_price: '2' })),
    }),
  ),
})

export async function create() {
  note('create …')
  const { headers, body } = orders()
  const createLimit = await measured('create: bare transaction', bare, '/create', { headers: JSON_TYPE, body: body[0]! })
  const createOurs = await measured('create: ours', ours, '/api/v1/erp/purchase-orders', { headers, body })
  results.push({ name: 'create', ratio: createOurs.rate / createLimit.rate, ours: createOurs.rate, limit: createLimit.rate, unit: 'req/s' })
}

/** What writing the trail takes of a write: the same requests with the audit triggers and without them. */
export async function trail() {
  note('trail …')
  const { headers, body } = orders()
  const rate = async (name: string) => (await measured(name, ours, '/api/v1/erp/purchase-orders', { headers, body })).rate
  const triggers = (state: 'enable' | 'disable') =>
    data.query(
      ['erp_purchase_order', 'erp_purchase_order_line']
        .flatMap((table) => ['insert', 'update'].map((event) => `alter table ${table} ${state} trigger audit_${event}`))
        .join(';'),
    )
  // Twice each, taking turns: the machine's own moods are greater than what is measured.
  const [with_, without] = [[0], [0]]
  for (let turn = 0; turn < 2; turn++) {
    with_.push(await rate('create: with the trail'))
    await triggers('disable')
    without.push(await rate('create: without the trail'))
    await triggers('enable')
  }
  const [own, limit] = [Math.max(...with_), Math.max(...without)]
  results.push({ name: 'trail', ratio: own / limit, ours: own, limit, unit: 'req/s' })
}
