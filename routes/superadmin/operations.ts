// What runs the platform: databases, migrations, what waits to be published, what could not be handled, jobs.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  DeadLetter,
  DeadLetterLine,
  deadLetter,
  deadLetterPage,
  markReplayed,
  OUTBOX_STATES,
  OutboxEvent,
  outboxPage,
  replayOutbox,
  Waiting,
  waiting,
} from '../../domain/events/index.ts'
import { type Database, failure, isUuid, nullable, oneOf, sql, systemScope, Uuid } from '../../domain/kernel/index.ts'
import { homeOf, MigrationState, migrationStates, namedDatabases, tenantOf } from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { pageOf, placeIn } from '../http/pages.ts'
import { Id } from '../http/reading-routes.ts'
import { STAFF_CHANGE } from './target.ts'

const paging = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
  cursor: Type.Optional(Type.String({ maxLength: 2000, description: 'next_cursor of the page before' })),
}
const MigrationQuery = Type.Object(
  { state: Type.Optional(oneOf(['running', 'done', 'failed'])), ...paging },
  { additionalProperties: false },
)
const DatabaseName = Type.String({
  maxLength: 100,
  description: 'control, data:main, telemetry:main …, or the id of a tenant that has a database of its own',
  examples: ['data:main'],
})
const OutboxQuery = Type.Object(
  { database: DatabaseName, status: Type.Optional(oneOf(OUTBOX_STATES, { default: 'failed' })), tenant_id: Type.Optional(Uuid), ...paging },
  { additionalProperties: false },
)
const Replay = Type.Object(
  { database: DatabaseName, event_ids: Type.Array(Uuid, { minItems: 1, maxItems: 500, uniqueItems: true }) },
  { additionalProperties: false },
)
const Health = Type.Object({ name: Type.String(), up: Type.Boolean(), outbox: nullable(Waiting) })
const Job = Type.Object({ queue: Type.String(), state: Type.String(), count: Type.Integer() }, { additionalProperties: false })
const Paged = Type.Object(paging, { additionalProperties: false })

export default async function operations(app: FastifyInstance) {
  const { planes, publish } = app.services
  const tags = ['superadmin']
  const staff = { platform: true, across: true, plane: 'control' } as const

  /** A database by its name, or by the id of the tenant whose own it is. Throws `not_found`. */
  async function databaseNamed(name: string): Promise<Database> {
    const known = namedDatabases(planes).find(([one]) => one === name)
    if (known) return known[1]
    if (!isUuid(name)) throw failure('not_found')
    return homeOf(planes, 'data', await planes.control.read(systemScope(name, 'operations', ''), tenantOf))
  }

  app.get(
    '/superadmin/databases',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.database.read',
      schema: { tags, summary: 'Which databases answer, and what waits in each', response: { 200: ok(Type.Array(Health)), ...guarded() } },
    },
    async () => ({
      data: await Promise.all(
        namedDatabases(planes).map(async ([name, database]) => {
          const outbox = await database.platform(waiting).catch(() => null)
          return { name, up: outbox !== null, outbox }
        }),
      ),
    }),
  )

  app.get<{ Querystring: Static<typeof MigrationQuery> }>(
    '/superadmin/migrations',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.migration.read',
      schema: {
        tags,
        summary: 'How far each database and each tenant’s own schema or database is',
        querystring: MigrationQuery,
        response: { 200: ok(Type.Array(MigrationState), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { state = null, limit = 50, cursor } = request.query
      const [after = null] = placeIn(request, `migrations ${state}`, cursor) ?? []
      const found = await request.read((tx) => migrationStates(tx, state, limit + 1, after as string | null))
      return pageOf(request, `migrations ${state}`, limit, found, ({ target }) => [target])
    },
  )

  app.get<{ Querystring: Static<typeof OutboxQuery> }>(
    '/superadmin/outbox',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.outbox.read',
      schema: {
        tags,
        summary: 'Events of one database that wait, were sent or failed; oldest first',
        querystring: OutboxQuery,
        response: { 200: ok(Type.Array(OutboxEvent), { pagination: Pagination }), ...guarded('invalid_cursor', 'not_found') },
      },
    },
    async (request) => {
      const { database, status = 'failed', tenant_id: tenantId = null, limit = 50, cursor } = request.query
      const list = `outbox ${database} ${status} ${tenantId}`
      const [after = 0] = placeIn(request, list, cursor) ?? []
      const found = await (await databaseNamed(database)).platform((queries) =>
        outboxPage(queries, { status, tenantId, limit: limit + 1, after: Number(after) }),
      )
      return pageOf(request, list, limit, found, ({ position }) => [position])
    },
  )
  app.post<{ Body: Static<typeof Replay> }>(
    '/superadmin/outbox/replay',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.outbox.replay',
      ...STAFF_CHANGE,
      schema: {
        tags,
        summary: 'Let failed events be published again',
        body: Replay,
        response: { 200: ok(Type.Object({ replayed: Type.Array(Uuid) })), ...mutation('not_found') },
      },
    },
    async (request) => {
      const database = await databaseNamed(request.body.database)
      const replayed = await database.platform((queries) => replayOutbox(queries, request.body.event_ids))
      database.wakeRelay()
      return { data: { replayed } }
    },
  )

  app.get<{ Querystring: Static<typeof Paged> }>(
    '/superadmin/dead-letters',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.dead_letter.read',
      schema: {
        tags,
        summary: 'Messages that no try could handle; newest first',
        querystring: Paged,
        response: { 200: ok(Type.Array(DeadLetterLine), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor } = request.query
      const found = await request.read((tx) => deadLetterPage(tx, limit + 1, placeIn(request, 'dead letters', cursor)))
      return pageOf(request, 'dead letters', limit, found, ({ created_at, id }) => [created_at, id])
    },
  )
  app.get<{ Params: { id: string } }>(
    '/superadmin/dead-letters/:id',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.dead_letter.read',
      schema: { tags, summary: 'One of them, whole', params: Id, response: { 200: ok(DeadLetter), ...guarded('not_found') } },
    },
    async (request) => ({ data: await request.read((tx) => deadLetter(tx, request.params.id)) }),
  )
  app.post<{ Params: { id: string } }>(
    '/superadmin/dead-letters/:id/replay',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.dead_letter.replay',
      ...STAFF_CHANGE,
      schema: {
        tags,
        summary: 'Send it again to the topic that it came from; what was handled is not handled twice',
        params: Id,
        response: { 200: ok(DeadLetter), ...mutation('not_found', 'broker_unavailable') },
      },
    },
    async (request) => {
      const { topic, key, value } = await request.read((tx) => deadLetter(tx, request.params.id))
      await publish([{ topic, key: key ?? '', value }]).catch(() => {
        throw failure('broker_unavailable')
      })
      return {
        data: await planes.control.platform(async (queries) => {
          await markReplayed(queries, request.params.id, request.actor.userId)
          return deadLetter(queries, request.params.id)
        }),
      }
    },
  )

  app.get(
    '/superadmin/jobs',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.job.read',
      schema: { tags, summary: 'How many jobs wait, run, ended or failed, by queue', response: { 200: ok(Type.Array(Job)), ...guarded() } },
    },
    async (request) => ({
      data: await request.read((tx) =>
        tx.any(sql.type(Job)`select name as queue, state::text as state, count(*) as count from pgboss.job group by 1, 2 order by 1, 2`),
      ),
    }),
  )
}
