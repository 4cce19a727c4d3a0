import { Type } from 'typebox'
import { Code, Currency, Name, nullable, oneOf, Price, resource, row } from '../../kernel/index.ts'

/** Someone the tenant buys from, sells to or ships with. */
export const Party = row('erp_party', {
  code: Code,
  name: Name,
  roles: Type.Array(oneOf(['supplier', 'client', 'carrier']), { minItems: 1, uniqueItems: true }),
  tax_id: nullable(Type.String({ maxLength: 64 })),
  currency: nullable(Currency),
  credit_limit: nullable(Price),
  credit_hold: Type.Boolean({ default: false }),
})

export const parties = resource(Party, {
  module: 'erp.parties',
  permission: 'erp.party',
  search: ['code', 'name'],
  filter: ['code', 'roles', 'credit_hold', 'created_at'],
  sort: ['code', 'name', 'created_at'],
})
