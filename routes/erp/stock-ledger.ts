// The ledger of stock: its card, corrections, and until when it is closed.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  adjustStock,
  CardLine,
  CardQuery,
  closeStock,
  Reversal,
  reverseMove,
  StockAdjustment,
  StockMove,
  StockPeriod,
  stockCard,
  stockPeriod,
} from '../../domain/erp/inventory/index.ts'
import { Version } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { pageOf, placeIn } from '../http/pages.ts'
import { Id } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const tags = ['stock']
const module = 'erp.inventory'
const Closing = Type.Object(
  { closed_through: StockPeriod.properties.closed_through, version: Type.Optional(Version) },
  { additionalProperties: false },
)

export default async function stockLedger(app: FastifyInstance) {
  app.get<{ Querystring: Static<typeof CardQuery> }>(
    '/erp/stock/card',
    {
      level: 'organization',
      permission: 'erp.stock.read',
      module,
      schema: {
        tags,
        summary: 'The ledger card of a product: every move, what it changed and what was there after it',
        querystring: CardQuery,
        response: { 200: ok(Type.Array(CardLine), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { cursor, limit = 50, ...question } = request.query
      if (question.value) request.require('erp.stock_value.read')
      const list = `stock card ${request.context.organizationId} ${JSON.stringify(question)}`
      const after = placeIn(request, list, cursor) as [string, string] | null
      const found = await request.read((tx) => stockCard(tx, { ...question, limit, after }))
      return pageOf(request, list, limit, found, ({ effective_at, id }) => [effective_at, id])
    },
  )

  app.post<{ Body: Static<typeof StockAdjustment> }>(
    '/erp/stock/adjustments',
    {
      level: 'organization',
      permission: 'erp.stock.adjust',
      module,
      schema: {
        tags,
        summary: 'Set right what is there, and say why',
        body: StockAdjustment,
        response: { 201: ok(Type.Array(StockMove)), ...mutation('insufficient_stock', 'invalid_reference', 'period_closed') },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => adjustStock(tx, request.body)) }
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof Reversal> }>(
    '/erp/stock/moves/:id/reverse',
    {
      level: 'organization',
      permission: 'erp.stock.reverse',
      module,
      schema: {
        tags,
        summary: 'Undo a move by its opposite, once',
        params: Id,
        body: Reversal,
        response: {
          201: ok(StockMove),
          ...mutation('not_found', 'invalid_transition', 'already_exists', 'insufficient_stock', 'period_closed'),
        },
      },
    },
    async (request, reply) => {
      reply.status(201)
      return { data: await request.write((tx) => reverseMove(tx, request.params.id, request.body)) }
    },
  )

  app.get(
    '/erp/stock/period',
    {
      level: 'organization',
      permission: 'erp.stock.read',
      module,
      schema: { tags, summary: 'Until when stock is closed', response: { 200: ok(StockPeriod), ...guarded() } },
    },
    async (request, reply) => tagged(reply, await request.read(stockPeriod)),
  )
  app.put<{ Body: Static<typeof Closing> }>(
    '/erp/stock/period',
    {
      level: 'organization',
      permission: 'erp.stock.close',
      module,
      schema: {
        tags,
        summary: 'Close stock through a moment, or open it again from an earlier one',
        body: Closing,
        response: { 200: ok(StockPeriod), ...mutation('version_required', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(reply, await request.write((tx) => closeStock(tx, request.body.closed_through, version)))
    },
  )
}
