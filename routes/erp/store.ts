// The documents of the store: what is held, what is on its way, what was counted, what else goods cost.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  CountedLines,
  countLifecycle,
  countList,
  createTransfer,
  getCount,
  getLandedCost,
  getReservation,
  getTransfer,
  IssueReserved,
  issueReserved,
  LandedCostDocument,
  landedCostLifecycle,
  landedCostList,
  moveCount,
  moveLandedCost,
  moveTransfer,
  NewLandedCost,
  NewReservation,
  NewStockCount,
  NewTransfer,
  noteCounted,
  postLandedCost,
  Release,
  releaseStock,
  reservationList,
  reserveStock,
  StockCountDocument,
  StockMove,
  StockReservation,
  startCount,
  TransferDocument,
  transferLifecycle,
  transferList,
} from '../../domain/erp/inventory/index.ts'
import { documentRoutes } from '../http/document-routes.ts'
import { mutation, ok } from '../http/envelope.ts'
import { Id, readingRoutes } from '../http/reading-routes.ts'
import { tagged } from '../http/version.ts'

const module = 'erp.inventory'

export default async function store(app: FastifyInstance) {
  const tags = ['stock-reservations']
  await app.register(
    readingRoutes({
      module,
      permission: 'erp.stock_reservation',
      list: reservationList,
      schema: StockReservation.schema,
      get: getReservation,
      has: (what) => what !== 'history',
    }),
  )
  app.post<{ Body: Static<typeof NewReservation> }>(
    '/erp/stock-reservations',
    {
      level: 'workspace',
      permission: 'erp.stock_reservation.create',
      module,
      schema: {
        tags,
        summary: 'Hold stock, all lines or none; of kits, what they are put together from',
        body: NewReservation,
        response: { 201: ok(Type.Array(StockReservation.schema)), ...mutation('insufficient_stock', 'invalid_reference') },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => reserveStock(tx, request.body)) }
    },
  )
  app.post<{ Body: Static<typeof Release> }>(
    '/erp/stock-reservations/release',
    {
      level: 'workspace',
      permission: 'erp.stock_reservation.release',
      module,
      schema: {
        tags,
        summary: 'Hold no longer what is held for a document',
        body: Release,
        response: { 200: ok(Type.Array(StockReservation.schema)), ...mutation('not_found') },
      },
    },
    async (request) => ({ data: await request.write((tx) => releaseStock(tx, request.body.source_id)) }),
  )
  app.post<{ Body: Static<typeof IssueReserved> }>(
    '/erp/stock-reservations/issue',
    {
      level: 'workspace',
      permission: 'erp.stock.issue',
      module,
      schema: {
        tags,
        summary: 'Take out exactly what is held for a document',
        body: IssueReserved,
        response: { 201: ok(Type.Array(StockMove)), ...mutation('not_found', 'period_closed') },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => issueReserved(tx, request.body)) }
    },
  )

  await app.register(
    documentRoutes({
      module,
      permission: 'erp.stock_transfer',
      list: transferList,
      schema: TransferDocument,
      get: getTransfer,
      create: { summary: 'Draft a transfer between two locations', body: NewTransfer, run: createTransfer, refusals: ['already_exists'] },
      moves: {
        lifecycle: transferLifecycle,
        move: moveTransfer,
        refusals: ['insufficient_stock', 'invalid_reference', 'over_receipt', 'period_closed'],
      },
    }),
  )

  await app.register(
    documentRoutes({
      module,
      permission: 'erp.stock_count',
      list: countList,
      schema: StockCountDocument,
      get: getCount,
      create: { summary: 'Begin to count a location, blind when nothing is said', body: NewStockCount, run: startCount },
      moves: {
        lifecycle: countLifecycle,
        move: moveCount,
        refusals: ['self_approval', 'insufficient_stock', 'period_closed', 'too_far_back'],
      },
    }),
  )
  app.put<{ Params: { id: string }; Body: Static<typeof CountedLines> }>(
    '/erp/stock-counts/:id/lines',
    {
      level: 'workspace',
      permission: 'erp.stock_count.count',
      module,
      schema: {
        tags: ['stock-counts'],
        summary: 'Note what was found; noted again, the last holds',
        params: Id,
        body: CountedLines,
        response: { 200: ok(StockCountDocument), ...mutation('not_found', 'invalid_transition', 'invalid_reference') },
      },
    },
    async (request, reply) => tagged(reply, await request.write((tx) => noteCounted(tx, request.params.id, request.body))),
  )

  await app.register(
    documentRoutes({
      module,
      permission: 'erp.landed_cost',
      list: landedCostList,
      schema: LandedCostDocument,
      get: getLandedCost,
      create: {
        summary: 'Put freight, duty and the like on received goods, from the moment they came',
        body: NewLandedCost,
        run: postLandedCost,
        refusals: ['period_closed', 'too_far_back'],
      },
      moves: { lifecycle: landedCostLifecycle, move: moveLandedCost, refusals: ['period_closed', 'too_far_back'] },
    }),
  )
}
