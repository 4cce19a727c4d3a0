// Readings summed up in buckets: of hours or days that were summed up before where that comes to the same, else of readings.
import { type Static, type TOptional, Type } from 'typebox'
import { type Fragment, failure, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'
import { type Grid, gridOf, kindOf, type Span } from './buckets.ts'
import { type DerivedSeries, pointsOfDerived, requireFewReadings } from './derived.ts'
import { areUsual, isSummed, type Qualities } from './quality.ts'
import type { AnySeries } from './series.ts'

const value = nullable(Type.Number())
const PERCENTILES = { p1: 0.01, p5: 0.05, p10: 0.1, p25: 0.25, p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99 } as const
/** What takes every reading to work out. */
export const FURTHER = [...(Object.keys(PERCENTILES) as (keyof typeof PERCENTILES)[]), 'time_weighted_avg', 'rate'] as const
export type Further = (typeof FURTHER)[number]
export const AGGREGATES = ['count', 'sum', 'min', 'max', 'avg', 'first', 'last', ...FURTHER] as const
export type Aggregate = (typeof AGGREGATES)[number]

const described: Partial<Record<Further, string>> = {
  time_weighted_avg:
    'Each value for as long as it was the latest one, within the bucket, `from` and `to`, up to now; the value before comes in with the bucket or `from`',
  rate: 'Change a second since the reading before the bucket; of a counter its growth, also where it began anew',
}
const further = Object.fromEntries(
  FURTHER.map((name) => [name, Type.Optional({ ...value, ...(described[name] ? { description: described[name] } : {}) })]),
) as unknown as Record<Further, TOptional<typeof value>>
const bucket = {
  ts: Timestamp,
  count: Type.Integer(),
  sum: value,
  min: value,
  max: value,
  avg: value,
  first: value,
  last: value,
  ...further,
}
export const Bucket = Type.Object(bucket, { additionalProperties: false })
export type Bucket = Static<typeof Bucket>

export const SOURCES = ['raw', 'hourly', 'daily'] as const
export type Source = (typeof SOURCES)[number]
export const SourceSchema = oneOf(SOURCES, {
  description: 'What it was worked out from: readings, or hours or days that were summed up before',
})

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** Spans that are longer are cut to the readings that are there: buckets of a thousand years are not made. */
const LONG = 400 * DAY

type Asked = Pick<AnySeries, 'series_id' | 'kind' | 'formula'>

/** Readings in buckets: of series, and by their quality. */
export interface Summing extends Span {
  qualities: Qualities
}

const Ends = Type.Object({ first: nullable(Type.Number()), last: nullable(Type.Number()) }, { additionalProperties: false })

/** The grid of buckets in which series have readings, and null where they have none. */
async function gridFor(tx: Tx, series: readonly Asked[], span: Span): Promise<Grid | null> {
  const [from, to] = [Date.parse(span.from), Date.parse(span.to)]
  if (from >= to) return null
  if (to - from <= LONG) return gridOf(span, from, to)
  const { first, last } = await tx.one(sql.prepared(Ends)`
    select floor(extract(epoch from min(f.ts)) * 1000)::float8 as first, ceil(extract(epoch from max(l.ts)) * 1000)::float8 as last
    from unnest(${readFrom(series)}) as s (id)
    cross join lateral (select ts from tel_measurement where tenant_id = ${tx.tenantId} and series_id = s.id and ts >= ${span.from} and ts < ${span.to} order by ts limit 1) as f
    cross join lateral (select ts from tel_measurement where tenant_id = ${tx.tenantId} and series_id = s.id and ts >= ${span.from} and ts < ${span.to} order by ts desc limit 1) as l`)
  return first === null || last === null ? null : gridOf(span, first, last + 1)
}

/**
 * What buckets are worked out from. UTC's hours make up a zone's longer ones where its clocks are off by whole hours; where they
 * are not (Asia/Kolkata), its days all but for the hours in which they begin. UTC's days are a zone's where it is not off at
 * all. Sums are of readings of the usual qualities; others are worked out from readings.
 */
function sourceOf(span: Summing, grid: Grid, further: readonly Further[]): Source {
  const { seconds, calendar } = kindOf(span.bucket)
  if (further.length > 0 || seconds < 3_600 || !areUsual(span.qualities)) return 'raw'
  if (calendar && grid.isMadeOf(DAY)) return 'daily'
  return calendar || grid.isMadeOf(HOUR) ? 'hourly' : 'raw'
}

const idsOf = (series: readonly Asked[]): Fragment =>
  sql.fragment`${sql.array(
    series.map(({ series_id }) => series_id),
    'int8',
  )}`

/** Ids of the series whose readings are read: of derived ones those of their inputs. */
const readFrom = (series: readonly Asked[]): Fragment =>
  sql.fragment`${sql.array(
    series.flatMap(({ series_id, formula }) => formula?.inputs ?? [series_id]),
    'int8',
  )}`

const isDerived = (series: Asked): series is Asked & DerivedSeries => series.formula !== undefined

const SUMS = sql.fragment`
  count(*) as count, sum(value) as sum, min(value) as min, max(value) as max,
  (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last`

/**
 * What was summed up before within a span, and the rest of it from readings: what is before and after the whole hours or days,
 * and hours in which a bucket ends and another one begins. `bucket` is a moment within the bucket that a part belongs to.
 */
function parts(tx: Tx, ids: Fragment, { from, to, bucket, qualities }: Summing, grid: Grid, source: Source): Fragment {
  const [length, table] = source === 'daily' ? ([DAY, 'tel_daily'] as const) : ([HOUR, 'tel_hourly'] as const)
  const first = new Date(Math.ceil(Date.parse(from) / length) * length).toISOString()
  const last = new Date(Math.floor(Date.parse(to) / length) * length).toISOString()
  const hours =
    source === 'hourly'
      ? [...new Set(grid.starts.filter((start) => start % HOUR !== 0).map((start) => Math.floor(start / HOUR) * HOUR))]
      : []
  const divided = sql.fragment`${sql.array(
    hours.map((hour) => new Date(hour).toISOString()),
    'timestamptz',
  )}`
  const whole = source === 'daily' ? sql.fragment`date_trunc('day', ts, 'UTC')` : sql.fragment`date_trunc('hour', ts, 'UTC')`
  // The hour of the first reading may begin before the bucket does; the reading does not.
  const moment = bucket === '1h' ? whole : sql.fragment`min(ts)`
  const group = hours.length > 0 ? sql.fragment`${whole}, ${grid.startOf(sql.fragment`ts`)}` : whole
  const readings = (of: Fragment, since: string, until: string) => sql.fragment`
    select series_id, ${moment} as bucket, ${SUMS}
    from ${of} where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and ts >= ${since} and ts < ${until} and ${isSummed(qualities)}
    group by series_id, ${group}`
  const all = sql.fragment`tel_measurement`
  if (first >= last) return readings(all, from, to)
  const inDivided = sql.fragment`unnest(${divided}) as d (hour) join tel_measurement on ts >= d.hour and ts < d.hour + interval '1 hour'`
  return sql.fragment`
    select series_id, bucket, count, avg * count as sum, min, max, first, last from ${sql.identifier([table])}
    where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and bucket >= ${first} and bucket < ${last}
      ${hours.length > 0 ? sql.fragment`and bucket <> all(${divided})` : sql.fragment``}
    ${hours.length > 0 ? sql.fragment`union all ${readings(inDivided, first, last)}` : sql.fragment``}
    union all ${readings(all, from, first)}
    union all ${readings(all, last, to)}`
}

/** Buckets of series from `from` on and before `to`, as a query; those in which nothing was sent are not among them. */
function bucketsOf(tx: Tx, series: readonly Asked[], span: Summing, grid: Grid, further: readonly Further[], source: Source): Fragment {
  if (further.length > 0) return inFull(tx, series, span, grid, further)
  const ids = idsOf(series)
  if (source === 'raw')
    return sql.fragment`
      select series_id, ${grid.startOf(sql.fragment`ts`)} as ts, ${SUMS}, avg(value) as avg
      from tel_measurement
      where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and ts >= ${span.from} and ts < ${span.to} and ${isSummed(span.qualities)}
      group by 1, 2`
  const part = parts(tx, ids, span, grid, source)
  if (span.bucket === '1h')
    return sql.fragment`
      select series_id, bucket as ts, count, sum, min, max, sum / count as avg, first, last from (${part}) as part`
  return sql.fragment`
    select series_id, ${grid.startOf(sql.fragment`bucket`)} as ts, sum(count)::int8 as count, sum(sum) as sum, min(min) as min, max(max) as max,
      sum(sum) / sum(count)::float8 as avg, (array_agg(first order by bucket))[1] as first, (array_agg(last order by bucket desc))[1] as last
    from (${part}) as part group by 1, 2`
}

/** Aggregates that weigh a reading by the one before or after it: derived metrics have points, and between them nothing. */
const OF_NEIGHBORS: readonly Further[] = ['time_weighted_avg', 'rate']

/**
 * Buckets of derived series, worked out from their points. Throws `invalid_value` for aggregates that they do not have, and for
 * too many readings.
 */
async function bucketsOfDerived(tx: Tx, series: readonly DerivedSeries[], span: Summing, grid: Grid, further: readonly Further[]) {
  const refused = further.find((name) => OF_NEIGHBORS.includes(name))
  if (refused)
    throw failure(
      'invalid_value',
      { path: '/aggregate', rule: 'derived' },
      `Derived metrics have no ${refused}: ask for it of a metric that is sent.`,
    )
  await requireFewReadings(tx, series, span)
  const percentiles = further.map((name) => sql.fragment`${percentile(name as keyof typeof PERCENTILES)} as ${sql.identifier([name])}`)
  return sql.fragment`
    select series_id, ${grid.startOf(sql.fragment`ts`)} as ts, ${sql.join([SUMS, sql.fragment`avg(value) as avg`, ...percentiles], sql.fragment`, `)}
    from (${pointsOfDerived(tx, series, span)}) as points group by 1, 2`
}

const percentile = (name: keyof typeof PERCENTILES): Fragment =>
  sql.fragment`percentile_cont(${PERCENTILES[name]}::float8) within group (order by value)`

/** Buckets of a series, the latest first, and what they were worked out from. */
export async function summed(
  tx: Tx,
  series: Asked,
  span: Summing,
  further: readonly Further[],
  limit: number,
): Promise<{ source: Source; buckets: readonly Bucket[] }> {
  const grid = await gridFor(tx, [series], span)
  if (!grid) return { source: 'raw', buckets: [] }
  const columns = ['ts', 'count', 'sum', 'min', 'max', 'avg', 'first', 'last', ...further].map((name) => sql.identifier([name]))
  const list = sql.join(columns, sql.fragment`, `)
  if (isDerived(series)) {
    // Its text is its own: as a prepared statement it would take the place of another one.
    const all = await bucketsOfDerived(tx, [series], span, grid, further)
    return { source: 'raw', buckets: await tx.any(sql.type(Bucket)`select ${list} from (${all}) as b order by ts desc limit ${limit}`) }
  }
  const source = sourceOf(span, grid, further)
  const buckets = await tx.any(sql.prepared(Bucket)`
    select ${list} from (${bucketsOf(tx, [series], span, grid, further, source)}) as b order by ts desc limit ${limit}`)
  return { source, buckets }
}

const Values = Type.Object(
  { series_id: Type.Integer(), values: Type.Array(Type.Tuple([Type.Number(), value])) },
  { additionalProperties: false },
)

/**
 * One value of each bucket of many series, stored and derived, by the moment of the bucket in milliseconds. A row a series: to read ten
 * thousand rows takes longer than to work them out.
 */
export async function valuesOf(
  tx: Tx,
  series: readonly Asked[],
  span: Summing,
  aggregate: Aggregate,
): Promise<{ source: Source; values: ReadonlyMap<number, ReadonlyMap<number, number | null>> }> {
  const further = FURTHER.filter((name) => name === aggregate)
  const grid = await gridFor(tx, series, span)
  if (!grid) return { source: 'raw', values: new Map() }
  const stored = series.filter((one) => !isDerived(one))
  const derived = series.filter(isDerived)
  const source = stored.length > 0 ? sourceOf(span, grid, further) : 'raw'
  const listed = (buckets: Fragment) => sql.fragment`
    select series_id, json_agg(json_build_array((extract(epoch from ts) * 1000)::int8, ${sql.identifier([aggregate])})) as values
    from (${buckets}) as b group by series_id`
  const found = [
    ...(stored.length > 0 ? await tx.any(sql.prepared(Values)`${listed(bucketsOf(tx, stored, span, grid, further, source))}`) : []),
    ...(derived.length > 0 ? await tx.any(sql.type(Values)`${listed(await bucketsOfDerived(tx, derived, span, grid, further))}`) : []),
  ]
  return { source, values: new Map(found.map(({ series_id, values }) => [series_id, new Map(values)])) }
}

/**
 * Every reading beside the one before and the one after: what it takes to weigh by time, and to see a change. Weights lie
 * within the bucket, within `from` and `to`, and not after now: until when a value holds is not known yet.
 */
function inFull(tx: Tx, series: readonly Asked[], span: Summing, grid: Grid, further: readonly Further[]): Fragment {
  const { from, to } = span
  const asked = sql.fragment`${sql.unnest(
    series.map(({ series_id, kind }) => [series_id, kind === 'counter']),
    ['int8', 'bool'],
  )} as s (series_id, counter)`
  const seconds = (interval: Fragment) => sql.fragment`extract(epoch from greatest(${interval}, interval '0'))::float8`
  const held = seconds(sql.fragment`least(next_ts, weighed_until) - ts`)
  const carried = seconds(sql.fragment`least(ts, weighed_until) - weighed_from`)
  const isCarried = sql.fragment`before_ts < weighed_from`
  const columns: Record<Further, Fragment> = {
    ...(Object.fromEntries((Object.keys(PERCENTILES) as (keyof typeof PERCENTILES)[]).map((name) => [name, percentile(name)])) as Record<
      keyof typeof PERCENTILES,
      Fragment
    >),
    time_weighted_avg: sql.fragment`
      coalesce(sum(value * ${held} + case when ${isCarried} then before * ${carried} else 0 end)
        / nullif(sum(${held} + case when ${isCarried} then ${carried} else 0 end), 0), avg(value))`,
    rate: sql.fragment`
      sum(case when counter and value < before then value else value - before end) / nullif(sum(${seconds(sql.fragment`ts - before_ts`)}), 0)`,
  }
  const chosen = further.map((name) => sql.fragment`${columns[name]} as ${sql.identifier([name])}`)
  const summable = isSummed(span.qualities)
  return sql.fragment`
    select series_id, bucket as ts, ${SUMS}, avg(value) as avg, ${sql.join(chosen, sql.fragment`, `)}
    from (
      select *, greatest(bucket, ${from}::timestamptz) as weighed_from,
        least(${grid.endOf(sql.fragment`ts`)}, ${to}::timestamptz, ${tx.now.toISOString()}::timestamptz) as weighed_until
      from (
        select series_id, counter, ts, value, ${grid.startOf(sql.fragment`ts`)} as bucket,
          lag(ts) over w as before_ts, lag(value) over w as before, lead(ts) over w as next_ts
        from (
          select s.series_id, s.counter, m.ts, m.value from ${asked}
          join tel_measurement m on m.tenant_id = ${tx.tenantId} and m.series_id = s.series_id and m.ts >= ${from} and m.ts < ${to} and ${summable}
          union all
          select s.series_id, s.counter, m.ts, m.value from ${asked} cross join lateral (
            select ts, value from tel_measurement
            where tenant_id = ${tx.tenantId} and series_id = s.series_id and ts < ${from} and ${summable} order by ts desc limit 1
          ) as m
        ) as readings
        window w as (partition by series_id order by ts)
      ) as neighbours where ts >= ${from}
    ) as weighed
    group by series_id, bucket`
}
