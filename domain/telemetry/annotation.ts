// Notes on what was measured: why a value is as it is.
import { type Static, Type } from 'typebox'
import { failure, nullable, resource, row, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { Device } from './device.ts'
import { Metric } from './profile.ts'

export const Annotation = row('tel_annotation', {
  device_id: Uuid,
  metric: nullable({ ...Metric.properties.code, description: 'Of one metric; of the whole device when null' }),
  starts_at: Timestamp,
  ends_at: nullable({ ...Timestamp, description: 'Not before `starts_at`; a moment when null' }),
  text: Type.String({ minLength: 1, maxLength: 2000, examples: ['Probe cleaned'] }),
})

/** Throws `invalid_value` for an end before the beginning. */
async function makesSense(_tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  for (const { starts_at, ends_at } of rows as readonly Partial<Static<typeof Annotation.schema>>[]) {
    if (starts_at && ends_at && Date.parse(ends_at) < Date.parse(starts_at))
      throw failure('invalid_value', { path: '/ends_at', rule: 'range', message: 'is not before starts_at' })
  }
}

export const annotations = resource(Annotation, {
  module: 'telemetry.devices',
  permission: 'telemetry.annotation',
  search: ['text'],
  filter: ['device_id', 'metric', 'starts_at', 'created_at'],
  sort: ['starts_at', 'created_at'],
  references: { device_id: () => Device },
  check: makesSense,
})

const { metric, starts_at, ends_at, text } = Annotation.properties
export const AnnotationOfSeries = Type.Object({ id: Uuid, metric, starts_at, ends_at, text }, { additionalProperties: false })
export type AnnotationOfSeries = Static<typeof AnnotationOfSeries>
const OfDevice = Type.Object({ device_id: Uuid, ...AnnotationOfSeries.properties }, { additionalProperties: false })

/** Annotations of one answer at most, the latest ones. */
const MAX_ANNOTATIONS = 1_000

/** Annotations that touch a time, by device and in order of time; those of a metric beside those of its whole device. */
export async function annotationsOf(
  tx: Tx,
  devices: readonly string[],
  { from, to }: { from: string; to: string },
): Promise<(device: string, metric: string) => readonly AnnotationOfSeries[]> {
  const found = await tx.any(sql.prepared(OfDevice)`
    select device_id, id, metric, starts_at, ends_at, text from tel_annotation
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and device_id = any(${sql.array([...new Set(devices)], 'uuid')})
      and deleted_at is null and starts_at < ${to} and coalesce(ends_at, starts_at) >= ${from}
    order by starts_at desc, id desc limit ${MAX_ANNOTATIONS}`)
  const inTime = found.toReversed()
  return (device, metric) =>
    inTime.flatMap(({ device_id, ...annotation }) =>
      device_id === device && (annotation.metric === null || annotation.metric === metric) ? [annotation] : [],
    )
}
