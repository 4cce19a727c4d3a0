// Messages that no try could handle.
import { type Static, Type } from 'typebox'
import { failure, isUuid, newId, nullable, type Queries, sql, Timestamp, Uuid } from '../kernel/index.ts'

/** One as it lies on its topic. */
export interface BuriedMessage {
  /** The topic that it came from. */
  topic: string
  partition: number
  position: number
  key: string | null
  value: string
  headers: Readonly<Record<string, string>>
}

/** PostgreSQL stores no NUL. */
const storable = <T extends string | null | undefined>(text: T) => text?.replaceAll('\u0000', '\ufffd') ?? null

const tenantIn = (value: string): string | null => {
  try {
    const { tenant_id: id } = JSON.parse(value) as { tenant_id?: unknown }
    return typeof id === 'string' && isUuid(id) ? id : null
  } catch {
    return null
  }
}
const momentIn = (text: string | undefined): string | null =>
  text && !Number.isNaN(Date.parse(text)) ? new Date(text).toISOString() : null

/** Partition and offset of a message that every consumer group met; null for one that failed in one of them. */
function sourceIn(text = ''): [number | null, number | null] {
  const [, partition, offset] = /^(\d{1,9}):(\d{1,15})$/.exec(text) ?? []
  return partition === undefined ? [null, null] : [Number(partition), Number(offset)]
}

/**
 * Copies them from their topics; what was copied before is not copied again, and what is no event or job is kept once
 * however many consumers say so: the unique indexes hold that.
 */
export async function keepDeadLetters(queries: Queries, messages: readonly BuriedMessage[]): Promise<void> {
  const rows = messages.map(({ topic, partition, position, key, value, headers }) => [
    newId(),
    topic,
    partition,
    position,
    storable(key),
    storable(value),
    storable(headers.consumer),
    storable(headers.error),
    Math.min(Number.parseInt(headers.attempts ?? '', 10) || 0, 1_000_000) || null,
    tenantIn(value),
    momentIn(headers['first-at']),
    momentIn(headers['last-at']),
    ...sourceIn(headers.source),
  ])
  await queries.query(sql.run`
    insert into platform_dead_letters (id, topic, partition, position, key, value, consumer, error, attempts, tenant_id, first_at, last_at, source_partition, source_offset)
    select * from ${sql.unnest(rows, ['uuid', 'text', 'int4', 'int8', 'text', 'text', 'text', 'text', 'int4', 'uuid', 'timestamptz', 'timestamptz', 'int4', 'int8'])} as d
    on conflict do nothing`)
}

const line = {
  id: Uuid,
  topic: Type.String(),
  key: nullable(Type.String()),
  consumer: nullable(Type.String()),
  error: nullable(Type.String()),
  attempts: nullable(Type.Integer()),
  tenant_id: nullable(Uuid),
  first_at: nullable(Timestamp),
  last_at: nullable(Timestamp),
  replayed_at: nullable(Timestamp),
  replayed_by: nullable(Uuid),
  dismissed_at: nullable(Timestamp),
  dismissed_by: nullable(Uuid),
  created_at: Timestamp,
}
export const DeadLetterLine = Type.Object(line, { additionalProperties: false })
export const DeadLetter = Type.Object(
  { ...line, value: Type.String({ description: 'The message as it came' }) },
  { additionalProperties: false },
)
export type DeadLetter = Static<typeof DeadLetter>

const columns = sql.fragment`id, topic, key, consumer, error, attempts, tenant_id, first_at, last_at, replayed_at, replayed_by, dismissed_at, dismissed_by, created_at`

export const DEAD_LETTER_STATES = ['open', 'replayed', 'dismissed'] as const
const inState = {
  open: sql.fragment`replayed_at is null and dismissed_at is null`,
  replayed: sql.fragment`replayed_at is not null`,
  dismissed: sql.fragment`dismissed_at is not null`,
}

/** A page, newest first; without a state all that were not dismissed. `after` is time and id of the last one before it. */
export const deadLetterPage = (
  queries: Queries,
  { state, tenantId }: { state: (typeof DEAD_LETTER_STATES)[number] | null; tenantId: string | null },
  limit: number,
  after: unknown[] | null,
): Promise<readonly Static<typeof DeadLetterLine>[]> =>
  queries.any(sql.prepared(DeadLetterLine)`
    select ${columns} from platform_dead_letters
    where ${state ? inState[state] : sql.fragment`dismissed_at is null`}
      and (${tenantId}::uuid is null or tenant_id = ${tenantId}::uuid)
      and ${after ? sql.fragment`(created_at, id) < (${String(after[0])}::timestamptz, ${String(after[1])}::uuid)` : sql.fragment`true`}
    order by created_at desc, id desc limit ${limit}`)

/** Throws `not_found`. */
export async function deadLetter(queries: Queries, id: string): Promise<DeadLetter> {
  const found = await queries.maybeOne(sql.prepared(DeadLetter)`select ${columns}, value from platform_dead_letters where id = ${id}`)
  if (!found) throw failure('not_found')
  return found
}

/** Notes that one was sent again, by whom. */
export async function markReplayed(queries: Queries, id: string, staffId: string | null): Promise<void> {
  await queries.query(sql.run`update platform_dead_letters set replayed_at = now(), replayed_by = ${staffId} where id = ${id}`)
}

/** Sets one aside that staff has dealt with. Throws `not_found`. */
export async function dismissDeadLetter(queries: Queries, id: string, staffId: string | null): Promise<DeadLetter> {
  await queries.query(sql.run`
    update platform_dead_letters set dismissed_at = now(), dismissed_by = ${staffId} where id = ${id} and dismissed_at is null`)
  return deadLetter(queries, id)
}
