// Fields that a company adds to its master data.
import { CustomField, customSchemas, failure, type Row, resource, type Tx } from '../../kernel/index.ts'
import { Location, Lot, ReorderRule } from '../inventory/index.ts'
import { Party } from '../parties/index.ts'
import { PriceList } from '../pricing/index.ts'
import { Product, ProductCategory, ProductVariant } from '../products/index.ts'

const rows: readonly Row[] = [Location, Lot, Party, PriceList, Product, ProductCategory, ProductVariant, ReorderRule]
/** The tables whose records can have fields of the company's own. */
export const CUSTOMIZABLE: readonly string[] = rows.map(({ table }) => table)

export const customFields = resource(CustomField, {
  module: null,
  permission: 'erp.custom_field',
  filter: ['entity', 'code', 'created_at'],
  sort: ['created_at'],
  check: makesSense,
})

/** What a field is stays: values that were written are read by it. Throws `invalid_value`. */
async function makesSense(_tx: Tx, fields: readonly Record<string, unknown>[], before?: Record<string, unknown>): Promise<void> {
  for (const field of fields) {
    const refuse = (path: string, rule: string, message: string) => failure('invalid_value', { path, rule, message })
    if (!CUSTOMIZABLE.includes(String(field.entity))) throw refuse('/entity', 'entity', `is one of ${CUSTOMIZABLE.join(', ')}`)
    const fixed = ['entity', 'code', 'kind'].find((column) => before && before[column] !== field[column])
    if (fixed) throw refuse(`/${fixed}`, 'fixed', 'stays what it was: make another field')
    const choices = (field.choices ?? []) as string[]
    if ((field.kind === 'choice') !== choices.length > 0)
      throw refuse('/choices', 'choice', field.kind === 'choice' ? 'says what can be chosen' : 'is of a field of the kind choice')
    if (field.filterable && Number(field.max_length ?? 0) > 500)
      throw refuse('/max_length', 'filterable', 'is at most 500 where records are found by it')
    if (field.minimum != null && field.maximum != null && Number(field.minimum) > Number(field.maximum))
      throw refuse('/minimum', 'range', 'is above the maximum')
  }
}

/** What `custom` of each entity's records is in the context's organization, as JSON Schema. */
export const describeCustom = (tx: Tx) => customSchemas(tx, CUSTOMIZABLE)
