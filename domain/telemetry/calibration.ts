// Calibrations: corrections of one device's metric, each valid from a time until the next one begins.
import { type Static, Type } from 'typebox'
import { type Fragment, failure, nullable, resource, row, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { Device } from './device.ts'
import { MAX_ABSOLUTE_VALUE } from './message.ts'
import { Metric, scaled } from './profile.ts'
import { VersionedCache } from './versioned-cache.ts'

/** Calibrations of one device at most: ingest keeps them in memory. */
const MAX_OF_DEVICE = 1_000
const Coefficient = { minimum: -MAX_ABSOLUTE_VALUE, maximum: MAX_ABSOLUTE_VALUE }

export const Calibration = row('tel_calibration', {
  device_id: Uuid,
  metric: Metric.properties.code,
  valid_from: {
    ...Timestamp,
    description: 'Applies to readings from this time on, by their own `ts`, until the next calibration of the device and metric begins',
  },
  factor: Type.Number({
    ...Coefficient,
    default: 1,
    description: 'The stored value is value × factor + offset; value is what the conversion of the profile gives',
    examples: [1.002],
  }),
  offset: Type.Number({ ...Coefficient, default: 0, examples: [-0.3] }),
  note: nullable(Type.String({ minLength: 1, maxLength: 500, examples: ['Certificate 2026-0417'] })),
})

/** Throws `invalid_value` for the factor 0, which would make all readings equal. */
async function makesSense(_tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  if (rows.some(({ factor }) => factor === 0))
    throw failure('invalid_value', { path: '/factor', rule: 'not_zero', message: 'is not 0: all readings would be equal' })
}

const calibrationRows = resource(Calibration, {
  module: 'telemetry.devices',
  permission: 'telemetry.calibration',
  filter: ['device_id', 'metric', 'valid_from', 'created_at'],
  sort: ['valid_from', 'created_at'],
  references: { device_id: () => Device },
  check: makesSense,
})

const OfDevice = Type.Object({ device_id: Uuid, n: Type.Integer() }, { additionalProperties: false })

/**
 * Advances `calibration_version` of devices, so that ingest reads their calibrations again with its next batch. Devices are
 * locked in the order of their ids; under the lock their calibrations are counted. Throws `invalid_value` for more than
 * `MAX_OF_DEVICE`.
 */
async function noteChange(tx: Tx, devices: Fragment): Promise<void> {
  await tx.query(sql.run`
    with locked as (
      select id from tel_device where tenant_id = ${tx.tenantId} and id in (${devices}) order by id for no key update
    )
    update tel_device d set calibration_version = d.calibration_version + 1
    from locked where d.tenant_id = ${tx.tenantId} and d.id = locked.id`)
  const crowded = await tx.maybeOne(sql.prepared(OfDevice)`
    select c.device_id, count(*) as n from tel_calibration c
    where c.tenant_id = ${tx.tenantId} and c.device_id in (${devices}) and c.deleted_at is null
    group by c.device_id having count(*) > ${MAX_OF_DEVICE} limit 1`)
  if (crowded)
    throw failure(
      'invalid_value',
      { path: '/device_id', rule: 'calibrations', device_id: crowded.device_id },
      `A device has at most ${MAX_OF_DEVICE} calibrations.`,
    )
}

const ofRows = (rows: readonly { device_id: string }[]): Fragment =>
  sql.fragment`select unnest(${sql.array([...new Set(rows.map(({ device_id }) => device_id))], 'uuid')})`
const ofCalibrations = (tx: Tx, ids: readonly string[]): Fragment =>
  sql.fragment`select device_id from tel_calibration where tenant_id = ${tx.tenantId} and id = any(${sql.array([...ids], 'uuid')})`

/** Calibrations. They apply to readings that are ingested after the change; what is stored stays as it is. */
export const calibrations: typeof calibrationRows = {
  ...calibrationRows,
  createMany: async (tx, inputs) => {
    const made = await calibrationRows.createMany(tx, inputs)
    if (made.length > 0) await noteChange(tx, ofRows(made))
    return made
  },
  create: async (tx, input) => (await calibrations.createMany(tx, [input]))[0]!,
  // One may be moved to another device: the device before takes it no more, the device after does.
  update: async (tx, id, version, patch) => {
    const before = await calibrationRows.get(tx, id)
    const after = await calibrationRows.update(tx, id, version, patch)
    await noteChange(tx, ofRows([before, after]))
    return after
  },
  updateMany: async (tx, changes) => {
    if (changes.length === 0) return []
    const before = await tx.any(sql.prepared(Type.Object({ device_id: Uuid }, { additionalProperties: false }))`
      ${ofCalibrations(
        tx,
        changes.map(({ id }) => id),
      )}`)
    const after = await calibrationRows.updateMany(tx, changes)
    await noteChange(tx, ofRows([...before, ...after]))
    return after
  },
  softDelete: async (tx, id, version) => {
    await calibrationRows.softDelete(tx, id, version)
    await noteChange(tx, ofCalibrations(tx, [id]))
  },
  recover: async (tx, id) => {
    const back = await calibrationRows.recover(tx, id)
    await noteChange(tx, ofRows([back]))
    return back
  },
}

/** One calibration as ingest applies it, and the time in milliseconds from which on it does. */
interface Period {
  from: number
  apply: (value: number) => number
}

/** The calibrations of one device, by metric, the latest first. */
export class DeviceCalibrations {
  readonly #metrics = new Map<string, Period[]>()

  /** @param calibrations the latest first */
  constructor(calibrations: readonly Pick<Static<typeof Read>, 'metric' | 'at' | 'factor' | 'offset'>[]) {
    for (const { metric, at, factor, offset } of calibrations) {
      const periods = this.#metrics.get(metric) ?? []
      periods.push({ from: at, apply: scaled(factor, offset) })
      this.#metrics.set(metric, periods)
    }
  }

  /** The value as the calibration corrects it that was valid at the time of the reading, milliseconds since 1970. */
  apply(metric: string, at: number, value: number): number {
    const period = this.#metrics.get(metric)?.find(({ from }) => from <= at)
    return period ? period.apply(value) : value
  }
}

const Read = Type.Object(
  { device_id: Uuid, metric: Type.String(), at: Type.Number(), factor: Type.Number(), offset: Type.Number() },
  { additionalProperties: false },
)

/** Calibrations of devices, kept until the device has another `calibration_version`. */
export class KnownCalibrations extends VersionedCache<DeviceCalibrations> {
  constructor() {
    super(async (tx, devices) => {
      const read = Map.groupBy(await readCalibrations(tx, devices), ({ device_id }) => device_id)
      return new Map(devices.map((id) => [id, new DeviceCalibrations(read.get(id) ?? [])]))
    })
  }

  /** @param versions by device; 0: it never had any */
  override of(tx: Tx, versions: ReadonlyMap<string, number>): Promise<ReadonlyMap<string, DeviceCalibrations>> {
    return super.of(tx, new Map([...versions].filter(([, version]) => version > 0)))
  }
}

const readCalibrations = (tx: Tx, devices: readonly string[]): Promise<readonly Static<typeof Read>[]> =>
  tx.any(sql.prepared(Read)`
    select device_id, metric, extract(epoch from valid_from)::float8 * 1000 as at, factor, "offset" from tel_calibration
    where tenant_id = ${tx.tenantId} and device_id = any(${sql.array([...devices], 'uuid')}) and deleted_at is null
    order by device_id, metric, valid_from desc`)
