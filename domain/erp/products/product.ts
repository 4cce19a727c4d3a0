import { Type } from 'typebox'
import { Code, Currency, Name, nullable, one, oneOf, Price, resource, row, Uuid } from '../../kernel/index.ts'
import { Uom } from './uom.ts'

/** A heading that products are filed under. */
export const ProductCategory = row('erp_product_category', { code: Code, name: Name, parent_id: nullable(Uuid) })

export const productCategories = resource(ProductCategory, {
  module: 'erp.products',
  permission: 'erp.product_category',
  filter: ['code', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { parent_id: () => ProductCategory },
})

/** Something that is bought, made, kept or sold; `uom_id` is the base unit that its stock is counted in. */
export const Product = row('erp_product', {
  code: Code,
  name: Name,
  kind: oneOf(['stocked', 'service', 'kit'], { default: 'stocked' }),
  uom_id: Uuid,
  category_id: nullable(Uuid),
  lot_tracked: Type.Boolean({ default: false }),
  shelf_life_days: nullable(Type.Integer({ minimum: 1, maximum: 36_500 })),
  barcode: nullable(Type.String({ pattern: '^[0-9]{8,14}$', description: 'GTIN', examples: ['4006381333931'] })),
  list_price: nullable(Price),
  currency: nullable(Currency),
  active: Type.Boolean({ default: true }),
})

export const products = resource(Product, {
  module: 'erp.products',
  permission: 'erp.product',
  search: ['code', 'name'],
  filter: ['code', 'kind', 'category_id', 'barcode', 'active', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { uom_id: () => Uom, category_id: () => ProductCategory },
  expand: {
    uom: one(() => Uom, 'uom_id', 'erp.uom.read'),
    category: one(() => ProductCategory, 'category_id', 'erp.product_category.read'),
  },
})
