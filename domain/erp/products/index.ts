export { Product, ProductCategory, productCategories, products } from './product.ts'
export { type ProductUnit, toBase, Uom, UomConversion, uomConversions, uoms, unitsOf } from './uom.ts'
