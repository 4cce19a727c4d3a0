// What things cost whom.
import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { PriceAnswer, PriceQuestion, resolvePrices } from '../../domain/erp/pricing/index.ts'
import { mutation, ok } from '../http/envelope.ts'

export default async function prices(app: FastifyInstance) {
  app.post<{ Body: Static<typeof PriceQuestion> }>(
    '/erp/prices/resolve',
    {
      level: 'workspace',
      permission: 'erp.price.resolve',
      module: 'erp.products',
      allowReadOnly: true,
      schema: {
        tags: ['prices'],
        summary: 'What up to 100 lines cost a client on a day, and which rule says so',
        body: PriceQuestion,
        response: { 200: ok(PriceAnswer), ...mutation('invalid_reference') },
      },
    },
    async (request) => ({ data: await request.read((tx) => resolvePrices(tx, request.body)) }),
  )
}
