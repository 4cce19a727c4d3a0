// Readings as they are asked for: as they were sent, or summed up in buckets of the company's own days and hours.
import { type Static, Type } from 'typebox'
import { type Fragment, failure, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'

interface Length {
  step: string
  /** At most, but for days on which clocks are changed. */
  seconds: number
  /** What of the calendar it is. */
  calendar?: 'day' | 'week' | 'month'
}

/** Up to an hour a bucket is so long, from the hour on; longer ones follow the clock on the wall, whatever the length of a day. */
export const BUCKETS = {
  '1s': { step: '1 second', seconds: 1 },
  '10s': { step: '10 seconds', seconds: 10 },
  '30s': { step: '30 seconds', seconds: 30 },
  '1m': { step: '1 minute', seconds: 60 },
  '5m': { step: '5 minutes', seconds: 300 },
  '10m': { step: '10 minutes', seconds: 600 },
  '15m': { step: '15 minutes', seconds: 900 },
  '30m': { step: '30 minutes', seconds: 1_800 },
  '1h': { step: '1 hour', seconds: 3_600 },
  '3h': { step: '3 hours', seconds: 10_800 },
  '6h': { step: '6 hours', seconds: 21_600 },
  '12h': { step: '12 hours', seconds: 43_200 },
  '1d': { step: '1 day', seconds: 86_400, calendar: 'day' },
  '1w': { step: '1 week', seconds: 604_800, calendar: 'week' },
  '1mo': { step: '1 month', seconds: 2_678_400, calendar: 'month' },
} as const satisfies Record<string, Length>
export type BucketLength = keyof typeof BUCKETS
const lengthOf = (bucket: BucketLength): Length => BUCKETS[bucket]
const isWithinHour = ({ seconds }: Length): boolean => seconds <= 3_600

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

/** When the bucket begins that a moment is in. */
function startOf(length: Length, timeZone: string, moment: Fragment): Fragment {
  if (length.calendar) return sql.fragment`date_trunc(${length.calendar}, ${moment}, ${timeZone})`
  const step = sql.fragment`${length.step}::interval`
  if (isWithinHour(length)) return sql.fragment`date_bin(${step}, ${moment}, date_trunc('hour', ${moment}, ${timeZone}))`
  return sql.fragment`(date_bin(${step}, ${moment} at time zone ${timeZone}, timestamp '2000-01-01') at time zone ${timeZone})`
}

/**
 * When every bucket begins, from the one of `from` to the one before `to`, newest first. Throws `invalid_value` where they
 * are more than `limit`, before they are made where that is plain.
 */
async function bucketsBetween(tx: Tx, { bucket, timeZone, from, to, limit }: BucketsQuestion): Promise<readonly string[]> {
  const length = lengthOf(bucket)
  const tooMany = () =>
    failure('invalid_value', { path: '/bucket', rule: 'buckets' }, `From then to then are more than ${limit} buckets: make them longer.`)
  if ((Date.parse(to) - Date.parse(from)) / 1000 / length.seconds > limit + 1) throw tooMany()
  const step = sql.fragment`${length.step}::interval`
  const first = startOf(length, timeZone, sql.fragment`${from}::timestamptz`)
  const last = sql.fragment`${to}::timestamptz - interval '1 millisecond'`
  const all = isWithinHour(length)
    ? sql.fragment`select b as ts from generate_series(${first}, ${last}, ${step}) as b`
    : sql.fragment`
      select b at time zone ${timeZone} as ts
      from generate_series(${first} at time zone ${timeZone}, (${last}) at time zone ${timeZone}, ${step}) as b`
  const found = await tx.any(sql.prepared(Begins)`select ts from (${all}) as g order by ts desc limit ${limit + 1}`)
  if (found.length > limit) throw tooMany()
  return found.map(({ ts }) => ts)
}

const Begins = Type.Pick(Bucket, ['ts'], { additionalProperties: false })
const NOTHING = { count: 0, sum: null, min: null, max: null, avg: null, first: null, last: null }

/**
 * Readings summed up in buckets, newest first. Empty ones are left out, or filled: then all buckets from `from` to `to` are
 * there, and refused with `invalid_value` where they are more than `limit`.
 */
export async function bucketedReadings(tx: Tx, q: BucketsQuestion): Promise<readonly Bucket[]> {
  const series = await seriesOf(tx, q.device, q.metric)
  const all = q.fill === 'none' ? null : await bucketsBetween(tx, q)
  const found = await tx.any(sql.prepared(Bucket)`
    select ${startOf(lengthOf(q.bucket), q.timeZone, sql.fragment`ts`)} as ts, count(*) as count, sum(value) as sum, min(value) as min, max(value) as max, avg(value) as avg,
      (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
    from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = ${series} and ts >= ${q.from} and ts < least(${q.to}::timestamptz, ${q.before}::timestamptz)
    group by 1 order by 1 desc limit ${q.limit + 1}`)
  if (!all) return found
  const known = new Map(found.map((bucket) => [bucket.ts, bucket]))
  return fillUp(
    all.map((ts) => known.get(ts) ?? { ts, ...NOTHING }),
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
