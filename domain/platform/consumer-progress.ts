// Progress of the Kafka consumers of all worker processes: what /ready knows of processes that it is not.
import { Type } from 'typebox'
import { type Queries, sql } from '../kernel/index.ts'

/** A report older than this belongs to a process that is gone. */
const STALE_SECONDS = 60
/** A consumer whose batch makes no progress for so long is stalled. */
const STALLED_SECONDS = 60

export interface ConsumerProgress {
  consumer: string
  lag: number
  /** Milliseconds since 1970; null while the consumer works as it should. */
  blockedSince: number | null
  lastError: string | null
}

/** Replaces the report of a worker process, and removes reports of processes that are long gone. */
export async function reportConsumers(queries: Queries, instance: string, consumers: readonly ConsumerProgress[]): Promise<void> {
  const rows = consumers.map(({ consumer, lag, blockedSince, lastError }) => [
    consumer,
    lag,
    blockedSince === null ? null : new Date(blockedSince).toISOString(),
    lastError?.replaceAll('\u0000', '\ufffd') ?? null,
  ])
  await queries.query(sql.run`
    with gone as (delete from platform_consumer_progress where reported_at < now() - interval '1 hour')
    insert into platform_consumer_progress as p (instance, consumer, lag, blocked_since, last_error, reported_at)
    select ${instance}, c.consumer, c.lag, c.blocked_since, c.last_error, now()
    from ${sql.unnest(rows, ['text', 'int8', 'timestamptz', 'text'])} as c (consumer, lag, blocked_since, last_error)
    on conflict (instance, consumer) do update
    set lag = excluded.lag, blocked_since = excluded.blocked_since, last_error = excluded.last_error, reported_at = excluded.reported_at`)
}

export const forgetConsumers = (queries: Queries, instance: string): Promise<unknown> =>
  queries.query(sql.run`delete from platform_consumer_progress where instance = ${instance}`)

const Counts = Type.Object({ reporting: Type.Integer(), stalled: Type.Integer() }, { additionalProperties: false })

/** How many consumers report, and how many of them make no progress. */
export const consumerCounts = (queries: Queries): Promise<{ reporting: number; stalled: number }> =>
  queries.one(sql.type(Counts)`
    select count(*) as reporting,
      count(*) filter (where blocked_since < now() - make_interval(secs => ${STALLED_SECONDS}::int)) as stalled
    from platform_consumer_progress where reported_at > now() - make_interval(secs => ${STALE_SECONDS}::int)`)
