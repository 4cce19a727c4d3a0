import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import {
  GoodsReceiptDocument,
  getGoodsReceipt,
  goodsReceiptList,
  NewGoodsReceipt,
  receiveGoods,
} from '../../domain/erp/procurement/index.ts'
import { mutation, ok } from '../http/envelope.ts'
import { readingRoutes } from '../http/reading-routes.ts'
import { tagged } from '../http/version.ts'

export default async function goodsReceipts(app: FastifyInstance) {
  const tags = ['goods-receipts']
  const module = 'erp.procurement'
  const path = '/erp/goods-receipts'

  await app.register(
    readingRoutes({
      module,
      permission: 'erp.goods_receipt',
      list: goodsReceiptList,
      schema: GoodsReceiptDocument,
      get: getGoodsReceipt,
    }),
  )

  app.post<{ Body: Static<typeof NewGoodsReceipt> }>(
    path,
    {
      permission: 'erp.goods_receipt.create',
      module,
      schema: {
        tags,
        summary: 'Receive goods of a sent order into stock',
        body: NewGoodsReceipt,
        response: {
          201: ok(GoodsReceiptDocument),
          ...mutation('invalid_reference', 'invalid_transition', 'over_receipt', 'version_conflict'),
        },
      },
    },
    async (request, reply) => {
      const tolerance = request.grants.organizations.find((o) => o.id === request.context.organizationId)?.over_receipt_tolerance ?? '0'
      const receipt = await request.write((tx) => receiveGoods(tx, request.body, tolerance))
      reply.status(201).header('location', `/api/v1${path}/${receipt.id}`)
      return tagged(reply, receipt)
    },
  )
}
