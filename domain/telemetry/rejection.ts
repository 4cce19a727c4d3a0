// What devices sent and nobody kept, by device, reason and hour.
import { type Static, Type } from 'typebox'
import { sql, Timestamp, type Tx } from '../kernel/index.ts'
import type { RejectionReason } from './message.ts'

export interface Rejection {
  device: string
  reason: RejectionReason
  count: number
}

export const Rejected = Type.Object(
  {
    device: Type.String({ description: 'As the message called it; empty where none could be read' }),
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

/** Adds to the counts of this hour. Keys are taken in their order, so that two consumers wait and never block each other. */
export async function countRejections(tx: Tx, rejections: readonly Rejection[]): Promise<void> {
  if (rejections.length === 0) return
  const sums = new Map<string, Rejection>()
  for (const r of rejections) {
    const key = `${r.device} ${r.reason}`
    sums.set(key, { ...r, count: r.count + (sums.get(key)?.count ?? 0) })
  }
  const rows = [...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, r]) => [r.device, r.reason, r.count])
  await tx.query(sql.run`
    insert into tel_rejection as t (tenant_id, device, reason, hour, count, last_at)
    select ${tx.tenantId}, r.device, r.reason, date_trunc('hour', ${tx.now.toISOString()}::timestamptz), r.count, ${tx.now.toISOString()}
    from ${sql.unnest(rows, ['text', 'text', 'int8'])} as r (device, reason, count)
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
