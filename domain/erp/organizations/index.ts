// Whether an organization holds ERP records.
import { type Static, Type } from 'typebox'
import { sql, type Tx } from '../../kernel/index.ts'

/** Records of a kind are counted up to this many. */
const MAX_COUNTED = 1_000

const Uses = Type.Object(
  {
    parties: Type.Integer(),
    products: Type.Integer(),
    purchase_orders: Type.Integer(),
    goods_receipts: Type.Integer(),
    stock_moves: Type.Integer(),
  },
  { additionalProperties: false },
)

/** The records of an organization by kind, at most a thousand of each; deleted ones are none. */
export function recordsOf(tx: Tx, organizationId: string): Promise<Static<typeof Uses>> {
  const here = sql.fragment`where tenant_id = ${tx.tenantId} and organization_id = ${organizationId}`
  const count = (table: string, live = sql.fragment`and deleted_at is null`) =>
    sql.fragment`(select count(*) from (select from ${sql.identifier([table])} ${here} ${live} limit ${MAX_COUNTED}::int) as r)`
  return tx.one(sql.prepared(Uses)`
    select ${count('erp_party')} as parties, ${count('erp_product')} as products, ${count('erp_purchase_order')} as purchase_orders,
      ${count('erp_goods_receipt')} as goods_receipts, ${count('erp_stock_move', sql.fragment``)} as stock_moves`)
}
