import { createHash, randomBytes } from 'node:crypto'
import { Type } from 'typebox'
import { Code, failure, Name, newId, nullable, requireRoom, resource, row, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

/** Something that sends readings; `code` is what it calls itself. */
export const Device = row(
  'tel_device',
  {
    code: Code,
    name: Name,
    site_id: nullable(Uuid),
    batch_id: nullable(Uuid),
    tags: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 20, default: [] }),
    last_seen_at: nullable(Timestamp),
  },
  { derived: ['last_seen_at'] },
)

const deviceRows = resource(Device, {
  module: 'telemetry.devices',
  permission: 'telemetry.device',
  search: ['code', 'name'],
  filter: ['code', 'created_at'],
  sort: ['code', 'created_at'],
})

const requireRoomForDevices = (tx: Tx, adding: number): Promise<void> =>
  requireRoom(
    tx,
    'devices',
    adding,
    sql.fragment`select count(*) as n from tel_device where tenant_id = ${tx.tenantId} and deleted_at is null`,
  )

/** Devices, as many as the plan allows. */
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
  recover: async (tx, id) => {
    await requireRoomForDevices(tx, 1)
    return deviceRows.recover(tx, id)
  },
}

export const hashKey = (key: string): string => createHash('sha256').update(key).digest('hex')

export const IssuedKey = Type.Object({ id: Uuid, device_id: Uuid, key: Type.String({ description: 'Shown once.' }), hint: Type.String() })

/** Issues a key to a device. The key itself is returned once and kept only as a hash. Throws `not_found`. */
export async function issueDeviceKey(tx: Tx, deviceId: string) {
  await devices.get(tx, deviceId)
  const id = newId()
  const key = `dk_${randomBytes(32).toString('base64url')}`
  const hint = key.slice(0, 7)
  await tx.query(sql.run`
    insert into tel_device_key (id, tenant_id, device_id, key_hash, hint) values (${id}, ${tx.tenantId}, ${deviceId}, decode(${hashKey(key)}, 'hex'), ${hint})`)
  return { id, device_id: deviceId, key, hint }
}

/** Withdraws a key: it bites at the next batch. Throws `not_found`. */
export async function revokeDeviceKey(tx: Tx, deviceId: string, keyId: string): Promise<void> {
  await devices.get(tx, deviceId)
  const { rowCount } = await tx.query(sql.run`
    update tel_device_key set revoked_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and device_id = ${deviceId} and id = ${keyId} and revoked_at is null`)
  if (rowCount === 0) throw failure('not_found')
}

const Known = Type.Object({ code: Type.String(), hash: Type.String(), device_id: Uuid }, { additionalProperties: false })

/** Which of these (code, key hash) pairs are good now, in one query: `code hash` → device id. */
export async function authenticateDevices(tx: Tx, pairs: readonly (readonly [code: string, hash: string])[]): Promise<Map<string, string>> {
  const found = await tx.any(sql.prepared(Known)`
    select d.code, encode(k.key_hash, 'hex') as hash, d.id as device_id
    from ${sql.unnest(pairs, ['text', 'text'])} as w (code, hash)
    join tel_device d on d.tenant_id = ${tx.tenantId} and d.code = w.code and d.deleted_at is null
    join tel_device_key k on k.tenant_id = d.tenant_id and k.device_id = d.id and k.key_hash = decode(w.hash, 'hex')
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())`)
  return new Map(found.map((f) => [`${f.code} ${f.hash}`, f.device_id]))
}
