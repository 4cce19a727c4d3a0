// Events as they commit: what one who has looked before has not seen yet.
import { createHash } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { jsonTime, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

export const StreamedEvent = Type.Object(
  {
    event_id: Uuid,
    type: Type.String(),
    entity_id: Uuid,
    version: Type.Integer(),
    occurred_at: Timestamp,
    correlation_id: Type.Union([Type.String(), Type.Null()]),
    organization_id: Type.Union([Type.String(), Type.Null()], { description: 'Whose it is; null for what is the whole tenant’s' }),
    data: Type.Object({}, { additionalProperties: true }),
  },
  { additionalProperties: false },
)
export type StreamedEvent = Static<typeof StreamedEvent>

const Now = Type.Object({ now: Type.String() }, { additionalProperties: false })
const Since = Type.Object({ now: Type.String(), events: Type.Array(StreamedEvent) }, { additionalProperties: false })

/** What a database shows now, as PostgreSQL writes a snapshot down. */
export const snapshotOf = async (tx: Tx): Promise<string> =>
  (await tx.one(sql.prepared(Now)`select pg_current_snapshot()::text as now`)).now

/**
 * The tenant's events that one snapshot does not show and another does, or that are there now, `limit` of them at most,
 * and what is shown now: one statement, so that nothing is between the two. Whatever else is being written meanwhile, none
 * is lost and none comes twice.
 */
export const eventsBetween = (tx: Tx, since: string, until: string | null, limit: number): Promise<Static<typeof Since>> =>
  tx.one(sql.prepared(Since)`
    select pg_current_snapshot()::text as now, coalesce((
      select json_agg(json_build_object('event_id', event_id, 'type', type, 'entity_id', entity_id, 'version', version,
        'occurred_at', ${jsonTime('occurred_at')}, 'correlation_id', correlation_id, 'organization_id', organization_id, 'data', data) order by position)
      from (
        select event_id, type, entity_id, version, occurred_at, correlation_id, organization_id, data, position from plane.event_outbox
        where tenant_id = ${tx.tenantId} and xid >= pg_snapshot_xmin(${since}::pg_snapshot) and not pg_visible_in_snapshot(xid, ${since}::pg_snapshot)
          and (${until}::pg_snapshot is null or pg_visible_in_snapshot(xid, ${until}::pg_snapshot))
        order by xid, position limit ${limit}
      ) as e
    ), '[]') as events`)

/** How far somebody has seen: a snapshot of each of the tenant's databases, in the order of the planes. */
export interface Place {
  /** Which databases they are. */
  home: string
  snapshots: readonly string[]
  /** Milliseconds since 1970. */
  at: number
}

/** A place in another database, or of long ago, cannot be gone on from. Events are kept for seven days. */
const OLDEST_MS = 6 * 86_400_000
const SNAPSHOT = /^(\d{1,18}):(\d{1,18}):((?:\d{1,18}(?:,\d{1,18})*)?)$/

/** Whether PostgreSQL reads a text as a snapshot: from the oldest that was at work to the next, those at work between them in order. */
function isSnapshot(text: string): boolean {
  const [, from, to, between] = SNAPSHOT.exec(text) ?? []
  if (from === undefined) return false
  const numbers = [from, ...between!.split(',').filter(Boolean), to!].map(BigInt)
  return numbers.every((number, at) => at === 0 || number > numbers[at - 1]! || (at === 1 && number === numbers[0]))
}

export const homeMark = (parts: readonly (string | null)[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('base64url').slice(0, 10)

export const writePlace = ({ home, snapshots, at }: Place): string => [home, at.toString(36), ...snapshots].join('~')

/** The place that an id names; null for what is none, or cannot be gone on from. */
export function readPlace(id: string, home: string): Place | null {
  const [of, at = '', ...snapshots] = id.split('~')
  const since = Number.parseInt(at, 36)
  const isOurs = of === home && snapshots.length === 3 && snapshots.every(isSnapshot)
  return isOurs && Date.now() - since < OLDEST_MS && since <= Date.now() + 60_000 ? { home, snapshots, at: since } : null
}
