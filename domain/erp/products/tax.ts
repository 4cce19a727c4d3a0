import { Type } from 'typebox'
import { Code, Name, resource, row } from '../../kernel/index.ts'

/** A tax on what is sold; `rate` is per cent of the price without it. */
export const Tax = row('erp_tax', {
  code: Code,
  name: Name,
  rate: Type.String({ pattern: '^\\d{1,3}(\\.\\d{1,6})?$', 'x-pg': 'numeric', description: 'Per cent', examples: ['21'] }),
})

export const taxes = resource(Tax, {
  module: 'erp.products',
  permission: 'erp.tax',
  filter: ['code', 'created_at'],
  sort: ['code', 'created_at'],
  usedBy: [{ table: 'erp_product', column: 'tax_id' }],
})
