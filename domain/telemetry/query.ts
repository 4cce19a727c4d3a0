import { type Static, Type } from 'typebox'
import { failure, sql, Timestamp, type Tx } from '../kernel/index.ts'

export const BUCKETS = { '1m': '1 minute', '5m': '5 minutes', '15m': '15 minutes', '1h': '1 hour', '6h': '6 hours', '1d': '1 day' } as const

export const Reading = Type.Object({ ts: Timestamp, value: Type.Number(), quality: Type.Integer() }, { additionalProperties: false })
export const Bucket = Type.Object(
  {
    ts: Timestamp,
    count: Type.Integer(),
    min: Type.Number(),
    max: Type.Number(),
    avg: Type.Number(),
    first: Type.Number(),
    last: Type.Number(),
  },
  { additionalProperties: false },
)

export interface ReadingsQuestion {
  device: string
  metric: string
  from: string
  to: string
  limit: number
}

const Found = Type.Object({ series_id: Type.Integer() }, { additionalProperties: false })

/** The series of a device's metric in the context's organization. Throws `not_found`. */
async function seriesOf(tx: Tx, device: string, metric: string): Promise<number> {
  const found = await tx.maybeOne(sql.prepared(Found)`
    select s.series_id from tel_device d
    join tel_metric m on m.tenant_id = d.tenant_id and m.code = ${metric}
    join tel_series s on s.tenant_id = d.tenant_id and s.device_id = d.id and s.metric_id = m.id
    where d.tenant_id = ${tx.tenantId} and d.organization_id = ${tx.context.organizationId} and d.code = ${device} and d.deleted_at is null`)
  if (!found) throw failure('not_found', { device, metric }, 'This device has sent no such metric yet.')
  return found.series_id
}

/** Readings as they were sent, newest first, from ≤ ts < to. */
export async function rawReadings(tx: Tx, q: ReadingsQuestion): Promise<readonly Static<typeof Reading>[]> {
  const series = await seriesOf(tx, q.device, q.metric)
  return tx.any(sql.prepared(Reading)`
    select ts, value, quality from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = ${series} and ts >= ${q.from} and ts < ${q.to} order by ts desc limit ${q.limit}`)
}

/** Readings summed up in buckets of equal length aligned to midnight UTC, newest first; empty ones are left out. */
export async function bucketedReadings(
  tx: Tx,
  q: ReadingsQuestion,
  bucket: keyof typeof BUCKETS,
): Promise<readonly Static<typeof Bucket>[]> {
  const series = await seriesOf(tx, q.device, q.metric)
  return tx.any(sql.prepared(Bucket)`
    select date_bin(${BUCKETS[bucket]}::interval, ts, '2000-01-01T00:00:00Z'::timestamptz) as ts, count(*) as count, min(value) as min, max(value) as max, avg(value) as avg,
      (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
    from tel_measurement where tenant_id = ${tx.tenantId} and series_id = ${series} and ts >= ${q.from} and ts < ${q.to}
    group by 1 order by 1 desc limit ${q.limit}`)
}
