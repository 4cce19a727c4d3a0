// pg-boss carries time: delayed retries and the timed jobs.

import { Client } from 'pg'
import { PgBoss } from 'pg-boss'
import { type Database, sql } from '../domain/kernel/index.ts'
import type { Planes } from '../domain/tenancy/index.ts'
import type { EventConsumer, Retry } from './event-consumer.ts'
import type { WorkerLog } from './log.ts'

export const QUEUES = { eventRetry: 'event-retry', upkeep: 'upkeep' } as const
const SCHEMA = 'pgboss'
/** Every hour at minute 7, when nothing else starts. */
const UPKEEP_CRON = '7 * * * *'

/** Creates pg-boss's schema and our queues; run by `npm run migrate` as the owner, so that the runtime needs no DDL. */
export async function migrateJobs(controlUrl: string): Promise<void> {
  const boss = new PgBoss({ connectionString: controlUrl, schema: SCHEMA, supervise: false, schedule: false, max: 2 })
  boss.on('error', () => {})
  await boss.start()
  try {
    for (const queue of Object.values(QUEUES)) {
      if (!(await boss.getQueue(queue))) await boss.createQueue(queue, { retryLimit: 5, retryDelay: 10, retryBackoff: true })
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

const KEEP_DAYS = { outbox: 7, idempotency: 1, inbox: 14 }

/** Partitions ahead of time and rows past their keep, on one database. Idempotent. */
async function upkeepOf(database: Database, telemetry: boolean): Promise<void> {
  await database.platform(async (connection) => {
    await connection.query(sql.run`select plane.make_audit_partitions()`)
    await connection.query(
      sql.run`delete from plane.event_outbox where status = 'dispatched' and dispatched_at < now() - make_interval(days => ${KEEP_DAYS.outbox})`,
    )
    await connection.query(
      sql.run`delete from plane.idempotency_keys where created_at < now() - make_interval(days => ${KEEP_DAYS.idempotency})`,
    )
    await connection.query(sql.run`delete from plane.consumer_inbox where created_at < now() - make_interval(days => ${KEEP_DAYS.inbox})`)
    if (telemetry) await connection.query(sql.run`select plane.make_measurement_partitions()`)
  })
}

export async function upkeep({ control, data, telemetry }: Planes): Promise<void> {
  await upkeepOf(control, false)
  for (const database of data.values()) await upkeepOf(database, false)
  for (const database of telemetry.values()) await upkeepOf(database, true)
}

export interface Jobs {
  retryLater(retry: Retry, delaySeconds: number): Promise<void>
  /** Begins to work off retries and timed jobs. */
  work(consumers: ReadonlyMap<string, EventConsumer>, planes: Planes): Promise<void>
  stop(): Promise<void>
}

/** Opens pg-boss on the control database. `pollSeconds` is how often it looks for due jobs. */
export async function startJobs(controlUrl: string, log: WorkerLog, pollSeconds = 2): Promise<Jobs> {
  const boss = new PgBoss({ connectionString: controlUrl, schema: SCHEMA, migrate: false, max: 4, application_name: 'tenantry-jobs' })
  boss.on('error', (error) => log.warn({ err: error }, 'jobs trouble'))
  await boss.start()
  return {
    retryLater: async (retry, delaySeconds) => {
      await boss.send(QUEUES.eventRetry, retry, { startAfter: delaySeconds })
    },
    work: async (consumers, planes) => {
      await boss.work<Retry>(QUEUES.eventRetry, { pollingIntervalSeconds: pollSeconds }, async (jobs) => {
        for (const { data } of jobs) await consumers.get(data.consumer)?.attempt(data)
      })
      await boss.work(QUEUES.upkeep, { pollingIntervalSeconds: 30 }, async () => upkeep(planes))
    },
    stop: () => boss.stop({ graceful: true, timeout: 10_000 }),
  }
}
