// Taking stock out, moving it, and asking what there is.
import { type Static, Type } from 'typebox'
import {
  decimal,
  failure,
  quantity as format,
  nullable,
  PositiveQuantity,
  Quantity,
  SignedQuantity,
  sql,
  Text,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { type ProductUnit, toBase, unitsOf } from '../products/index.ts'
import { requireStockLocation, virtualLocation } from './location.ts'
import { type NewMove, postMoves, type StockMove } from './moves.ts'

const Wanted = {
  product_id: Uuid,
  quantity: PositiveQuantity,
  uom_id: Type.Optional(Uuid),
  lot_id: Type.Optional(Uuid),
  effective_at: Type.Optional(Timestamp),
  reason: Type.Optional(Text),
}

export const StockIssue = Type.Object(
  {
    ...Wanted,
    location_id: Uuid,
    destination: Type.Optional(
      Type.Unsafe<'client' | 'production' | 'loss'>({ type: 'string', enum: ['client', 'production', 'loss'], default: 'client' }),
    ),
  },
  { additionalProperties: false },
)
export const StockTransfer = Type.Object({ ...Wanted, from_location_id: Uuid, to_location_id: Uuid }, { additionalProperties: false })

const Free = Type.Object(
  { lot_id: nullable(Uuid), free: SignedQuantity, expires_on: nullable(Type.String()) },
  { additionalProperties: false },
)

/**
 * Picks `amount` (base unit) of a product out of a location, earliest expiry first, things without lot last.
 *
 * Never oversells: all quants of the product in both locations are locked in (location, lot) order, the order that the
 * move trigger keeps too, so that no two movers deadlock, and only then counted; the check constraint stands behind it.
 */
async function pick(tx: Tx, productId: string, from: string, to: string, amount: string, lotId?: string): Promise<NewMove[]> {
  const quants = await tx.any(sql.prepared(Free)`
    with locked as materialized (
      select location_id, lot_id, quantity - reserved as free from erp_stock_quant
      where tenant_id = ${tx.tenantId} and product_id = ${productId} and location_id in (${from}, ${to})
      order by location_id, lot_id for update
    )
    select q.lot_id, q.free, l.expires_on::text as expires_on
    from locked q left join erp_lot l on l.tenant_id = ${tx.tenantId} and l.id = q.lot_id
    where q.location_id = ${from} and q.free > 0 and (${lotId ?? null}::uuid is null or q.lot_id = ${lotId ?? null})
    order by l.expires_on nulls last, q.lot_id`)
  const moves: NewMove[] = []
  let missing = decimal(amount)
  for (const quant of quants) {
    if (missing.isZero()) break
    const taken = decimal(quant.free).lt(missing) ? decimal(quant.free) : missing
    missing = missing.minus(taken)
    moves.push({ product_id: productId, lot_id: quant.lot_id, from_location_id: from, to_location_id: to, quantity: format(taken) })
  }
  if (missing.isZero()) return moves
  throw failure('insufficient_stock', {
    product_id: productId,
    location_id: from,
    requested: amount,
    available: format(decimal(amount).minus(missing)),
  })
}

/** The unit of something that can be moved at that time. Throws `invalid_reference`, `invalid_value`. */
export async function movableUnit(
  tx: Tx,
  wanted: Pick<Static<typeof StockTransfer>, 'product_id' | 'uom_id' | 'effective_at'>,
): Promise<ProductUnit> {
  const [unit] = await unitsOf(tx, [wanted])
  if (unit!.kind !== 'stocked') throw failure('invalid_value', { path: 'product_id', rule: 'stocked' }, 'Only stocked products are moved.')
  if (wanted.effective_at && Date.parse(wanted.effective_at) > tx.now.getTime())
    throw failure('invalid_value', { path: 'effective_at', rule: 'not_in_future' })
  return unit!
}

/** Takes stock out of a location, converted and picked. Throws as `issueStock`. */
export async function moveOut(
  tx: Tx,
  wanted: Pick<Static<typeof StockTransfer>, 'product_id' | 'quantity' | 'uom_id' | 'lot_id' | 'effective_at' | 'reason'>,
  from: string,
  to: string,
  source: string,
): Promise<readonly StockMove[]> {
  const unit = await movableUnit(tx, wanted)
  const moves = await pick(tx, wanted.product_id, from, to, format(toBase(wanted.quantity, unit)), wanted.lot_id)
  return postMoves(tx, moves, {
    source_type: source,
    source_id: null,
    effective_at: wanted.effective_at ?? tx.now.toISOString(),
    reason: wanted.reason ?? null,
  })
}

/** Takes stock out of a location. Throws `insufficient_stock`, `invalid_reference`, `invalid_value`, `period_closed`. */
export async function issueStock(tx: Tx, issue: Static<typeof StockIssue>): Promise<readonly StockMove[]> {
  await requireStockLocation(tx, issue.location_id, 'location_id')
  return moveOut(tx, issue, issue.location_id, await virtualLocation(tx, issue.destination ?? 'client'), 'stock_issue')
}

/** Moves stock between two locations at once. Throws as `issueStock`. */
export async function transferStock(tx: Tx, transfer: Static<typeof StockTransfer>): Promise<readonly StockMove[]> {
  if (transfer.from_location_id === transfer.to_location_id)
    throw failure('invalid_value', { path: 'to_location_id', rule: 'another_location' })
  await requireStockLocation(tx, transfer.from_location_id, 'from_location_id')
  await requireStockLocation(tx, transfer.to_location_id, 'to_location_id')
  return moveOut(tx, transfer, transfer.from_location_id, transfer.to_location_id, 'stock_transfer')
}

export const StockLevel = Type.Object(
  { product_id: Uuid, location_id: Uuid, lot_id: nullable(Uuid), quantity: SignedQuantity, reserved: Quantity, available: SignedQuantity },
  { additionalProperties: false },
)

export interface StockQuestion {
  product_id?: string | undefined
  location_id?: string | undefined
}

/** What there is now in the locations that hold stock, by product, location and lot. At most 1,000 rows. */
export const stockOnHand = (tx: Tx, { product_id, location_id }: StockQuestion) =>
  tx.any(sql.prepared(StockLevel)`
  select q.product_id, q.location_id, q.lot_id, q.quantity, q.reserved, q.quantity - q.reserved as available
  from erp_stock_quant q join erp_location l on l.tenant_id = q.tenant_id and l.id = q.location_id and l.kind in ('internal', 'transit')
  where q.tenant_id = ${tx.tenantId} and q.organization_id = ${tx.context.organizationId} and q.quantity <> 0
    and (${product_id ?? null}::uuid is null or q.product_id = ${product_id ?? null})
    and (${location_id ?? null}::uuid is null or q.location_id = ${location_id ?? null})
  order by q.product_id, q.location_id, q.lot_id limit 1000`)

/** What there was at a moment: the sum of the moves that were effective by then. Nothing was reserved in the past. */
export const stockAsOf = (tx: Tx, at: string, { product_id, location_id }: StockQuestion) =>
  tx.any(sql.prepared(StockLevel)`
  select e.product_id, e.location_id, e.lot_id, sum(e.delta) as quantity, 0::numeric(19, 6) as reserved, sum(e.delta) as available
  from (
    select product_id, to_location_id as location_id, lot_id, quantity as delta from erp_stock_move
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and effective_at <= ${at}
      and (${product_id ?? null}::uuid is null or product_id = ${product_id ?? null})
      and (${location_id ?? null}::uuid is null or to_location_id = ${location_id ?? null})
    union all
    select product_id, from_location_id, lot_id, -quantity from erp_stock_move
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and effective_at <= ${at}
      and (${product_id ?? null}::uuid is null or product_id = ${product_id ?? null})
      and (${location_id ?? null}::uuid is null or from_location_id = ${location_id ?? null})
  ) as e
  join erp_location l on l.tenant_id = ${tx.tenantId} and l.id = e.location_id and l.kind in ('internal', 'transit')
  group by e.product_id, e.location_id, e.lot_id having sum(e.delta) <> 0
  order by e.product_id, e.location_id, e.lot_id limit 1000`)

export const StockDifference = Type.Object(
  { product_id: Uuid, location_id: Uuid, lot_id: nullable(Uuid), ledger: SignedQuantity, quant: SignedQuantity },
  { additionalProperties: false },
)

/** Where the sum of the moves and the quants differ. There must be none, ever. */
export const verifyStock = (tx: Tx) =>
  tx.any(sql.type(StockDifference)`
  with ledger as (
    select product_id, location_id, lot_id, sum(delta) as quantity from (
      select product_id, to_location_id as location_id, lot_id, quantity as delta from erp_stock_move where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}
      union all
      select product_id, from_location_id, lot_id, -quantity from erp_stock_move where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}
    ) as entries group by 1, 2, 3
  ), quants as (
    select product_id, location_id, lot_id, quantity from erp_stock_quant where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}
  )
  select coalesce(l.product_id, q.product_id) as product_id, coalesce(l.location_id, q.location_id) as location_id, coalesce(l.lot_id, q.lot_id) as lot_id,
    coalesce(l.quantity, 0)::numeric(19, 6) as ledger, coalesce(q.quantity, 0)::numeric(19, 6) as quant
  from ledger l full join quants q
    on (l.product_id, l.location_id, coalesce(l.lot_id, '00000000-0000-0000-0000-000000000000')) = (q.product_id, q.location_id, coalesce(q.lot_id, '00000000-0000-0000-0000-000000000000'))
  where coalesce(l.quantity, 0) <> coalesce(q.quantity, 0) limit 1000`)
