import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  issueStock,
  StockDifference,
  StockIssue,
  StockLevel,
  StockMove,
  StockTransfer,
  stockAsOf,
  stockOnHand,
  transferStock,
  verifyStock,
} from '../../domain/erp/inventory/index.ts'
import { Timestamp, Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'

const Question = Type.Object(
  { product_id: Type.Optional(Uuid), location_id: Type.Optional(Uuid), as_of: Type.Optional(Timestamp) },
  { additionalProperties: false },
)

export default async function stock(app: FastifyInstance) {
  const tags = ['stock']
  const module = 'erp.inventory'

  app.get<{ Querystring: Static<typeof Question> }>(
    '/erp/stock',
    {
      permission: 'erp.stock.read',
      module,
      schema: {
        tags,
        summary: 'Stock on hand, or as of a moment',
        querystring: Question,
        response: { 200: ok(Type.Array(StockLevel)), ...guarded() },
      },
    },
    async (request) => {
      const { as_of, ...question } = request.query
      return { data: await request.read((tx) => (as_of ? stockAsOf(tx, as_of, question) : stockOnHand(tx, question))) }
    },
  )

  app.get(
    '/erp/stock/verify',
    {
      permission: 'erp.stock.read',
      module,
      schema: {
        tags,
        summary: 'Where ledger and stock differ: nowhere',
        response: { 200: ok(Type.Object({ differences: Type.Array(StockDifference) })), ...guarded() },
      },
    },
    async (request) => ({ data: { differences: await request.read(verifyStock) } }),
  )

  app.post<{ Body: Static<typeof StockIssue> }>(
    '/erp/stock/issues',
    {
      permission: 'erp.stock.issue',
      module,
      schema: {
        tags,
        summary: 'Take stock out of a location, earliest expiry first',
        body: StockIssue,
        response: { 201: ok(Type.Array(StockMove)), ...mutation('insufficient_stock', 'invalid_reference') },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => issueStock(tx, request.body)) }
    },
  )

  app.post<{ Body: Static<typeof StockTransfer> }>(
    '/erp/stock/transfers',
    {
      permission: 'erp.stock.transfer',
      module,
      schema: {
        tags,
        summary: 'Move stock between two locations',
        body: StockTransfer,
        response: { 201: ok(Type.Array(StockMove)), ...mutation('insufficient_stock', 'invalid_reference') },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => transferStock(tx, request.body)) }
    },
  )
}
