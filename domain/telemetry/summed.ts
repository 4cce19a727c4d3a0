// Readings summed up in buckets: of hours or days that were summed up before where that comes to the same, else of readings.
import { type Static, type TOptional, Type } from 'typebox'
import { type Fragment, nullable, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'
import { endOf, kindOf, offsetAt, offsetsOf, type Span, startOf } from './buckets.ts'
import type { Series } from './series.ts'

const value = nullable(Type.Number())
const PERCENTILES = { p1: 0.01, p5: 0.05, p10: 0.1, p25: 0.25, p50: 0.5, p75: 0.75, p90: 0.9, p95: 0.95, p99: 0.99 } as const
/** What takes every reading to work out. */
export const FURTHER = [...(Object.keys(PERCENTILES) as (keyof typeof PERCENTILES)[]), 'time_weighted_avg', 'rate'] as const
export type Further = (typeof FURTHER)[number]
export const AGGREGATES = ['count', 'sum', 'min', 'max', 'avg', 'first', 'last', ...FURTHER] as const
export type Aggregate = (typeof AGGREGATES)[number]

const described: Partial<Record<Further, string>> = {
  time_weighted_avg: 'Each value for as long as it was the latest one',
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
const MONTH = 30 * DAY

/** By how many minutes a zone's clocks are ahead of UTC within a span, looked at every month. */
function offsetsWithin({ from, to, timeZone }: Span): number[] {
  const format = offsetsOf(timeZone)
  const [start, end] = [Math.max(Date.parse(from), Date.UTC(1970)), Math.min(Date.parse(to), Date.now() + DAY)]
  const offsets = Array.from({ length: Math.max(1, Math.ceil((end - start) / MONTH)) }, (_, n) => offsetAt(format, start + n * MONTH))
  return [...offsets, offsetAt(format, Math.max(start, end))]
}
const areWholeHours = (offsets: readonly number[]) => offsets.every((minutes) => minutes % 60 === 0)

/**
 * What buckets are worked out from. UTC's hours make up a zone's longer ones where its clocks are off by whole hours; where they
 * are not (Asia/Kolkata), its days all but for the hours in which they begin. UTC's days are a zone's where it is not off at
 * all.
 */
export function sourceOf(span: Span, further: readonly Further[]): Source {
  const { seconds, calendar } = kindOf(span.bucket)
  if (further.length > 0 || seconds < 3_600) return 'raw'
  const offsets = offsetsWithin(span)
  if (offsets.every((minutes) => minutes === 0) && calendar) return 'daily'
  return calendar || areWholeHours(offsets) ? 'hourly' : 'raw'
}

/**
 * What was summed up before within a span, and the rest of it from readings: what is before and after the whole hours or days,
 * and hours in which a bucket ends and another one begins. `bucket` is a moment within the bucket that a part belongs to.
 */
function parts(tx: Tx, ids: Fragment, span: Span, source: Source): Fragment {
  const { from, to } = span
  const [by, length, table] = source === 'daily' ? (['day', DAY, 'tel_daily'] as const) : (['hour', HOUR, 'tel_hourly'] as const)
  const first = new Date(Math.ceil(Date.parse(from) / length) * length).toISOString()
  const last = new Date(Math.floor(Date.parse(to) / length) * length).toISOString()
  const divides = source === 'hourly' && !areWholeHours(offsetsWithin(span))
  const whole = sql.fragment`date_trunc(${by}, ts, 'UTC')`
  const [moment, group] = divides
    ? [sql.fragment`min(ts)`, sql.fragment`${whole}, ${startOf(span, sql.fragment`ts`)}`]
    : [whole, sql.fragment`bucket`]
  const readings = (of: Fragment, since: string, until: string) => sql.fragment`
    select series_id, ${moment} as bucket, count(*) as count, sum(value) as sum, min(value) as min, max(value) as max,
      (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
    from ${of} where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and ts >= ${since} and ts < ${until}
    group by series_id, ${group}`
  const all = sql.fragment`tel_measurement`
  if (first >= last) return readings(all, from, to)
  const isDivided = (hour: Fragment) =>
    sql.fragment`${startOf(span, hour)} <> ${startOf(span, sql.fragment`(${hour} + interval '59 minutes 59.999 seconds')`)}`
  const dividedHours = sql.fragment`
    (select h.hour from generate_series(${first}::timestamptz, ${last}::timestamptz - interval '1 hour', interval '1 hour') as h (hour) where ${isDivided(sql.fragment`h.hour`)}) as d
    join tel_measurement on ts >= d.hour and ts < d.hour + interval '1 hour'`
  return sql.fragment`
    select series_id, bucket, count, avg * count as sum, min, max, first, last from ${sql.identifier([table])}
    where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and bucket >= ${first} and bucket < ${last}
      ${divides ? sql.fragment`and not ${isDivided(sql.fragment`bucket`)}` : sql.fragment``}
    ${divides ? sql.fragment`union all ${readings(dividedHours, first, last)}` : sql.fragment``}
    union all ${readings(all, from, first)}
    union all ${readings(all, last, to)}`
}

type Asked = Pick<Series, 'series_id' | 'kind'>

/** Buckets of series from `from` on and before `to`, as a query; those in which nothing was sent are not among them. */
function bucketsOf(tx: Tx, series: readonly Asked[], span: Span, further: readonly Further[], source: Source): Fragment {
  if (further.length > 0) return inFull(tx, series, span, further)
  const ids = sql.fragment`${sql.array(
    series.map(({ series_id }) => series_id),
    'int8',
  )}`
  if (source === 'raw')
    return sql.fragment`
      select series_id, ${startOf(span, sql.fragment`ts`)} as ts, count(*) as count, sum(value) as sum, min(value) as min, max(value) as max, avg(value) as avg,
        (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last
      from tel_measurement where tenant_id = ${tx.tenantId} and series_id = any(${ids}) and ts >= ${span.from} and ts < ${span.to} group by 1, 2`
  const part = parts(tx, ids, span, source)
  if (span.bucket === '1h')
    return sql.fragment`
      select series_id, bucket as ts, count, sum, min, max, sum / count as avg, first, last from (${part}) as part`
  return sql.fragment`
    select series_id, ${startOf(span, sql.fragment`bucket`)} as ts, sum(count)::int8 as count, sum(sum) as sum, min(min) as min, max(max) as max,
      sum(sum) / sum(count)::float8 as avg, (array_agg(first order by bucket))[1] as first, (array_agg(last order by bucket desc))[1] as last
    from (${part}) as part group by 1, 2`
}

/** Buckets of a series, the latest first, and what they were worked out from. */
export async function summed(
  tx: Tx,
  series: Asked,
  span: Span,
  further: readonly Further[],
  limit: number,
): Promise<{ source: Source; buckets: readonly Bucket[] }> {
  const source = sourceOf(span, further)
  if (span.from >= span.to) return { source, buckets: [] }
  const columns = ['ts', 'count', 'sum', 'min', 'max', 'avg', 'first', 'last', ...further].map((name) => sql.identifier([name]))
  const buckets = await tx.any(sql.prepared(Bucket)`
    select ${sql.join(columns, sql.fragment`, `)} from (${bucketsOf(tx, [series], span, further, source)}) as b order by ts desc limit ${limit}`)
  return { source, buckets }
}

const Values = Type.Object(
  { series_id: Type.Integer(), values: Type.Array(Type.Tuple([Type.Number(), value])) },
  { additionalProperties: false },
)

/**
 * One value of each bucket of many series, by the moment of the bucket in milliseconds. A row a series: to read ten
 * thousand rows takes longer than to work them out.
 */
export async function valuesOf(
  tx: Tx,
  series: readonly Asked[],
  span: Span,
  aggregate: Aggregate,
): Promise<{ source: Source; values: ReadonlyMap<number, ReadonlyMap<number, number | null>> }> {
  const further = FURTHER.filter((name) => name === aggregate)
  const source = sourceOf(span, further)
  if (span.from >= span.to) return { source, values: new Map() }
  const found = await tx.any(sql.prepared(Values)`
    select series_id, json_agg(json_build_array((extract(epoch from ts) * 1000)::int8, ${sql.identifier([aggregate])})) as values
    from (${bucketsOf(tx, series, span, further, source)}) as b group by series_id`)
  return { source, values: new Map(found.map(({ series_id, values }) => [series_id, new Map(values)])) }
}

/** Every reading beside the one before and the one after: what it takes to weigh by time, and to see a change. */
function inFull(tx: Tx, series: readonly Asked[], span: Span, further: readonly Further[]): Fragment {
  const { from, to } = span
  const asked = sql.fragment`${sql.unnest(
    series.map(({ series_id, kind }) => [series_id, kind === 'counter']),
    ['int8', 'bool'],
  )} as s (series_id, counter)`
  const seconds = (interval: Fragment) => sql.fragment`extract(epoch from ${interval})::float8`
  const held = seconds(sql.fragment`greatest(least(coalesce(next_ts, ${to}, now()), bucket_end) - ts, interval '0')`)
  const carried = seconds(sql.fragment`ts - bucket`)
  const isCarried = sql.fragment`before_ts < bucket`
  const columns: Record<Further, Fragment> = {
    ...(Object.fromEntries(
      Object.entries(PERCENTILES).map(([name, share]) => [
        name,
        sql.fragment`percentile_cont(${share}::float8) within group (order by value)`,
      ]),
    ) as Record<keyof typeof PERCENTILES, Fragment>),
    time_weighted_avg: sql.fragment`
      coalesce(sum(value * ${held} + case when ${isCarried} then before * ${carried} else 0 end)
        / nullif(sum(${held} + case when ${isCarried} then ${carried} else 0 end), 0), avg(value))`,
    rate: sql.fragment`
      sum(case when counter and value < before then value else value - before end) / nullif(sum(${seconds(sql.fragment`ts - before_ts`)}), 0)`,
  }
  const chosen = further.map((name) => sql.fragment`${columns[name]} as ${sql.identifier([name])}`)
  return sql.fragment`
    select series_id, bucket as ts, count(*) as count, sum(value) as sum, min(value) as min, max(value) as max, avg(value) as avg,
      (array_agg(value order by ts))[1] as first, (array_agg(value order by ts desc))[1] as last, ${sql.join(chosen, sql.fragment`, `)}
    from (
      select *, ${endOf(span, sql.fragment`bucket`)} as bucket_end from (
        select series_id, counter, ts, value, ${startOf(span, sql.fragment`ts`)} as bucket,
          lag(ts) over w as before_ts, lag(value) over w as before, lead(ts) over w as next_ts
        from (
          select s.series_id, s.counter, m.ts, m.value from ${asked}
          join tel_measurement m on m.tenant_id = ${tx.tenantId} and m.series_id = s.series_id and m.ts >= ${from} and m.ts < ${to}
          union all
          select s.series_id, s.counter, m.ts, m.value from ${asked} cross join lateral (
            select ts, value from tel_measurement where tenant_id = ${tx.tenantId} and series_id = s.series_id and ts < ${from} order by ts desc limit 1
          ) as m
        ) as readings
        window w as (partition by series_id order by ts)
      ) as neighbours where ts >= ${from}
    ) as ended
    group by series_id, bucket, bucket_end`
}
