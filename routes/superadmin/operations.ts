// What runs the platform: databases, migrations, what waits to be published, what could not be handled, jobs.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  checkDatabases,
  DEAD_LETTER_STATES,
  DeadLetter,
  DeadLetterLine,
  deadLetter,
  deadLetterPage,
  dismissDeadLetter,
  dismissJob,
  FailingJob,
  failingJobs,
  markReplayed,
  OUTBOX_STATES,
  OutboxEvent,
  outboxPage,
  replayOutbox,
  retryJob,
  Waiting,
} from '../../domain/events/index.ts'
import {
  type Database,
  type Detail,
  failure,
  isUuid,
  nullable,
  oneOf,
  type Queries,
  sql,
  systemScope,
  Uuid,
} from '../../domain/kernel/index.ts'
import { homeOf, MigrationState, migrationStates, namedDatabases, recordStaffAction, tenantOf } from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { PAGING, pageOf, placeIn } from '../http/pages.ts'
import { Id } from '../http/reading-routes.ts'
import { STAFF_CHANGE } from './target.ts'

const MigrationQuery = Type.Object(
  { state: Type.Optional(oneOf(['running', 'done', 'failed'])), ...PAGING },
  { additionalProperties: false },
)
const DatabaseName = Type.String({
  maxLength: 100,
  description: 'control, data:main, telemetry:main …, or the id of a tenant that has a database of its own',
  examples: ['data:main'],
})
const OutboxQuery = Type.Object(
  { database: DatabaseName, status: Type.Optional(oneOf(OUTBOX_STATES, { default: 'failed' })), tenant_id: Type.Optional(Uuid), ...PAGING },
  { additionalProperties: false },
)
const Replay = Type.Object(
  { database: DatabaseName, event_ids: Type.Array(Uuid, { minItems: 1, maxItems: 500, uniqueItems: true }) },
  { additionalProperties: false },
)
const Paged = Type.Object(PAGING, { additionalProperties: false })
const Health = Type.Object({
  name: Type.String({ description: 'As `/superadmin/outbox` takes it' }),
  tenant_id: nullable(Uuid),
  up: Type.Boolean(),
  outbox: nullable(Waiting),
})
const Job = Type.Object({ queue: Type.String(), state: Type.String(), count: Type.Integer() }, { additionalProperties: false })
const DeadLetterQuery = Type.Object(
  { state: Type.Optional(oneOf(DEAD_LETTER_STATES)), tenant_id: Type.Optional(Uuid), ...PAGING },
  { additionalProperties: false },
)
const FailingQuery = Type.Object(
  {
    queue: Type.Optional(Type.String({ maxLength: 100, examples: ['event-retry'] })),
    tenant_id: Type.Optional(Uuid),
    consumer: Type.Optional(Type.String({ maxLength: 100 })),
    ...PAGING,
  },
  { additionalProperties: false },
)

/** Who acts, for the trails of the platform and of tenants. */
const staffOf = (request: FastifyRequest) => ({
  staffId: request.actor.userId,
  platformId: request.tenant.id,
  correlationId: request.id,
})

export default async function operations(app: FastifyInstance) {
  const { planes, publish, tenants } = app.services
  const tags = ['superadmin']
  const staff = { platform: true, across: true, plane: 'control' } as const

  /** A database by its name, or by the id of the tenant whose own it is. Throws `not_found`. */
  async function databaseNamed(name: string): Promise<Database> {
    const known = namedDatabases(planes).find(([one]) => one === name)
    if (known) return known[1]
    if (!isUuid(name)) throw failure('not_found')
    return homeOf(planes, 'data', await planes.control.read(systemScope(name, 'operations', ''), tenantOf))
  }

  app.get<{ Querystring: Static<typeof Paged> }>(
    '/superadmin/databases',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.database.read',
      schema: {
        tags,
        summary: 'Which databases answer, and what waits in each; those of single tenants page by page',
        querystring: Paged,
        response: { 200: ok(Type.Array(Health), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor } = request.query
      const [after = null] = placeIn(request, 'databases', cursor) ?? []
      const tenantsFound = await tenants.ownDatabases(limit + 1, after as string | null)
      const page = pageOf(request, 'databases', limit, tenantsFound, ({ id }) => [id])
      const own = page.data.map((tenant) => ({ name: tenant.id, tenant_id: tenant.id, database: homeOf(planes, 'data', tenant) }))
      const named = after ? [] : namedDatabases(planes).map(([name, database]) => ({ name, tenant_id: null, database }))
      return { ...page, data: await checkDatabases([...named, ...own]) }
    },
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
      const { database: name, event_ids } = request.body
      const database = await databaseNamed(name)
      const replayed = await database.platform((queries) => replayOutbox(queries, event_ids))
      database.wakeRelay()
      const ids = replayed.map(({ event_id }) => event_id)
      const tenantIds = [...new Set(replayed.map(({ tenant_id }) => tenant_id))]
      if (ids.length > 0)
        await planes.control.platform((queries) =>
          recordStaffAction(queries, {
            ...staffOf(request),
            tenantIds,
            entity: 'event_outbox',
            entityId: null,
            action: 'outbox.replayed',
            details: { database: name, event_ids: ids },
          }),
        )
      return { data: { replayed: ids } }
    },
  )

  app.get<{ Querystring: Static<typeof DeadLetterQuery> }>(
    '/superadmin/dead-letters',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.dead_letter.read',
      schema: {
        tags,
        summary: 'Messages that no try could handle; newest first; without `state` all that were not dismissed',
        querystring: DeadLetterQuery,
        response: { 200: ok(Type.Array(DeadLetterLine), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor, state = null, tenant_id: tenantId = null } = request.query
      const list = `dead letters ${state} ${tenantId}`
      const found = await request.read((tx) => deadLetterPage(tx, { state, tenantId }, limit + 1, placeIn(request, list, cursor)))
      return pageOf(request, list, limit, found, ({ created_at, id }) => [created_at, id])
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
  const onDeadLetter = (
    transition: 'replay' | 'dismiss',
    summary: string,
    details: Detail[],
    work: (queries: Queries, letter: DeadLetter, staffId: string | null) => Promise<void>,
  ) =>
    app.post<{ Params: { id: string } }>(
      `/superadmin/dead-letters/:id/${transition}`,
      {
        ...staff,
        level: 'tenant',
        permission: `platform.dead_letter.${transition}`,
        ...STAFF_CHANGE,
        schema: { tags, summary, params: Id, response: { 200: ok(DeadLetter), ...mutation('not_found', ...details) } },
      },
      async (request) => ({
        data: await planes.control.platform(async (queries) => {
          const { id } = request.params
          const letter = await deadLetter(queries, id)
          await work(queries, letter, request.actor.userId)
          const { topic, consumer, tenant_id } = letter
          await recordStaffAction(queries, {
            ...staffOf(request),
            tenantIds: tenant_id ? [tenant_id] : [],
            entity: 'platform_dead_letters',
            entityId: id,
            action: transition === 'replay' ? 'dead_letter.replayed' : 'dead_letter.dismissed',
            details: { topic, consumer },
          })
          return deadLetter(queries, id)
        }),
      }),
    )
  onDeadLetter(
    'replay',
    'Send it again to the topic that it came from; what was handled is not handled twice',
    ['broker_unavailable'],
    async (queries, { id, topic, key, value }, staffId) => {
      await markReplayed(queries, id, staffId)
      await publish([{ topic, key: key ?? '', value }]).catch(() => {
        throw failure('broker_unavailable')
      })
    },
  )
  onDeadLetter(
    'dismiss',
    'Set one aside that is dealt with; it is listed with state=dismissed alone',
    [],
    async (queries, { id }, staffId) => {
      await dismissDeadLetter(queries, id, staffId)
    },
  )

  app.get<{ Querystring: Static<typeof FailingQuery> }>(
    '/superadmin/failing-jobs',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.job.read',
      schema: {
        tags,
        summary: 'List jobs that failed at least once, and events that a consumer could not handle yet',
        querystring: FailingQuery,
        response: { 200: ok(Type.Array(FailingJob), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor, queue = null, tenant_id: tenantId = null, consumer = null } = request.query
      const list = `failing jobs ${queue} ${tenantId} ${consumer}`
      const found = await request.read((tx) => failingJobs(tx, { queue, tenantId, consumer }, limit + 1, placeIn(request, list, cursor)))
      return pageOf(request, list, limit, found, ({ created_at, id }) => [created_at, id])
    },
  )
  const onJob = (transition: 'retry' | 'dismiss', summary: string, work: (queries: Queries, id: string) => Promise<FailingJob>) =>
    app.post<{ Params: { id: string } }>(
      `/superadmin/failing-jobs/:id/${transition}`,
      {
        ...staff,
        level: 'tenant',
        permission: `platform.job.${transition}`,
        ...STAFF_CHANGE,
        schema: { tags, summary, params: Id, response: { 200: ok(FailingJob), ...mutation('not_found', 'invalid_transition') } },
      },
      async (request) => ({
        data: await planes.control.platform(async (queries) => {
          const job = await work(queries, request.params.id)
          const { id, queue, consumer, event_id, tenant_id } = job
          await recordStaffAction(queries, {
            ...staffOf(request),
            tenantIds: tenant_id ? [tenant_id] : [],
            entity: 'job',
            entityId: id,
            action: transition === 'retry' ? 'job.retried' : 'job.dismissed',
            details: { queue, consumer, event_id },
          })
          return job
        }),
      }),
    )
  onJob('retry', 'Try a failing job now', retryJob)
  onJob('dismiss', 'Give a failing job up; it is not tried again', dismissJob)

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
