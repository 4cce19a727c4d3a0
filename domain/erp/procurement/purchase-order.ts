// Purchase orders: the document, its lines, its lifecycle.
import { type Static, Type } from 'typebox'
import {
  type Context,
  Currency,
  columns,
  DateOnly,
  decimal,
  type Fragment,
  failure,
  quantity as format,
  type ListSpec,
  lifecycle,
  many,
  money,
  newId,
  nullable,
  one,
  oneOf,
  PositiveQuantity,
  Price,
  Quantity,
  type RowOf,
  row,
  scopeOf,
  sql,
  Text,
  Timestamp,
  type Tx,
  takeNumber,
  Uuid,
  Version,
} from '../../kernel/index.ts'
import { Party } from '../parties/index.ts'
import { rateOfDay } from '../pricing/index.ts'
import { toBase, unitsOf } from '../products/index.ts'

const STATES = ['draft', 'submitted', 'approved', 'sent', 'partially_received', 'received', 'closed', 'cancelled'] as const

export const PurchaseOrder = row(
  'erp_purchase_order',
  {
    code: Type.String(),
    status: oneOf(STATES),
    supplier_id: Uuid,
    currency: Currency,
    total: Price,
    expected_on: nullable(DateOnly),
    notes: nullable(Text),
    requested_by: Uuid,
    edited_by: Type.Array(Uuid, { description: 'The users who changed it' }),
    submitted_at: nullable(Timestamp),
    submitted_by: nullable(Uuid),
    approved_by: nullable(Uuid),
    approved_at: nullable(Timestamp),
    sent_at: nullable(Timestamp),
    cancelled_reason: nullable(Text),
  },
  {
    scope: 'workspace',
    derived: [
      'code',
      'status',
      'total',
      'requested_by',
      'edited_by',
      'submitted_at',
      'submitted_by',
      'approved_by',
      'approved_at',
      'sent_at',
      'cancelled_reason',
    ],
  },
)
export type PurchaseOrder = RowOf<typeof PurchaseOrder>

export const PurchaseOrderLine = Type.Object(
  {
    id: Uuid,
    position: Type.Integer(),
    product_id: Uuid,
    uom_id: Uuid,
    quantity: Quantity,
    base_quantity: Quantity,
    unit_price: Price,
    amount: Price,
    received_quantity: Quantity,
  },
  { additionalProperties: false },
)
export type PurchaseOrderLine = Static<typeof PurchaseOrderLine>

/** An order as it is sent: with its lines and the moves that its state allows. */
export const PurchaseOrderDocument = Type.Object(
  { ...PurchaseOrder.schema.properties, lines: Type.Array(PurchaseOrderLine), allowed_transitions: Type.Array(Type.String()) },
  { additionalProperties: false },
)
export type PurchaseOrderDocument = PurchaseOrder & { lines: readonly PurchaseOrderLine[]; allowed_transitions: string[] }

const NewLine = Type.Object(
  { product_id: Uuid, uom_id: Type.Optional(Uuid), quantity: PositiveQuantity, unit_price: Price },
  { additionalProperties: false },
)
export const NewPurchaseOrder = Type.Object(
  {
    supplier_id: Uuid,
    currency: Currency,
    expected_on: Type.Optional(nullable(DateOnly)),
    notes: Type.Optional(nullable(Text)),
    lines: Type.Array(NewLine, { minItems: 1, maxItems: 500 }),
  },
  { additionalProperties: false },
)
export const PurchaseOrderPatch = Type.Object(
  { ...Type.Partial(NewPurchaseOrder).properties, version: Type.Optional(Version) },
  { additionalProperties: false },
)

const orderLines = many('erp_purchase_order_line', PurchaseOrderLine, 'order_id')

export const purchaseOrderList: ListSpec = {
  row: PurchaseOrder,
  filter: ['code', 'status', 'supplier_id', 'total', 'created_at'],
  sort: ['created_at', 'code', 'total'],
  search: ['code'],
  expand: {
    supplier: one(() => Party, 'supplier_id', 'erp.party.read'),
    lines: orderLines,
  },
}

/** An order with its lines. Throws `not_found`. */
export async function getPurchaseOrder(tx: Tx, id: string): Promise<PurchaseOrderDocument> {
  const order = await tx.maybeOne(sql.prepared(PurchaseOrder.schema)`
    select ${columns(PurchaseOrder)} from erp_purchase_order where ${sql.and(scopeOf(tx, PurchaseOrder))} and id = ${id} and deleted_at is null`)
  if (!order) throw failure('not_found')
  return documentOf(order as PurchaseOrder, await orderLines.of(tx, id))
}

const documentOf = (order: PurchaseOrder, lines: readonly PurchaseOrderLine[]): PurchaseOrderDocument => ({
  ...order,
  lines,
  allowed_transitions: purchaseOrderLifecycle.allowed(order.status),
})

type Lines = Static<typeof NewPurchaseOrder>['lines']

/** The lines priced and converted, and their sum: each is rounded by itself, so that the document adds up as printed. */
async function priced(tx: Tx, wanted: Lines): Promise<{ lines: PurchaseOrderLine[]; total: string }> {
  const units = await unitsOf(tx, wanted)
  const lines = wanted.map(({ quantity, unit_price }, index) => {
    const { product_id, uom_id, ...ratio } = units[index]!
    return {
      id: newId(),
      position: index + 1,
      product_id,
      uom_id,
      quantity: format(decimal(quantity)),
      base_quantity: format(toBase(quantity, ratio)),
      unit_price: money(decimal(unit_price)),
      amount: money(decimal(quantity).mul(unit_price)),
      received_quantity: format(decimal(0)),
    }
  })
  return { lines, total: money(lines.reduce((sum, l) => sum.plus(l.amount), decimal(0))) }
}

/** The statement that writes all lines of an order. `order` is a query of one row: the order's id. */
const insertLines = (tx: Tx, order: Fragment, lines: readonly PurchaseOrderLine[]): Fragment => {
  const rows = lines.map((l) => [l.id, l.position, l.product_id, l.uom_id, l.quantity, l.base_quantity, l.unit_price, l.amount])
  return sql.fragment`
    insert into erp_purchase_order_line (id, tenant_id, organization_id, order_id, position, product_id, uom_id, quantity, base_quantity, unit_price, amount, created_at, updated_at)
    select l.id, ${tx.tenantId}, ${tx.context.organizationId}, o.id, l.position, l.product_id, l.uom_id, l.quantity, l.base_quantity, l.unit_price, l.amount, ${tx.now.toISOString()}, ${tx.now.toISOString()}
    from (${order}) as o (id),
      ${sql.unnest(rows, ['uuid', 'int4', 'uuid', 'uuid', 'numeric', 'numeric', 'numeric', 'numeric'])} as l (id, position, product_id, uom_id, quantity, base_quantity, unit_price, amount)`
}

const Supplier = Type.Object({ id: Uuid, supplies: Type.Boolean() }, { additionalProperties: false })

const notASupplier = (id: string, message?: string) => failure('invalid_reference', { path: 'supplier_id', ids: [id] }, message)

/** Shared until the order is there: who deletes the party, or merges it into another, waits and finds the order. */
const selectSupplier = (tx: Tx, id: string, also: Fragment = sql.fragment`true`): Fragment => sql.fragment`
  select id, 'supplier' = any(roles) as supplies from erp_party
  where ${sql.and(scopeOf(tx, Party))} and id = ${id} and deleted_at is null and ${also} for key share`

/** Refuses with `invalid_reference` and says why. */
async function requireSupplier(tx: Tx, id: string): Promise<void> {
  const found = await tx.maybeOne(sql.prepared(Supplier)`${selectSupplier(tx, id)}`)
  if (!found?.supplies) throw notASupplier(id, found ? 'This party is not a supplier.' : undefined)
}

/** A draft order. Throws `invalid_reference` for a supplier, product or unit that is not there. */
export async function createPurchaseOrder(tx: Tx, input: Static<typeof NewPurchaseOrder>): Promise<PurchaseOrderDocument> {
  if (!tx.context.organizationId) throw failure('context_required')
  const id = newId()
  const now = tx.now.toISOString()
  const { lines, total } = await priced(tx, input.lines)
  // One statement: number, order and lines together, so that the number's lock is held no longer than it must be.
  const order = await tx.maybeOne(sql.prepared(PurchaseOrder.schema)`
    with number as (${takeNumber(tx, 'PO')}),
    supplier as (${selectSupplier(tx, input.supplier_id, sql.fragment`'supplier' = any(roles)`)}),
    placed as (
      insert into erp_purchase_order (id, tenant_id, organization_id, workspace_id, code, status, supplier_id, currency, total, expected_on, notes, requested_by, created_at, updated_at)
      select ${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, number.code, 'draft', supplier.id, ${input.currency}, ${total}::numeric,
        ${input.expected_on ?? null}::date, ${input.notes ?? null}, ${tx.actor.userId}::uuid, ${now}, ${now}
      from number, supplier
      returning ${columns(PurchaseOrder)}),
    written as (${insertLines(tx, sql.fragment`select id from placed`, lines)})
    select * from placed`)
  if (!order) {
    await requireSupplier(tx, input.supplier_id)
    throw notASupplier(input.supplier_id)
  }
  tx.emit({ type: 'erp.purchase_order.created', entity_id: id, version: 1, data: { ...(order as object), lines } })
  return documentOf(order as PurchaseOrder, lines)
}

/** Changes a draft; `lines`, where given, replace all lines. Throws `invalid_transition` once it was submitted. */
export async function updatePurchaseOrder(
  tx: Tx,
  id: string,
  version: number,
  patch: Static<typeof PurchaseOrderPatch>,
): Promise<PurchaseOrderDocument> {
  const order = await purchaseOrderLifecycle.lock(tx, id)
  if (order.version !== version) throw failure('version_conflict', { current: await getPurchaseOrder(tx, id) })
  if (order.status !== 'draft')
    throw failure(
      'invalid_transition',
      { status: order.status, transition: 'update', allowed_transitions: purchaseOrderLifecycle.allowed(order.status) },
      'Only a draft can be changed.',
    )
  if (patch.supplier_id) await requireSupplier(tx, patch.supplier_id)
  let total = order.total
  if (patch.lines) {
    await tx.query(sql.run`delete from erp_purchase_order_line where tenant_id = ${tx.tenantId} and order_id = ${id}`)
    const changed = await priced(tx, patch.lines)
    await tx.query(sql.run`${insertLines(tx, sql.fragment`select ${id}::uuid`, changed.lines)}`)
    total = changed.total
  }
  const { expected_on = order.expected_on, notes = order.notes, supplier_id = order.supplier_id, currency = order.currency } = patch
  await tx.query(sql.run`
    update erp_purchase_order set supplier_id = ${supplier_id}, currency = ${currency}, expected_on = ${expected_on}, notes = ${notes}, total = ${total},
      edited_by = case when ${tx.actor.userId}::uuid = any(edited_by) then edited_by else edited_by || ${tx.actor.userId}::uuid end,
      version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  const changed = await getPurchaseOrder(tx, id)
  tx.emit({
    type: 'erp.purchase_order.updated',
    entity_id: id,
    version: changed.version,
    data: changed as unknown as Record<string, unknown>,
  })
  return changed
}

/** Refuses with `self_approval` every user who requested, edited or submitted the order. */
function assertNotAuthor({ actor }: Tx, { code, requested_by, edited_by, submitted_by }: PurchaseOrder): void {
  if ([requested_by, submitted_by, ...edited_by].includes(actor.userId!)) throw failure('self_approval', { order: code })
}

export interface Approval {
  comment?: string
  /** The largest amount that this approver's roles allow in a place, as a decimal string; null is without limit. */
  limitIn: (place: Context) => string | null
}

/**
 * Returns the rate of the order's day. Refuses with `approval_limit` an amount above the approver's limit where the order
 * belongs, both in the organization's currency; with `exchange_rate_missing` an order in a currency that has no rate; and
 * with `self_approval` an approver who recorded that rate, or changed one of the currency since the order was made.
 */
async function assertWithinLimit(tx: Tx, order: PurchaseOrder, { limitIn }: Approval): Promise<string> {
  const { rate, by } = await rateOfDay(tx, order.currency, order.created_at)
  if (by.includes(tx.actor.userId!)) throw failure('self_approval', { order: order.code, exchange_rate: order.currency })
  const limit = limitIn({ organizationId: order.organization_id, workspaceId: order.workspace_id })
  const amount = decimal(order.total).mul(rate)
  if (limit !== null && amount.gt(limit))
    throw failure('approval_limit', { order: order.code, amount: money(amount), currency: tx.currency, limit })
  return rate
}

async function recordApproval(tx: Tx, order: PurchaseOrder, approval: Approval) {
  const rate = await assertWithinLimit(tx, order, approval)
  await tx.query(sql.run`
    insert into erp_purchase_approval (id, tenant_id, organization_id, order_id, step, approver_id, amount, currency, exchange_rate, comment, created_at)
    values (${newId()}, ${tx.tenantId}, ${order.organization_id}, ${order.id}, 1, ${tx.actor.userId}, ${order.total}, ${order.currency},
      ${rate}::numeric, ${approval.comment ?? null}, ${tx.now.toISOString()})`)
  return { approved_by: tx.actor.userId, approved_at: tx.now.toISOString() }
}

/** An order that goods came for cannot be cancelled: it is closed instead. The order's row is locked, so no receipt can race it. */
async function nothingReceived(tx: Tx, order: PurchaseOrder): Promise<void> {
  const received = await tx.exists(
    sql.run`select 1 from erp_goods_receipt where tenant_id = ${tx.tenantId} and order_id = ${order.id} and deleted_at is null`,
  )
  if (received) throw failure('in_use', { order: order.code, by: 'goods_receipt' })
}

const recordSubmission = async (tx: Tx) => ({ submitted_at: tx.now.toISOString(), submitted_by: tx.actor.userId })
const stamp = (column: string) => async (tx: Tx) => ({ [column]: tx.now.toISOString() })

export const Reason = Type.Object({ reason: Type.Optional(Text), version: Type.Optional(Version) }, { additionalProperties: false })
export const ApprovalInput = Type.Object({ comment: Type.Optional(Text), version: Type.Optional(Version) }, { additionalProperties: false })

export const purchaseOrderLifecycle = lifecycle(PurchaseOrder, {
  initial: 'draft',
  permission: 'erp.purchase_order',
  transitions: {
    submit: { from: 'draft', to: 'submitted', effect: recordSubmission, summary: 'Ask for approval' },
    approve: {
      from: 'submitted',
      to: 'approved',
      guard: assertNotAuthor,
      effect: recordApproval,
      input: ApprovalInput,
      summary: 'Approve within my limit; never an order that I requested, edited or submitted',
    },
    send: { from: 'approved', to: 'sent', effect: stamp('sent_at'), summary: 'Send to the supplier' },
    receive_part: {
      from: ['sent', 'partially_received'],
      to: 'partially_received',
      summary: 'A goods receipt left something open',
      internal: true,
    },
    receive_all: { from: ['sent', 'partially_received'], to: 'received', summary: 'A goods receipt completed the order', internal: true },
    close: { from: ['partially_received', 'received'], to: 'closed', summary: 'Expect nothing more' },
    cancel: {
      from: ['draft', 'submitted', 'approved', 'sent'],
      to: 'cancelled',
      guard: nothingReceived,
      input: Reason,
      effect: async (_tx, _order, { reason }: { reason?: string }) => ({ cancelled_reason: reason ?? null }),
      summary: 'Call it off before anything was received',
    },
  },
})

/** Moves an order and returns it whole. */
export async function movePurchaseOrder(
  tx: Tx,
  name: string,
  id: string,
  version: number | null,
  input: object = {},
): Promise<PurchaseOrderDocument> {
  const order = await purchaseOrderLifecycle.move(tx, name, id, version, input)
  return documentOf(order, await orderLines.of(tx, id))
}
