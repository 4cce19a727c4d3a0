// What things cost, as it is written down.
import { Type } from 'typebox'
import { Code, Currency, DateOnly, Name, nullable, one, oneOf, Price, Quantity, resource, row, Uuid } from '../../kernel/index.ts'
import { Party } from '../parties/index.ts'
import { Product } from '../products/index.ts'

/** Prices in one currency for everybody, for one client, or as agreed with him in a contract. */
export const PriceList = row(
  'erp_price_list',
  {
    code: Code,
    name: Name,
    kind: oneOf(['contract', 'client', 'list'], { default: 'list' }),
    client_id: nullable(Uuid),
    currency: Currency,
    tax_included: Type.Boolean({ default: false }),
    valid_from: nullable(DateOnly),
    valid_to: nullable(DateOnly),
    active: Type.Boolean({ default: true }),
  },
  { custom: true },
)

export const priceLists = resource(PriceList, {
  module: 'erp.products',
  permission: 'erp.price_list',
  filter: ['code', 'kind', 'client_id', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { client_id: () => Party },
  usedBy: [{ table: 'erp_price_list_item', column: 'price_list_id' }],
})

/** What a product costs on a list, for one base unit, from a quantity on. */
export const PriceListItem = row('erp_price_list_item', {
  price_list_id: Uuid,
  product_id: Uuid,
  minimum_quantity: { ...Quantity, default: '0' },
  price: Price,
  valid_from: nullable(DateOnly),
  valid_to: nullable(DateOnly),
})

export const priceListItems = resource(PriceListItem, {
  module: 'erp.products',
  permission: 'erp.price_list_item',
  filter: ['price_list_id', 'product_id', 'created_at'],
  sort: ['created_at'],
  references: { price_list_id: () => PriceList, product_id: () => Product },
  expand: { product: one(() => Product, 'product_id', 'erp.product.read') },
})
