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
import type { Context } from '../../domain/kernel/index.ts'
import { documentRoutes } from '../http/document-routes.ts'
import { mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const module = 'erp.procurement'

export default async function purchaseOrders(app: FastifyInstance) {
  await app.register(
    documentRoutes({
      module,
      permission: 'erp.purchase_order',
      list: purchaseOrderList,
      schema: PurchaseOrderDocument,
      get: getPurchaseOrder,
      create: { summary: 'Draft a purchase order', body: NewPurchaseOrder, run: createPurchaseOrder },
      moves: {
        lifecycle: purchaseOrderLifecycle,
        move: movePurchaseOrder,
        refusals: ['in_use', 'self_approval', 'approval_limit', 'exchange_rate_missing'],
        input: { approve: ({ grants }) => ({ limitIn: (place: Context) => approvalLimit(grants, place, Date.now()) }) },
      },
    }),
  )

  app.patch<{ Params: { id: string }; Body: Static<typeof PurchaseOrderPatch> }>(
    '/erp/purchase-orders/:id',
    {
      level: 'workspace',
      permission: 'erp.purchase_order.update',
      module,
      schema: {
        tags: ['purchase-orders'],
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
}
