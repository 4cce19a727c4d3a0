// What the outbox of one database holds, published in order.
import { type Static, Type } from 'typebox'
import { type Database, sql } from '../domain/kernel/index.ts'
import type { Producer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { topicOf } from './topics.ts'

/** Events published at once. */
export const BATCH = 500
const MAX_ATTEMPTS = 12
/** A broker that takes an event may refuse a longer one; by default a message has at most a million bytes. */
const DOUBTFUL_LENGTH = 200_000

const Pending = Type.Object(
  {
    event_id: Type.String(),
    tenant_id: Type.String(),
    type: Type.String(),
    entity_id: Type.String(),
    version: Type.Integer(),
    occurred_at: Type.String(),
    data: Type.Unknown(),
    correlation_id: Type.Union([Type.String(), Type.Null()]),
    attempts: Type.Integer(),
  },
  { additionalProperties: false },
)

/**
 * One batch of pending events, in commit order within an entity: `position` is given while the entity's row is locked, and
 * an event waits while an earlier one of its entity is waiting for another try. Returns how many were dispatched and how many wait for another try. Only one
 * may do so at a time for a database.
 */
export async function publishBatch(database: Database, producer: Producer, log: WorkerLog): Promise<{ sent: number; waiting: number }> {
  const events = await database.platform((connection) =>
    connection.any(sql.type(Pending)`
    select event_id, tenant_id, type, entity_id, version, occurred_at, data, correlation_id, attempts from plane.event_outbox o
    where status = 'pending' and available_at <= now() and not exists (
      select from plane.event_outbox e
      where e.tenant_id = o.tenant_id and e.entity_id = o.entity_id and e.status = 'pending' and e.position < o.position and e.available_at > now())
    order by position limit ${BATCH}`),
  )
  if (events.length === 0) return { sent: 0, waiting: 0 }
  const { done, failed, reason } = await publish(events, producer)
  if (failed.length > 0) {
    log.warn({ failed: failed.length, reason }, 'events not published, they wait')
    // While the broker is away nothing is to blame on the event: attempts count only what a reachable broker refused.
    const away = !producer.connected
    await database.platform((connection) =>
      connection.query(sql.run`
      update plane.event_outbox set attempts = attempts + ${away ? 0 : 1}, error = ${reason},
        available_at = case when available_at = 'infinity' then available_at -- held by a move, which carries it
          else now() + least(interval '5 minutes', interval '1 second' * power(2, ${away ? 0 : 1} * attempts)) end,
        status = case when attempts + ${away ? 0 : 1} >= ${MAX_ATTEMPTS} then 'failed' else 'pending' end
      where event_id = any(${sql.array(failed, 'uuid')})`),
    )
  }
  if (done.length > 0) {
    await database.platform((connection) =>
      connection.query(sql.run`
      update plane.event_outbox set status = 'dispatched', dispatched_at = now(), attempts = attempts + 1, error = null where event_id = any(${sql.array(done, 'uuid')})`),
    )
  }
  return { sent: done.length, waiting: failed.length }
}

/**
 * Sends everything at once, but for what follows a doubtful event of its entity: that is sent when the doubtful one has
 * arrived, and waits with it when it was refused.
 */
async function publish(
  events: readonly Static<typeof Pending>[],
  producer: Producer,
): Promise<{ done: string[]; failed: string[]; reason: string }> {
  const outcome = { done: [] as string[], failed: [] as string[], reason: '' }
  const messages = events.map(({ attempts, ...event }) => ({ attempts, event, value: JSON.stringify(event) }))
  const queues = Map.groupBy(messages, ({ event }) => `${event.tenant_id}:${event.entity_id}`)
  while (queues.size > 0) {
    const round = [...queues].flatMap(([key, queue]) => {
      const doubt = queue.findIndex(({ attempts, value }) => attempts > 0 || value.length > DOUBTFUL_LENGTH)
      return queue.splice(0, doubt < 0 ? queue.length : doubt + 1).map((message) => ({ key, ...message }))
    })
    const sent = await producer
      .sendEach(
        round.map(({ key, value, event }) => ({
          topic: topicOf(event.type),
          key,
          value,
          headers: { 'correlation-id': event.correlation_id ?? '' },
        })),
      )
      .catch((error: unknown) => round.map(() => Promise.reject(error)))
    for (const [at, result] of (await Promise.allSettled(sent)).entries()) {
      const { key, event } = round[at]!
      if (result.status === 'fulfilled') outcome.done.push(event.event_id)
      else {
        outcome.failed.push(event.event_id)
        outcome.reason = String(result.reason).slice(0, 500)
        queues.delete(key)
      }
    }
    for (const [key, queue] of queues) if (queue.length === 0) queues.delete(key)
  }
  return outcome
}
