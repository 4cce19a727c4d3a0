// New hardware in place of a device's: the device, its series and their history stay.
import { type Static, Type } from 'typebox'
import { lockAlone, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { Device, devices } from './device.ts'
import { IssuedKey, rotateDeviceKey } from './device-key.ts'

const SerialNumber = Device.schema.properties.serial_number
const Reason = Type.String({ minLength: 1, maxLength: 500, examples: ['Water in the housing'] })

export const Replacement = Type.Object(
  {
    id: Uuid,
    previous_serial_number: SerialNumber,
    serial_number: SerialNumber,
    reason: nullable(Reason),
    replaced_by: nullable(Uuid),
    replaced_at: Timestamp,
  },
  { additionalProperties: false },
)
export type Replacement = Static<typeof Replacement>

export const ReplacementWanted = Type.Object(
  {
    serial_number: Type.Optional(Type.String({ minLength: 1, maxLength: 100, examples: ['SN-2041-77'] })),
    reason: Type.Optional(Reason),
    grace_seconds: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 2_592_000, default: 0, description: 'Earlier keys stay valid for so long' }),
    ),
  },
  { additionalProperties: false },
)
export const Replaced = Type.Object({ replacement: Replacement, key: IssuedKey }, { additionalProperties: false })

/**
 * Replaces the hardware of a device: records it, and issues a key for the new hardware; earlier keys end. The device is locked
 * first, so that of two replacements at once the second one records the serial number of the first. Throws `not_found`.
 */
export async function replaceDevice(
  tx: Tx,
  deviceId: string,
  { serial_number, reason, grace_seconds = 0 }: Static<typeof ReplacementWanted>,
): Promise<Static<typeof Replaced>> {
  await lockAlone(tx, Device, deviceId)
  const device = await devices.get(tx, deviceId)
  const serial = serial_number ?? null
  const now = tx.now.toISOString()
  await tx.query(sql.run`update tel_device set replaced_at = ${now} where tenant_id = ${tx.tenantId} and id = ${deviceId}`)
  await devices.update(tx, deviceId, device.version, { serial_number: serial })
  const replacement = await tx.one(sql.prepared(Replacement)`
    insert into tel_device_replacement (id, tenant_id, device_id, previous_serial_number, serial_number, reason, replaced_by, replaced_at)
    values (${newId()}, ${tx.tenantId}, ${deviceId}, ${device.serial_number}, ${serial}, ${reason ?? null}, ${tx.actor.userId ?? null}, ${now})
    returning id, previous_serial_number, serial_number, reason, replaced_by, replaced_at`)
  return { replacement, key: await rotateDeviceKey(tx, deviceId, grace_seconds) }
}

/** The replacements of a device, a hundred at most, the latest first. Throws `not_found`. */
export async function replacementsOf(tx: Tx, deviceId: string): Promise<readonly Replacement[]> {
  await devices.get(tx, deviceId)
  return tx.any(sql.prepared(Replacement)`
    select id, previous_serial_number, serial_number, reason, replaced_by, replaced_at from tel_device_replacement
    where tenant_id = ${tx.tenantId} and device_id = ${deviceId} order by replaced_at desc, id desc limit 100`)
}
