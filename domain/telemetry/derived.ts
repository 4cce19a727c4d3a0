// Readings of derived metrics: computed in SQL from readings of the same device.
import { type Static, Type } from 'typebox'
import { type Fragment, failure, nullable, sql, type Tx } from '../kernel/index.ts'
import { type Expression, parseExpression } from './expression.ts'
import { MAX_ABSOLUTE_VALUE } from './message.ts'
import { isSummed, type Qualities } from './quality.ts'

/** How the readings of a series are computed. */
export interface Formula {
  expression: Expression
  /** Ids of the series that it is computed from, in the order of `expression.inputs`. */
  inputs: readonly number[]
  maxAgeSeconds: number
}
/** A derived series: its id is negative and means something within one question alone. */
export interface DerivedSeries {
  series_id: number
  formula: Formula
}

const Definition = Type.Object(
  { code: Type.String(), unit: nullable(Type.String()), expression: Type.String(), max_age_seconds: Type.Integer() },
  { additionalProperties: false },
)
export type Definition = Static<typeof Definition>

/** Derived metrics with these codes. */
export const definitionsOf = (tx: Tx, codes: readonly string[]): Promise<readonly Definition[]> =>
  tx.any(sql.prepared(Definition)`
    select code, unit, expression, max_age_seconds from tel_derived_metric
    where tenant_id = ${tx.tenantId} and code = any(${sql.array([...codes], 'text')}) and deleted_at is null order by code`)

export const formulaOf = (
  { expression, max_age_seconds }: Definition,
  inputs: (codes: readonly string[]) => readonly number[],
): Formula => {
  const parsed = parseExpression(expression)
  return { expression: parsed, inputs: inputs(parsed.inputs), maxAgeSeconds: max_age_seconds }
}

interface Time {
  from: string
  to: string
  qualities: Qualities
}

/** Readings of inputs that one question about derived metrics looks at, at most. */
const MAX_INPUT_READINGS = 1_000_000
const Count = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

const tooMany = () =>
  failure(
    'invalid_value',
    { path: '/from', rule: 'readings' },
    `Derived metrics are computed from at most ${MAX_INPUT_READINGS} readings: ask for a shorter time.`,
  )

const idsOf = (inputs: readonly number[]): Fragment => sql.fragment`${sql.array([...new Set(inputs)], 'int8')}`
const since = (from: string, { maxAgeSeconds }: Formula): string => new Date(Date.parse(from) - maxAgeSeconds * 1_000).toISOString()

/** Throws `invalid_value` where the inputs of these series have too many readings within the time. */
export async function requireFewReadings(tx: Tx, series: readonly DerivedSeries[], { from, to }: Time): Promise<void> {
  const ids = series.flatMap(({ formula }) => formula.inputs)
  const { n } = await tx.one(sql.prepared(Count)`
    select count(*) as n from (
      select from tel_measurement
      where tenant_id = ${tx.tenantId} and series_id = any(${idsOf(ids)}) and ts >= ${from} and ts < ${to} limit ${MAX_INPUT_READINGS + 1}
    ) as m`)
  if (n > MAX_INPUT_READINGS) throw tooMany()
}

/** Points of derived series from `from` on and before `to`: (series_id, ts, value, quality). Quality is the worst of the inputs. */
export const pointsOfDerived = (tx: Tx, series: readonly DerivedSeries[], time: Time): Fragment =>
  sql.fragment`${sql.join(
    series.map(({ series_id, formula }) => pointsOfOne(tx, series_id, formula, time)),
    sql.fragment` union all `,
  )}`

function pointsOfOne(tx: Tx, series: number, formula: Formula, { from, to, qualities }: Time): Fragment {
  const column = (letter: string, index: number) => sql.identifier([`${letter}${index}`])
  const { expression, inputs } = formula
  const value = expression.toSql((code) => sql.fragment`plane.in_range(${column('v', expression.inputs.indexOf(code))})`)
  const quality = sql.join(
    inputs.map((_, index) => column('q', index)),
    sql.fragment`, `,
  )
  const aligned = formula.maxAgeSeconds === 0 ? ofSameTime : ofLatest
  return sql.fragment`
    select ${series}::int8 as series_id, ts, value, quality from (
      select ts, ${value} as value, greatest(${quality}) as quality from (${aligned(tx, formula, from, to, isSummed(qualities), column)}) as aligned
      offset 0
    ) as computed
    where value between ${-MAX_ABSOLUTE_VALUE}::float8 and ${MAX_ABSOLUTE_VALUE}::float8`
}

type Column = (letter: string, index: number) => ReturnType<typeof sql.identifier>

/** Times at which every input has a reading. A series has one reading a time. */
function ofSameTime(tx: Tx, { inputs }: Formula, from: string, to: string, counts: Fragment, column: Column): Fragment {
  const columns = inputs.map(
    (id, index) => sql.fragment`
      max(value) filter (where series_id = ${id}) as ${column('v', index)}, max(quality) filter (where series_id = ${id}) as ${column('q', index)}`,
  )
  return sql.fragment`
    select ts, ${sql.join(columns, sql.fragment`, `)} from tel_measurement
    where tenant_id = ${tx.tenantId} and series_id = any(${idsOf(inputs)}) and ts >= ${from} and ts < ${to} and ${counts}
    group by ts having count(*) = ${inputs.length}`
}

/**
 * Times at which any input has a reading, with the latest one of each input that is no older than the age. Arrays are compared
 * by their first element, the time, so that the largest one up to a time is the latest reading: one pass over the readings.
 */
function ofLatest(tx: Tx, formula: Formula, from: string, to: string, counts: Fragment, column: Column): Fragment {
  const { inputs, maxAgeSeconds } = formula
  const latest = inputs.map(
    (id, index) =>
      sql.fragment`max(array[extract(epoch from ts)::float8, value, quality]) filter (where series_id = ${id}) over times as ${column('r', index)}`,
  )
  const columns = inputs.map(
    (_, index) =>
      sql.fragment`(${column('r', index)})[2] as ${column('v', index)}, (${column('r', index)})[3]::int2 as ${column('q', index)}`,
  )
  // Times have milliseconds: half of one is nobody's age.
  const fresh = inputs.map(
    (_, index) => sql.fragment`extract(epoch from ts)::float8 - (${column('r', index)})[1] < ${maxAgeSeconds}::float8 + 0.0005`,
  )
  return sql.fragment`
    select ts, ${sql.join(columns, sql.fragment`, `)} from (
      select distinct on (ts) ts, ${sql.join(latest, sql.fragment`, `)} from tel_measurement
      where tenant_id = ${tx.tenantId} and series_id = any(${idsOf(inputs)}) and ts >= ${since(from, formula)} and ts < ${to} and ${counts}
      window times as (order by ts)
      order by ts
    ) as carried
    where ts >= ${from} and ${sql.join(fresh, sql.fragment` and `)}`
}

const Point = Type.Object({ ts: Type.String(), value: Type.Number(), quality: Type.Integer() }, { additionalProperties: false })
const Lower = Type.Object({ ts: nullable(Type.String()) }, { additionalProperties: false })

/**
 * The latest points of a derived series, newest first, `limit` at most. Looks at the latest readings of the inputs first, and
 * at four times as many where they do not come to enough points. Throws `invalid_value` where that would be too many.
 */
export async function latestPoints(
  tx: Tx,
  series: DerivedSeries,
  { from, to, qualities }: Time,
  limit: number,
): Promise<readonly Static<typeof Point>[]> {
  const { inputs } = series.formula
  const points: Static<typeof Point>[] = []
  let end = to
  for (let size = 2 * limit, looked = 0; from < end; size *= 4) {
    looked += size * inputs.length
    // Of each input at most `size` readings, so that the part is bounded.
    const { ts } = await tx.one(sql.prepared(Lower)`
      select max(m.ts) as ts from unnest(${idsOf(inputs)}) as s (id) cross join lateral (
        select ts from tel_measurement
        where tenant_id = ${tx.tenantId} and series_id = s.id and ts >= ${from} and ts < ${end} order by ts desc offset ${size} limit 1
      ) as m`)
    const part = { from: ts ?? from, to: end, qualities }
    points.push(
      ...(await tx.any(sql.type(Point)`
        select ts, value, quality from (${pointsOfDerived(tx, [series], part)}) as p order by ts desc limit ${limit - points.length}`)),
    )
    if (ts === null || points.length >= limit) break
    if (looked > MAX_INPUT_READINGS) throw tooMany()
    end = ts
  }
  return points
}
