import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  issueStock,
  LevelQuery,
  StockDifference,
  StockIssue,
  StockLevel,
  StockMove,
  StockTotal,
  StockTransfer,
  StockValue,
  stockLevels,
  stockValue,
  totalStockValue,
  transferStock,
  ValueQuery,
  verifyStock,
} from '../../domain/erp/inventory/index.ts'
import { Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { nextPlace, pageOf, placeIn } from '../http/pages.ts'

const Total = Type.Pick(ValueQuery, ['as_of', 'location_id'], { additionalProperties: false })
const Proof = Type.Object(
  { product_id: Type.Optional(Uuid), cursor: Type.Optional(Type.String({ maxLength: 2000 })) },
  { additionalProperties: false },
)
const Proven = Type.Object({ differences: Type.Array(StockDifference), products: Type.Integer() }, { additionalProperties: false })

type Place = [string, string | null, string | null] | null
const placeOf = (row: { product_id: string; location_id: string | null; lot_id: string | null }) => [
  row.product_id,
  row.location_id,
  row.lot_id,
]

export default async function stock(app: FastifyInstance) {
  const tags = ['stock']
  const module = 'erp.inventory'

  app.get<{ Querystring: Static<typeof LevelQuery> }>(
    '/erp/stock',
    {
      level: 'organization',
      permission: 'erp.stock.read',
      module,
      schema: {
        tags,
        summary: 'Stock on hand, or as of a moment',
        querystring: LevelQuery,
        response: { 200: ok(Type.Array(StockLevel), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { cursor, limit = 1000, ...question } = request.query
      const list = `stock ${request.context.organizationId} ${JSON.stringify(question)}`
      const after = placeIn(request, list, cursor) as Place
      const found = await request.read((tx) => stockLevels(tx, { ...question, limit, after }))
      return pageOf(request, list, limit, found, placeOf)
    },
  )

  app.get<{ Querystring: Static<typeof ValueQuery> }>(
    '/erp/stock/value',
    {
      level: 'organization',
      permission: 'erp.stock_value.read',
      module,
      schema: {
        tags,
        summary: 'What stock is worth, by product, location or lot, now or as of a moment',
        querystring: ValueQuery,
        response: { 200: ok(Type.Array(StockValue), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { cursor, limit = 1000, by = 'product', ...question } = request.query
      const list = `stock value ${request.context.organizationId} ${by} ${JSON.stringify(question)}`
      const after = placeIn(request, list, cursor) as Place
      const found = await request.read((tx) => stockValue(tx, { ...question, by, limit, after }))
      return pageOf(request, list, limit, found, placeOf)
    },
  )

  app.get<{ Querystring: Static<typeof Total> }>(
    '/erp/stock/value/total',
    {
      level: 'organization',
      permission: 'erp.stock_value.read',
      module,
      schema: {
        tags,
        summary: 'What all stock is worth, or that of a location, now or as of a moment',
        querystring: Total,
        response: { 200: ok(StockTotal), ...guarded() },
      },
    },
    async (request) => ({ data: await request.read((tx) => totalStockValue(tx, request.query)) }),
  )

  app.get<{ Querystring: Static<typeof Proof> }>(
    '/erp/stock/verify',
    {
      level: 'organization',
      permission: 'erp.stock.read',
      module,
      schema: {
        tags,
        summary: 'Everything that is kept about stock, made anew from the moves: where it differs, which is nowhere',
        description: 'Products are proven 2,000 at a time: go on with `next_cursor` until there is none.',
        querystring: Proof,
        response: { 200: ok(Proven, { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { cursor, product_id = null } = request.query
      const list = `stock proof ${request.context.organizationId} ${product_id}`
      const [after = null] = (placeIn(request, list, cursor) ?? []) as [string?]
      const { last, ...proven } = await request.read((tx) => verifyStock(tx, { product_id, after }))
      return { data: proven, pagination: { limit: proven.products, next_cursor: last ? nextPlace(request, list, [last]) : null } }
    },
  )

  app.post<{ Body: Static<typeof StockIssue> }>(
    '/erp/stock/issues',
    {
      level: 'workspace',
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
      level: 'workspace',
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
