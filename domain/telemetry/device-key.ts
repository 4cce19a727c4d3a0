// What a device shows to be believed: issued once, kept as a hash, replaced without a gap, withdrawn at once.
import { createHash, randomBytes } from 'node:crypto'
import { Type } from 'typebox'
import { failure, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { devices } from './device.ts'
import type { Subject } from './rule.ts'

export const hashKey = (key: string): string => createHash('sha256').update(key).digest('hex')

const Hint = Type.String({ description: 'Its first letters', examples: ['dk_9fQx'] })
export const IssuedKey = Type.Object(
  { id: Uuid, device_id: Uuid, key: Type.String({ description: 'Shown once' }), hint: Hint },
  { additionalProperties: false },
)
export const DeviceKey = Type.Object(
  { id: Uuid, hint: Hint, created_at: Timestamp, expires_at: nullable(Timestamp), revoked_at: nullable(Timestamp) },
  { additionalProperties: false },
)

/** Devices that are given keys at once. */
export const KeysWanted = Type.Object(
  { device_ids: Type.Array(Uuid, { minItems: 1, maxItems: 1000, uniqueItems: true }) },
  { additionalProperties: false },
)
export const Rotation = Type.Object(
  {
    grace_seconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2_592_000,
        default: 86_400,
        description: 'For so long the earlier keys are good beside the new one',
      }),
    ),
  },
  { additionalProperties: false },
)

const Found = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Devices of the context's organization. Throws `not_found` unless all are there. */
async function requireDevices(tx: Tx, ids: readonly string[]): Promise<void> {
  const found = await tx.any(sql.prepared(Found)`
    select id from tel_device
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and id = any(${sql.array([...ids], 'uuid')}) and deleted_at is null
    order by id for key share`)
  const there = new Set(found.map(({ id }) => id))
  const missing = ids.filter((id) => !there.has(id))
  if (missing.length > 0) throw failure('not_found', { ids: missing.slice(0, 100) })
}

/** Issues a key to each of these devices. The keys are returned once and kept only as hashes. Throws `not_found`. */
export async function issueDeviceKeys(tx: Tx, deviceIds: readonly string[]) {
  await requireDevices(tx, deviceIds)
  const issued = deviceIds.map((device_id) => {
    const key = `dk_${randomBytes(32).toString('base64url')}`
    return { id: newId(), device_id, key, hint: key.slice(0, 7) }
  })
  const rows = issued.map(({ id, device_id, key, hint }) => [id, device_id, hashKey(key), hint])
  await tx.query(sql.run`
    insert into tel_device_key (id, tenant_id, device_id, key_hash, hint, created_at)
    select k.id, ${tx.tenantId}, k.device_id, decode(k.hash, 'hex'), k.hint, ${tx.now.toISOString()}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'text', 'text'])} as k (id, device_id, hash, hint)`)
  return issued
}

/** Issues a key to a device; its earlier keys are good for some time yet, so that it can change over. Throws `not_found`. */
export async function rotateDeviceKey(tx: Tx, deviceId: string, graceSeconds: number) {
  const [issued] = await issueDeviceKeys(tx, [deviceId])
  const until = new Date(tx.now.getTime() + graceSeconds * 1000).toISOString()
  await tx.query(sql.run`
    update tel_device_key set expires_at = ${until}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and device_id = ${deviceId} and id <> ${issued!.id} and revoked_at is null
      and (expires_at is null or expires_at > ${until})`)
  return issued!
}

/** The keys of a device, newest first. Throws `not_found`. */
export async function deviceKeys(tx: Tx, deviceId: string) {
  await devices.get(tx, deviceId)
  return tx.any(sql.prepared(DeviceKey)`
    select id, hint, created_at, expires_at, revoked_at from tel_device_key
    where tenant_id = ${tx.tenantId} and device_id = ${deviceId} order by created_at desc, id desc limit 100`)
}

/** Withdraws a key: it bites at the next batch. Throws `not_found`. */
export async function revokeDeviceKey(tx: Tx, deviceId: string, keyId: string): Promise<void> {
  await devices.get(tx, deviceId)
  const { rowCount } = await tx.query(sql.run`
    update tel_device_key set revoked_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and device_id = ${deviceId} and id = ${keyId} and revoked_at is null`)
  if (rowCount === 0) throw failure('not_found')
}

const Known = Type.Object(
  {
    code: Type.String(),
    hash: Type.String(),
    device_id: Uuid,
    organization_id: Uuid,
    profile_id: nullable(Uuid),
    profile_version: nullable(Type.Integer()),
    site_id: nullable(Uuid),
    batch_id: nullable(Uuid),
    calibration_version: Type.Integer(),
  },
  { additionalProperties: false },
)
export interface KnownDevice extends Subject {
  /** Of its profile: 0 without one. */
  profileVersion: number
  /** Of its calibrations: 0 when it never had any. */
  calibrationVersion: number
}

/** Which of these (code, key hash) pairs are good now, in one query: by `code hash`. */
export async function authenticateDevices(
  tx: Tx,
  pairs: readonly (readonly [code: string, hash: string])[],
): Promise<Map<string, KnownDevice>> {
  const found = await tx.any(sql.prepared(Known)`
    select d.code, encode(k.key_hash, 'hex') as hash, d.id as device_id, d.organization_id, p.id as profile_id, p.version as profile_version, d.site_id, d.batch_id,
      d.calibration_version
    from ${sql.unnest(pairs, ['text', 'text'])} as w (code, hash)
    join tel_device d on d.tenant_id = ${tx.tenantId} and d.code = w.code and d.deleted_at is null
    join tel_device_key k on k.tenant_id = d.tenant_id and k.device_id = d.id and k.key_hash = decode(w.hash, 'hex')
      and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
    left join tel_device_profile p on p.tenant_id = d.tenant_id and p.id = d.profile_id`)
  return new Map(
    found.map((f) => [
      `${f.code} ${f.hash}`,
      {
        id: f.device_id,
        organizationId: f.organization_id,
        profileId: f.profile_id,
        profileVersion: f.profile_version ?? 0,
        siteId: f.site_id,
        batchId: f.batch_id,
        calibrationVersion: f.calibration_version,
      },
    ]),
  )
}
