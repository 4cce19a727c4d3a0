// Something that sends readings.
import { Type } from 'typebox'
import { Code, type Fragment, Name, nullable, oneOf, requireRoom, resource, row, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { endInapplicable } from './alert.ts'
import { DeviceProfile, ExpectedInterval, USUAL_INTERVAL } from './profile.ts'

/** How often a device is heard of: as it says itself, as its profile says, or as usual. */
export const intervalOf = (column: (name: string) => Fragment): Fragment => sql.fragment`
  make_interval(secs => coalesce(${column('expected_interval_seconds')}, (
    select p.expected_interval_seconds from tel_device_profile p where p.tenant_id = ${column('tenant_id')} and p.id = ${column('profile_id')}
  ), ${USUAL_INTERVAL}))`

/** Something that sends readings; `code` is what it calls itself. */
export const Device = row(
  'tel_device',
  {
    code: Code,
    name: Name,
    profile_id: nullable(Uuid),
    expected_interval_seconds: nullable({ ...ExpectedInterval, description: 'Where it is not as the profile says' }),
    site_id: nullable({ ...Uuid, description: 'The location that it watches' }),
    batch_id: nullable({ ...Uuid, description: 'The batch that it watches' }),
    tags: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 20, default: [] }),
    serial_number: nullable(Type.String({ minLength: 1, maxLength: 100, description: 'Of the hardware in use' })),
    replaced_at: nullable({ ...Timestamp, description: 'When the hardware was replaced last' }),
    last_seen_at: nullable(Timestamp),
    status: oneOf(['online', 'late', 'silent'], {
      description: 'Heard of within twice the expected interval, within ten times, or longer ago or never',
    }),
  },
  {
    derived: ['last_seen_at', 'replaced_at'],
    computed: {
      status: (column) => sql.fragment`
        case when ${column('last_seen_at')} > now() - 2 * ${intervalOf(column)} then 'online'
          when ${column('last_seen_at')} > now() - 10 * ${intervalOf(column)} then 'late' else 'silent' end`,
    },
  },
)

const deviceRows = resource(Device, {
  module: 'telemetry.devices',
  permission: 'telemetry.device',
  search: ['code', 'name'],
  filter: ['code', 'status', 'profile_id', 'site_id', 'batch_id', 'tags', 'last_seen_at', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { profile_id: () => DeviceProfile },
})

const requireRoomForDevices = (tx: Tx, adding: number): Promise<void> =>
  requireRoom(
    tx,
    'devices',
    adding,
    sql.fragment`select count(*) as n from tel_device where tenant_id = ${tx.tenantId} and deleted_at is null`,
  )

/** Columns of a device that decide which rules apply to it. */
const SCOPE = ['profile_id', 'site_id', 'batch_id']
const changesScope = (patch: object): boolean => SCOPE.some((name) => name in patch)

/** Devices, as many as the plan allows. One that is moved or deleted ends the alerts of rules that no longer apply to it. */
export const devices: typeof deviceRows = {
  ...deviceRows,
  createMany: async (tx, inputs) => {
    await requireRoomForDevices(tx, inputs.length)
    return deviceRows.createMany(tx, inputs)
  },
  create: async (tx, input) => {
    await requireRoomForDevices(tx, 1)
    return deviceRows.create(tx, input)
  },
  update: async (tx, id, version, patch) => {
    const changed = await deviceRows.update(tx, id, version, patch)
    if (changesScope(patch)) await endInapplicable(tx, 'device_id', [id])
    return changed
  },
  updateMany: async (tx, changes) => {
    const changed = await deviceRows.updateMany(tx, changes)
    const moved = changes.filter(({ patch }) => changesScope(patch)).map(({ id }) => id)
    if (moved.length > 0) await endInapplicable(tx, 'device_id', moved)
    return changed
  },
  softDelete: async (tx, id, version) => {
    await deviceRows.softDelete(tx, id, version)
    await endInapplicable(tx, 'device_id', [id])
  },
  recover: async (tx, id) => {
    await requireRoomForDevices(tx, 1)
    return deviceRows.recover(tx, id)
  },
}

const Count = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

/** The devices of an organization, at most a thousand. */
export async function countDevices(tx: Tx, organizationId: string): Promise<number> {
  const { n } = await tx.one(sql.prepared(Count)`
    select count(*) as n from (
      select from tel_device where tenant_id = ${tx.tenantId} and organization_id = ${organizationId} and deleted_at is null limit 1000) as d`)
  return n
}
