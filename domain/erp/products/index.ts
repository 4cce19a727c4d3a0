export { Product, ProductCategory, productCategories, products } from './product.ts'
export { type ProductUnit, toBase, Uom, UomConversion, unitsOf, uomConversions, uoms } from './uom.ts'
