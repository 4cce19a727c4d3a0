// Readings as they are asked for: as they were sent, or summed up in buckets of the company's own days and hours.
import { type Static, Type } from 'typebox'
import { type Fragment, failure, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'

/** Up to an hour a bucket is so long, from the hour on; longer ones follow the clock on the wall, whatever the length of a day. */
const WITHIN_HOUR = {
  '1s': '1 second',
  '10s': '10 seconds',
  '30s': '30 seconds',
  '1m': '1 minute',
  '5m': '5 minutes',
  '10m': '10 minutes',
  '15m': '15 minutes',
  '30m': '30 minutes',
  '1h': '1 hour',
} as const
const BY_WALL_CLOCK = {
  '3h': '3 hours',
  '6h': '6 hours',
  '12h': '12 hours',
  '1d': '1 day',
  '1w': '1 week',
  '1mo': '1 month',
} as const
export const BUCKETS = { ...WITHIN_HOUR, ...BY_WALL_CLOCK }
export type BucketLength = keyof typeof BUCKETS

export const FILLS = ['none', 'null', 'previous', 'linear'] as const
export type Fill = (typeof FILLS)[number]

export const Reading = Type.Object({ ts: Timestamp, value: Type.Number(), quality: Type.Integer() }, { additionalProperties: false })
const value = nullable(Type.Number())
export const Bucket = Type.Object(
  { ts: Timestamp, count: Type.Integer(), sum: value, min: value, max: value, avg: value, first: value, last: value },
  { additionalProperties: false },
)
type Bucket = Static<typeof Bucket>

export interface ReadingsQuestion {
  device: string
  metric: string
  from: string
  to: string
  limit: number
  /** The moment of the last one of the page before. */
  before: string | null
}

export interface BucketsQuestion extends ReadingsQuestion {
  bucket: BucketLength
  /** Whose days and hours: an IANA name that is known. */
  timeZone: string
  fill: Fill
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

/** Readings as they were sent, newest first, from ≤ ts < to. One more than `limit` may come, which says that there are more. */
export async function rawReadings(tx: Tx, q: ReadingsQuestion): Promise<readonly Static<typeof Reading>[]> {
  const series = await seriesOf(tx, q.device, q.metric)
  return tx.any(sql.prepared(Reading)`
    select ts, value, quality from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = ${series} and ts >= ${q.from} and ts < least(${q.to}::timestamptz, ${q.before}::timestamptz)
    order by ts desc limit ${q.limit + 1}`)
}

const isWithinHour = (bucket: BucketLength): bucket is keyof typeof WITHIN_HOUR => bucket in WITHIN_HOUR
const isCalendar = (bucket: BucketLength): boolean => ['1d', '1w', '1mo'].includes(bucket)
const CALENDAR = { '1d': 'day', '1w': 'week', '1mo': 'month' } as Record<BucketLength, string>

/** When the bucket begins that a moment is in. */
function startOf(bucket: BucketLength, timeZone: string, moment: Fragment): Fragment {
  if (isCalendar(bucket)) return sql.fragment`date_trunc(${CALENDAR[bucket]}, ${moment}, ${timeZone})`
  const step = sql.fragment`${BUCKETS[bucket]}::interval`
  if (isWithinHour(bucket)) return sql.fragment`date_bin(${step}, ${moment}, date_trunc('hour', ${moment}, ${timeZone}))`
  return sql.fragment`(date_bin(${step}, ${moment} at time zone ${timeZone}, timestamp '2000-01-01') at time zone ${timeZone})`
}

/** Every bucket from the one of `from` to the one before `to`. */
function bucketsBetween({ bucket, timeZone, from, to }: BucketsQuestion): Fragment {
  const step = sql.fragment`${BUCKETS[bucket]}::interval`
  const first = startOf(bucket, timeZone, sql.fragment`${from}::timestamptz`)
  if (isWithinHour(bucket))
    return sql.fragment`select b as ts from generate_series(${first}, ${to}::timestamptz - interval '1 millisecond', ${step}) as b`
  return sql.fragment`
    select b at time zone ${timeZone} as ts
    from generate_series(${first} at time zone ${timeZone}, (${to}::timestamptz - interval '1 millisecond') at time zone ${timeZone}, ${step}) as b`
}

const NOTHING = { sum: null, min: null, max: null, avg: null, first: null, last: null }

/**
 * Readings summed up in buckets, newest first. Empty ones are left out, or filled: then all buckets from `from` to `to` are
 * there, and refused with `invalid_value` where they are more than `limit`.
 */
export async function bucketedReadings(tx: Tx, q: BucketsQuestion): Promise<readonly Bucket[]> {
  const series = await seriesOf(tx, q.device, q.metric)
  const filled = q.fill !== 'none'
  const found = await tx.any(sql.prepared(Bucket)`
    select ${startOf(q.bucket, q.timeZone, sql.fragment`ts`)} as ts, count(*) as count, sum(value) as sum, min(value) as min, max(value) as max, avg(value) as avg,
      (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
    from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = ${series} and ts >= ${q.from} and ts < least(${q.to}::timestamptz, ${q.before}::timestamptz)
    group by 1 order by 1 desc limit ${q.limit + 1}`)
  if (!filled) return found
  const all = await tx.any(sql.prepared(Type.Pick(Bucket, ['ts'], { additionalProperties: false }))`
    select ts from (${bucketsBetween(q)}) as g order by ts desc limit ${q.limit + 1}`)
  if (all.length > q.limit)
    throw failure(
      'invalid_value',
      { path: '/bucket', rule: 'buckets' },
      `From then to then are more than ${q.limit} buckets: make them longer.`,
    )
  const known = new Map(found.map((bucket) => [bucket.ts, bucket]))
  return fillUp(
    all.map(({ ts }) => known.get(ts) ?? { ts, count: 0, ...NOTHING }),
    q.fill,
  )
}

const VALUES = ['min', 'max', 'avg', 'first', 'last'] as const

/** Gives empty buckets, newest first, what the one before them has, or what lies on the line between their neighbours. */
export function fillUp(buckets: readonly Bucket[], fill: Fill): Bucket[] {
  if (fill === 'none' || fill === 'null') return [...buckets]
  let newer: Bucket | null = null
  const full = buckets.map((bucket) => ({ bucket, newer: null as Bucket | null, older: null as Bucket | null }))
  for (const one of full) {
    one.newer = newer
    if (one.bucket.count > 0) newer = one.bucket
  }
  let older: Bucket | null = null
  for (const one of full.toReversed()) {
    one.older = older
    if (one.bucket.count > 0) older = one.bucket
  }
  return full.map(({ bucket, newer, older }) => {
    if (bucket.count > 0 || !older || (fill === 'linear' && !newer)) return bucket
    const share = fill === 'linear' ? (Date.parse(bucket.ts) - Date.parse(older.ts)) / (Date.parse(newer!.ts) - Date.parse(older.ts)) : 0
    const between = (name: (typeof VALUES)[number]) => older[name]! + share * ((newer ?? older)[name]! - older[name]!)
    return { ...bucket, ...Object.fromEntries(VALUES.map((name) => [name, between(name)])) }
  })
}

export const FillSchema = oneOf(FILLS, {
  default: 'none',
  description:
    'What empty buckets have: they are left out, or have nothing, what the one before has, or what lies between their neighbours',
})
