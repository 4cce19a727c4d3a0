// Readings of one series as they are asked for, as they were sent or in buckets; and the latest of many.
import { type Static, Type } from 'typebox'
import { nullable, sql, Timestamp, type Tx } from '../kernel/index.ts'
import { bucketsBetween } from './buckets.ts'
import { latestPoints } from './derived.ts'
import { type Fill, fillGaps, fillOf } from './fill.ts'
import { hasQuality, type Qualities } from './quality.ts'
import { type AnySeries, meant, SERIES, Series, type SeriesQuestion, seriesOf } from './series.ts'
import { Bucket, type Further, type Source, type Summing, summed } from './summed.ts'

export const Reading = Type.Object({ ts: Timestamp, value: Type.Number(), quality: Type.Integer() }, { additionalProperties: false })
export type Reading = Static<typeof Reading>
/** A reading or a bucket, as it is sent: a union would be looked through for each of ten thousand. */
export const ReadingOrBucket = Type.Object(
  { ...Type.Partial(Bucket).properties, ...Type.Partial(Reading).properties, ts: Timestamp },
  { additionalProperties: false },
)

/** A piece of a series, newest first. */
interface Page {
  from: string
  to: string
  qualities: Qualities
  limit: number
  /** The moment of the last one of the page before. */
  before: string | null
}
export interface ReadingsQuestion extends Page {
  device: string
  metric: string
  include_deleted?: boolean | undefined
}
export interface BucketsQuestion extends ReadingsQuestion, Summing {
  fill: Fill
  further: readonly Further[]
}

/** Readings of a series, newest first, from ≤ ts < to. One more than `limit` may come, which says that there are more. */
export function readingsOf(
  tx: Tx,
  { series_id, formula }: Pick<AnySeries, 'series_id' | 'formula'>,
  { from, to, before, limit, qualities }: Page,
): Promise<readonly Reading[]> {
  if (formula) return latestPoints(tx, { series_id, formula }, { from, to: before && before < to ? before : to, qualities }, limit + 1)
  return tx.any(sql.prepared(Reading)`
    select ts, value, quality from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = ${series_id} and ts >= ${from} and ts < least(${to}::timestamptz, ${before}::timestamptz)
      and ${hasQuality(qualities)}
    order by ts desc limit ${limit + 1}`)
}

const seriesNamed = async (tx: Tx, { device, metric, include_deleted }: ReadingsQuestion): Promise<AnySeries> =>
  (await seriesOf(tx, { devices: [device], metrics: [metric], include_deleted }, 1))[0]!

/** The same of a device's metric. Throws `not_found`. */
export const rawReadings = async (tx: Tx, question: ReadingsQuestion): Promise<readonly Reading[]> =>
  readingsOf(tx, await seriesNamed(tx, question), question)

const USUAL = ['count', 'sum', 'min', 'max', 'avg', 'first', 'last'] as const

/**
 * Readings summed up in buckets, newest first, and what they were worked out from. Empty ones are left out, or filled: then
 * all buckets from `from` to `to` are there, and refused with `invalid_value` where they are more than `limit`.
 */
export async function bucketedReadings(tx: Tx, q: BucketsQuestion): Promise<{ source: Source; buckets: readonly Bucket[] }> {
  const series = await seriesNamed(tx, q)
  const all = q.fill === 'none' ? null : bucketsBetween(q, q.limit).toReversed()
  const to = q.before && q.before < q.to ? q.before : q.to
  const { source, buckets } = await summed(tx, series, { ...q, to }, q.further, q.limit + 1)
  return { source, buckets: all ? filledUp(all, buckets, [...USUAL, ...q.further], q.fill) : buckets }
}

/** All buckets, those with readings as they are, the values of empty ones filled as `fill` says. */
function filledUp(all: readonly number[], buckets: readonly Bucket[], names: readonly (keyof Bucket)[], fill: Fill): readonly Bucket[] {
  const known = new Map(buckets.map((bucket) => [Date.parse(bucket.ts), bucket]))
  const columns = names.map((name) => {
    const nothing = name === 'count' ? 0 : null
    const values = all.map((at) => (known.get(at)?.[name] as number | null | undefined) ?? nothing)
    return [name, fillGaps(all, values, fillOf(name, fill))] as const
  })
  return all.map(
    (at, index) =>
      ({ ts: new Date(at).toISOString(), ...Object.fromEntries(columns.map(([name, values]) => [name, values[index]])) }) as Bucket,
  )
}

export const LatestReading = Type.Object(
  { device: Series.properties.device, metric: Series.properties.metric, unit: nullable(Type.String()), ...Reading.properties },
  { additionalProperties: false },
)

/**
 * The latest reading of each series, by device and metric. Where to begin to look is known of each, so that of its many
 * partitions the last few are looked into. One more than `limit` may come, which says that there are more.
 */
export const latestReadings = (
  tx: Tx,
  { limit, after, ...question }: SeriesQuestion & { limit: number; after: readonly [device: string, metric: string] | null },
): Promise<readonly Static<typeof LatestReading>[]> =>
  tx.any(sql.prepared(LatestReading)`
    select d.code as device, m.code as metric, m.unit, r.ts, r.value, r.quality
    from ${SERIES} cross join lateral (
      select ts, value, quality from tel_measurement x
      where x.tenant_id = ${tx.tenantId} and x.series_id = s.series_id and x.ts >= s.last_hour and x.ts < now() + interval '1 day'
      order by ts desc limit 1
    ) as r
    where ${meant(tx, question)} and ${after ? sql.fragment`(d.code, m.code) > (${after[0]}, ${after[1]})` : sql.fragment`true`}
    order by d.code, m.code limit ${limit + 1}`)
