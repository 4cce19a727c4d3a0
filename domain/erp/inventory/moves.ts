// Moves: the ledger of stock. Quants follow by trigger; nothing else writes them.
import { type Static, Type } from 'typebox'
import { Currency, newId, nullable, Price, Quantity, sql, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'

export const StockMove = Type.Object(
  {
    id: Uuid,
    product_id: Uuid,
    lot_id: nullable(Uuid),
    from_location_id: Uuid,
    to_location_id: Uuid,
    quantity: Quantity,
    unit_cost: nullable(Price),
    cost: nullable({ ...Price, description: 'What all of it cost, in the organization’s currency; null: it has its value from the stock' }),
    currency: nullable(Currency),
    effective_at: Timestamp,
    source_type: Type.String(),
    source_id: nullable(Uuid),
    reason: nullable(Type.String()),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type StockMove = Static<typeof StockMove>

/** The columns of a move, in the order of its schema. */
export const moveColumns = sql.join(
  Object.keys(StockMove.properties).map((column) => sql.identifier([column])),
  sql.fragment`, `,
)

export interface NewMove {
  product_id: string
  lot_id: string | null
  from_location_id: string
  to_location_id: string
  /** Base unit, above zero. */
  quantity: string
  /** What all of it cost, in the organization's currency; what comes in without has the cost that the product has then. */
  cost?: string | null
  /** The move that this one undoes. */
  reversal_of?: string
}

export interface MoveSource {
  source_type: string
  source_id: string | null
  /** Nothing said: now. */
  effective_at?: string | undefined
  reason?: string | null
}

/**
 * Writes moves, all in one statement. Triggers do the rest: `erp_apply_moves` locks and changes the quants,
 * `erp_value_moves` values what comes in and goes out. Throws `insufficient_stock` where a location would go below zero,
 * then or at any moment since, `period_closed` where they would be effective in a closed period, `too_far_back`. Emits one
 * `erp.stock.moved` a product, which the low-stock alerts live on.
 */
export async function postMoves(tx: Tx, moves: readonly NewMove[], source: MoveSource): Promise<readonly StockMove[]> {
  const ids = moves.map(() => newId())
  const rows = moves.map((m, at) => [
    ids[at]!,
    m.product_id,
    m.lot_id,
    m.from_location_id,
    m.to_location_id,
    m.quantity,
    m.cost ?? null,
    m.cost ? tx.currency : null,
    m.reversal_of ?? null,
  ])
  const returned = await tx.any(sql.prepared(StockMove)`
    insert into erp_stock_move (id, tenant_id, organization_id, product_id, lot_id, from_location_id, to_location_id, quantity, cost, unit_cost, currency,
      effective_at, source_type, source_id, reason, reversal_of, actor_id, created_at)
    select m.id, ${tx.tenantId}, ${tx.context.organizationId}, m.product_id, m.lot_id, m.from_id, m.to_id, m.quantity, m.cost, round(m.cost / m.quantity, 4), m.currency,
      ${source.effective_at ?? tx.now.toISOString()}, ${source.source_type}, ${source.source_id}, ${source.reason ?? null}, m.reversal_of, ${tx.actor.userId}, ${tx.now.toISOString()}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'uuid', 'uuid', 'uuid', 'numeric', 'numeric', 'text', 'uuid'])}
      as m (id, product_id, lot_id, from_id, to_id, quantity, cost, currency, reversal_of)
    returning ${moveColumns}`)
  // In the order asked for, whatever order the insert returned.
  const byId = new Map(returned.map((move) => [move.id, move]))
  const posted = ids.map((id) => byId.get(id)!)
  for (const product of new Set(posted.map((m) => m.product_id))) {
    const own = posted.filter((m) => m.product_id === product)
    tx.emit({
      type: 'erp.stock.moved',
      entity_id: product,
      version: 1,
      data: {
        organization_id: tx.context.organizationId,
        product_id: product,
        location_ids: [...new Set(own.flatMap((m) => [m.from_location_id, m.to_location_id]))],
        moves: own,
      },
    })
  }
  return posted
}
