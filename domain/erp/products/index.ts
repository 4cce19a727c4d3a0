export { ProductComponent, productComponents } from './kit.ts'
export { ClientProduct, clientProducts, SupplierProduct, supplierProducts } from './others.ts'
export { Product, ProductCategory, ProductVariant, productCategories, products, productVariants } from './product.ts'
export { type ProductUnit, toBase, Uom, UomConversion, unitsOf, uomConversions, uoms } from './uom.ts'
