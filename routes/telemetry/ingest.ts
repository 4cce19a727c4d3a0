// What devices send by HTTP, and what was refused of all that they sent.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { failure } from '../../domain/kernel/index.ts'
import {
  authenticateDevices,
  hashKey,
  MAX_MESSAGE_BYTES,
  Rejected,
  RejectedQuery,
  rejectedReadings,
  TelemetryMessage,
} from '../../domain/telemetry/index.ts'
import { guarded, ok, open, Pagination } from '../http/envelope.ts'
import { pageOf, placeIn } from '../http/pages.ts'

const TELEMETRY_TOPIC = 'tenantry.telemetry.v1'
const tags = ['telemetry']
const module = 'telemetry.devices'
const plane = 'telemetry'

export default async function ingest(app: FastifyInstance) {
  app.post<{ Body: TelemetryMessage }>(
    '/telemetry/readings',
    {
      public: true,
      plane,
      bodyLimit: MAX_MESSAGE_BYTES,
      schema: {
        tags,
        summary: 'Readings of a device by HTTP: 202 once Kafka has them',
        description: 'With `Authorization: Bearer dk_…`. The same body as on the topic.',
        body: TelemetryMessage,
        response: {
          202: ok(Type.Object({ accepted: Type.Integer() })),
          ...open('missing_token', 'invalid_token', 'tenant_mismatch', 'broker_unavailable', 'tenant_migrating'),
        },
      },
    },
    async (request, reply) => {
      const { tenant, device, readings } = request.body
      const key = request.headers.authorization?.match(/^Bearer (dk_\S+)$/)?.[1]
      if (!key) throw failure('missing_token')
      if (tenant !== request.tenant.slug) throw failure('tenant_mismatch')
      const known = await request.read((tx) => authenticateDevices(tx, [[device, hashKey(key)]]))
      if (known.size === 0) throw failure('invalid_token')
      await app.services
        .publish([{ topic: TELEMETRY_TOPIC, key: device, value: JSON.stringify(request.body), headers: { 'device-key': key } }])
        .catch((error: unknown) => {
          request.log.warn({ err: error }, 'broker unavailable')
          throw failure('broker_unavailable')
        })
      reply.status(202)
      return { data: { accepted: readings.length } }
    },
  )

  app.get<{ Querystring: Static<typeof RejectedQuery> }>(
    '/telemetry/rejections',
    {
      level: 'organization',
      permission: 'telemetry.rejection.read',
      module,
      plane,
      schema: {
        tags,
        summary: 'What devices sent and nobody kept, by device, reason and hour, the latest first',
        querystring: RejectedQuery,
        response: { 200: ok(Type.Array(Rejected), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { cursor, limit = 50, ...question } = request.query
      const list = `rejections ${request.context.organizationId} ${JSON.stringify(question)}`
      const after = placeIn(request, list, cursor) as string[] | null
      const found = await request.read((tx) => rejectedReadings(tx, { ...question, limit, after }))
      return pageOf(request, list, limit, found, ({ hour, device, reason }) => [hour, device, reason])
    },
  )
}
