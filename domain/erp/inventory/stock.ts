// Taking stock out, and moving it.
import { type Static, Type } from 'typebox'
import {
  decimal,
  failure,
  quantity as format,
  nullable,
  PositiveQuantity,
  SignedQuantity,
  sql,
  Text,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { explodeKit, type ProductUnit, toBase, unitsOf } from '../products/index.ts'
import { requireStockLocation, type StockPlace, virtualLocation } from './location.ts'
import { type MoveSource, postMoves, type StockMove } from './moves.ts'

const wanted = {
  product_id: Uuid,
  quantity: PositiveQuantity,
  uom_id: Type.Optional(Uuid),
  lot_id: Type.Optional(Uuid),
  effective_at: Type.Optional(Timestamp),
  reason: Type.Optional(Text),
}
const WantedSchema = Type.Object(wanted, { additionalProperties: false })

export const StockIssue = Type.Object(
  {
    ...wanted,
    location_id: Uuid,
    destination: Type.Optional(
      Type.Unsafe<'client' | 'production' | 'loss'>({ type: 'string', enum: ['client', 'production', 'loss'], default: 'client' }),
    ),
  },
  { additionalProperties: false },
)
export const StockTransfer = Type.Object({ ...wanted, from_location_id: Uuid, to_location_id: Uuid }, { additionalProperties: false })

const Free = Type.Object({ lot_id: nullable(Uuid), free: SignedQuantity, last_at: Timestamp }, { additionalProperties: false })

export interface Picking {
  product_id: string
  /** Base unit. */
  quantity: string
  lot_id?: string | undefined
  from: StockPlace
  /** Where it goes; null where it stays and is only held. */
  to: string | null
  /** When it leaves; nothing said: now. */
  effective_at?: string | undefined
}
export interface Picked {
  parts: { lot_id: string | null; quantity: string }[]
  /** When it can leave: now, or the moment of the latest move of what is taken where another clock was ahead. */
  at: string
}

/**
 * Picks a product out of a location, earliest expiry first, things without lot last. Before now no more than leaves enough
 * for all that happened since. Throws `insufficient_stock`; a location that may have less than nothing gives what it has
 * not, without lot or of the lot that is named.
 *
 * Never oversells: all quants of the product in both locations are locked in (location, lot) order, the order that the
 * move trigger keeps too, so that no two movers deadlock, and only then counted; the check constraint stands behind it.
 */
export async function pick(tx: Tx, { product_id, quantity, lot_id = undefined, from, to, effective_at }: Picking): Promise<Picked> {
  const at = effective_at ?? null
  const quants = await tx.any(sql.prepared(Free)`
    with locked as materialized (
      select location_id, lot_id, quantity, quantity - reserved as free, last_at from erp_stock_quant
      where tenant_id = ${tx.tenantId} and product_id = ${product_id} and location_id in (${from.id}, ${to ?? from.id})
      order by location_id, lot_id for update
    )
    select q.lot_id, f.free::numeric(19, 6) as free, q.last_at
    from locked q left join erp_lot l on l.tenant_id = ${tx.tenantId} and l.id = q.lot_id
    cross join lateral (
      select case when ${at}::timestamptz < q.last_at
        then least(q.free, erp_lowest_since(${tx.tenantId}, q.location_id, ${product_id}, q.lot_id, ${at}::timestamptz, q.quantity)) else q.free end as free
    ) as f
    where q.location_id = ${from.id} and f.free > 0 and (${lot_id ?? null}::uuid is null or q.lot_id = ${lot_id ?? null})
    order by l.expires_on nulls last, q.lot_id`)
  const parts: Picked['parts'] = []
  let missing = decimal(quantity)
  let latest = at ?? tx.now.toISOString()
  for (const quant of quants) {
    if (missing.isZero()) break
    const taken = decimal(quant.free).lt(missing) ? decimal(quant.free) : missing
    missing = missing.minus(taken)
    parts.push({ lot_id: quant.lot_id, quantity: format(taken) })
    if (!at && quant.last_at > latest) latest = quant.last_at
  }
  if (missing.isZero()) return { parts, at: latest }
  if (from.allow_negative && to) {
    const owed = parts.find((part) => part.lot_id === (lot_id ?? null))
    if (owed) owed.quantity = format(missing.plus(owed.quantity))
    else parts.push({ lot_id: lot_id ?? null, quantity: format(missing) })
    return { parts, at: latest }
  }
  throw failure('insufficient_stock', {
    product_id,
    location_id: from.id,
    requested: quantity,
    available: format(decimal(quantity).minus(missing)),
  })
}

type Wanted = Static<typeof WantedSchema>

async function unitAt(tx: Tx, wanted: Pick<Wanted, 'product_id' | 'uom_id' | 'effective_at'>): Promise<ProductUnit> {
  const [unit] = await unitsOf(tx, [wanted])
  if (wanted.effective_at && Date.parse(wanted.effective_at) > tx.now.getTime())
    throw failure('invalid_value', { path: 'effective_at', rule: 'not_in_future' })
  return unit!
}
const notStocked = () => failure('invalid_value', { path: 'product_id', rule: 'stocked' }, 'Only stocked products are moved.')

/** The unit of something that can be moved at that time. Throws `invalid_reference`, `invalid_value`. */
export async function movableUnit(tx: Tx, wanted: Pick<Wanted, 'product_id' | 'uom_id' | 'effective_at'>): Promise<ProductUnit> {
  const unit = await unitAt(tx, wanted)
  if (unit.kind !== 'stocked') throw notStocked()
  return unit
}

export interface MoveOut extends MoveSource {
  product_id: string
  /** Base unit. */
  quantity: string
  lot_id?: string | undefined
  from: StockPlace
  to: string
}

/** Takes stock out of a location, picked. Throws as `issueStock`. */
export async function moveOut(tx: Tx, { product_id, quantity, lot_id, from, to, ...source }: MoveOut): Promise<readonly StockMove[]> {
  const { parts, at } = await pick(tx, { product_id, quantity, lot_id, from, to, effective_at: source.effective_at })
  const moves = parts.map((part) => ({ product_id, ...part, from_location_id: from.id, to_location_id: to }))
  return postMoves(tx, moves, { ...source, effective_at: at })
}

/**
 * Takes stock out of a location; of a kit, what it is put together from. Throws `insufficient_stock`, `invalid_reference`,
 * `invalid_value`, `period_closed`.
 */
export async function issueStock(tx: Tx, issue: Static<typeof StockIssue>): Promise<readonly StockMove[]> {
  const from = await requireStockLocation(tx, issue.location_id, 'location_id')
  const to = await virtualLocation(tx, issue.destination ?? 'client')
  const source = {
    source_type: 'stock_issue',
    source_id: null,
    effective_at: issue.effective_at,
    reason: issue.reason ?? null,
  }
  const moves: StockMove[] = []
  for (const part of await partsOf(tx, issue)) moves.push(...(await moveOut(tx, { ...part, ...source, from, to })))
  return moves
}

/** What is taken for something that is wanted: itself in its base unit, or a kit's parts, in the order of their ids. */
export async function partsOf(tx: Tx, wanted: Wanted): Promise<{ product_id: string; quantity: string; lot_id?: string | undefined }[]> {
  const unit = await unitAt(tx, wanted)
  const quantity = format(toBase(wanted.quantity, unit))
  if (unit.kind === 'stocked') return [{ product_id: wanted.product_id, quantity, lot_id: wanted.lot_id }]
  if (unit.kind === 'service' || wanted.lot_id) throw notStocked()
  return explodeKit(tx, wanted.product_id, quantity)
}

/** Moves stock between two locations at once. Throws as `issueStock`. */
export async function transferStock(tx: Tx, transfer: Static<typeof StockTransfer>): Promise<readonly StockMove[]> {
  if (transfer.from_location_id === transfer.to_location_id)
    throw failure('invalid_value', { path: 'to_location_id', rule: 'another_location' })
  const from = await requireStockLocation(tx, transfer.from_location_id, 'from_location_id')
  const to = await requireStockLocation(tx, transfer.to_location_id, 'to_location_id')
  const quantity = format(toBase(transfer.quantity, await movableUnit(tx, transfer)))
  const { product_id, lot_id, effective_at, reason = null } = transfer
  return moveOut(tx, {
    product_id,
    quantity,
    lot_id,
    from,
    to: to.id,
    source_type: 'stock_transfer',
    source_id: null,
    effective_at,
    reason,
  })
}
