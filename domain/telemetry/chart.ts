// Series beside each other: by the same buckets, or drawn with as many points as a screen has.
import { Type } from 'typebox'
import { nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'
import { BUCKETS, type BucketLength, bucketFor, bucketsBetween, type Fill, fillGaps, type Span } from './buckets.ts'
import { largestTriangles, type Point } from './lttb.ts'
import { Series, type SeriesQuestion, seriesOf } from './series.ts'
import { AGGREGATES, type Aggregate, type Source, SourceSchema, valuesOf } from './summed.ts'

const named = { device: Series.properties.device, metric: Series.properties.metric, unit: Series.properties.unit }

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
export const MOST_SERIES = 100

export interface AlignedQuestion extends SeriesQuestion, Omit<Span, 'bucket'> {
  /** The shortest by which there are no more than `buckets` of them, when nothing is said. */
  bucket: BucketLength | undefined
  buckets: number
  aggregate: Aggregate
  fill: Fill
}

/** Many series by the same buckets. Throws `not_found`, `invalid_value` where there are too many of them or of their buckets. */
export async function alignedSeries(tx: Tx, question: AlignedQuestion) {
  const { aggregate, fill, from, to } = question
  const bucket = question.bucket ?? bucketFor(from, to, question.buckets)
  const series = await seriesOf(tx, question, MOST_SERIES)
  const span = { ...question, bucket }
  const times = (await bucketsBetween(tx, span, Math.floor(MOST_VALUES / series.length))).toReversed()
  const { source, values } = await valuesOf(tx, series, span, aggregate)
  const nothing = aggregate === 'count' ? 0 : null
  return {
    source,
    bucket,
    aggregate,
    times: times.map((at) => new Date(at).toISOString()),
    series: series.map(({ device, metric, unit, series_id }) => {
      const column = times.map((at) => values.get(series_id)?.get(at) ?? nothing)
      return { device, metric, unit, values: fillGaps(times, column, fill) }
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
  },
  { additionalProperties: false },
)

/** So many readings of a series are thinned out as they are; of more, averages of hours, and of days. */
const MOST_POINTS = 50_000
const Drawable = Type.Object({ at: Type.Number(), value: Type.Number() }, { additionalProperties: false })

const Many = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

/** What of a series can be thinned out: readings while they are not too many, else hours, else days. */
async function pointsOf(tx: Tx, series: number, from: string, to: string): Promise<{ source: Source; points: readonly Point[] }> {
  const within = (time: 'ts' | 'bucket') => {
    const column = sql.identifier([time])
    return sql.fragment`tenant_id = ${tx.tenantId} and series_id = ${series} and ${column} >= ${from} and ${column} < ${to}`
  }
  const { n } = await tx.one(sql.prepared(Many)`
    select count(*) as n from (select from tel_measurement where ${within('ts')} limit ${MOST_POINTS + 1}) as m`)
  const hours = (Date.parse(to) - Date.parse(from)) / 3_600_000
  const source: Source = n <= MOST_POINTS ? 'raw' : hours <= MOST_POINTS ? 'hourly' : 'daily'
  const rows = {
    raw: sql.fragment`select ts, value from tel_measurement where ${within('ts')}`,
    hourly: sql.fragment`select bucket, avg from tel_hourly where ${within('bucket')}`,
    daily: sql.fragment`select bucket, avg from tel_daily where ${within('bucket')}`,
  }[source]
  const points = await tx.any(sql.prepared(Drawable)`
    select extract(epoch from p.ts)::float8 * 1000 as at, p.value from (${rows}) as p (ts, value) order by p.ts limit ${MOST_POINTS}`)
  return { source, points }
}

/** Series with `points` points each at most, those that keep what they look like. Throws `not_found`, `invalid_value`. */
export async function drawnSeries(tx: Tx, question: SeriesQuestion & { from: string; to: string; points: number }) {
  const drawn = []
  for (const { series_id, device, metric, unit } of await seriesOf(tx, question, MOST_DRAWN)) {
    const { source, points } = await pointsOf(tx, series_id, question.from, question.to)
    const kept = largestTriangles(points, question.points)
    drawn.push({ device, metric, unit, source, points: kept.map(({ at, value }) => ({ ts: new Date(at).toISOString(), value })) })
  }
  return drawn
}
export const MOST_DRAWN = 10
