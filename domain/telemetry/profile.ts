// Kinds of devices: what they measure, how that becomes what is kept, and how often they are heard of.
import { Type } from 'typebox'
import { Code, failure, Name, nullable, oneAtATime, oneOf, type RowOf, requireRoom, resource, row, sql, type Tx } from '../kernel/index.ts'
import { requireNoInputs, requireNotDerived } from './derived-codes.ts'
import { MAX_ABSOLUTE_VALUE } from './message.ts'
import { VersionedCache } from './versioned-cache.ts'

/** What is measured, in one unit in the whole tenant. Made when the first device sends it, or before, with its unit. */
export const Metric = row(
  'tel_metric',
  {
    code: Type.String({ minLength: 1, maxLength: 64, examples: ['temperature'] }),
    unit: nullable(Type.String({ minLength: 1, maxLength: 32, examples: ['°C'], description: 'Of what is kept' })),
    kind: oneOf(['gauge', 'counter'], { default: 'gauge', description: 'A level that is measured, or a count that only grows' }),
  },
  { scope: 'tenant', softDelete: false },
)

/** The advisory lock under which metrics and series of a tenant are made and counted; the same as `requireRoom` takes. */
export const metricsLock = (tx: Tx): string => `${tx.tenantId} metrics`

const requireRoomForMetrics = (tx: Tx, adding: number): Promise<void> =>
  requireRoom(tx, 'metrics', adding, sql.fragment`select count(*) as n from tel_metric where tenant_id = ${tx.tenantId}`)

const metricRows = resource(Metric, {
  module: 'telemetry.devices',
  permission: 'telemetry.metric',
  filter: ['code', 'created_at'],
  sort: ['code', 'created_at'],
})

/** Codes of new metrics, decided under the lock under which derived metrics are made too. Throws `already_exists`. */
async function requireFreeCodes(tx: Tx, inputs: readonly object[]): Promise<void> {
  const codes = inputs.flatMap((input) => ('code' in input ? [input.code as string] : []))
  if (codes.length === 0) return
  await oneAtATime(tx, metricsLock(tx))
  await requireNotDerived(tx, codes)
}

const Renamed = Type.Object({ code: Type.String() }, { additionalProperties: false })

/** Refuses to rename a metric to the code of a derived one (`already_exists`), and one that is an input of one (`in_use`). */
async function keepInputs(tx: Tx, changes: readonly { id: string; patch: object }[]): Promise<void> {
  const codes = changes.flatMap(({ id, patch }) => ('code' in patch ? [[id, patch.code as string]] : []))
  if (codes.length === 0) return
  await requireFreeCodes(
    tx,
    changes.map(({ patch }) => patch),
  )
  const renamed = await tx.any(sql.prepared(Renamed)`
    select m.code from ${sql.unnest(codes, ['uuid', 'text'])} as c (id, code)
    join tel_metric m on m.tenant_id = ${tx.tenantId} and m.id = c.id and m.code <> c.code`)
  await requireNoInputs(
    tx,
    renamed.map(({ code }) => code),
  )
}

/** Metrics, as many as the plan allows, with codes that no derived metric has. */
export const metrics: typeof metricRows = {
  ...metricRows,
  createMany: async (tx, inputs) => {
    await requireFreeCodes(tx, inputs)
    await requireRoomForMetrics(tx, inputs.length)
    return metricRows.createMany(tx, inputs)
  },
  create: async (tx, input) => (await metrics.createMany(tx, [input]))[0]!,
  update: async (tx, id, version, patch) => {
    await keepInputs(tx, [{ id, patch }])
    await keepUnits(tx, [{ id, patch }])
    return metricRows.update(tx, id, version, patch)
  },
  updateMany: async (tx, changes) => {
    await keepInputs(tx, changes)
    await keepUnits(tx, changes)
    return metricRows.updateMany(tx, changes)
  },
}

const Relabeled = Type.Object({ code: Type.String(), unit: Type.String(), series: Type.Integer() }, { additionalProperties: false })

/**
 * Refuses with `in_use` another unit for a metric that has series: its readings would be in a unit that they were not sent in. A
 * metric without a unit may be given one. Series are made with their first reading, under the lock that is taken here first.
 */
async function keepUnits(tx: Tx, changes: readonly { id: string; patch: object }[]): Promise<void> {
  const units = changes.flatMap(({ id, patch }) => ('unit' in patch ? [[id, (patch as { unit: string | null }).unit]] : []))
  if (units.length === 0) return
  await oneAtATime(tx, metricsLock(tx))
  const relabeled = await tx.maybeOne(sql.prepared(Relabeled)`
    select m.code, m.unit, s.series
    from ${sql.unnest(units, ['uuid', 'text'])} as c (id, unit)
    join tel_metric m on m.tenant_id = ${tx.tenantId} and m.id = c.id and m.unit is not null and m.unit is distinct from c.unit
    cross join lateral (select count(*) as series from tel_series s where s.tenant_id = ${tx.tenantId} and s.metric_id = m.id) as s
    where s.series > 0 order by m.code limit 1`)
  if (!relabeled) return
  const { code, unit, series } = relabeled
  throw failure(
    'in_use',
    { path: '/unit', metric: code, unit, series },
    `Readings of ${code} were sent in ${unit}: make a metric of its own for another unit.`,
  )
}

/** Seconds between two messages of a device of which nothing is said. */
export const USUAL_INTERVAL = 300
export const ExpectedInterval = Type.Integer({ minimum: 1, maximum: 604_800, description: 'Seconds between two messages' })

const ProfileMetric = Type.Object(
  {
    metric: Metric.properties.code,
    factor: Type.Optional(
      Type.Number({ default: 1, description: 'What is kept is value × factor + offset', examples: [0.5555555555555556] }),
    ),
    offset: Type.Optional(Type.Number({ default: 0, examples: [-17.77777777777778] })),
    minimum: Type.Optional(nullable(Type.Number({ description: 'Of what is kept: below it a reading is refused' }))),
    maximum: Type.Optional(nullable(Type.Number({ description: 'Of what is kept: above it a reading is refused' }))),
  },
  { additionalProperties: false },
)

export const DeviceProfile = row('tel_device_profile', {
  code: Code,
  name: Name,
  expected_interval_seconds: { ...ExpectedInterval, default: USUAL_INTERVAL },
  other_metrics: Type.Boolean({
    default: false,
    description: 'Whether its devices may send metrics that are not listed; a profile that lists none restricts none',
  }),
  metrics: Type.Array(ProfileMetric, { maxItems: 200, default: [] }),
})
export type DeviceProfile = RowOf<typeof DeviceProfile>

export const deviceProfiles = resource(DeviceProfile, {
  module: 'telemetry.devices',
  permission: 'telemetry.device_profile',
  filter: ['code', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  usedBy: [{ table: 'tel_device', column: 'profile_id' }],
  check: makesSense,
})

/** Every metric once, and limits that something can lie between. Throws `invalid_value`. */
async function makesSense(_tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  for (const { metrics } of rows as unknown as readonly Pick<DeviceProfile, 'metrics'>[]) {
    const refuse = (at: number, property: string, rule: string, message: string) =>
      failure('invalid_value', { path: `/metrics/${at}/${property}`, rule, message })
    for (const [at, { metric, factor = 1, minimum = null, maximum = null }] of (metrics ?? []).entries()) {
      if (metrics.findIndex((other) => other.metric === metric) !== at) throw refuse(at, 'metric', 'unique', `${metric} stands here twice`)
      if (factor === 0) throw refuse(at, 'factor', 'not_zero', 'is not 0: everything would be the same')
      if (minimum !== null && maximum !== null && minimum > maximum) throw refuse(at, 'minimum', 'range', 'is above the maximum')
    }
  }
}

/** A linear conversion: 15 digits are kept, so that 77 °F is 25 °C and counters of kilowatt hours keep their last digits. */
export const scaled = (factor: number, offset: number): ((value: number) => number) =>
  factor === 1 && offset === 0 ? (value) => value : (value) => Number((value * factor + offset).toPrecision(15))

/** A correction that comes after a conversion and before its limits. */
export type Correction = (metric: string, value: number) => number

/** How one metric of a profile's devices is read. */
interface Conversion {
  convert: (value: number) => number
  minimum: number
  maximum: number
}

/** How readings of a profile's devices become what is kept. */
export class Conversions {
  readonly #metrics: ReadonlyMap<string, Conversion>
  readonly #others: boolean

  constructor({ metrics, other_metrics }: Pick<DeviceProfile, 'metrics' | 'other_metrics'>) {
    this.#others = other_metrics || metrics.length === 0
    this.#metrics = new Map(
      metrics.map(({ metric, factor = 1, offset = 0, minimum, maximum }) => [
        metric,
        {
          convert: scaled(factor, offset),
          minimum: minimum ?? Number.NEGATIVE_INFINITY,
          maximum: maximum ?? Number.POSITIVE_INFINITY,
        },
      ]),
    )
  }

  /** What is kept of a value, or why it is refused. Limits are those of the corrected value. */
  apply(metric: string, value: number, correct?: Correction): number | 'unknown_metric' | 'out_of_limits' {
    const found = this.#metrics.get(metric)
    if (!found && !this.#others) return 'unknown_metric'
    const converted = found ? found.convert(value) : value
    const kept = correct ? correct(metric, converted) : converted
    const isWithin = !found || (kept >= found.minimum && kept <= found.maximum)
    return isWithin && Math.abs(kept) <= MAX_ABSOLUTE_VALUE ? kept : 'out_of_limits'
  }
}

/** Conversions of devices without a profile. */
export const NO_CONVERSIONS = new Conversions({ metrics: [], other_metrics: true })

const Read = Type.Pick(DeviceProfile.schema, ['id', 'metrics', 'other_metrics'], { additionalProperties: false })

/** Conversions of profiles, kept until a profile has another version. */
export class KnownConversions extends VersionedCache<Conversions> {
  constructor() {
    super(async (tx, profiles) => {
      const read = await tx.any(sql.prepared(Read)`
        select id, metrics, other_metrics from tel_device_profile where tenant_id = ${tx.tenantId} and id = any(${sql.array([...profiles], 'uuid')})`)
      return new Map(read.map((profile) => [profile.id, new Conversions(profile as unknown as DeviceProfile)]))
    })
  }
}
