export { CardLine, CardQuery, stockCard } from './card.ts'
export { adjustStock, Reversal, reverseMove, StockAdjustment } from './correct.ts'
export {
  CountedLines,
  countLifecycle,
  countList,
  getCount,
  moveCount,
  NewStockCount,
  noteCounted,
  StockCount,
  StockCountDocument,
  startCount,
} from './count.ts'
export {
  getLandedCost,
  LandedCost,
  LandedCostDocument,
  landedCostLifecycle,
  landedCostList,
  moveLandedCost,
  NewLandedCost,
  postLandedCost,
} from './landed-cost.ts'
export { LevelQuery, StockLevel, StockTotal, StockValue, stockLevels, stockValue, totalStockValue, ValueQuery } from './levels.ts'
export { Location, locations, requireStockLocation, virtualLocation } from './location.ts'
export { ensureLots, Lot, lots } from './lot.ts'
export { type NewMove, postMoves, StockMove } from './moves.ts'
export { closeStock, StockPeriod, stockPeriod } from './period.ts'
export { ReorderRule, reorderRules, reviewReorderRules, StockAlert, stockAlerts } from './reorder.ts'
export {
  getReservation,
  IssueReserved,
  issueReserved,
  NewReservation,
  Release,
  releaseStock,
  reservationList,
  reserveStock,
  StockReservation,
} from './reservation.ts'
export { issueStock, StockIssue, StockTransfer, transferStock } from './stock.ts'
export {
  createTransfer,
  getTransfer,
  moveTransfer,
  NewTransfer,
  Transfer,
  TransferDocument,
  transferLifecycle,
  transferList,
} from './transfer.ts'
export { StockDifference, verifyStock } from './verify.ts'
