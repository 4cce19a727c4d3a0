// The ledger is never changed: what was wrong is set right by another move.
import { type Static, Type } from 'typebox'
import { failure, quantity as format, nullable, Price, sql, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'
import { toBase } from '../products/index.ts'
import { stockLocationAnd } from './location.ts'
import { requireLots } from './lot.ts'
import { moveColumns, postMoves, StockMove } from './moves.ts'
import { movableUnit, moveOut } from './stock.ts'

const Reason = Type.String({ minLength: 3, maxLength: 2000, examples: ['Broken in transport'] })

export const StockAdjustment = Type.Object(
  {
    product_id: Uuid,
    location_id: Uuid,
    quantity: Type.String({
      pattern: '^-?(?=.*[1-9])\\d{1,13}(\\.\\d{1,6})?$',
      description: 'What is there more, or less with a minus; not zero',
      examples: ['-2'],
    }),
    uom_id: Type.Optional(Uuid),
    lot_id: Type.Optional(Uuid),
    cost: Type.Optional({ ...Price, description: 'Of what is there more: what all of it cost. Nothing said: what the product costs then' }),
    effective_at: Type.Optional(Timestamp),
    reason: Reason,
  },
  { additionalProperties: false },
)
export const Reversal = Type.Object(
  { reason: Reason, effective_at: Type.Optional({ ...Timestamp, description: 'Now when nothing is said' }) },
  { additionalProperties: false },
)

/**
 * Sets right what is there, by a move from or to the virtual location of losses. Less is taken earliest expiry first, or
 * from the lot that is named; more of a lot-tracked product needs its lot. Throws `insufficient_stock`,
 * `invalid_reference`, `invalid_value`, `period_closed`.
 */
export async function adjustStock(tx: Tx, adjustment: Static<typeof StockAdjustment>): Promise<readonly StockMove[]> {
  const { quantity, location_id, product_id, lot_id = null, cost = null, reason, effective_at } = adjustment
  const [place, losses] = await stockLocationAnd(tx, location_id, 'location_id', 'loss')
  const unit = await movableUnit(tx, adjustment)
  const source = { source_type: 'stock_adjustment', source_id: null, effective_at, reason }
  if (quantity.startsWith('-')) {
    if (cost !== null)
      throw failure('invalid_value', { path: 'cost', rule: 'incoming', message: 'is of what comes: what is there less has its value' })
    const less = format(toBase(quantity.slice(1), unit))
    return moveOut(tx, [{ product_id, quantity: less, lot_id }], { from: place, to: losses }, source)
  }
  await requireLots(tx, [{ product_id, lot_id, lot_tracked: unit.lot_tracked, path: 'lot_id' }])
  const move = { product_id, lot_id, from_location_id: losses, to_location_id: location_id, quantity: format(toBase(quantity, unit)), cost }
  return postMoves(tx, [move], source)
}

/** What was not made by a document is reversed by itself; what was, by its document. */
const REVERSIBLE = ['stock_issue', 'stock_transfer', 'stock_adjustment']
const Reversible = Type.Object({ ...StockMove.properties, reversal_of: nullable(Uuid) }, { additionalProperties: false })

/**
 * Undoes a move by its opposite. What comes back has the value with which it left. Once: the unique index lets one of two
 * have it (`already_exists`). Throws `not_found`, `invalid_transition` for a reversal and for what a document made,
 * `insufficient_stock` where the goods have gone on, `invalid_value` for a moment that is not after the move's own,
 * `period_closed`.
 */
export async function reverseMove(tx: Tx, id: string, { reason, effective_at }: Static<typeof Reversal>): Promise<StockMove> {
  const move = await tx.maybeOne(sql.prepared(Reversible)`
    select ${moveColumns}, reversal_of
    from erp_stock_move where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and id = ${id}`)
  if (!move) throw failure('not_found')
  if (move.reversal_of || !REVERSIBLE.includes(move.source_type))
    throw failure('invalid_transition', { status: move.reversal_of ? 'reversal' : move.source_type, transition: 'reverse' })
  // Now, but after the move however fast somebody is.
  const at = effective_at ?? new Date(Math.max(tx.now.getTime(), Date.parse(move.effective_at) + 1)).toISOString()
  if (effective_at && (Date.parse(at) > tx.now.getTime() || Date.parse(at) <= Date.parse(move.effective_at)))
    throw failure('invalid_value', {
      path: 'effective_at',
      rule: 'after_the_move',
      message: 'is not after the move itself, or has not come yet',
    })
  const [reversed] = await postMoves(
    tx,
    [{ ...move, cost: null, from_location_id: move.to_location_id, to_location_id: move.from_location_id, reversal_of: id }],
    { source_type: move.source_type, source_id: move.source_id, effective_at: at, reason },
  )
  return reversed!
}
