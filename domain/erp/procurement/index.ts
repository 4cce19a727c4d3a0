export * from './goods-receipt.ts'
export * from './purchase-order.ts'
