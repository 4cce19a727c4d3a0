// The proof: everything that is kept about stock, made anew from the moves.
import { type Static, Type } from 'typebox'
import { nullable, oneOf, SignedQuantity, sql, type Tx, Uuid } from '../../kernel/index.ts'

export const StockDifference = Type.Object(
  {
    what: oneOf(['quantity', 'reserved', 'value'], {
      description: 'quantity: of what is somewhere; reserved: of it; value: of a move, or of what there is (no move)',
    }),
    product_id: Uuid,
    location_id: nullable(Uuid),
    lot_id: nullable(Uuid),
    move_id: nullable(Uuid),
    ledger: nullable(SignedQuantity),
    kept: nullable(SignedQuantity),
  },
  { additionalProperties: false },
)
const Page = Type.Object({ last: nullable(Uuid), products: Type.Integer() }, { additionalProperties: false })

/** So many products are looked at in one go: each is recomputed from its first move on. */
const PRODUCTS = 2000

export interface StockProof {
  differences: readonly Static<typeof StockDifference>[]
  /** How many products were looked at. */
  products: number
  /** The last of them where there are more. */
  last: string | null
}

/**
 * Recomputes what is kept of 2,000 products, in the order of their ids: quantities from the moves, what is reserved from
 * the reservations, values by valuing every move from the first one on. Whatever differs is named, up to 1,000. There must
 * be nothing, ever.
 */
export async function verifyStock(
  tx: Tx,
  { product_id = null, after = null }: { product_id?: string | null; after?: string | null } = {},
): Promise<StockProof> {
  const page = sql.fragment`
    page as materialized (
      select id from erp_product where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}
        and (${product_id}::uuid is null or id = ${product_id}) and (${after}::uuid is null or id > ${after})
      order by id limit ${PRODUCTS}
    )`
  const { last, products } = await tx.one(sql.prepared(Page)`with ${page}
    select (select id from page order by id desc limit 1) as last, (select count(*) from page)::int as products`)
  const differences = await tx.any(sql.prepared(StockDifference)`
    with ${page}, moves as (
      select m.* from page p join erp_stock_move m on m.tenant_id = ${tx.tenantId} and m.organization_id = ${tx.context.organizationId} and m.product_id = p.id
    ), ledger as (
      select product_id, location_id, lot_id, sum(delta) as quantity from (
        select product_id, to_location_id as location_id, lot_id, quantity as delta from moves
        union all
        select product_id, from_location_id, lot_id, -quantity from moves
      ) as entries group by 1, 2, 3
    ), held as (
      select r.product_id, r.location_id, r.lot_id, sum(r.quantity) as quantity
      from page p join erp_stock_reservation r on r.tenant_id = ${tx.tenantId} and r.product_id = p.id group by 1, 2, 3
    ), quants as (
      select q.product_id, q.location_id, q.lot_id, q.quantity, q.reserved from page p join erp_stock_quant q on q.tenant_id = ${tx.tenantId} and q.product_id = p.id
    ), layers as (
      select l.* from page p join erp_stock_layer l on l.tenant_id = ${tx.tenantId} and l.product_id = p.id
    ), valued as (
      select p.id as product_id, v.* from page p cross join lateral erp_valuation(${tx.tenantId}, p.id, '-infinity') as v
    ), totals as (
      select m.product_id, sum(case when erp_holds_stock(t.kind) then m.quantity else 0 end - case when erp_holds_stock(f.kind) then m.quantity else 0 end) as quantity
      from moves m
      join erp_location f on f.tenant_id = m.tenant_id and f.id = m.from_location_id
      join erp_location t on t.tenant_id = m.tenant_id and t.id = m.to_location_id
      group by 1
    )
    select 'quantity' as what, product_id, location_id, lot_id, null::uuid as move_id, sum(ledger)::numeric(19, 6) as ledger, sum(kept)::numeric(19, 6) as kept
    from (
      select product_id, location_id, lot_id, quantity as ledger, 0 as kept from ledger
      union all
      select product_id, location_id, lot_id, 0, quantity from quants
    ) as both_of group by 2, 3, 4 having sum(ledger) <> sum(kept)
    union all
    select 'reserved', q.product_id, q.location_id, q.lot_id, null, coalesce(h.quantity, 0), q.reserved
    from quants q left join held h on (h.product_id, h.location_id) = (q.product_id, q.location_id) and h.lot_id is not distinct from q.lot_id
    where coalesce(h.quantity, 0) <> q.reserved
    union all
    select 'value', coalesce(v.product_id, l.product_id), null, null, coalesce(v.id, l.id), v.value, l.value
    from valued v full join layers l on l.id = v.id
    where (v.value, v.cost, v.quantity_after, v.value_after, v.in_after, v.unit_cost) is distinct from (l.value, l.cost, l.quantity_after, l.value_after, l.in_after, l.unit_cost)
    union all
    select 'quantity', t.product_id, null, null, null, t.quantity, s.quantity
    from totals t full join (select v.* from page p join erp_stock_value v on v.tenant_id = ${tx.tenantId} and v.product_id = p.id) s using (product_id)
    where coalesce(t.quantity, 0) <> coalesce(s.quantity, 0)
    union all
    select 'value', product_id, null, null, null, l.value, s.value
    from (select product_id, sum(value) as value from layers group by 1) l
    full join (select v.* from page p join erp_stock_value v on v.tenant_id = ${tx.tenantId} and v.product_id = p.id) s using (product_id)
    where coalesce(l.value, 0) <> coalesce(s.value, 0)
    limit 1000`)
  return { differences, products, last: products === PRODUCTS ? last : null }
}
