import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { sql } from '../domain/kernel/index.ts'
import { namedDatabases } from '../domain/tenancy/index.ts'
import { errors, ok } from './http/envelope.ts'

const Waiting = Type.Object(
  { pending: Type.Integer(), failed: Type.Integer(), oldest_seconds: Type.Number() },
  { additionalProperties: false },
)

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
        namedDatabases(planes).map(
          async ([name, database]) =>
            [
              name,
              await database.platform((queries) =>
                queries.one(sql.prepared(Waiting)`
            select count(*) filter (where status = 'pending') as pending, count(*) filter (where status = 'failed') as failed,
              coalesce(extract(epoch from now() - min(occurred_at) filter (where status = 'pending')), 0)::float8 as oldest_seconds
            from plane.event_outbox where status <> 'dispatched'`),
              ),
            ] as const,
        ),
      )
      return { data: Object.fromEntries(counts) }
    },
  )
}
