// The limit: bare Fastify + pg in a process of its own, with the SQL of our list and create and nothing around it.
import Fastify from 'fastify'
import { Pool } from 'pg'
import { Product } from '../../domain/erp/products/index.ts'
import { newId } from '../../domain/kernel/index.ts'
import { ok } from '../../routes/http/envelope.ts'
import { Me } from '../../routes/people/auth.ts'

export interface BareTenant {
  id: string
  organization: string
  supplier: string
  product: string
  uom: string
  user: string
}

const { url, tenant, me } = JSON.parse(process.env.BENCH_BARE!) as { url: string; tenant: BareTenant; me: object }
const pool = new Pool({ connectionString: url, max: 20 })
const app = Fastify()

const rows = { type: 'array', items: { type: 'object', properties: Product.schema.properties } }
app.get('/list', { schema: { response: { 200: { type: 'object', properties: { data: rows } } } } }, async () => {
  const found = await pool.query({
    name: 'list',
    text: `select ${Product.columns.join(', ')} from erp_product
      where tenant_id = $1 and organization_id = $2 and deleted_at is null order by created_at desc, id desc limit 51`,
    values: [tenant.id, tenant.organization],
  })
  return { data: found.rows.slice(0, 50) }
})

app.get('/noop', { schema: { response: { 200: ok(Me) } } }, async () => me)

app.get('/not-modified', async (_request, reply) => reply.status(304).send())

app.post('/create', async (request) => {
  const { lines } = request.body as { lines: { quantity: string; unit_price: string }[] }
  const id = newId()
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query({
      name: 'order',
      text: `insert into bare_order (id, tenant_id, organization_id, code, status, supplier_id, currency, total, requested_by)
        values ($1, $2, $3, $4, 'draft', $5, 'EUR', 20, $6)`,
      values: [id, tenant.id, tenant.organization, `B-${id}`, tenant.supplier, tenant.user],
    })
    await client.query({
      name: 'lines',
      text: `insert into bare_line (id, tenant_id, organization_id, order_id, position, product_id, uom_id, quantity, base_quantity, unit_price, amount)
        select gen_random_uuid(), $1, $2, $3, p, $4, $5, q, q, u, q * u from unnest($6::int[], $7::numeric[], $8::numeric[]) as l (p, q, u)`,
      values: [
        tenant.id,
        tenant.organization,
        id,
        tenant.product,
        tenant.uom,
        lines.map((_, at) => at + 1),
        lines.map((l) => l.quantity),
        lines.map((l) => l.unit_price),
      ],
    })
    await client.query('commit')
  } finally {
    client.release()
  }
  return { data: { id } }
})

// The least that an issue is: a row that everybody wants is locked and changed, and what moved is written down.
app.post('/issue', async (request) => {
  const { quantity } = request.body as { quantity: string }
  const client = await pool.connect()
  try {
    await client.query('begin')
    await client.query({ name: 'quant', text: 'update bare_quant set quantity = quantity - $1', values: [quantity] })
    await client.query({
      name: 'move',
      text: `insert into bare_move (id, tenant_id, organization_id, product_id, from_location_id, to_location_id, quantity, effective_at, source_type)
        values ($1, $2, $3, $4, $2, $3, $5, now(), 'bare') returning *`,
      values: [newId(), tenant.id, tenant.organization, tenant.product, quantity],
    })
    await client.query('commit')
  } finally {
    client.release()
  }
  return { data: {} }
})

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })
process.on('message', () => process.send!({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() }))
process.send!('listening')
