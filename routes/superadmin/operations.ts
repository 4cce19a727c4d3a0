// What runs the platform: migrations.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { oneOf } from '../../domain/kernel/index.ts'
import { MigrationState, migrationStates } from '../../domain/tenancy/index.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'

const Page = Type.Object(
  {
    state: Type.Optional(oneOf(['running', 'done', 'failed'])),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 100, description: 'next_cursor of the page before' })),
  },
  { additionalProperties: false },
)

export default async function operations(app: FastifyInstance) {
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control' } as const

  app.get<{ Querystring: Static<typeof Page> }>(
    '/superadmin/migrations',
    {
      ...staff,
      across: true,
      permission: 'platform.migration.read',
      schema: {
        tags,
        summary: 'How far each database and each tenant’s own schema or database is',
        querystring: Page,
        response: { 200: ok(Type.Array(MigrationState), { pagination: Pagination }), ...guarded() },
      },
    },
    async (request) => {
      const { state = null, limit = 50, cursor = null } = request.query
      const found = await request.read((tx) => migrationStates(tx, state, limit + 1, cursor))
      const data = found.slice(0, limit)
      return { data, pagination: { limit, next_cursor: found.length > limit ? data.at(-1)!.target : null } }
    },
  )
}
