// Stock that is held for somebody: still there, and not for anybody else.
import { type Static, Type } from 'typebox'
import {
  columns,
  failure,
  type ListSpec,
  newId,
  nullable,
  Quantity,
  type RowOf,
  row,
  scopeOf,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { requireStockLocation, virtualLocation } from './location.ts'
import { postMoves, type StockMove } from './moves.ts'
import { leavesAt, pick } from './pick.ts'
import { Destination, partsOf, wantedStock } from './stock.ts'

/** So much of a lot in a place, held for a document. What is reserved of a quant is the sum of these, by trigger. */
export const StockReservation = row(
  'erp_stock_reservation',
  {
    location_id: Uuid,
    product_id: Uuid,
    lot_id: nullable(Uuid),
    quantity: Quantity,
    source_type: Type.String(),
    source_id: Uuid,
    expires_at: nullable(Timestamp),
  },
  { softDelete: false },
)
export type StockReservation = RowOf<typeof StockReservation>

export const reservationList: ListSpec = {
  row: StockReservation,
  filter: ['product_id', 'source_id', 'created_at'],
  sort: ['created_at'],
}

/** Throws `not_found`. */
export async function getReservation(tx: Tx, id: string): Promise<StockReservation> {
  const found = await tx.maybeOne(sql.prepared(StockReservation.schema)`
    select ${columns(StockReservation)} from erp_stock_reservation where ${sql.and(scopeOf(tx, StockReservation))} and id = ${id}`)
  if (!found) throw failure('not_found')
  return found as StockReservation
}

export const NewReservation = Type.Object(
  {
    location_id: Uuid,
    source_id: Type.Optional({ ...Uuid, description: 'The document that it is held for; one is made where nothing is said' }),
    expires_at: Type.Optional(nullable({ ...Timestamp, description: 'From then on it gives way to whoever needs the stock' })),
    lines: Type.Array(Type.Object(wantedStock, { additionalProperties: false }), { minItems: 1, maxItems: 200 }),
  },
  { additionalProperties: false },
)
export const IssueReserved = Type.Object({ source_id: Uuid, destination: Type.Optional(Destination) }, { additionalProperties: false })
export const Release = Type.Object({ source_id: Uuid }, { additionalProperties: false })

/** Documents that move stock in their own name; nothing is reserved for them from outside. */
const MOVING = ['erp_stock_transfer', 'erp_goods_receipt', 'erp_stock_count', 'erp_landed_cost'] as const

/** Refuses with `invalid_value` the id of a document that moves stock in its own name: the moves would count as the document's. */
async function assertNoDocumentOfOurs(tx: Tx, id: string): Promise<void> {
  const each = MOVING.map(
    (table) => sql.fragment`exists (select from ${sql.identifier([table])} where tenant_id = ${tx.tenantId} and id = ${id})`,
  )
  const { taken } = await tx.one(sql.prepared(Taken)`select ${sql.join(each, sql.fragment` or `)} as taken`)
  if (taken) throw failure('invalid_value', { path: 'source_id', rule: 'own', message: 'is the id of a document that moves its own stock' })
}
const Taken = Type.Object({ taken: Type.Boolean() }, { additionalProperties: false })

/**
 * Holds stock, earliest expiry first; of kits, what they are put together from. All lines or none. Nothing is reserved
 * that is not there, or that somebody else holds: the quants are locked while it is counted, and a constraint stands
 * behind it. Throws `insufficient_stock`, `invalid_reference`, `invalid_value`.
 */
export async function reserveStock(tx: Tx, input: Static<typeof NewReservation>): Promise<readonly StockReservation[]> {
  const { location_id, source_id = newId(), expires_at = null } = input
  if (expires_at && Date.parse(expires_at) <= tx.now.getTime()) throw failure('invalid_value', { path: 'expires_at', rule: 'in_future' })
  if (input.source_id) await assertNoDocumentOfOurs(tx, input.source_id)
  const from = await requireStockLocation(tx, location_id, 'location_id')
  const wanted = []
  for (const line of input.lines) wanted.push(...(await partsOf(tx, line)))
  const { parts } = await pick(tx, wanted, { from, to: null })
  const rows = parts.map((part) => [newId(), part.product_id, part.lot_id, part.quantity])
  const now = tx.now.toISOString()
  const made = (await tx.any(sql.prepared(StockReservation.schema)`
    insert into erp_stock_reservation (id, tenant_id, organization_id, location_id, product_id, lot_id, quantity, source_type, source_id, expires_at, created_at, updated_at)
    select r.id, ${tx.tenantId}, ${tx.context.organizationId}, ${location_id}, r.product_id, r.lot_id, r.quantity, 'reservation', ${source_id}, ${expires_at}, ${now}, ${now}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'uuid', 'numeric'])} as r (id, product_id, lot_id, quantity)
    returning ${columns(StockReservation)}`)) as readonly StockReservation[]
  tx.emit({ type: 'erp.stock.reserved', entity_id: source_id, version: 1, data: { location_id, lines: parts } })
  return made
}

const Quant = Type.Object({ last_at: Timestamp }, { additionalProperties: false })

/** Gives up what is held for a document, locked as whoever picks locks, and says from when it can leave. Throws `not_found`. */
async function giveUp(tx: Tx, source_id: string): Promise<{ held: readonly StockReservation[]; at: string }> {
  const quants = await tx.any(sql.prepared(Quant)`
    select q.last_at
    from (
      select distinct product_id, location_id, lot_id from erp_stock_reservation
      where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and source_id = ${source_id}
    ) as r
    join erp_stock_quant q on q.tenant_id = ${tx.tenantId} and q.product_id = r.product_id and q.location_id = r.location_id and q.lot_id is not distinct from r.lot_id
    order by q.product_id, q.location_id, q.lot_id for update of q`)
  const held = (await tx.any(sql.prepared(StockReservation.schema)`
    delete from erp_stock_reservation where ${sql.and(scopeOf(tx, StockReservation))} and source_id = ${source_id} returning ${columns(StockReservation)}`)) as readonly StockReservation[]
  if (held.length === 0) throw failure('not_found')
  return { held, at: leavesAt(tx, quants) }
}

/** Holds no longer what was held for a document. Throws `not_found`. */
export async function releaseStock(tx: Tx, source_id: string): Promise<readonly StockReservation[]> {
  const { held: released } = await giveUp(tx, source_id)
  tx.emit({ type: 'erp.stock.released', entity_id: source_id, version: 1, data: { lines: released } })
  return released
}

/** Takes out exactly what is held for a document. Throws `not_found`, `period_closed`. */
export async function issueReserved(
  tx: Tx,
  { source_id, destination = 'client' }: Static<typeof IssueReserved>,
): Promise<readonly StockMove[]> {
  const to = await virtualLocation(tx, destination)
  const { held, at } = await giveUp(tx, source_id)
  return postMoves(
    tx,
    held.map(({ product_id, lot_id, location_id, quantity }) => ({
      product_id,
      lot_id,
      from_location_id: location_id,
      to_location_id: to,
      quantity,
    })),
    { source_type: 'reservation', source_id, effective_at: at },
  )
}
