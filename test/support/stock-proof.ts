// The last word of a run: whatever all tests did to stock, of whatever tenant, it is what its moves say.
import { Client } from 'pg'

/** How many products were proven, and a sentence for each of the differences. */
export async function proveStock(urls: readonly string[]): Promise<{ proven: number; wrong: string[] }> {
  let proven = 0
  const wrong: string[] = []
  for (const connectionString of urls) {
    const client = new Client({ connectionString })
    await client.connect()
    try {
      const { rows } = await client.query<{ n: number }>('select count(*)::int as n from erp_stock_value')
      proven += rows[0]!.n
      const differing = await client.query<{ what: string }>(`
        select format('tenant %s, product %s, location %s: the moves make %s, kept is %s', tenant_id, product_id, location_id, sum(ledger), sum(kept)) as what
        from (
          select tenant_id, product_id, to_location_id as location_id, lot_id, quantity as ledger, 0 as kept from erp_stock_move
          union all select tenant_id, product_id, from_location_id, lot_id, -quantity, 0 from erp_stock_move
          union all select tenant_id, product_id, location_id, lot_id, 0, quantity from erp_stock_quant
        ) as e group by tenant_id, product_id, location_id, lot_id having sum(ledger) <> sum(kept)
        union all
        select format('tenant %s, product %s, location %s: %s is reserved, kept is %s', tenant_id, product_id, location_id, sum(held), sum(kept))
        from (
          select tenant_id, product_id, location_id, lot_id, quantity as held, 0 as kept from erp_stock_reservation
          union all select tenant_id, product_id, location_id, lot_id, 0, reserved from erp_stock_quant
        ) as e group by tenant_id, product_id, location_id, lot_id having sum(held) <> sum(kept)
        union all
        select format('tenant %s, move %s: worth %s, kept is %s', l.tenant_id, l.id, v.value, l.value)
        from (select h.tenant_id, v.* from erp_stock_value h cross join lateral erp_valuation(h.tenant_id, h.product_id, '-infinity') as v) as v
        full join erp_stock_layer l on l.id = v.id
        where (v.value, v.quantity_after, v.value_after) is distinct from (l.value, l.quantity_after, l.value_after)
        limit 20`)
      wrong.push(...differing.rows.map(({ what }) => what))
    } finally {
      await client.end()
    }
  }
  return { proven, wrong }
}
