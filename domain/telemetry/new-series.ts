// Series and metrics that a device sends for the first time: made, as many as the tenant's plan allows.
import { type Static, Type } from 'typebox'
import { type Fragment, type Limits, limitOf, newId, oneAtATime, sql, type Tx, Uuid } from '../kernel/index.ts'
import { derivedAmong } from './derived-codes.ts'
import type { RejectionReason } from './message.ts'
import { metricsLock } from './profile.ts'

export const SeriesOfDevice = Type.Object(
  { series_id: Type.Integer(), device_id: Uuid, metric: Type.String() },
  { additionalProperties: false },
)
export type SeriesOfDevice = Static<typeof SeriesOfDevice>

/** A device's id and the code of a metric. */
export type SeriesName = readonly [device: string, metric: string]
export type LimitReason = Extract<RejectionReason, 'device_metric_limit' | 'metric_limit' | 'series_limit' | 'unknown_metric'>

export interface EnsuredSeries {
  series: readonly SeriesOfDevice[]
  /** Why a series is not made, by device id and metric with a space between. */
  refused: ReadonlyMap<string, LimitReason>
}

const Counts = Type.Object({ metrics: Type.Integer(), series: Type.Integer() }, { additionalProperties: false })
const OfDevice = Type.Object({ device_id: Uuid, metrics: Type.Integer() }, { additionalProperties: false })
const Code = Type.Object({ code: Type.String() }, { additionalProperties: false })

/**
 * Finds series, and makes those that are new within the limits `device_metrics`, `metrics` and `series`. Series that exist
 * are found in any case: a tenant that has more than its plan allows keeps them.
 *
 * Exact under concurrency: new series are made under the advisory lock `metricsLock` of the tenant, held until the
 * transaction ends, and what exists is read again and counted after it was taken. Each of several consumers therefore
 * counts what the others made. Series that exist take no lock.
 * @param names each once, in the order in which they came: the first ones get what is left
 */
export async function ensureSeries(tx: Tx, names: readonly SeriesName[], limits: Limits): Promise<EnsuredSeries> {
  const found = [...(await find(tx, names))]
  const unknown = without(names, found)
  const refused = new Map<string, LimitReason>()
  if (unknown.length === 0) return { series: found, refused }
  await oneAtATime(tx, metricsLock(tx))
  found.push(...(await find(tx, unknown)))
  const made = await withinLimits(tx, without(unknown, found), limits, refused)
  await make(tx, made)
  found.push(...(await find(tx, made)))
  return { series: found, refused }
}

const keyOf = ([device, metric]: SeriesName): string => `${device} ${metric}`

function without(names: readonly SeriesName[], found: readonly SeriesOfDevice[]): SeriesName[] {
  const known = new Set(found.map(({ device_id, metric }) => keyOf([device_id, metric])))
  return names.filter((name) => !known.has(keyOf(name)))
}

const find = async (tx: Tx, names: readonly SeriesName[]): Promise<readonly SeriesOfDevice[]> =>
  names.length === 0
    ? []
    : tx.any(sql.type(SeriesOfDevice)`
        select s.series_id, s.device_id, m.code as metric from ${sql.unnest(names as SeriesName[], ['uuid', 'text'])} as w (device_id, metric)
        join tel_metric m on m.tenant_id = ${tx.tenantId} and m.code = w.metric
        join tel_series s on s.tenant_id = ${tx.tenantId} and s.device_id = w.device_id and s.metric_id = m.id`)

/** Those of these new series that fit the limits; for each of the others the reason is noted. Series of deleted devices do not count. */
async function withinLimits(
  tx: Tx,
  names: readonly SeriesName[],
  limits: Limits,
  refused: Map<string, LimitReason>,
): Promise<SeriesName[]> {
  if (names.length === 0) return []
  const codes = [...new Set(names.map(([, metric]) => metric))]
  const devices = [...new Set(names.map(([device]) => device))]
  const existing = await tx.any(
    sql.prepared(Code)`select code from tel_metric where tenant_id = ${tx.tenantId} and code = any(${sql.array(codes, 'text')})`,
  )
  const knownCodes = new Set(existing.map(({ code }) => code))
  // A metric without limit is not counted: others wait for the lock meanwhile.
  const countOf = (metric: 'metrics' | 'series', counted: Fragment) => (limitOf(limits, metric) === null ? sql.fragment`0` : counted)
  const counts = await tx.one(sql.prepared(Counts)`
    select (${countOf('metrics', sql.fragment`select count(*) from tel_metric where tenant_id = ${tx.tenantId}`)}) as metrics,
      (${countOf('series', liveSeries(tx))}) as series`)
  const perDevice = new Map(
    (
      await tx.any(sql.prepared(OfDevice)`
        select device_id, count(*) as metrics from tel_series
        where tenant_id = ${tx.tenantId} and device_id = any(${sql.array(devices, 'uuid')}) group by device_id`)
    ).map(({ device_id, metrics }) => [device_id, metrics]),
  )
  const room = (used: number, metric: 'device_metrics' | 'metrics' | 'series') =>
    used < (limitOf(limits, metric) ?? Number.POSITIVE_INFINITY)
  // Derived metrics are made under the same lock, so that no device sends one that is computed.
  const derived = await derivedAmong(tx, codes)
  const fitting: SeriesName[] = []
  for (const name of names) {
    const [device, metric] = name
    const ofDevice = perDevice.get(device) ?? 0
    const isNew = !knownCodes.has(metric)
    if (derived.has(metric)) refused.set(keyOf(name), 'unknown_metric')
    else if (!room(ofDevice, 'device_metrics')) refused.set(keyOf(name), 'device_metric_limit')
    else if (isNew && !room(counts.metrics, 'metrics')) refused.set(keyOf(name), 'metric_limit')
    else if (!room(counts.series, 'series')) refused.set(keyOf(name), 'series_limit')
    else {
      perDevice.set(device, ofDevice + 1)
      counts.series++
      if (isNew) counts.metrics++
      knownCodes.add(metric)
      fitting.push(name)
    }
  }
  return fitting
}

/** Selects the number of series of devices that are not deleted. */
const liveSeries = (tx: Tx): Fragment => sql.fragment`
  select count(*) from tel_series s join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id and d.deleted_at is null
  where s.tenant_id = ${tx.tenantId}`

/** Makes series, and the metrics that they need. In one order everywhere, so that two who do not hold the lock never wait in a ring. */
async function make(tx: Tx, names: readonly SeriesName[]): Promise<void> {
  if (names.length === 0) return
  const pairs = [...names].sort(([a, m], [b, n]) => (a === b ? (m < n ? -1 : 1) : a < b ? -1 : 1))
  const metrics = [...new Set(pairs.map(([, metric]) => metric))].sort()
  await tx.query(sql.run`
    insert into tel_metric (id, tenant_id, code)
    select m.id, ${tx.tenantId}, m.code from ${sql.unnest(
      metrics.map((m) => [newId(), m]),
      ['uuid', 'text'],
    )} as m (id, code)
    on conflict do nothing`)
  await tx.query(sql.run`
    insert into tel_series (tenant_id, device_id, metric_id)
    select ${tx.tenantId}, w.device_id, m.id from ${sql.unnest(pairs, ['uuid', 'text'])} as w (device_id, metric)
    join tel_metric m on m.tenant_id = ${tx.tenantId} and m.code = w.metric
    on conflict do nothing`)
}
