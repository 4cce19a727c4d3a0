// Which series are meant: by what devices are called, what they are or watch, and by what is measured.
import { type Static, Type } from 'typebox'
import { type Fragment, failure, nullable, sql, type Tx, Uuid } from '../kernel/index.ts'
import { definitionsOf, type Formula, formulaOf } from './derived.ts'
import { parseExpression } from './expression.ts'
import { Metric } from './profile.ts'

export const Series = Type.Object(
  {
    series_id: Type.Integer(),
    device_id: Uuid,
    device: Type.String({ description: 'As it calls itself' }),
    metric: Metric.properties.code,
    unit: nullable(Type.String({ examples: ['°C'] })),
    kind: Metric.properties.kind,
  },
  { additionalProperties: false },
)
export type Series = Static<typeof Series>
/** A series of readings, or one that is computed by a formula when it is asked for. */
export type AnySeries = Series & { formula?: Formula }

export interface SeriesQuestion {
  /** Codes; of any device when nothing is said. */
  devices?: readonly string[] | undefined
  /** Codes; any metric when nothing is said. */
  metrics?: readonly string[] | undefined
  profile_id?: string | undefined
  site_id?: string | undefined
  batch_id?: string | undefined
  tag?: string | undefined
  /** Devices that were deleted, too; `devices` may then hold ids, as several may have had a code. */
  include_deleted?: boolean | undefined
}

/** The conditions of a question on `tel_device d` and `tel_metric m`, in the context's organization. */
export function meant(tx: Tx, { devices, metrics, profile_id, site_id, batch_id, tag, include_deleted = false }: SeriesQuestion): Fragment {
  const some = (given: unknown, condition: () => Fragment) => (given === undefined ? [] : [condition()])
  return sql.and([
    sql.fragment`d.tenant_id = ${tx.tenantId} and d.organization_id = ${tx.context.organizationId}`,
    ...(include_deleted ? [] : [sql.fragment`d.deleted_at is null`]),
    ...some(devices, () => {
      const names = sql.fragment`${sql.array([...devices!], 'text')}`
      return include_deleted ? sql.fragment`(d.code = any(${names}) or d.id::text = any(${names}))` : sql.fragment`d.code = any(${names})`
    }),
    ...some(metrics, () => sql.fragment`m.code = any(${sql.array([...metrics!], 'text')})`),
    ...some(profile_id, () => sql.fragment`d.profile_id = ${profile_id!}`),
    ...some(site_id, () => sql.fragment`d.site_id = ${site_id!}`),
    ...some(batch_id, () => sql.fragment`d.batch_id = ${batch_id!}`),
    ...some(tag, () => sql.fragment`d.tags && ${sql.array([tag!], 'text')}`),
  ])
}

/** From devices to their series, as `d`, `s` and `m`. */
export const SERIES = sql.fragment`
  tel_device d
  join tel_series s on s.tenant_id = d.tenant_id and s.device_id = d.id
  join tel_metric m on m.tenant_id = s.tenant_id and m.id = s.metric_id`

const Computable = Type.Object(
  {
    metric: Type.String(),
    device_id: Uuid,
    device: Type.String(),
    inputs: Type.Record(Type.String(), Type.Integer(), { description: 'Ids of series by metric' }),
  },
  { additionalProperties: false },
)

/** Series of the derived metrics that are asked for by code, of devices that have sent all of their inputs; `most` + 1 at most. */
async function derivedSeriesOf(tx: Tx, question: SeriesQuestion, most: number): Promise<readonly AnySeries[]> {
  const definitions = new Map((await definitionsOf(tx, question.metrics ?? [])).map((definition) => [definition.code, definition]))
  if (definitions.size === 0) return []
  const inputs = [...definitions.values()].flatMap(({ code, expression }) => {
    const names = parseExpression(expression).inputs
    return names.map((input) => [code, input, names.length])
  })
  const metrics = inputs.map(([, input]) => input as string)
  const found = await tx.any(sql.prepared(Computable)`
    select w.code as metric, d.id as device_id, d.code as device, jsonb_object_agg(m.code, s.series_id) as inputs
    from ${SERIES} join ${sql.unnest(inputs, ['text', 'text', 'int4'])} as w (code, input, inputs) on w.input = m.code
    where ${meant(tx, { ...question, metrics })}
    group by w.code, d.id, d.code having count(*) = min(w.inputs) order by d.code, w.code, d.id limit ${most + 1}`)
  return found.map(({ metric, device_id, device, inputs }, index) => {
    const definition = definitions.get(metric)!
    const formula = formulaOf(definition, (codes) => codes.map((code) => inputs[code]!))
    return { series_id: -1 - index, device_id, device, metric, unit: definition.unit, kind: 'gauge' as const, formula }
  })
}

const byName = (a: Series, b: Series): number => (a.device === b.device ? (a.metric < b.metric ? -1 : 1) : a.device < b.device ? -1 : 1)

/** Series, by device and metric; derived ones where their codes are named. Throws `not_found` where there is none, `invalid_value` where there are more than `most`. */
export async function seriesOf(tx: Tx, question: SeriesQuestion, most: number): Promise<readonly AnySeries[]> {
  const stored = await tx.any(sql.prepared(Series)`
    select s.series_id, d.id as device_id, d.code as device, m.code as metric, m.unit, m.kind
    from ${SERIES} where ${meant(tx, question)} order by d.code, m.code, d.id limit ${most + 1}`)
  const derived = question.metrics ? await derivedSeriesOf(tx, question, most) : []
  const found = derived.length > 0 ? [...stored, ...derived].sort(byName) : stored
  if (found.length === 0) {
    const { devices: device, metrics: metric } = question
    throw failure('not_found', { device, metric }, 'No such device of this organization has sent such a metric yet.')
  }
  if (found.length > most)
    throw failure(
      'invalid_value',
      { path: '/device', rule: 'series' },
      `These are more than ${most} series: ask for fewer devices or metrics.`,
    )
  return found
}
