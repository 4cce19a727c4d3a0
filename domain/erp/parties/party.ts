import { Type } from 'typebox'
import { Code, Currency, Name, nullable, oneOf, Price, resource, row, sql, Uuid } from '../../kernel/index.ts'

/** Someone the tenant buys from, sells to or ships with; `parent_id` is the company that it belongs to. */
export const Party = row(
  'erp_party',
  {
    code: Code,
    name: Name,
    roles: Type.Array(oneOf(['supplier', 'client', 'carrier']), { minItems: 1, uniqueItems: true }),
    tax_id: nullable(Type.String({ maxLength: 64 })),
    currency: nullable(Currency),
    credit_limit: nullable(Price),
    credit_hold: Type.Boolean({ default: false }),
    parent_id: nullable(Uuid),
    merged_into: nullable(Uuid),
  },
  { custom: true, derived: ['merged_into'] },
)

export const parties = resource(Party, {
  module: 'erp.parties',
  permission: 'erp.party',
  search: ['code', 'name'],
  filter: ['code', 'roles', 'credit_hold', 'parent_id', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { parent_id: () => Party },
  tree: 'parent_id',
  usedBy: [
    { table: 'erp_party', column: 'parent_id' },
    {
      table: 'erp_purchase_order',
      column: 'supplier_id',
      while: sql.fragment`deleted_at is null and status not in ('closed', 'cancelled')`,
    },
    { table: 'erp_supplier_product', column: 'supplier_id' },
    { table: 'erp_client_product', column: 'client_id' },
    { table: 'erp_price_list', column: 'client_id' },
  ],
})
