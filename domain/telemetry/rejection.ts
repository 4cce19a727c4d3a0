// What devices sent and nobody kept, by device, reason and hour.
import { type Static, Type } from 'typebox'
import { sql, Timestamp, type Tx } from '../kernel/index.ts'
import type { Refused } from './message.ts'

/** Where a message lies on its topic, from where it can be read again. */
export interface MessagePosition {
  topic: string
  partition: number
  offset: number
}

export interface Rejection extends Refused {
  /** As the message names it; null where none could be read. */
  tenant: string | null
  device: string
  position?: MessagePosition
  /** Why a message could not be processed. */
  error?: string
}

export const Rejected = Type.Object(
  {
    device: Type.String({
      description: 'As the message called it; empty where none could be read, and for strangers beyond the first thousand of an hour',
    }),
    reason: Type.String({ examples: ['out_of_limits'] }),
    hour: Timestamp,
    count: Type.Integer({ description: 'Readings, or messages of which none could be read' }),
    last_at: Timestamp,
  },
  { additionalProperties: false },
)
export const RejectedQuery = Type.Object(
  {
    device: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    from: Type.Optional({ ...Timestamp, description: 'A day ago when nothing is said' }),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 2000 })),
  },
  { additionalProperties: false },
)

/** Names of senders without a good key that an hour remembers; they may call themselves anything. */
const STRANGERS_AN_HOUR = 1_000

/**
 * Adds to the counts of this hour. Keys are taken in their order, so that two consumers wait and never block each other.
 * Whose key is wrong may call itself anything: when there are enough names, those that are new are counted without one.
 */
export async function countRejections(tx: Tx, rejections: readonly Rejection[]): Promise<void> {
  if (rejections.length === 0) return
  const sums = new Map<string, Rejection>()
  for (const r of rejections) {
    const key = `${r.device} ${r.reason}`
    sums.set(key, { ...r, count: r.count + (sums.get(key)?.count ?? 0) })
  }
  const rows = [...sums.values()].map((r) => [r.device, r.reason, r.count])
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    with hour as (select date_trunc('hour', ${now}::timestamptz) as begins),
    strangers as materialized (
      select count(*) >= ${STRANGERS_AN_HOUR}::int as enough from tel_rejection s, hour
      where s.tenant_id = ${tx.tenantId} and s.hour = hour.begins and s.reason = 'unauthorized'),
    refused as (
      select r.reason, r.count, case when r.reason <> 'unauthorized' or not strangers.enough or k.device is not null then r.device else '' end as device
      from ${sql.unnest(rows, ['text', 'text', 'int8'])} as r (device, reason, count)
      cross join strangers cross join hour
      left join tel_rejection k on k.tenant_id = ${tx.tenantId} and k.device = r.device and k.reason = r.reason and k.hour = hour.begins)
    insert into tel_rejection as t (tenant_id, device, reason, hour, count, last_at)
    select ${tx.tenantId}, r.device, r.reason, hour.begins, sum(r.count), ${now} from refused r cross join hour
    group by r.device, r.reason, hour.begins order by r.device, r.reason
    on conflict (tenant_id, device, reason, hour) do update set count = t.count + excluded.count, last_at = excluded.last_at`)
}

/**
 * What was refused, the latest hour first. Of the devices of the context's organization, and of senders that are no device.
 * One more than `limit` may come, which says that there are more.
 */
export const rejectedReadings = (
  tx: Tx,
  { device, from, limit, after }: Omit<Static<typeof RejectedQuery>, 'limit' | 'cursor'> & { limit: number; after: string[] | null },
) =>
  tx.any(sql.prepared(Rejected)`
    select r.device, r.reason, r.hour, r.count, r.last_at from tel_rejection r
    where r.tenant_id = ${tx.tenantId} and r.hour >= date_trunc('hour', coalesce(${from ?? null}::timestamptz, ${tx.now.toISOString()}::timestamptz - interval '1 day'))
      and (${device ?? null}::text is null or r.device = ${device ?? null})
      and (${after?.[0] ?? null}::timestamptz is null or r.hour < ${after?.[0] ?? null}
        or (r.hour = ${after?.[0] ?? null} and (r.device, r.reason) > (${after?.[1] ?? null}::text, ${after?.[2] ?? null}::text)))
      and not exists (
        select from tel_device d
        where d.tenant_id = r.tenant_id and d.code = r.device and d.deleted_at is null and d.organization_id <> ${tx.context.organizationId})
    order by r.hour desc, r.device, r.reason limit ${limit + 1}`)
