// What waits to be published, or could not be, in one database.
import { type Static, Type } from 'typebox'
import { nullable, oneOf, type Queries, sql, Timestamp, Uuid } from '../kernel/index.ts'

export const OUTBOX_STATES = ['pending', 'dispatched', 'failed'] as const

export const OutboxEvent = Type.Object(
  {
    event_id: Uuid,
    tenant_id: Uuid,
    position: Type.Integer(),
    type: Type.String(),
    entity_id: Uuid,
    version: Type.Integer(),
    status: oneOf(OUTBOX_STATES),
    attempts: Type.Integer(),
    error: nullable(Type.String()),
    occurred_at: Timestamp,
    available_at: Timestamp,
    dispatched_at: nullable(Timestamp),
    correlation_id: nullable(Type.String()),
    data: Type.Unknown(),
  },
  { additionalProperties: false },
)

/** A page of one state, oldest first; `after` is the position that the page before ended with. */
export const outboxPage = (
  queries: Queries,
  { status, tenantId, limit, after }: { status: (typeof OUTBOX_STATES)[number]; tenantId: string | null; limit: number; after: number },
): Promise<readonly Static<typeof OutboxEvent>[]> =>
  queries.any(sql.prepared(OutboxEvent)`
    select event_id, tenant_id, position, type, entity_id, version, status, attempts, error, occurred_at, available_at, dispatched_at, correlation_id, data
    from plane.event_outbox where status = ${status} and position > ${after} and (${tenantId}::uuid is null or tenant_id = ${tenantId}::uuid)
    order by position limit ${limit}`)

const Freed = Type.Object({ event_id: Uuid, tenant_id: Uuid }, { additionalProperties: false })
export type Replayed = Static<typeof Freed>

/** Lets failed events be tried again, from the first attempt; returns which they were. Those that did not fail are left alone. */
export const replayOutbox = (queries: Queries, eventIds: readonly string[]): Promise<readonly Replayed[]> =>
  queries.any(sql.prepared(Freed)`
    update plane.event_outbox set status = 'pending', attempts = 0, error = null, available_at = now()
    where status = 'failed' and event_id = any(${sql.array([...eventIds], 'uuid')}) returning event_id, tenant_id`)

export const Waiting = Type.Object(
  { pending: Type.Integer(), failed: Type.Integer(), oldest_seconds: Type.Number() },
  { additionalProperties: false },
)

/** How much waits or failed in one database, and for how long. */
export const waiting = (queries: Queries): Promise<Static<typeof Waiting>> =>
  queries.one(sql.prepared(Waiting)`
    select count(*) filter (where status = 'pending') as pending, count(*) filter (where status = 'failed') as failed,
      coalesce(extract(epoch from now() - min(occurred_at) filter (where status = 'pending')), 0)::float8 as oldest_seconds
    from plane.event_outbox where status <> 'dispatched'`)
