// What devices send by HTTP, and what was refused of all that they sent.

import { pipeline } from 'node:stream'
import { createGunzip } from 'node:zlib'
import type { FastifyInstance, preParsingAsyncHookHandler, RequestPayload } from 'fastify'
import { type Static, Type } from 'typebox'
import { failure } from '../../domain/kernel/index.ts'
import {
  authenticateDevices,
  hashKey,
  MAX_MESSAGE_BYTES,
  Rejected,
  RejectedQuery,
  readMessage,
  rejectedReadings,
  TelemetryMessage,
} from '../../domain/telemetry/index.ts'
import { accessMode } from '../../domain/tenancy/index.ts'
import { guarded, ok, open, Pagination } from '../http/envelope.ts'
import { pageOf, placeIn } from '../http/pages.ts'

const TELEMETRY_TOPIC = 'tenantry.telemetry.v1'
const tags = ['telemetry']
const module = 'telemetry.devices'
const plane = 'telemetry'

const MESSAGE_FORM = 'is no message: it needs tenant, device and 1 to 10000 readings'
const Accepted = Type.Object({
  accepted: Type.Integer({ description: 'Readings that are passed on' }),
  rejected: Type.Array(
    Type.Object({
      reason: Type.String({ examples: ['invalid_reading'] }),
      count: Type.Integer(),
      sample: Type.Optional(Type.String({ description: 'The first of these readings as JSON, cut to 300 characters' })),
    }),
  ),
})

/** Unpacks a body with `Content-Encoding: gzip`. The body limit holds for what is unpacked. */
const gunzipped: preParsingAsyncHookHandler = async (request, _reply, payload) => {
  if (request.headers['content-encoding']?.toLowerCase() !== 'gzip') return payload
  const unpacked: RequestPayload = createGunzip()
  unpacked.receivedEncodedLength = 0
  payload.on('data', (chunk: Buffer) => {
    unpacked.receivedEncodedLength! += chunk.length
  })
  pipeline(payload, unpacked as ReturnType<typeof createGunzip>, () => {}) // Fastify hears of errors from the stream
  return unpacked
}

export default async function ingest(app: FastifyInstance) {
  app.post<{ Body: unknown }>(
    '/telemetry/readings',
    {
      public: true,
      plane,
      bodyLimit: MAX_MESSAGE_BYTES,
      // The body is judged as on the topic: a bad reading is refused, and the others of its message are accepted.
      validatorCompiler: () => (value: unknown) => ({ value }),
      preParsing: gunzipped,
      schema: {
        tags,
        summary: 'Send readings of a device',
        description:
          'Answers once Kafka has the message. Takes the body that devices send to the topic, also with `Content-Encoding: gzip`, and the device key as `Authorization: Bearer dk_…`. Readings that are refused are listed by reason, and the others are accepted. Limits of the plan and of the device profile are applied later: see `GET /telemetry/rejections`.',
        body: TelemetryMessage,
        response: {
          202: ok(Accepted),
          ...open('blocked', 'missing_token', 'invalid_token', 'tenant_mismatch', 'broker_unavailable', 'tenant_migrating'),
        },
      },
    },
    async (request, reply) => {
      const message = readMessage(request.body, Date.now(), app.services.settings.keepReadingsDays)
      if (message === 'malformed') throw failure('invalid_body', { errors: [{ path: '', rule: 'message', message: MESSAGE_FORM }] })
      const key = request.headers.authorization?.match(/^Bearer (dk_\S+)$/)?.[1]
      if (!key) throw failure('missing_token')
      if (message.tenant !== request.tenant.slug) throw failure('tenant_mismatch')
      // Accepted, they would be dropped: the device keeps them until the tenant is open again.
      const { mode, reason } = accessMode(request.tenant, 'worker')
      if (mode === 'blocked') throw failure('blocked', { reason })
      const known = await request.read((tx) => authenticateDevices(tx, [[message.device, hashKey(key)]]))
      if (known.size === 0) throw failure('invalid_token')
      await app.services
        .publish([{ topic: TELEMETRY_TOPIC, key: message.device, value: JSON.stringify(request.body), headers: { 'device-key': key } }])
        .catch((error: unknown) => {
          request.log.warn({ err: error }, 'broker unavailable')
          throw failure('broker_unavailable')
        })
      reply.status(202)
      return { data: { accepted: message.good.length, rejected: message.rejected } }
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
