// Series beside each other: by the same buckets, or drawn with as many points as a screen has.
import { Type } from 'typebox'
import { type Fragment, failure, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'
import { AnnotationOfSeries, annotationsOf } from './annotation.ts'
import { BUCKETS, type BucketLength, bucketFor, bucketsBetween, type Span } from './buckets.ts'
import { pointsOfDerived, requireFewReadings } from './derived.ts'
import { type Fill, fillGaps, fillOf } from './fill.ts'
import { largestTriangles, type Point } from './lttb.ts'
import { areUsual, isSummed, type Qualities, USUAL_QUALITIES } from './quality.ts'
import { type AnySeries, Series, type SeriesQuestion, seriesOf } from './series.ts'
import { AGGREGATES, type Aggregate, type Source, SourceSchema, valuesOf } from './summed.ts'

const named = {
  device: Series.properties.device,
  device_id: Series.properties.device_id,
  metric: Series.properties.metric,
  unit: Series.properties.unit,
}

export const Aligned = Type.Object(
  {
    source: SourceSchema,
    bucket: oneOf(Object.keys(BUCKETS) as BucketLength[]),
    aggregate: oneOf(AGGREGATES),
    times: Type.Array(Timestamp, { description: 'When each bucket begins, the earliest first' }),
    series: Type.Array(
      Type.Object(
        { ...named, values: Type.Array(nullable(Type.Number()), { description: 'One for each of `times`' }) },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
)

/** Values in one answer at most: of all series together. */
const MOST_VALUES = 100_000
const MOST_SERIES = 100

export interface AlignedQuestion extends SeriesQuestion, Omit<Span, 'bucket'> {
  /** The shortest by which there are no more than `buckets` of them, when nothing is said. */
  bucket: BucketLength | undefined
  buckets: number
  aggregate: Aggregate
  fill: Fill
  qualities: Qualities
}

/** Many series by the same buckets. Throws `not_found`, `invalid_value` where there are too many of them or of their buckets. */
export async function alignedSeries(tx: Tx, question: AlignedQuestion) {
  const { aggregate, fill } = question
  const bucket = question.bucket ?? bucketFor(question, question.buckets)
  const series = await seriesOf(tx, question, MOST_SERIES)
  const span = { ...question, bucket }
  const times = bucketsBetween(span, Math.floor(MOST_VALUES / series.length))
  const { source, values } = await valuesOf(tx, series, span, aggregate)
  const nothing = aggregate === 'count' ? 0 : null
  return {
    source,
    bucket,
    aggregate,
    times: times.map((at) => new Date(at).toISOString()),
    series: series.map(({ device, device_id, metric, unit, series_id }) => {
      const column = times.map((at) => values.get(series_id)?.get(at) ?? nothing)
      return { device, device_id, metric, unit, values: fillGaps(times, column, fillOf(aggregate, fill)) }
    }),
  }
}

export const Drawn = Type.Object(
  {
    ...named,
    source: SourceSchema,
    points: Type.Array(Type.Object({ ts: Timestamp, value: Type.Number() }, { additionalProperties: false }), {
      description: 'The earliest first',
    }),
    annotations: Type.Array(AnnotationOfSeries, {
      description: 'Of the series and its device within the time, the earliest first; none without telemetry.annotation.read',
    }),
  },
  { additionalProperties: false },
)

/** So many readings of a series are thinned out as they are. */
const MAX_POINTS = 50_000
/** Of so many the lowest and the highest of each part of the span are; of more, those of hours and of days. */
const MAX_SCANNED = 500_000
const HOUR = 3_600_000

const Drawable = Type.Object({ at: Type.Number(), value: Type.Number() }, { additionalProperties: false })
const Many = Type.Object(
  { n: Type.Integer(), first: nullable(Type.Number()), last: nullable(Type.Number()) },
  { additionalProperties: false },
)
type Drawing = Pick<Span, 'from' | 'to'> & { qualities: Qualities }

/** Readings of a series within a span, as a condition; of sums of hours or days with `bucket`. */
const within = (tx: Tx, series: number, time: 'ts' | 'bucket', from: string, to: string): Fragment =>
  sql.fragment`tenant_id = ${tx.tenantId} and series_id = ${series} and ${sql.identifier([time])} >= ${from} and ${sql.identifier([time])} < ${to}`

const inMilliseconds = (moment: Fragment): Fragment => sql.fragment`(extract(epoch from ${moment})::float8 * 1000)`

/** The lowest and the highest reading of each of so many equal parts of a span, and the first and last of all, by time. */
const extremes = (tx: Tx, readings: Fragment, first: number, last: number): Promise<readonly Point[]> =>
  tx.any(sql.type(Drawable)`
    with r as (select ${inMilliseconds(sql.fragment`ts`)} as at, value from ${readings}),
    parts as (
      -- Arrays are compared by their first element, then by the second: of equal values the earliest is kept.
      select min(array[value, at]) as low, max(array[value, -at]) as high
      from r group by width_bucket(at, ${first}::float8, ${last + 1}::float8, ${MAX_POINTS / 2}::int)
    )
    select distinct at, value from (
      select low[2] as at, low[1] as value from parts
      union all select -high[2], high[1] from parts
      union all (select at, value from r where at = ${first} or at = ${last})
    ) as p order by at`)

/**
 * The lowest and the highest of each hour or day, to the hour or day exactly: the earlier third and the later third of it, as
 * when they were is not kept. Readings before the first whole one and after the last are taken as they are.
 */
async function extremesOfSums(tx: Tx, series: number, { from, to }: Drawing, source: 'hourly' | 'daily'): Promise<readonly Point[]> {
  const length = source === 'hourly' ? HOUR : 24 * HOUR
  const first = new Date(Math.ceil(Date.parse(from) / length) * length).toISOString()
  const last = new Date(Math.floor(Date.parse(to) / length) * length).toISOString()
  const table = sql.identifier([source === 'hourly' ? 'tel_hourly' : 'tel_daily'])
  const readings = (since: string, until: string) => sql.fragment`
    (select ${inMilliseconds(sql.fragment`ts`)}, value from tel_measurement
      where ${within(tx, series, 'ts', since, until)} and ${isSummed(USUAL_QUALITIES)} order by ts limit ${MAX_SCANNED})`
  return tx.any(sql.prepared(Drawable)`
    with sums as (select ${inMilliseconds(sql.fragment`bucket`)} as at, count, min, max, first, last from ${table} where ${within(tx, series, 'bucket', first, last)})
    select at, value from (
      select at + ${length / 3}::float8, case when first <= last then min else max end from sums
      union all select at + ${(length / 3) * 2}::float8, case when first <= last then max else min end from sums where count > 1
      union all ${readings(from, first)}
      union all ${readings(last, to)}
    ) as p (at, value) order by at`)
}

/** What of a series can be thinned out, by time: readings while they are not too many, else the lowest and highest of parts, hours or days. */
async function pointsOf(tx: Tx, series: AnySeries, drawing: Drawing): Promise<{ source: Source; points: readonly Point[] }> {
  const { from, to, qualities } = drawing
  if (from >= to) return { source: 'raw', points: [] }
  const { series_id, formula } = series
  if (formula) await requireFewReadings(tx, [{ series_id, formula }], drawing)
  const readings = formula
    ? sql.fragment`(${pointsOfDerived(tx, [{ series_id, formula }], drawing)}) as points`
    : sql.fragment`tel_measurement where ${within(tx, series_id, 'ts', from, to)} and ${isSummed(qualities)}`
  // Formulas have texts of their own, which would take the places of other prepared statements.
  const statement = formula ? sql.type : sql.prepared
  const { n, first, last } = await tx.one(statement(Many)`
    select count(*) as n, ${inMilliseconds(sql.fragment`min(ts)`)} as first, ${inMilliseconds(sql.fragment`max(ts)`)} as last
    from (select ts from ${readings} limit ${MAX_SCANNED + 1}) as m`)
  if (n <= MAX_POINTS)
    return {
      source: 'raw',
      points: await tx.any(statement(Drawable)`
        select ${inMilliseconds(sql.fragment`ts`)} as at, value from ${readings} order by ts limit ${MAX_POINTS}`),
    }
  if (n <= MAX_SCANNED) return { source: 'raw', points: await extremes(tx, readings, first!, last!) }
  if (formula || !areUsual(qualities))
    throw failure(
      'invalid_value',
      { path: formula ? '/from' : '/quality', rule: 'readings' },
      `These are more than ${MAX_SCANNED} readings: ask for a shorter time.`,
    )
  const source = (Date.parse(to) - Date.parse(from)) / HOUR <= MAX_POINTS / 2 ? 'hourly' : 'daily'
  return { source, points: await extremesOfSums(tx, series_id, drawing, source) }
}

/** Series with `points` points each at most, those that keep what they look like. Throws `not_found`, `invalid_value`. */
export async function drawnSeries(tx: Tx, question: SeriesQuestion & Drawing & { points: number; annotated: boolean }) {
  const series = await seriesOf(tx, question, MOST_DRAWN)
  const annotated = question.annotated ? series.map(({ device_id }) => device_id) : []
  const notesOf = await annotationsOf(tx, annotated, question)
  const drawn = []
  for (const one of series) {
    const { device, device_id, metric, unit } = one
    const { source, points } = await pointsOf(tx, one, question)
    const kept = largestTriangles(points, question.points).map(({ at, value }) => ({ ts: new Date(at).toISOString(), value }))
    drawn.push({ device, device_id, metric, unit, source, points: kept, annotations: notesOf(device_id, metric) })
  }
  return drawn
}
const MOST_DRAWN = 10
