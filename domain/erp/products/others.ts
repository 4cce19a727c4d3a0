// What others call our products, and what they ask for them.
import { Type } from 'typebox'
import { Currency, nullable, one, PositiveQuantity, Price, resource, row, Uuid } from '../../kernel/index.ts'
import { Party } from '../parties/index.ts'
import { Product } from './product.ts'

const TheirCode = Type.String({ minLength: 1, maxLength: 64, examples: ['88-1234'] })

/** What a supplier calls a product and asks for it. */
export const SupplierProduct = row('erp_supplier_product', {
  supplier_id: Uuid,
  product_id: Uuid,
  supplier_code: nullable(TheirCode),
  price: nullable(Price),
  currency: nullable(Currency),
  lead_time_days: nullable(Type.Integer({ minimum: 0, maximum: 3650 })),
  minimum_quantity: nullable(PositiveQuantity),
})

export const supplierProducts = resource(SupplierProduct, {
  module: 'erp.products',
  permission: 'erp.supplier_product',
  filter: ['supplier_id', 'product_id', 'created_at'],
  sort: ['created_at'],
  references: { supplier_id: () => Party, product_id: () => Product },
  expand: { product: one(() => Product, 'product_id', 'erp.product.read'), supplier: one(() => Party, 'supplier_id', 'erp.party.read') },
})

/** What a client calls a product. */
export const ClientProduct = row('erp_client_product', {
  client_id: Uuid,
  product_id: Uuid,
  client_code: TheirCode,
  client_name: nullable(Type.String({ maxLength: 200 })),
})

export const clientProducts = resource(ClientProduct, {
  module: 'erp.products',
  permission: 'erp.client_product',
  filter: ['client_id', 'product_id', 'created_at'],
  sort: ['created_at'],
  references: { client_id: () => Party, product_id: () => Product },
  expand: { product: one(() => Product, 'product_id', 'erp.product.read'), client: one(() => Party, 'client_id', 'erp.party.read') },
})
