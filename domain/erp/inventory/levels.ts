// What there is, where, and what it is worth: now and at any moment before.
import { Type } from 'typebox'
import {
  Currency,
  type Fragment,
  Money,
  nullable,
  oneOf,
  Quantity,
  SignedQuantity,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'

export const StockLevel = Type.Object(
  { product_id: Uuid, location_id: Uuid, lot_id: nullable(Uuid), quantity: SignedQuantity, reserved: Quantity, available: SignedQuantity },
  { additionalProperties: false },
)
export const StockValue = Type.Object(
  {
    product_id: Uuid,
    location_id: nullable({ ...Uuid, description: 'Null where it is asked for by product' }),
    lot_id: nullable({ ...Uuid, description: 'Null without lot, and where it is not asked for by lot' }),
    quantity: SignedQuantity,
    unit_cost: Type.String({ description: 'What one is worth; the whole is not rounded from it', examples: ['1.2500000000'] }),
    value: Money,
  },
  { additionalProperties: false },
)
export const StockTotal = Type.Object({ products: Type.Integer(), value: Money, currency: Currency }, { additionalProperties: false })

const asked = { product_id: Type.Optional(Uuid), location_id: Type.Optional(Uuid), as_of: Type.Optional(Timestamp) }
const page = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 1000 })),
  cursor: Type.Optional(Type.String({ maxLength: 2000 })),
}
export const LevelQuery = Type.Object({ ...asked, ...page }, { additionalProperties: false })
export const ValueQuery = Type.Object(
  { ...asked, by: Type.Optional(oneOf(['product', 'location', 'lot'], { default: 'product' })), ...page },
  { additionalProperties: false },
)

export interface StockQuestion {
  product_id?: string | undefined
  location_id?: string | undefined
  as_of?: string | undefined
  limit: number
  /** Product, location and lot of the last row of the page before. */
  after: readonly [product: string, location: string | null, lot: string | null] | null
}
const NOBODY = '00000000-0000-0000-0000-000000000000'

/** Rows beyond the last page's, and one more than fit, which says that there are more. */
const paged = ({ limit, after }: StockQuestion): { where: Fragment; order: Fragment } => ({
  where: after
    ? sql.fragment`(product_id, coalesce(location_id, ${NOBODY}), coalesce(lot_id, ${NOBODY})) > (${after[0]}::uuid, ${after[1] ?? NOBODY}::uuid, ${after[2] ?? NOBODY}::uuid)`
    : sql.fragment`true`,
  order: sql.fragment`order by product_id, coalesce(location_id, ${NOBODY}), coalesce(lot_id, ${NOBODY}) limit ${limit + 1}`,
})

/** Product, location, lot, quantity and reserved of what is not nothing, in the places that hold stock. */
function levels(tx: Tx, { product_id = undefined, location_id = undefined, as_of, after }: StockQuestion): Fragment {
  const product = product_id ?? null
  const location = location_id ?? null
  const from = after?.[0] ?? null
  if (!as_of)
    return sql.fragment`
      select q.product_id, q.location_id, q.lot_id, q.quantity, q.reserved
      from erp_stock_quant q join erp_location l on l.tenant_id = q.tenant_id and l.id = q.location_id and erp_holds_stock(l.kind)
      where q.tenant_id = ${tx.tenantId} and q.organization_id = ${tx.context.organizationId} and q.quantity <> 0
        and (${product}::uuid is null or q.product_id = ${product}) and (${location}::uuid is null or q.location_id = ${location})
        and (${from}::uuid is null or q.product_id >= ${from})`
  const known = sql.fragment`
    tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and effective_at <= ${as_of}
    and (${product}::uuid is null or product_id = ${product}) and (${from}::uuid is null or product_id >= ${from})`
  // A place's moves are found from either side by an index of its own; a product's, and all there are, are read once.
  const ends = location
    ? sql.fragment`
      select product_id, to_location_id as location_id, lot_id, quantity as delta from erp_stock_move where ${known} and to_location_id = ${location}
      union all
      select product_id, from_location_id, lot_id, -quantity from erp_stock_move where ${known} and from_location_id = ${location}`
    : sql.fragment`
      select product_id, location_id, lot_id, delta
      from (select product_id, lot_id, from_location_id, to_location_id, sum(quantity) as moved from erp_stock_move where ${known} group by 1, 2, 3, 4) as m
      cross join lateral (values (to_location_id, moved), (from_location_id, -moved)) as e (location_id, delta)`
  // Nothing was reserved in the past.
  return sql.fragment`
    select e.product_id, e.location_id, e.lot_id, e.quantity::numeric(19, 6) as quantity, 0::numeric(19, 6) as reserved
    from (select product_id, location_id, lot_id, sum(delta) as quantity from (${ends}) as e group by 1, 2, 3 having sum(delta) <> 0) as e
    join erp_location l on l.tenant_id = ${tx.tenantId} and l.id = e.location_id and erp_holds_stock(l.kind)`
}

/** What there is by product, location and lot, now or as of a moment: the sum of the moves that were effective by then. */
export const stockLevels = (tx: Tx, question: StockQuestion) => {
  const { where, order } = paged(question)
  return tx.any(sql.prepared(StockLevel)`
    select product_id, location_id, lot_id, quantity, reserved, quantity - reserved as available from (${levels(tx, question)}) as s where ${where} ${order}`)
}

/** A product's value after the last move that was effective by a moment; never, for one that nothing moved by then. */
const worthAt = (tx: Tx, product: Fragment, as_of: string | undefined): Fragment => sql.fragment`
  select l.quantity_after as quantity, l.value_after as value, l.unit_cost from erp_stock_layer l
  where l.tenant_id = ${tx.tenantId} and l.product_id = ${product} and l.effective_at <= coalesce(${as_of ?? null}::timestamptz, 'infinity')
  order by l.effective_at desc, (l.quantity < 0) desc, l.id desc limit 1`

/** Of a product's worth `w`, what the part `s` of it is worth: its share; below zero, what so many cost. */
const SHARE = sql.fragment`
  case when w.quantity > 0 then round(w.value * s.quantity / w.quantity, 4) else round(s.quantity * w.unit_cost, 4) end`

/**
 * What stock is worth, now or as of a moment. A product has one value; a place or a lot has the share of it that it has of
 * the quantity, rounded by itself.
 */
export function stockValue(tx: Tx, question: StockQuestion & { by: 'product' | 'location' | 'lot' }) {
  const { by, product_id = null, location_id, as_of } = question
  const { where, order } = paged(question)
  if (by === 'product' && !location_id)
    return tx.any(sql.prepared(StockValue)`
      select product_id, location_id, lot_id, quantity, unit_cost, value from (
        select h.product_id, null::uuid as location_id, null::uuid as lot_id, w.quantity, w.unit_cost, w.value
        from erp_stock_value h cross join lateral (${worthAt(tx, sql.fragment`h.product_id`, as_of)}) as w
        where h.tenant_id = ${tx.tenantId} and h.organization_id = ${tx.context.organizationId} and (${product_id}::uuid is null or h.product_id = ${product_id})
          and (w.quantity <> 0 or w.value <> 0)
      ) as s where ${where} ${order}`)
  return tx.any(sql.prepared(StockValue)`
    select s.product_id, s.location_id, s.lot_id, s.quantity, w.unit_cost,
      (${SHARE})::numeric(19, 4) as value
    from (
      select product_id, location_id, lot_id, sum(quantity)::numeric(19, 6) as quantity
      from (select product_id, location_id, ${by === 'lot' ? sql.fragment`lot_id` : sql.fragment`null::uuid as lot_id`}, quantity from (${levels(tx, question)}) as l) as g
      group by 1, 2, 3 having sum(quantity) <> 0
    ) as s
    cross join lateral (${worthAt(tx, sql.fragment`s.product_id`, as_of)}) as w
    where ${where} ${order}`)
}

/** What all of it is worth, now or as of a moment, everywhere or in one place. */
export async function totalStockValue(tx: Tx, { as_of, location_id }: Pick<StockQuestion, 'as_of' | 'location_id'>) {
  const question = { as_of, location_id, limit: 0, after: null }
  const rows = location_id
    ? sql.fragment`
      select ${SHARE} as value
      from (select product_id, sum(quantity) as quantity from (${levels(tx, question)}) as l group by 1 having sum(quantity) <> 0) as s
      cross join lateral (${worthAt(tx, sql.fragment`s.product_id`, as_of)}) as w`
    : sql.fragment`
      select w.value from erp_stock_value h cross join lateral (${worthAt(tx, sql.fragment`h.product_id`, as_of)}) as w
      where h.tenant_id = ${tx.tenantId} and h.organization_id = ${tx.context.organizationId} and (w.quantity <> 0 or w.value <> 0)`
  return tx.one(sql.prepared(StockTotal)`
    select count(*)::int as products, coalesce(sum(value), 0)::numeric(19, 4) as value, ${tx.currency} as currency from (${rows}) as r`)
}
