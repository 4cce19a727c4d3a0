// Goods on their way: they leave one place, are in transit, and arrive in another.
import { type Static, Type } from 'typebox'
import {
  columns,
  decimal,
  failure,
  quantity as format,
  type ListSpec,
  lifecycle,
  many,
  newId,
  nextNumber,
  nullable,
  oneOf,
  PositiveQuantity,
  Quantity,
  Reasoned,
  type RowOf,
  row,
  sql,
  Text,
  Timestamp,
  type Tx,
  Uuid,
  Version,
} from '../../kernel/index.ts'
import { toBase, unitsOf } from '../products/index.ts'
import { requireStockLocation, virtualLocation } from './location.ts'
import { allocate, type WantedStock } from './pick.ts'
import { moveOut, notStocked, wantedStock } from './stock.ts'

export const Transfer = row(
  'erp_stock_transfer',
  {
    code: Type.String(),
    status: oneOf(['draft', 'shipped', 'partially_received', 'received', 'closed', 'cancelled']),
    from_location_id: Uuid,
    to_location_id: Uuid,
    notes: nullable(Text),
    requested_by: nullable(Uuid),
    shipped_at: nullable(Timestamp),
    received_at: nullable(Timestamp),
    reason: nullable(Text),
  },
  { scope: 'workspace', derived: ['code', 'status', 'requested_by', 'shipped_at', 'received_at', 'reason'] },
)
export type Transfer = RowOf<typeof Transfer>

const TransferLine = Type.Object(
  { id: Uuid, position: Type.Integer(), product_id: Uuid, lot_id: nullable(Uuid), quantity: Quantity, received_quantity: Quantity },
  { additionalProperties: false },
)
type TransferLine = Static<typeof TransferLine>
export const TransferDocument = Type.Object(
  { ...Transfer.schema.properties, lines: Type.Array(TransferLine), allowed_transitions: Type.Array(Type.String()) },
  { additionalProperties: false },
)
const lines = many('erp_stock_transfer_line', TransferLine, 'transfer_id')

export const transferList: ListSpec = {
  row: Transfer,
  filter: ['code', 'status', 'from_location_id', 'to_location_id', 'created_at'],
  sort: ['created_at', 'code'],
  expand: { lines },
}

export const NewTransfer = Type.Object(
  {
    from_location_id: Uuid,
    to_location_id: Uuid,
    notes: Type.Optional(nullable(Text)),
    lines: Type.Array(Type.Object(wantedStock, { additionalProperties: false }), { minItems: 1, maxItems: 500 }),
  },
  { additionalProperties: false },
)
const Arrived = Type.Object(
  {
    lines: Type.Optional(
      Type.Array(Type.Object({ line_id: Uuid, quantity: PositiveQuantity }, { additionalProperties: false }), {
        minItems: 1,
        maxItems: 500,
        description: 'What arrived, in base units; all that is on its way when nothing is said',
      }),
    ),
    version: Type.Optional(Version),
  },
  { additionalProperties: false },
)

/**
 * A draft: nothing moves yet. A product stands in one line, or in one for each lot that is named. Throws
 * `invalid_reference`, `invalid_value`, `already_exists`.
 */
export async function createTransfer(tx: Tx, input: Static<typeof NewTransfer>) {
  const { from_location_id, to_location_id, notes = null } = input
  if (from_location_id === to_location_id) throw failure('invalid_value', { path: 'to_location_id', rule: 'another_location' })
  await requireStockLocation(tx, from_location_id, 'from_location_id')
  await requireStockLocation(tx, to_location_id, 'to_location_id')
  const units = await unitsOf(tx, input.lines)
  const id = newId()
  const now = tx.now.toISOString()
  const rows = input.lines.map((line, at) => {
    if (units[at]!.kind !== 'stocked') throw notStocked(`lines/${at}/product_id`)
    return [newId(), at + 1, line.product_id, line.lot_id ?? null, format(toBase(line.quantity, units[at]!))]
  })
  const made = await tx.one(sql.prepared(Transfer.schema)`
    insert into erp_stock_transfer (id, tenant_id, organization_id, workspace_id, code, from_location_id, to_location_id, notes, requested_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${await nextNumber(tx, 'ST')}, ${from_location_id}, ${to_location_id}, ${notes}, ${tx.actor.userId}, ${now}, ${now})
    returning ${columns(Transfer)}`)
  await tx.query(sql.run`
    insert into erp_stock_transfer_line (id, tenant_id, organization_id, transfer_id, position, product_id, lot_id, quantity, created_at)
    select l.id, ${tx.tenantId}, ${tx.context.organizationId}, ${id}, l.position, l.product_id, l.lot_id, l.quantity, ${now}
    from ${sql.unnest(rows, ['uuid', 'int4', 'uuid', 'uuid', 'numeric'])} as l (id, position, product_id, lot_id, quantity)`)
  const document = await whole(tx, made as Transfer)
  tx.emit({ type: 'erp.stock_transfer.created', entity_id: id, version: 1, data: document })
  return document
}

const whole = async (tx: Tx, transfer: Transfer) => ({
  ...transfer,
  lines: await lines.of(tx, transfer.id),
  allowed_transitions: transferLifecycle.allowed(transfer.status),
})

const sourceOf = (transfer: Transfer, reason: string | null = null) => ({ source_type: 'transfer', source_id: transfer.id, reason })

const OnTheWay = Type.Object({ product_id: Uuid, lot_id: nullable(Uuid), free: Quantity }, { additionalProperties: false })

/** What of a transfer is in transit, by lot. Only it moves it, and under the lock of its row. */
const onTheWay = (tx: Tx, transfer: Transfer, transit: string) =>
  tx.any(sql.prepared(OnTheWay)`
    select m.product_id, m.lot_id, sum(case when m.to_location_id = ${transit} then m.quantity else -m.quantity end)::numeric(19, 6) as free
    from erp_stock_move m left join erp_lot l on l.tenant_id = m.tenant_id and l.id = m.lot_id
    where m.tenant_id = ${tx.tenantId} and m.source_type = 'transfer' and m.source_id = ${transfer.id}
    group by m.product_id, m.lot_id, l.expires_on
    having sum(case when m.to_location_id = ${transit} then m.quantity else -m.quantity end) > 0
    order by m.product_id, l.expires_on nulls last, m.lot_id`)

/** Takes so much of each line out of transit, the lots that were shipped for it. */
async function arrive(tx: Tx, transfer: Transfer, wanted: readonly WantedStock[], to: string, reason: string | null = null): Promise<void> {
  const transit = await virtualLocation(tx, 'transit')
  const { parts, missing } = allocate(wanted, await onTheWay(tx, transfer, transit))
  if (missing) throw failure('insufficient_stock', { transfer: transfer.code, missing })
  const from = { id: transit, allow_negative: false }
  // What has no lot lies in transit beside others' that has none: any of it is as good.
  if (parts.length > 0) await moveOut(tx, parts, { from, to }, sourceOf(transfer, reason))
}

const openOf = (line: TransferLine) => ({ ...line, quantity: format(decimal(line.quantity).minus(line.received_quantity)) })

async function receive(tx: Tx, transfer: Transfer, { lines: arrived }: Static<typeof Arrived>) {
  const all = await lines.of(tx, transfer.id)
  const byId = new Map(all.map((line) => [line.id, openOf(line)]))
  const wanted = arrived
    ? arrived.map(({ line_id, quantity }, at) => {
        const line = byId.get(line_id)
        if (!line) throw failure('invalid_reference', { path: `lines/${at}/line_id`, ids: [line_id] })
        if (decimal(quantity).gt(line.quantity)) throw failure('over_receipt', { path: `lines/${at}/quantity`, at_most: line.quantity })
        return { ...line, quantity: format(decimal(quantity)) }
      })
    : [...byId.values()].filter((line) => !decimal(line.quantity).isZero())
  await tx.query(sql.run`
    update erp_stock_transfer_line l set received_quantity = l.received_quantity + r.quantity
    from ${sql.unnest(
      wanted.map((line) => [line.id, line.quantity]),
      ['uuid', 'numeric'],
    )} as r (id, quantity) where l.tenant_id = ${tx.tenantId} and l.id = r.id`)
  await arrive(tx, transfer, wanted, transfer.to_location_id)
}

/** Nothing of it is on its way any more. */
const allArrived = async (tx: Tx, id: string): Promise<boolean> =>
  !(await tx.exists(sql.run`
    select 1 from erp_stock_transfer_line where tenant_id = ${tx.tenantId} and transfer_id = ${id} and received_quantity < quantity`))

export const transferLifecycle = lifecycle(Transfer, {
  initial: 'draft',
  permission: 'erp.stock_transfer',
  transitions: {
    ship: {
      from: 'draft',
      to: 'shipped',
      summary: 'The goods leave, earliest expiry first, and are in transit',
      effect: async (tx, transfer) => {
        const from = await requireStockLocation(tx, transfer.from_location_id, 'from_location_id')
        const to = await virtualLocation(tx, 'transit')
        await moveOut(tx, await lines.of(tx, transfer.id), { from, to }, sourceOf(transfer))
        return { shipped_at: tx.now.toISOString() }
      },
    },
    receive: {
      from: ['shipped', 'partially_received'],
      to: 'partially_received',
      input: Arrived,
      summary: 'Goods arrive: all of them, or what the lines say; with the last of them it is received',
      effect: receive,
    },
    complete: {
      from: 'partially_received',
      to: 'received',
      summary: 'All of it has arrived',
      internal: true,
      effect: async (tx) => ({ received_at: tx.now.toISOString() }),
    },
    close: {
      from: ['shipped', 'partially_received'],
      to: 'closed',
      input: Reasoned,
      summary: 'What did not arrive is lost',
      effect: async (tx, transfer, { reason }: Reasoned) => {
        const missing = (await lines.of(tx, transfer.id)).map(openOf)
        await arrive(tx, transfer, missing, await virtualLocation(tx, 'loss'), reason)
        return { reason }
      },
    },
    cancel: {
      from: ['draft', 'shipped'],
      to: 'cancelled',
      input: Reasoned,
      summary: 'Call it off; what was shipped comes back',
      effect: async (tx, transfer, { reason }: Reasoned) => {
        if (transfer.status === 'shipped') await arrive(tx, transfer, await lines.of(tx, transfer.id), transfer.from_location_id, reason)
        return { reason }
      },
    },
  },
})

/** A transfer with its lines. Throws `not_found`. */
export const getTransfer = async (tx: Tx, id: string) => whole(tx, await transferLifecycle.get(tx, id))

/** Moves a transfer on and returns it whole; one of which everything has arrived is received. */
export async function moveTransfer(tx: Tx, name: string, id: string, version: number | null, input: object = {}) {
  const moved = await transferLifecycle.move(tx, name, id, version, input)
  const complete = name === 'receive' && (await allArrived(tx, id))
  return whole(tx, complete ? await transferLifecycle.move(tx, 'complete', id, null) : moved)
}
