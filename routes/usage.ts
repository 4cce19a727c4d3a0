// What a tenant uses of its plan.
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { limitOf, type Metric, nullable } from '../domain/kernel/index.ts'
import { planeOf, used } from '../domain/platform/index.ts'
import { guarded, ok } from './http/envelope.ts'

const METRICS: readonly Metric[] = [
  'users',
  'records',
  'devices',
  'storage',
  'api_calls',
  'readings',
  'device_metrics',
  'metrics',
  'series',
]
const Usage = Type.Object({
  metric: Type.String({
    description: 'storage in bytes, api_calls of this month, readings of the last whole minute, device_metrics of the device with the most',
  }),
  used: Type.Integer(),
  limit: nullable(Type.Integer({ description: 'Null is without limit' })),
})

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
      const data = await Promise.all(
        METRICS.map(async (metric) => ({
          metric,
          used: await request.read((tx) => used(tx, metric), planeOf(metric)),
          limit: limitOf(limits, metric),
        })),
      )
      return { data, plan }
    },
  )
}
