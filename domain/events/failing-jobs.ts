// Jobs that failed or are tried again: which, why, for whom, and when next.
import { type Static, Type } from 'typebox'
import { failure, nullable, type Queries, sql, Timestamp, Uuid } from '../kernel/index.ts'

export const FailingJob = Type.Object(
  {
    id: Uuid,
    queue: Type.String({ examples: ['event-retry'] }),
    state: Type.String({ description: 'created and retry wait for their next try, active runs, failed waits for staff' }),
    consumer: nullable(Type.String({ description: 'Of an event: which consumer could not handle it' })),
    tenant_id: nullable(Uuid),
    event_id: nullable(Uuid),
    event_type: nullable(Type.String()),
    error: nullable(Type.String()),
    attempts: Type.Integer(),
    next_try_at: nullable(Timestamp),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type FailingJob = Static<typeof FailingJob>

/** A property of the message in a job of `event-retry`, which is any text: it is looked for and not parsed. */
const inMessage = (property: 'tenant_id' | 'event_id' | 'type', pattern: string) =>
  sql.fragment`substring(data -> 'message' ->> 'value' from ${`"${property}":"(${pattern})"`})`
const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'

/** Jobs of every queue that failed at least once. Events that no consumer could handle yet wait as jobs of `event-retry`. */
const failing = sql.fragment`
  select id, name as queue, state::text as state, data ->> 'consumer' as consumer,
    coalesce(substring(data ->> 'tenant_id' from ${`^${UUID}$`}), ${inMessage('tenant_id', UUID)})::uuid as tenant_id,
    ${inMessage('event_id', UUID)}::uuid as event_id, ${inMessage('type', '[a-z0-9._-]+')} as event_type,
    left(coalesce(data ->> 'error', output ->> 'message', output::text), 1000) as error,
    coalesce((data ->> 'attempt')::int, 0) + retry_count as attempts,
    case when state in ('created', 'retry') then start_after end as next_try_at, created_on as created_at
  from pgboss.job
  where state = 'failed' or (state in ('created', 'retry', 'active') and (retry_count > 0 or name = 'event-retry'))`

/** A page, the newest first; `after` is time and id of the last one before it. */
export const failingJobs = (
  queries: Queries,
  filter: { queue: string | null; tenantId: string | null; consumer: string | null },
  limit: number,
  after: readonly unknown[] | null,
): Promise<readonly FailingJob[]> =>
  queries.any(sql.prepared(FailingJob)`
    select * from (${failing}) as f
    where (${filter.queue}::text is null or queue = ${filter.queue}) and (${filter.tenantId}::uuid is null or tenant_id = ${filter.tenantId}::uuid)
      and (${filter.consumer}::text is null or consumer = ${filter.consumer})
      ${after ? sql.fragment`and (created_at, id) < (${String(after[0])}::timestamptz, ${String(after[1])}::uuid)` : sql.fragment``}
    order by created_at desc, id desc limit ${limit}`)

/** Locks a failing job that does not run now. Throws `not_found`, `invalid_transition` while it runs. */
async function lockFailing(queries: Queries, id: string, transition: string): Promise<FailingJob> {
  await queries.query(sql.run`select from pgboss.job where id = ${id} for update`)
  const found = await queries.maybeOne(sql.prepared(FailingJob)`select * from (${failing}) as f where id = ${id}`)
  if (!found) throw failure('not_found')
  if (found.state === 'active') throw failure('invalid_transition', { status: found.state, transition })
  return found
}

/** Tries a failing job at once, one that failed for good once more. Throws `not_found`, `invalid_transition`. */
export async function retryJob(queries: Queries, id: string): Promise<FailingJob> {
  const found = await lockFailing(queries, id, 'retry')
  await queries.query(sql.run`
    update pgboss.job set state = case when state = 'failed' then 'retry' else state end, start_after = now(), completed_on = null,
      retry_limit = greatest(retry_limit, retry_count + 1), keep_until = greatest(keep_until, now() + interval '1 day') where id = ${id}`)
  return found
}

/** Gives a failing job up: it is not tried again. Throws `not_found`, `invalid_transition`. */
export async function dismissJob(queries: Queries, id: string): Promise<FailingJob> {
  const found = await lockFailing(queries, id, 'dismiss')
  await queries.query(sql.run`update pgboss.job set state = 'cancelled', completed_on = now() where id = ${id}`)
  return found
}
