// pg-boss carries time: delayed retries and the timed jobs.

import type { KeyObject } from 'node:crypto'
import { Client } from 'pg'
import { PgBoss } from 'pg-boss'
import { sealAndKeepTip, type TipStore } from '../domain/audit/index.ts'
import type { MailJob } from '../domain/identity/index.ts'
import { type Database, type Job, type Queries, sql } from '../domain/kernel/index.ts'
import { forgetActivity } from '../domain/platform/index.ts'
import { databaseOf, forgetApplicants, homeOf, isServed, type Planes, type Tenant, type TenantDirectory } from '../domain/tenancy/index.ts'
import type { EventConsumer, Retry } from './event-consumer.ts'
import type { WorkerLog } from './log.ts'
import type { mailer } from './mailer.ts'

export const QUEUES = { eventRetry: 'event-retry', upkeep: 'upkeep', mail: 'mail', provision: 'provision' } as const
const SCHEMA = 'pgboss'
const RETRIES_AT_ONCE = 100
/** When a retry is tried again that failed for a passing cause, or whose consumer is in another process. */
const PUT_BACK_SECONDS = 10
/** A mail is tried for most of a day: 15 s, 30 s … an hour apart. */
const MAIL_TRIES = 24
const LONGEST_WAIT_SECONDS = 3600
/** Every hour at minute 7, when nothing else starts. */
const UPKEEP_CRON = '7 * * * *'

/** Creates pg-boss's schema and our queues; run by `npm run migrate` as the owner, so that the runtime needs no DDL. */
export async function migrateJobs(controlUrl: string): Promise<void> {
  const boss = new PgBoss({ connectionString: controlUrl, schema: SCHEMA, supervise: false, schedule: false, max: 2 })
  boss.on('error', () => {})
  await boss.start()
  try {
    for (const queue of Object.values(QUEUES)) {
      if (!(await boss.getQueue(queue)))
        await boss.createQueue(queue, {
          retryLimit: 5,
          retryDelay: 10,
          retryBackoff: true,
          notify: queue === QUEUES.mail || queue === QUEUES.provision,
        })
    }
    await boss.schedule(QUEUES.upkeep, UPKEEP_CRON)
  } finally {
    await boss.stop({ graceful: false })
  }
  const client = new Client({ connectionString: controlUrl })
  await client.connect()
  try {
    await client.query(`
      grant usage on schema ${SCHEMA} to tenantry_app;
      grant select, insert, update, delete on all tables in schema ${SCHEMA} to tenantry_app;
      grant usage on all sequences in schema ${SCHEMA} to tenantry_app;
      grant execute on all functions in schema ${SCHEMA} to tenantry_app`)
  } finally {
    await client.end()
  }
}

const KEEP_DAYS = { outbox: 7, idempotency: 1, inbox: 14, tokens: 1, throttle: 1, sessions: 90, intake: 4, rejections: 90 }

/** Partitions ahead of time and rows past their keep, on one database. Idempotent. */
async function upkeepOf(database: Database, keepReadingsDays?: number): Promise<void> {
  await database.platform(async (connection) => {
    await connection.query(sql.run`select plane.make_audit_partitions()`)
    await connection.query(
      sql.run`delete from plane.event_outbox where status = 'dispatched' and dispatched_at < now() - make_interval(days => ${KEEP_DAYS.outbox})`,
    )
    await connection.query(
      sql.run`delete from plane.idempotency_keys where created_at < now() - make_interval(days => ${KEEP_DAYS.idempotency})`,
    )
    await connection.query(sql.run`delete from plane.consumer_inbox where created_at < now() - make_interval(days => ${KEEP_DAYS.inbox})`)
    if (keepReadingsDays !== undefined) {
      await connection.query(sql.run`select plane.make_measurement_partitions()`)
      await connection.query(sql.run`select plane.forget_intake(${KEEP_DAYS.intake}::int)`)
      await connection.query(sql.run`select plane.forget_rejections(${KEEP_DAYS.rejections}::int)`)
      await connection.query(sql.run`select plane.keep_readings(${keepReadingsDays}::int)`)
    }
  })
}

/** What sign-ins leave behind. A session that has ended is kept for a while: by it a device is known again. */
const tidyIdentity = (control: Database): Promise<unknown> =>
  control.platform(async (connection) => {
    await connection.query(sql.run`delete from res_one_time_tokens where expires_at < now() - make_interval(days => ${KEEP_DAYS.tokens})`)
    await connection.query(sql.run`delete from res_login_throttle where updated_at < now() - make_interval(days => ${KEEP_DAYS.throttle})`)
    await connection.query(
      sql.run`delete from res_sessions where least(expires_at, revoked_at) < now() - make_interval(days => ${KEEP_DAYS.sessions})`,
    )
  })

/**
 * Seals the trail of every tenant, one after the other, in every plane. One that fails stops no other. The tips are kept in the
 * object store, in the log and as events: three places outside of the database.
 */
export async function sealAll(planes: Planes, tenants: readonly Tenant[], key: KeyObject, store: TipStore, log: WorkerLog): Promise<void> {
  for (const tenant of tenants) {
    for (const plane of ['control', 'data', 'telemetry'] as const) {
      await Promise.resolve()
        .then(() => sealAndKeepTip(databaseOf(planes, plane, tenant), store, { tenantId: tenant.id, plane, key }))
        .then(({ hours, tip, cut }) => {
          if (cut) log.error(cut, 'the audit trail does not lead to its kept seal: it was cut or replaced, and is not sealed further')
          else if (hours > 0 && tip) log.info(tip, 'audit trail sealed')
        })
        .catch((error) => log.warn({ err: error, tenant_id: tenant.id, plane }, 'trail not sealed, it is tried again in an hour'))
    }
  }
}

/** Upkeep of every database, those of single tenants among them. One that is away stops no other. */
export async function upkeep(planes: Planes, tenants: readonly Tenant[], keepReadingsDays: number, log: WorkerLog): Promise<void> {
  const { control, data, telemetry } = planes
  const own = tenants.filter(({ mode, state }) => mode === 'database' && isServed({ state }))
  const tasks: [name: string, work: () => Promise<unknown>][] = [
    ['control', () => upkeepOf(control)],
    ['control', () => tidyIdentity(control)],
    ['control', () => control.platform(forgetApplicants)],
    ['control', () => control.platform(forgetActivity)],
    ...[...data].map(([key, database]): [string, () => Promise<unknown>] => [`data:${key}`, () => upkeepOf(database)]),
    ...[...telemetry].map(([key, database]): [string, () => Promise<unknown>] => [
      `telemetry:${key}`,
      () => upkeepOf(database, keepReadingsDays),
    ]),
    ...own.map((tenant): [string, () => Promise<unknown>] => [
      `tenant:${tenant.slug}`,
      async () => upkeepOf(homeOf(planes, 'data', tenant)),
    ]),
  ]
  for (const [database, work] of tasks) {
    await work().catch((error) => log.warn({ err: error, database }, 'upkeep not done, it is tried again in an hour'))
  }
}

/** Puts jobs into the queue from a transaction of ours: they are there when it commits, and not otherwise. */
export class JobQueue {
  readonly #boss: PgBoss
  readonly #mailRetrySeconds: number
  #started: Promise<unknown> | undefined

  constructor(controlUrl: string, { mailRetrySeconds }: { mailRetrySeconds: number }) {
    this.#boss = new PgBoss({
      connectionString: controlUrl,
      schema: SCHEMA,
      migrate: false,
      supervise: false,
      schedule: false,
      max: 1,
      application_name: 'tenantry-queue',
    })
    this.#boss.on('error', () => {})
    this.#mailRetrySeconds = mailRetrySeconds
  }

  enqueue = async (queries: Queries, jobs: readonly Job[]): Promise<void> => {
    this.#started ??= this.#boss.start().catch((error) => {
      this.#started = undefined
      throw error
    })
    await this.#started
    // pg-boss writes the statement; it runs on the connection of the transaction.
    const db = {
      executeSql: async (text: string, values?: unknown[]) =>
        (await queries.query({ sql: text, values: values ?? [], type: 'SLONIK_TOKEN_QUERY' } as never)) as never,
    }
    for (const { queue, data } of jobs) {
      await this.#boss.send(queue, data, {
        db,
        retryLimit: MAIL_TRIES,
        retryDelay: this.#mailRetrySeconds,
        retryBackoff: true,
        retryDelayMax: LONGEST_WAIT_SECONDS,
      })
    }
  }

  async close(): Promise<void> {
    if (this.#started) await this.#boss.stop({ graceful: false })
  }
}

/** What the upkeep of every hour needs beside the databases. */
export interface Hourly {
  sealKey: KeyObject
  /** Where the tips of the seals are kept. */
  files: TipStore
  keepReadingsDays: number
  sumUpHours: (tenants: readonly Tenant[]) => Promise<unknown>
  remind: () => Promise<unknown>
  removeExpiredFiles: () => Promise<unknown>
}

export interface Jobs {
  retryLater(retry: Retry, delaySeconds: number): Promise<void>
  /** Begins to work off retries and timed jobs. */
  work(consumers: ReadonlyMap<string, EventConsumer>, planes: Planes, tenants: TenantDirectory, hourly: Hourly): Promise<void>
  /** Begins to make approved tenants. */
  workTenants(make: (tenantId: string) => Promise<void>): Promise<void>
  /** Begins to send mails. */
  workMail(send: ReturnType<typeof mailer>): Promise<void>
  stop(): Promise<void>
}

/** A retry for a consumer that this process does not have waits for a process that has it. */
const consumerOf = (consumers: ReadonlyMap<string, EventConsumer>, { consumer }: Retry): Pick<EventConsumer, 'attempt'> =>
  consumers.get(consumer) ?? { attempt: () => Promise.reject(new Error(`there is no consumer ${consumer} here`)) }

/** Opens pg-boss on the control database. `pollSeconds` is how often it looks for due jobs. */
export async function startJobs(controlUrl: string, log: WorkerLog, pollSeconds = 2): Promise<Jobs> {
  const boss = new PgBoss({
    connectionString: controlUrl,
    schema: SCHEMA,
    migrate: false,
    max: 4,
    useListenNotify: true,
    application_name: 'tenantry-jobs',
  })
  boss.on('error', (error) => log.warn({ err: error }, 'jobs trouble'))
  await boss.start()
  return {
    retryLater: async (retry, delaySeconds) => {
      await boss.send(QUEUES.eventRetry, retry, { startAfter: delaySeconds })
    },
    work: async (consumers, planes, tenants, { sealKey, files, keepReadingsDays, sumUpHours, remind, removeExpiredFiles }) => {
      // Many at once: what failed for one message often failed for a thousand. What was done is not done twice.
      await boss.work<Retry>(QUEUES.eventRetry, { pollingIntervalSeconds: pollSeconds, batchSize: RETRIES_AT_ONCE }, async (jobs) => {
        for (const { data } of jobs) {
          // On its own: a retry that fails, or whose consumer another process has, holds up no other of its batch.
          await consumerOf(consumers, data)
            .attempt(data)
            .catch(() => boss.send(QUEUES.eventRetry, data, { startAfter: PUT_BACK_SECONDS }))
        }
      })
      await boss.work(QUEUES.upkeep, { pollingIntervalSeconds: 30 }, async () => {
        const active = await tenants.active()
        await upkeep(planes, active, keepReadingsDays, log)
        await sumUpHours(active)
        await removeExpiredFiles()
        await remind()
        await sealAll(planes, active, sealKey, files, log)
      })
    },
    workTenants: async (make) => {
      await boss.work<{ tenant_id: string }>(
        QUEUES.provision,
        { pollingIntervalSeconds: pollSeconds, notifyPollingIntervalSeconds: pollSeconds, batchSize: 1, localConcurrency: 2 },
        async ([job]) => {
          const { tenant_id } = job!.data
          await make(tenant_id).catch((error) => {
            log.warn({ err: error, tenant_id }, 'tenant not made yet, it is tried again')
            throw error
          })
        },
      )
    },
    workMail: async (send) => {
      // One at a time, so that a mail that is refused takes no other one with it.
      await boss.work<MailJob>(
        QUEUES.mail,
        { pollingIntervalSeconds: pollSeconds, notifyPollingIntervalSeconds: pollSeconds, batchSize: 1, localConcurrency: 2 },
        async ([job]) => {
          await send(job!.data).catch((error) => {
            log.warn({ err: error, kind: job!.data.kind, tenant_id: job!.data.tenant_id }, 'mail not taken, it is tried again')
            throw error
          })
        },
      )
    },
    stop: () => boss.stop({ graceful: true, timeout: 10_000 }),
  }
}
