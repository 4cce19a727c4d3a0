import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { approvalLimit } from '../../domain/access/index.ts'
import {
  createPurchaseOrder,
  getPurchaseOrder,
  movePurchaseOrder,
  NewPurchaseOrder,
  PurchaseOrderDocument,
  PurchaseOrderPatch,
  purchaseOrderLifecycle,
  purchaseOrderList,
  updatePurchaseOrder,
} from '../../domain/erp/procurement/index.ts'
import { mutation, ok } from '../http/envelope.ts'
import { lifecycleRoutes } from '../http/lifecycle-routes.ts'
import { Id, readingRoutes } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

export default async function purchaseOrders(app: FastifyInstance) {
  const tags = ['purchase-orders']
  const module = 'erp.procurement'
  const path = '/erp/purchase-orders'

  await app.register(
    readingRoutes({
      module,
      permission: 'erp.purchase_order',
      list: purchaseOrderList,
      schema: PurchaseOrderDocument,
      get: getPurchaseOrder,
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
      refusals: ['in_use', 'self_approval', 'approval_limit'],
      input: { approve: (request) => ({ limit: approvalLimit(request.grants, request.context, Date.now()) }) },
    }),
  )
}
