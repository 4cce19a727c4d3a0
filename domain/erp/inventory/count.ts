// Counting what is there: who counts need not know what should be, who approves did not count.
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
  Quantity,
  Reasoned,
  type RowOf,
  row,
  SignedQuantity,
  sql,
  Text,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { toBase, unitsOf } from '../products/index.ts'
import { requireStockLocation, virtualLocation } from './location.ts'
import { requireLots } from './lot.ts'
import { postMoves } from './moves.ts'
import { stockPeriod } from './period.ts'

export const StockCount = row(
  'erp_stock_count',
  {
    code: Type.String(),
    status: oneOf(['counting', 'submitted', 'approved', 'posted', 'cancelled']),
    location_id: Uuid,
    blind: Type.Boolean({ default: true, description: 'Who counts is not told what should be there' }),
    notes: nullable(Text),
    started_by: nullable(Uuid),
    approved_by: nullable(Uuid),
    posted_at: nullable(Timestamp),
    reason: nullable(Text),
  },
  { scope: 'workspace', derived: ['code', 'status', 'started_by', 'approved_by', 'posted_at', 'reason'] },
)
export type StockCount = RowOf<typeof StockCount>

const CountLine = Type.Object(
  {
    id: Uuid,
    product_id: Uuid,
    lot_id: nullable(Uuid),
    expected_quantity: nullable(SignedQuantity),
    counted_quantity: nullable(Quantity),
    difference: nullable(SignedQuantity),
    counted_at: nullable(Timestamp),
    counted_by: nullable(Uuid),
  },
  { additionalProperties: false },
)
export const StockCountDocument = Type.Object(
  { ...StockCount.schema.properties, lines: Type.Array(CountLine), allowed_transitions: Type.Array(Type.String()) },
  { additionalProperties: false },
)
const lines = many('erp_stock_count_line', CountLine, 'count_id')

/** Without its lines: a list would tell what a blind count hides. */
export const countList: ListSpec = {
  row: StockCount,
  filter: ['code', 'status', 'location_id', 'created_at'],
  sort: ['created_at', 'code'],
}

export const NewStockCount = Type.Object(
  {
    location_id: Uuid,
    blind: Type.Optional(Type.Boolean({ default: true })),
    notes: Type.Optional(nullable(Text)),
    product_ids: Type.Optional(
      Type.Array(Uuid, {
        minItems: 1,
        maxItems: 1000,
        uniqueItems: true,
        description: 'Only these; all that should be there when nothing is said',
      }),
    ),
  },
  { additionalProperties: false },
)
export const CountedLines = Type.Object(
  {
    lines: Type.Array(
      Type.Object(
        { product_id: Uuid, lot_id: Type.Optional(nullable(Uuid)), quantity: Quantity, uom_id: Type.Optional(Uuid) },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 500 },
    ),
  },
  { additionalProperties: false },
)

/** Begins a count of a place, with a line for all that should be there. Throws `invalid_reference`. */
export async function startCount(tx: Tx, input: Static<typeof NewStockCount>) {
  const { location_id, blind = true, notes = null, product_ids } = input
  await requireStockLocation(tx, location_id, 'location_id')
  if (product_ids)
    await unitsOf(
      tx,
      product_ids.map((product_id) => ({ product_id })),
    )
  const id = newId()
  const now = tx.now.toISOString()
  const wanted = product_ids ? sql.fragment`q.product_id = any(${sql.array(product_ids, 'uuid')})` : sql.fragment`true`
  const made = await tx.one(sql.prepared(StockCount.schema)`
    insert into erp_stock_count (id, tenant_id, organization_id, workspace_id, code, location_id, blind, notes, started_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${await nextNumber(tx, 'SC')}, ${location_id}, ${blind}, ${notes}, ${tx.actor.userId}, ${now}, ${now})
    returning ${columns(StockCount)}`)
  await tx.query(sql.run`
    insert into erp_stock_count_line (id, tenant_id, organization_id, count_id, product_id, lot_id, created_at)
    select gen_random_uuid(), ${tx.tenantId}, ${tx.context.organizationId}, ${id}, q.product_id, q.lot_id, ${now}
    from erp_stock_quant q where q.tenant_id = ${tx.tenantId} and q.location_id = ${location_id} and q.quantity <> 0 and ${wanted}`)
  const document = await whole(tx, made as StockCount)
  tx.emit({ type: 'erp.stock_count.started', entity_id: id, version: 1, data: made as StockCount })
  return document
}

/** Who counts blind sees what he counted; whoever approves sees what should have been there. */
async function whole(tx: Tx, count: StockCount) {
  const all = await lines.of(tx, count.id)
  const hidden = count.blind && count.status === 'counting'
  return {
    ...count,
    lines: hidden ? all.map((line) => ({ ...line, expected_quantity: null, difference: null })) : all,
    allowed_transitions: countLifecycle.allowed(count.status),
  }
}

/**
 * Notes what was found, also of what was not expected there; noted again, the last holds. What should be there is noted
 * with it, under the locks of the quants, so that nobody is just taking of it. Throws `not_found`, `invalid_transition`,
 * `invalid_reference`, `invalid_value`.
 */
export async function noteCounted(tx: Tx, id: string, input: Static<typeof CountedLines>) {
  const count = await countLifecycle.lock(tx, id)
  if (count.status !== 'counting')
    throw failure('invalid_transition', {
      status: count.status,
      transition: 'count',
      allowed_transitions: countLifecycle.allowed(count.status),
    })
  const units = await unitsOf(tx, input.lines)
  const rows = input.lines.map(({ product_id, lot_id = null, quantity }, at) => {
    const unit = units[at]!
    if (unit.kind !== 'stocked') throw failure('invalid_value', { path: `lines/${at}/product_id`, rule: 'stocked' })
    return [newId(), product_id, lot_id, format(toBase(quantity, unit))]
  })
  await requireLots(
    tx,
    input.lines.map(({ product_id, lot_id = null }, at) => ({
      product_id,
      lot_id,
      lot_tracked: units[at]!.lot_tracked,
      path: `lines/${at}/lot_id`,
    })),
  )
  const keys = rows.map(([, product_id, lot_id]) => `${product_id} ${lot_id}`)
  const twice = keys.findIndex((key, at) => keys.indexOf(key) !== at)
  if (twice >= 0) throw failure('invalid_value', { path: `lines/${twice}`, rule: 'once', message: 'stands in this list twice' })
  const found = sql.fragment`${sql.unnest(rows as string[][], ['uuid', 'uuid', 'uuid', 'numeric'])} as w (id, product_id, lot_id, quantity)`
  await tx.query(sql.run`
    select 1 from erp_stock_quant q join ${found} on w.product_id = q.product_id and w.lot_id is not distinct from q.lot_id
    where q.tenant_id = ${tx.tenantId} and q.location_id = ${count.location_id} order by q.product_id, q.location_id, q.lot_id for update of q`)
  await tx.query(sql.run`
    insert into erp_stock_count_line as l (id, tenant_id, organization_id, count_id, product_id, lot_id, expected_quantity, counted_quantity, counted_at, counted_by)
    select w.id, ${tx.tenantId}, ${tx.context.organizationId}, ${id}, w.product_id, w.lot_id, coalesce(q.quantity, 0), w.quantity,
      greatest(${tx.now.toISOString()}::timestamptz, q.last_at), ${tx.actor.userId}
    from ${found} left join erp_stock_quant q on q.tenant_id = ${tx.tenantId} and q.location_id = ${count.location_id}
      and q.product_id = w.product_id and q.lot_id is not distinct from w.lot_id
    on conflict (tenant_id, count_id, product_id, lot_id) do update
    set expected_quantity = excluded.expected_quantity, counted_quantity = excluded.counted_quantity, counted_at = excluded.counted_at, counted_by = excluded.counted_by`)
  return whole(tx, count)
}

async function allCounted(tx: Tx, count: StockCount): Promise<void> {
  const open = (await lines.of(tx, count.id)).filter((line) => line.counted_quantity === null)
  if (open.length > 0)
    throw failure(
      'invalid_value',
      { rule: 'counted', lines: open.slice(0, 20).map(({ product_id, lot_id }) => ({ product_id, lot_id })), open: open.length },
      'Some of what should be there was not counted: note zero where nothing is.',
    )
}

/** Who counted does not approve: `self_approval`. */
async function notACounter(tx: Tx, count: StockCount): Promise<void> {
  const counted = (await lines.of(tx, count.id)).some((line) => line.counted_by === tx.actor.userId)
  if (counted || count.started_by === tx.actor.userId) throw failure('self_approval', { count: count.code })
}

/**
 * Sets right what differs, by moves from or to losses, as of when it was last counted: what was taken or came since stays
 * taken. In a period that was closed meanwhile, as of now.
 */
async function post(tx: Tx, count: StockCount) {
  const losses = await virtualLocation(tx, 'loss')
  const all = await lines.of(tx, count.id)
  const differing = all.filter((line) => !decimal(line.difference!).isZero())
  const counted = all
    .map((line) => line.counted_at!)
    .sort()
    .at(-1)
  const { closed_through } = await stockPeriod(tx)
  const open = counted && (closed_through === null || counted > closed_through) ? counted : tx.now.toISOString()
  const moves = differing.map(({ product_id, lot_id, difference }) => {
    const less = difference!.startsWith('-')
    return {
      product_id,
      lot_id,
      from_location_id: less ? count.location_id : losses,
      to_location_id: less ? losses : count.location_id,
      quantity: difference!.replace('-', ''),
    }
  })
  if (moves.length > 0)
    await postMoves(tx, moves, { source_type: 'stock_count', source_id: count.id, effective_at: open, reason: count.notes })
  return { posted_at: tx.now.toISOString() }
}

export const countLifecycle = lifecycle(StockCount, {
  initial: 'counting',
  permission: 'erp.stock_count',
  transitions: {
    submit: { from: 'counting', to: 'submitted', guard: allCounted, summary: 'Everything was counted' },
    recount: { from: ['submitted', 'approved'], to: 'counting', summary: 'Count again what is in doubt' },
    approve: {
      from: 'submitted',
      to: 'approved',
      guard: notACounter,
      summary: 'Approve the differences, never one’s own',
      effect: async (tx) => ({ approved_by: tx.actor.userId }),
    },
    post: { from: 'approved', to: 'posted', summary: 'Set stock right by the differences', effect: post },
    cancel: {
      from: ['counting', 'submitted', 'approved'],
      to: 'cancelled',
      input: Reasoned,
      summary: 'Call it off: stock stays as it is',
      effect: async (_tx, _count, { reason }: Reasoned) => ({ reason }),
    },
  },
})

/** A count with its lines. Throws `not_found`. */
export const getCount = async (tx: Tx, id: string) => whole(tx, await countLifecycle.get(tx, id))

/** Moves a count on and returns it whole. */
export const moveCount = async (tx: Tx, name: string, id: string, version: number | null, input: object = {}) =>
  whole(tx, await countLifecycle.move(tx, name, id, version, input))
