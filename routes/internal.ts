import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { Waiting, waiting } from '../domain/events/index.ts'
import { namedDatabases } from '../domain/tenancy/index.ts'
import { errors, ok } from './http/envelope.ts'

/** For parts of the system, by service token: `npm run service-token -- monitor` makes one for a monitor. */
export default async function internal(app: FastifyInstance) {
  const { planes } = app.services
  app.get(
    '/internal/outbox',
    {
      service: true,
      tenantless: true,
      schema: {
        tags: ['internal'],
        summary: 'What waits to be published, by database',
        response: {
          200: ok(Type.Record(Type.String(), Waiting)),
          ...errors('missing_token', 'invalid_token', 'token_expired', 'rate_limited', 'internal', 'database_unavailable'),
        },
      },
    },
    async () => {
      const counts = await Promise.all(
        namedDatabases(planes).map(async ([name, database]) => [name, await database.platform(waiting)] as const),
      )
      return { data: Object.fromEntries(counts) }
    },
  )
}
