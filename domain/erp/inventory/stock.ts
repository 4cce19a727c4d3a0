// Taking stock out, and moving it.
import { type Static, Type } from 'typebox'
import { failure, quantity as format, oneOf, PositiveQuantity, Text, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'
import { explodeKit, type ProductUnit, toBase, unitsOf } from '../products/index.ts'
import { requireStockLocation, type StockPlace, stockLocationAnd } from './location.ts'
import { type MoveSource, postMoves, type StockMove } from './moves.ts'
import { pick, type WantedStock } from './pick.ts'

export const wantedStock = {
  product_id: Uuid,
  quantity: PositiveQuantity,
  uom_id: Type.Optional(Uuid),
  lot_id: Type.Optional(Uuid),
}
const when = { effective_at: Type.Optional(Timestamp), reason: Type.Optional(Text) }
export const Destination = oneOf(['client', 'production', 'loss'], { default: 'client' })

export const StockIssue = Type.Object(
  { ...wantedStock, ...when, location_id: Uuid, destination: Type.Optional(Destination) },
  { additionalProperties: false },
)
export const StockTransfer = Type.Object(
  { ...wantedStock, ...when, from_location_id: Uuid, to_location_id: Uuid },
  { additionalProperties: false },
)

type Wanted = Pick<Static<typeof StockIssue>, 'product_id' | 'quantity' | 'uom_id' | 'lot_id' | 'effective_at'>

async function unitAt(tx: Tx, wanted: Omit<Wanted, 'quantity'>): Promise<ProductUnit> {
  const [unit] = await unitsOf(tx, [wanted])
  if (wanted.effective_at && Date.parse(wanted.effective_at) > tx.now.getTime())
    throw failure('invalid_value', { path: 'effective_at', rule: 'not_in_future' })
  return unit!
}
export const notStocked = (path = 'product_id') => failure('invalid_value', { path, rule: 'stocked' }, 'Only stocked products are moved.')

/** The unit of something that can be moved at that time. Throws `invalid_reference`, `invalid_value`. */
export async function movableUnit(tx: Tx, wanted: Omit<Wanted, 'quantity'>): Promise<ProductUnit> {
  const unit = await unitAt(tx, wanted)
  if (unit.kind !== 'stocked') throw notStocked()
  return unit
}

/** What is taken for something that is wanted: itself in its base unit, or a kit's parts. Throws as `movableUnit`. */
export async function partsOf(tx: Tx, wanted: Wanted): Promise<WantedStock[]> {
  const unit = await unitAt(tx, wanted)
  const quantity = format(toBase(wanted.quantity, unit))
  if (unit.kind === 'stocked') return [{ product_id: wanted.product_id, quantity, lot_id: wanted.lot_id }]
  if (unit.kind === 'service' || wanted.lot_id) throw notStocked()
  return explodeKit(tx, wanted.product_id, quantity)
}

/** Takes stock out of a location, picked. Throws as `issueStock`. */
export async function moveOut(
  tx: Tx,
  wanted: readonly WantedStock[],
  { from, to }: { from: StockPlace; to: string },
  source: MoveSource,
): Promise<readonly StockMove[]> {
  const { parts, at } = await pick(tx, wanted, { from, to, effective_at: source.effective_at })
  const moves = parts.map(({ line: _, ...part }) => ({ ...part, from_location_id: from.id, to_location_id: to }))
  return postMoves(tx, moves, { ...source, effective_at: at })
}

/**
 * Takes stock out of a location; of a kit, what it is put together from. Throws `insufficient_stock`, `invalid_reference`,
 * `invalid_value`, `period_closed`.
 */
export async function issueStock(tx: Tx, issue: Static<typeof StockIssue>): Promise<readonly StockMove[]> {
  const { location_id, destination = 'client', effective_at, reason = null } = issue
  const [from, to] = await stockLocationAnd(tx, location_id, 'location_id', destination)
  return moveOut(tx, await partsOf(tx, issue), { from, to }, { source_type: 'stock_issue', source_id: null, effective_at, reason })
}

/** Moves stock between two locations at once. Throws as `issueStock`. */
export async function transferStock(tx: Tx, transfer: Static<typeof StockTransfer>): Promise<readonly StockMove[]> {
  const { from_location_id, to_location_id, effective_at, reason = null } = transfer
  if (from_location_id === to_location_id) throw failure('invalid_value', { path: 'to_location_id', rule: 'another_location' })
  const from = await requireStockLocation(tx, from_location_id, 'from_location_id')
  await requireStockLocation(tx, to_location_id, 'to_location_id')
  const source = { source_type: 'stock_transfer', source_id: null, effective_at, reason }
  return moveOut(tx, await partsOf(tx, transfer), { from, to: to_location_id }, source)
}
