// Goods receipts: what came for an order becomes lots, moves and stock, in one transaction.
import { type Static, Type } from 'typebox'
import {
  columns,
  DateOnly,
  decimal,
  failure,
  quantity as format,
  type ListSpec,
  many,
  money,
  newId,
  nextNumber,
  nullable,
  one,
  oneOf,
  PositiveQuantity,
  Quantity,
  type RowOf,
  row,
  scopeOf,
  sql,
  Text,
  Timestamp,
  type Tx,
  Uuid,
  Version,
} from '../../kernel/index.ts'
import { ensureLots, postMoves, requireStockLocation, virtualLocation } from '../inventory/index.ts'
import { movePurchaseOrder, PurchaseOrder, purchaseOrderLifecycle } from './purchase-order.ts'

export const GoodsReceipt = row(
  'erp_goods_receipt',
  {
    code: Type.String(),
    status: oneOf(['posted', 'reversed']),
    order_id: Uuid,
    location_id: Uuid,
    received_at: Timestamp,
    received_by: nullable(Uuid),
    exchange_rate: Type.String({ 'x-pg': 'numeric' }),
    notes: nullable(Text),
  },
  { scope: 'workspace' },
)
export type GoodsReceipt = RowOf<typeof GoodsReceipt>

const ReceiptLine = Type.Object(
  {
    id: Uuid,
    order_line_id: Uuid,
    product_id: Uuid,
    lot_id: nullable(Uuid),
    quantity: Quantity,
    base_quantity: Quantity,
    move_id: nullable(Uuid),
  },
  { additionalProperties: false },
)
export const GoodsReceiptDocument = Type.Object(
  { ...GoodsReceipt.schema.properties, lines: Type.Array(ReceiptLine) },
  { additionalProperties: false },
)

const receiptLines = many('erp_goods_receipt_line', ReceiptLine, 'receipt_id')

export const goodsReceiptList: ListSpec = {
  row: GoodsReceipt,
  filter: ['code', 'order_id', 'created_at'],
  sort: ['created_at', 'code'],
  expand: {
    order: one(() => PurchaseOrder, 'order_id', 'erp.purchase_order.read'),
    lines: receiptLines,
  },
}

const ExchangeRate = Type.String({
  pattern: '^(?=.*[1-9])\\d{1,9}(\\.\\d{1,9})?$',
  description: 'What one of the order’s currency is in the organization’s; needed where they differ',
  examples: ['0.92'],
})

export const NewGoodsReceipt = Type.Object(
  {
    order_id: Uuid,
    location_id: Uuid,
    received_at: Type.Optional(Timestamp),
    notes: Type.Optional(nullable(Text)),
    exchange_rate: Type.Optional(ExchangeRate),
    order_version: Type.Optional(Version),
    lines: Type.Array(
      Type.Object(
        {
          order_line_id: Uuid,
          quantity: PositiveQuantity,
          lot: Type.Optional(
            Type.Object(
              { code: Type.String({ minLength: 1, maxLength: 64 }), expires_on: Type.Optional(nullable(DateOnly)) },
              { additionalProperties: false },
            ),
          ),
          serials: Type.Optional(
            Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
              minItems: 1,
              maxItems: 500,
              uniqueItems: true,
              description: 'Of a product that is tracked by serial number: one for each piece',
            }),
          ),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 500 },
    ),
  },
  { additionalProperties: false },
)

const OpenLine = Type.Object(
  {
    id: Uuid,
    product_id: Uuid,
    quantity: Quantity,
    base_quantity: Quantity,
    received_quantity: Quantity,
    unit_price: Type.String(),
    lot_tracked: Type.Boolean(),
    serial_tracked: Type.Boolean(),
    stocked: Type.Boolean(),
    shelf_life_days: nullable(Type.Integer()),
  },
  { additionalProperties: false },
)

/** The last day of goods that came without saying one, where their product says how long it keeps; in UTC. */
const expiryOf = (receivedAt: string, days: number | null): string | null =>
  days === null ? null : new Date(Date.parse(receivedAt) + days * 86_400_000).toISOString().slice(0, 10)

/**
 * Receives goods for a sent order. Quantities are in the order line's unit; lot-tracked products need a lot.
 * Throws `invalid_transition`, `over_receipt`, `invalid_reference`, `invalid_value`.
 *
 * Two receipts of one order happen one after the other: the order's row is locked first, and received quantities are read
 * and written only under that lock.
 *
 * `tolerance` is the share of a line that may come on top of what was ordered.
 */
export async function receiveGoods(tx: Tx, input: Static<typeof NewGoodsReceipt>, tolerance: string) {
  const order = await purchaseOrderLifecycle.lock(tx, input.order_id).catch((error) => {
    throw error.detail === 'not_found' ? failure('invalid_reference', { path: 'order_id', ids: [input.order_id] }) : error
  })
  if (order.status !== 'sent' && order.status !== 'partially_received') {
    throw failure(
      'invalid_transition',
      { status: order.status, transition: 'receive', allowed_transitions: purchaseOrderLifecycle.allowed(order.status) },
      'Only an order that was sent can be received.',
    )
  }
  if (input.order_version && input.order_version !== order.version) throw failure('version_conflict', { current: order })
  if (input.received_at && Date.parse(input.received_at) > tx.now.getTime())
    throw failure('invalid_value', { path: 'received_at', rule: 'not_in_future' })
  const rate = rateOf(tx.currency, order.currency, input.exchange_rate)
  await requireStockLocation(tx, input.location_id, 'location_id')
  const open = await tx.any(sql.prepared(OpenLine)`
    select l.id, l.product_id, l.quantity, l.base_quantity, l.received_quantity, l.unit_price, p.lot_tracked, p.serial_tracked, p.kind = 'stocked' as stocked, p.shelf_life_days
    from erp_purchase_order_line l join erp_product p on p.tenant_id = l.tenant_id and p.id = l.product_id
    where l.tenant_id = ${tx.tenantId} and l.order_id = ${order.id} order by l.position`)
  const lines = checkLines(input.lines, open, tolerance)

  const receivedAt = input.received_at ?? tx.now.toISOString()
  const lots = await ensureLots(
    tx,
    lines
      .filter((l) => l.lot)
      .map(({ lot, ordered: { product_id, shelf_life_days } }) => ({
        product_id,
        code: lot!.code,
        expires_on: lot!.expires_on ?? expiryOf(receivedAt, shelf_life_days),
      })),
  )
  const lotOf = (l: (typeof lines)[number]) => (l.lot ? lots.get(`${l.ordered.product_id} ${l.lot.code}`)! : null)
  const from = await virtualLocation(tx, 'supplier')
  const id = newId()
  const now = tx.now.toISOString()
  const stocked = lines.filter((l) => l.ordered.stocked)
  const moves =
    stocked.length === 0
      ? []
      : await postMoves(
          tx,
          stocked.map((l) => ({
            product_id: l.ordered.product_id,
            lot_id: lotOf(l),
            from_location_id: from,
            to_location_id: input.location_id,
            quantity: l.base,
            cost: money(l.cost.mul(rate)),
          })),
          { source_type: 'goods_receipt', source_id: id, effective_at: receivedAt },
        )

  const receipt = await tx.one(sql.prepared(GoodsReceipt.schema)`
    insert into erp_goods_receipt (id, tenant_id, organization_id, workspace_id, code, order_id, location_id, received_at, received_by, exchange_rate, notes, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${order.workspace_id}, ${await nextNumber(tx, 'GR')}, ${order.id}, ${input.location_id}, ${receivedAt}, ${tx.actor.userId}, ${rate}, ${input.notes ?? null}, ${now}, ${now})
    returning ${columns(GoodsReceipt)}`)
  const moveOf = new Map(stocked.map((line, at) => [line, moves[at]!.id]))
  const written = await tx.any(sql.prepared(ReceiptLine)`
    insert into erp_goods_receipt_line (id, tenant_id, organization_id, receipt_id, order_line_id, product_id, lot_id, quantity, base_quantity, move_id, created_at)
    select l.id, ${tx.tenantId}, ${tx.context.organizationId}, ${id}, l.order_line_id, l.product_id, l.lot_id, l.quantity, l.base_quantity, l.move_id, ${now}
    from ${sql.unnest(
      lines.map((l) => [newId(), l.ordered.id, l.ordered.product_id, lotOf(l), l.quantity, l.base, moveOf.get(l) ?? null]),
      ['uuid', 'uuid', 'uuid', 'uuid', 'numeric', 'numeric', 'uuid'],
    )}
      as l (id, order_line_id, product_id, lot_id, quantity, base_quantity, move_id)
    returning id, order_line_id, product_id, lot_id, quantity, base_quantity, move_id`)
  await tx.query(sql.run`
    update erp_purchase_order_line l set received_quantity = l.received_quantity + r.quantity, version = l.version + 1, updated_at = ${now}
    from (select order_line_id, sum(quantity) as quantity from erp_goods_receipt_line where tenant_id = ${tx.tenantId} and receipt_id = ${id} group by 1) as r
    where l.tenant_id = ${tx.tenantId} and l.id = r.order_line_id`)
  const stillOpen = await tx.exists(sql.run`
    select 1 from erp_purchase_order_line where tenant_id = ${tx.tenantId} and order_id = ${order.id} and received_quantity < quantity`)
  await movePurchaseOrder(tx, stillOpen ? 'receive_part' : 'receive_all', order.id, null)
  const document = { ...(receipt as GoodsReceipt), lines: written }
  tx.emit({ type: 'erp.goods_receipt.posted', entity_id: id, version: 1, data: document })
  return document
}

/** Stock is valued in the organization's currency, at the rate of the day when it came. Throws `invalid_value`. */
function rateOf(own: string, currency: string, rate: string | undefined): string {
  if (currency === own && rate === undefined) return '1'
  if (currency !== own && rate !== undefined) return rate
  throw failure('invalid_value', {
    path: 'exchange_rate',
    rule: currency === own ? 'same_currency' : 'required',
    message: `the order is in ${currency}, the organization’s books are in ${own}`,
  })
}

type Wanted = Static<typeof NewGoodsReceipt>['lines'][number]

/** Holds what came against what is open. A line may come in several parts, as it must with several lots. */
function checkLines(wanted: readonly Wanted[], open: readonly Static<typeof OpenLine>[], tolerance: string) {
  const byId = new Map(open.map((line) => [line.id, line]))
  const arrived = new Map(open.map((line) => [line.id, decimal(line.received_quantity)]))
  return wanted.flatMap((line, index) => {
    const path = `lines/${index}`
    const ordered = byId.get(line.order_line_id)
    if (!ordered) throw failure('invalid_reference', { path: `${path}/order_line_id`, ids: [line.order_line_id] })
    if (!ordered.serial_tracked && line.serials)
      throw failure('invalid_value', { path: `${path}/serials`, rule: 'not_tracked' }, 'This product is not tracked by serial number.')
    if (ordered.serial_tracked && line.lot) throw failure('invalid_value', { path: `${path}/lot`, rule: 'serials' }, 'Send serials.')
    if (ordered.lot_tracked && !ordered.serial_tracked && !line.lot)
      throw failure('invalid_value', { path: `${path}/lot`, rule: 'required' }, 'This product is tracked by lot: say which lot came.')
    if (!ordered.lot_tracked && line.lot)
      throw failure('invalid_value', { path: `${path}/lot`, rule: 'not_tracked' }, 'This product is not tracked by lot.')
    const sum = arrived.get(ordered.id)!.plus(line.quantity)
    arrived.set(ordered.id, sum)
    const most = decimal(ordered.quantity).mul(decimal(1).plus(tolerance))
    if (sum.gt(most))
      throw failure('over_receipt', {
        path: `${path}/quantity`,
        ordered: ordered.quantity,
        received: ordered.received_quantity,
        at_most: format(most),
      })
    const perUnit = decimal(ordered.base_quantity).div(ordered.quantity)
    const part = (quantity: string, lot: Wanted['lot']) => ({
      quantity,
      lot,
      ordered,
      base: format(perUnit.mul(quantity)),
      cost: decimal(ordered.unit_price).mul(quantity),
    })
    if (!ordered.serial_tracked) return [part(line.quantity, line.lot)]
    const { serials = [] } = line
    if (!perUnit.eq(1) || !decimal(line.quantity).eq(serials.length))
      throw failure(
        'invalid_value',
        { path: `${path}/serials`, rule: 'one_each', serials: serials.length, quantity: line.quantity },
        'Of this product every piece has a serial number: order it in its base unit, and give as many serials as came.',
      )
    return serials.map((code) => part('1', { code, expires_on: null }))
  })
}

/** A receipt with its lines. Throws `not_found`. */
export async function getGoodsReceipt(tx: Tx, id: string) {
  const receipt = await tx.maybeOne(sql.prepared(GoodsReceipt.schema)`
    select ${columns(GoodsReceipt)} from erp_goods_receipt where ${sql.and(scopeOf(tx, GoodsReceipt))} and id = ${id} and deleted_at is null`)
  if (!receipt) throw failure('not_found')
  return { ...(receipt as GoodsReceipt), lines: await receiptLines.of(tx, id) }
}
