export { CardLine, CardQuery, stockCard } from './card.ts'
export { adjustStock, Reversal, reverseMove, StockAdjustment } from './correct.ts'
export { Location, locations, requireStockLocation, virtualLocation } from './location.ts'
export { ensureLots, Lot, lots } from './lot.ts'
export { type NewMove, postMoves, StockMove } from './moves.ts'
export { closeStock, StockPeriod, stockPeriod } from './period.ts'
export { ReorderRule, reorderRules, reviewReorderRules, StockAlert, stockAlerts } from './reorder.ts'
export {
  issueStock,
  StockDifference,
  StockIssue,
  StockLevel,
  StockTransfer,
  stockAsOf,
  stockOnHand,
  transferStock,
  verifyStock,
} from './stock.ts'
