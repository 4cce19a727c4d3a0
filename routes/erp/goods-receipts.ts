import {
  GoodsReceiptDocument,
  getGoodsReceipt,
  goodsReceiptList,
  NewGoodsReceipt,
  receiveGoods,
} from '../../domain/erp/procurement/index.ts'
import { documentRoutes } from '../http/document-routes.ts'

export default documentRoutes({
  module: 'erp.procurement',
  permission: 'erp.goods_receipt',
  list: goodsReceiptList,
  schema: GoodsReceiptDocument,
  get: getGoodsReceipt,
  create: {
    summary: 'Receive goods of a sent order into stock',
    body: NewGoodsReceipt,
    run: (tx, input, { grants, context }) => {
      const tolerance = grants.organizations.find((o) => o.id === context.organizationId)?.over_receipt_tolerance ?? '0'
      return receiveGoods(tx, input, tolerance)
    },
    refusals: ['invalid_transition', 'over_receipt', 'version_conflict', 'period_closed', 'too_far_back'],
  },
})
