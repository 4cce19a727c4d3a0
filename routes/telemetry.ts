import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { failure, oneOf, requireTimeZone, Timestamp, TimeZone } from '../domain/kernel/index.ts'
import {
  authenticateDevices,
  BUCKETS,
  Bucket,
  type BucketLength,
  bucketedReadings,
  FillSchema,
  hashKey,
  MAX_MESSAGE_BYTES,
  Reading,
  Rejected,
  RejectedQuery,
  rawReadings,
  rejectedReadings,
  TelemetryMessage,
} from '../domain/telemetry/index.ts'
import { guarded, ok, open, Pagination } from './http/envelope.ts'
import { pageOf, placeIn } from './http/pages.ts'

const TELEMETRY_TOPIC = 'tenantry.telemetry.v1'

const Question = Type.Object(
  {
    device: Type.String({ minLength: 1, maxLength: 64 }),
    metric: Type.String({ minLength: 1, maxLength: 64 }),
    from: Type.Optional(Timestamp),
    to: Type.Optional(Timestamp),
    bucket: Type.Optional(oneOf(Object.keys(BUCKETS) as BucketLength[], { description: 'Nothing said: readings as they were sent' })),
    time_zone: Type.Optional({ ...TimeZone, description: 'Whose days and hours the buckets are; the company’s when nothing is said' }),
    fill: Type.Optional(FillSchema),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 1000 })),
    cursor: Type.Optional(Type.String({ maxLength: 2000 })),
  },
  { additionalProperties: false },
)

export default async function telemetry(app: FastifyInstance) {
  const tags = ['telemetry']
  const module = 'telemetry.devices'
  const plane = 'telemetry'
  app.get<{ Querystring: Static<typeof Question> }>(
    '/telemetry/readings',
    {
      permission: 'telemetry.reading.read',
      module,
      plane,
      schema: {
        tags,
        summary: 'Readings of one device and metric, raw or by time bucket, newest first',
        querystring: Question,
        response: {
          200: ok(Type.Array(Type.Union([Bucket, Reading])), { pagination: Pagination }),
          ...guarded('not_found', 'invalid_value', 'invalid_cursor'),
        },
      },
    },
    async (request) => {
      const { bucket, cursor, device, metric, fill = 'none', limit = 1000 } = request.query
      const { time_zone: timeZone = request.tenant.timezone } = request.query
      requireTimeZone(timeZone, '/time_zone')
      const list = `readings ${request.context.organizationId} ${device} ${metric} ${bucket} ${timeZone} ${fill}`
      const [before = null] = (placeIn(request, list, cursor) ?? []) as [string?]
      const question = {
        device,
        metric,
        from: request.query.from ?? new Date(Date.now() - 86_400_000).toISOString(),
        to: request.query.to ?? new Date(Date.now() + 600_000).toISOString(),
        limit,
        before,
      }
      const found = await request.read(
        (tx): Promise<readonly { ts: string }[]> =>
          bucket ? bucketedReadings(tx, { ...question, bucket, timeZone, fill }) : rawReadings(tx, question),
      )
      return pageOf(request, list, limit, found, ({ ts }) => [ts])
    },
  )

  app.get<{ Querystring: Static<typeof RejectedQuery> }>(
    '/telemetry/rejections',
    {
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
}
