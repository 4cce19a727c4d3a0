import { Type } from 'typebox'
import {
  Code,
  Currency,
  failure,
  lockAlone,
  Name,
  nullable,
  one,
  oneOf,
  Price,
  resource,
  row,
  sql,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { Tax } from './tax.ts'
import { Uom } from './uom.ts'

/** GTIN-8, -12, -13 or -14; the database checks its last digit. */
const Barcode = nullable(Type.String({ pattern: '^([0-9]{8}|[0-9]{12,14})$', description: 'GTIN', examples: ['4006381333931'] }))

/** A heading that products are filed under. */
export const ProductCategory = row('erp_product_category', { code: Code, name: Name, parent_id: nullable(Uuid) }, { custom: true })

export const productCategories = resource(ProductCategory, {
  module: 'erp.products',
  permission: 'erp.product_category',
  filter: ['code', 'parent_id', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { parent_id: () => ProductCategory },
  tree: 'parent_id',
  usedBy: [
    { table: 'erp_product_category', column: 'parent_id' },
    { table: 'erp_product', column: 'category_id' },
  ],
})

/** Something that is bought, made, kept or sold; `uom_id` is the base unit that its stock is counted in. */
export const Product = row(
  'erp_product',
  {
    code: Code,
    name: Name,
    kind: oneOf(['stocked', 'service', 'kit'], { default: 'stocked' }),
    uom_id: Uuid,
    category_id: nullable(Uuid),
    lot_tracked: Type.Boolean({ default: false }),
    serial_tracked: Type.Boolean({ default: false, description: 'Every lot of it is one piece; such a product is tracked by lot' }),
    cost_method: oneOf(['average', 'fifo'], {
      default: 'average',
      description: 'What leaves is valued at the moving average, or first in, first out',
    }),
    shelf_life_days: nullable(Type.Integer({ minimum: 1, maximum: 36_500 })),
    barcode: Barcode,
    list_price: nullable(Price),
    currency: nullable(Currency),
    tax_id: nullable(Uuid),
    active: Type.Boolean({ default: true }),
  },
  { custom: true },
)

export const products = resource(Product, {
  module: 'erp.products',
  permission: 'erp.product',
  search: ['code', 'name'],
  filter: ['code', 'kind', 'category_id', 'barcode', 'active', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { uom_id: () => Uom, category_id: () => ProductCategory, tax_id: () => Tax },
  expand: {
    uom: one(() => Uom, 'uom_id', 'erp.uom.read'),
    category: one(() => ProductCategory, 'category_id', 'erp.product_category.read'),
  },
  usedBy: [
    { table: 'erp_stock_quant', column: 'product_id', while: sql.fragment`quantity <> 0` },
    { table: 'erp_product_component', column: 'component_id' },
    { table: 'erp_reorder_rule', column: 'product_id' },
    { table: 'erp_price_list_item', column: 'product_id' },
    { table: 'erp_product_variant', column: 'product_id' },
  ],
  check: keepsWhatCounts,
})

/**
 * What stock is counted by cannot change once there is a move: its quantities would mean something else. The product is
 * held alone; whoever is about to move it shares it (`unitsOf`), so one of the two sees the other. Throws `in_use`.
 */
async function keepsWhatCounts(tx: Tx, rows: readonly Record<string, unknown>[], before?: Record<string, unknown>): Promise<void> {
  if (rows.some((row) => row.serial_tracked && !row.lot_tracked))
    throw failure('invalid_value', {
      path: '/serial_tracked',
      rule: 'lot_tracked',
      message: 'needs lot_tracked: a serial number is a lot of one',
    })
  const [after] = rows
  const columns = before
    ? ['uom_id', 'kind', 'lot_tracked', 'serial_tracked', 'cost_method'].filter((column) => before[column] !== after![column])
    : []
  if (columns.length === 0) return
  const id = String(before!.id)
  await lockAlone(tx, Product, id)
  const moved = await tx.exists(sql.run`
    select 1 from erp_stock_move where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and product_id = ${id}`)
  if (moved) throw failure('in_use', { columns, by: [{ entity: 'erp_stock_move' }] })
}

/** One of the forms that a product is sold in: a size, a colour. */
export const ProductVariant = row(
  'erp_product_variant',
  {
    product_id: Uuid,
    code: Code,
    name: Name,
    attributes: Type.Record(Type.String({ maxLength: 64 }), Type.String({ maxLength: 200 }), {
      maxProperties: 20,
      default: {},
      examples: [{ pot: '12 cm', colour: 'red' }],
    }),
    barcode: Barcode,
  },
  { custom: true },
)

export const productVariants = resource(ProductVariant, {
  module: 'erp.products',
  permission: 'erp.product_variant',
  filter: ['product_id', 'code', 'barcode', 'created_at'],
  sort: ['code', 'created_at'],
  references: { product_id: () => Product },
})
