// The master data that is exchanged by files.
import { failure, type Resource } from '../../kernel/index.ts'
import { locations, reorderRules } from '../inventory/index.ts'
import { parties, partyAddresses, partyContacts } from '../parties/index.ts'
import { priceListItems, priceLists } from '../pricing/index.ts'
import {
  clientProducts,
  productCategories,
  productComponents,
  products,
  productVariants,
  supplierProducts,
  taxes,
  uomConversions,
  uoms,
} from '../products/index.ts'

// biome-ignore lint/suspicious/noExplicitAny: a resource of any row; its own schema says what goes in
type AnyResource = Resource<any, any>

const all: readonly AnyResource[] = [
  uoms,
  uomConversions,
  taxes,
  productCategories,
  products,
  productVariants,
  productComponents,
  parties,
  partyAddresses,
  partyContacts,
  supplierProducts,
  clientProducts,
  priceLists,
  priceListItems,
  locations,
  reorderRules,
]
const byTable = new Map(all.map((resource) => [resource.row.table, resource]))
export const EXCHANGED: readonly string[] = [...byTable.keys()]

/** The resource of a table. Throws `invalid_value` for what is not exchanged. */
export function exchanged(entity: string): AnyResource {
  const resource = byTable.get(entity)
  if (!resource) throw failure('invalid_value', { path: '/entity', rule: 'entity', message: `is one of ${EXCHANGED.join(', ')}` })
  return resource
}
