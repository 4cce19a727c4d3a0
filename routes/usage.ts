// What a tenant uses of its plan.
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { nullable } from '../domain/kernel/index.ts'
import { Usage, usageOf } from '../domain/platform/index.ts'
import { guarded, ok } from './http/envelope.ts'

export default async function usage(app: FastifyInstance) {
  app.get(
    '/tenant/usage',
    {
      authenticated: true,
      schema: {
        tags: ['tenant'],
        summary: 'How much of the plan is used; calls of the API are counted up to a second ago',
        response: { 200: ok(Type.Array(Usage), { plan: nullable(Type.String()) }), ...guarded() },
      },
    },
    async (request) => {
      const { plan, limits } = request.tenant
      const data = await usageOf(limits, (work, plane) => request.read(work, plane))
      return { data, plan }
    },
  )
}
