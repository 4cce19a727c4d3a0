import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { approvalLimit } from '../../domain/access/index.ts'
import {
  createPurchaseOrder,
  getPurchaseOrder,
  listPurchaseOrders,
  movePurchaseOrder,
  NewPurchaseOrder,
  PurchaseOrder,
  PurchaseOrderDocument,
  PurchaseOrderPatch,
  purchaseOrderLifecycle,
  purchaseOrderList,
  updatePurchaseOrder,
} from '../../domain/erp/procurement/index.ts'
import { Change, historyOf } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { lifecycleRoutes } from '../http/lifecycle-routes.ts'
import { replyList } from '../http/list-reply.ts'
import { Id, ListQuerystring } from '../http/resource-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

export default async function purchaseOrders(app: FastifyInstance) {
  const tags = ['purchase-orders']
  const module = 'erp.procurement'
  const path = '/erp/purchase-orders'

  app.get(
    path,
    {
      permission: 'erp.purchase_order.read',
      module,
      schema: {
        tags,
        summary: 'List purchase orders',
        querystring: ListQuerystring,
        response: { 200: ok(Type.Array(Type.Partial(PurchaseOrder.schema)), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    (request, reply) => replyList(request, reply, purchaseOrderList, listPurchaseOrders as never),
  )

  app.get<{ Params: { id: string } }>(
    `${path}/:id`,
    {
      permission: 'erp.purchase_order.read',
      module,
      schema: {
        tags,
        summary: 'One purchase order with its lines',
        params: Id,
        response: { 200: ok(PurchaseOrderDocument), ...guarded('not_found') },
      },
    },
    async (request, reply) => tagged(reply, await request.read((tx) => getPurchaseOrder(tx, request.params.id))),
  )

  app.get<{ Params: { id: string } }>(
    `${path}/:id/history`,
    {
      permission: 'erp.purchase_order.read',
      module,
      schema: {
        tags,
        summary: 'Who changed the order, when and how',
        params: Id,
        response: { 200: ok(Type.Array(Change)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await getPurchaseOrder(tx, request.params.id)
        return historyOf(tx, PurchaseOrder.table, request.params.id)
      }),
    }),
  )

  app.post<{ Body: Static<typeof NewPurchaseOrder> }>(
    path,
    {
      permission: 'erp.purchase_order.create',
      module,
      schema: {
        tags,
        summary: 'Draft a purchase order',
        body: NewPurchaseOrder,
        response: { 201: ok(PurchaseOrderDocument), ...mutation('invalid_reference') },
      },
    },
    async (request, reply) => {
      const order = await request.write((tx) => createPurchaseOrder(tx, request.body))
      reply.status(201).header('location', `/api/v1${path}/${order.id}`)
      return tagged(reply, order)
    },
  )

  app.patch<{ Params: { id: string }; Body: Static<typeof PurchaseOrderPatch> }>(
    `${path}/:id`,
    {
      permission: 'erp.purchase_order.update',
      module,
      schema: {
        tags,
        summary: 'Change a draft',
        params: Id,
        body: PurchaseOrderPatch,
        response: {
          200: ok(PurchaseOrderDocument),
          ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_transition', 'invalid_reference'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(reply, await request.write((tx) => updatePurchaseOrder(tx, request.params.id, version, request.body)))
    },
  )

  await app.register(
    lifecycleRoutes(purchaseOrderLifecycle, {
      module,
      document: PurchaseOrderDocument,
      move: movePurchaseOrder,
      input: { approve: (request) => ({ limit: approvalLimit(request.grants, request.context, Date.now()) }) },
    }),
  )
}
