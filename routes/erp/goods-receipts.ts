import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  GoodsReceipt,
  GoodsReceiptDocument,
  getGoodsReceipt,
  goodsReceiptList,
  NewGoodsReceipt,
  receiveGoods,
} from '../../domain/erp/procurement/index.ts'
import { listRows } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { replyList } from '../http/list-reply.ts'
import { Id, ListQuerystring } from '../http/resource-routes.ts'
import { tagged } from '../http/version.ts'

export default async function goodsReceipts(app: FastifyInstance) {
  const tags = ['goods-receipts']
  const module = 'erp.procurement'
  const path = '/erp/goods-receipts'

  app.get(
    path,
    {
      permission: 'erp.goods_receipt.read',
      module,
      schema: {
        tags,
        summary: 'List goods receipts',
        querystring: ListQuerystring,
        response: { 200: ok(Type.Array(Type.Partial(GoodsReceipt.schema)), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    (request, reply) => replyList(request, reply, goodsReceiptList, (tx, query) => listRows(tx, goodsReceiptList, query)),
  )

  app.get<{ Params: { id: string } }>(
    `${path}/:id`,
    {
      permission: 'erp.goods_receipt.read',
      module,
      schema: {
        tags,
        summary: 'One goods receipt with its lines',
        params: Id,
        response: { 200: ok(GoodsReceiptDocument), ...guarded('not_found') },
      },
    },
    async (request, reply) => tagged(reply, await request.read((tx) => getGoodsReceipt(tx, request.params.id))),
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
