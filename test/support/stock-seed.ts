// Much stock, quickly: moves put in without triggers, and what is kept of them made by the functions that the triggers use.
import type { Client } from 'pg'

export interface StockSeed {
  tenant: string
  organization: string
  /** Locations that hold the stock: products are spread over them. */
  places: readonly string[]
  /** Where it comes from and goes to. */
  losses: string
  clients: string
  movesEach: number
}

/** Gives every product of a tenant that has no moves a receipt of 1,000 on 2 January 2026 and an issue of one on each day after. */
export async function seedStock(client: Client, { tenant, organization, places, losses, clients, movesEach }: StockSeed): Promise<void> {
  await client.query('set session_replication_role = replica')
  await client.query(
    `insert into erp_stock_move (id, tenant_id, organization_id, product_id, from_location_id, to_location_id, quantity, cost, currency, effective_at, source_type)
     select gen_random_uuid(), $1, $2, p.id, case when n = 1 then $3::uuid else p.place end, case when n = 1 then p.place else $4::uuid end,
       case when n = 1 then 1000 else 1 end, case when n = 1 then 2500 end, 'EUR', timestamptz '2026-01-01' + n * interval '1 day', 'seed'
     from (
       select id, ($5::uuid[])[1 + row_number() over (order by id) % cardinality($5::uuid[])] as place from erp_product q
       where tenant_id = $1 and not exists (select from erp_stock_value v where v.tenant_id = q.tenant_id and v.product_id = q.id)) p, generate_series(1, $6::int) n`,
    [tenant, organization, losses, clients, places, movesEach],
  )
  await client.query(
    `insert into erp_stock_quant (tenant_id, organization_id, location_id, product_id, quantity, negative_allowed, last_at)
     select $1, $2, l.id, d.product_id, d.quantity, l.kind <> 'internal', d.last_at from (
       select product_id, location_id, sum(quantity) as quantity, max(effective_at) as last_at from (
         select product_id, to_location_id as location_id, quantity, effective_at from erp_stock_move where tenant_id = $1 and source_type = 'seed'
         union all select product_id, from_location_id, -quantity, effective_at from erp_stock_move where tenant_id = $1 and source_type = 'seed') e group by 1, 2) d
     join erp_location l on l.id = d.location_id`,
    [tenant, organization],
  )
  await client.query(
    `insert into erp_stock_value (tenant_id, organization_id, product_id, currency)
     select $1, $2, product_id, 'EUR' from erp_stock_move where tenant_id = $1 and source_type = 'seed' group by product_id`,
    [tenant, organization],
  )
  await client.query('analyze erp_stock_move')
  await client.query(
    `insert into erp_stock_layer (id, tenant_id, organization_id, product_id, effective_at, quantity, cost, value, quantity_after, value_after, in_after, unit_cost)
     select n.id, $1, $2, m.product_id, n.effective_at, n.quantity, n.cost, n.value, n.quantity_after, n.value_after, n.in_after, n.unit_cost
     from (
       select product_id, array_agg(id) as ids, array_agg(case when from_location_id = $3 then quantity else -quantity end) as quantities
       from erp_stock_move where tenant_id = $1 and source_type = 'seed' group by 1
     ) as m cross join lateral erp_valuation($1, m.product_id, '-infinity', m.ids, m.quantities) as n`,
    [tenant, organization, losses],
  )
  await client.query('analyze erp_stock_layer, erp_stock_value') // else each product's value is sought among all layers
  await client.query(
    `update erp_stock_value h set quantity = l.quantity_after, value = l.value_after, unit_cost = l.unit_cost from (
       select distinct on (product_id) product_id, quantity_after, value_after, unit_cost from erp_stock_layer where tenant_id = $1
       order by product_id, effective_at desc, (quantity < 0) desc, id desc) l where h.tenant_id = $1 and h.product_id = l.product_id`,
    [tenant],
  )
  await client.query('set session_replication_role = origin')
  await client.query('vacuum analyze erp_product, erp_stock_move, erp_stock_layer, erp_stock_quant, erp_stock_value, erp_location')
}
