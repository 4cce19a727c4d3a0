// Keys for programs: a part of their maker's rights, in one context, until they expire or are revoked.
import { timingSafeEqual } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import { type Static, Type } from 'typebox'
import { failure, Name, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { digest, secret } from './one-time-tokens.ts'
import { record } from './trail.ts'

export const ApiKeyInfo = Type.Object(
  {
    id: Uuid,
    user_id: Uuid,
    name: Name,
    prefix: Type.String({ description: 'The part of the key that is no secret' }),
    permissions: Type.Array(Type.String()),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    allowed_addresses: Type.Array(Type.String(), { description: 'Addresses and networks that it may be used from; empty is any' }),
    expires_at: nullable(Timestamp),
    last_used_at: nullable(Timestamp),
    revoked_at: nullable(Timestamp),
    replaced_by: nullable(Uuid),
    version: Type.Integer(),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type ApiKeyInfo = Static<typeof ApiKeyInfo>

export interface NewApiKey {
  name: string
  permissions: readonly string[]
  organizationId: string | null
  workspaceId: string | null
  allowedAddresses: readonly string[]
  expiresAt: string | null
}

const info = sql.fragment`id, user_id, name, prefix, permissions, organization_id, workspace_id, allowed_addresses::text[] as allowed_addresses,
  expires_at, last_used_at, revoked_at, replaced_by, version, created_at`

/** `tk_<prefix>_<secret>` → its two parts; null for what is no key of ours. */
export function partsOfKey(token: string): { prefix: string; secret: string } | null {
  const match = token.match(/^tk_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/)
  return match ? { prefix: match[1]!, secret: match[2]! } : null
}

/** Compares in constant time. */
export const keyMatches = (presented: string, secretHash: string): boolean =>
  timingSafeEqual(Buffer.from(digest(presented), 'hex'), Buffer.from(secretHash, 'hex'))

/** Whether an address lies in one of the networks; none at all is anywhere. */
export function addressAllowed(networks: readonly string[], address: string): boolean {
  if (networks.length === 0) return true
  const list = new BlockList()
  for (const network of networks) {
    const [base = '', bits] = network.split('/')
    const family = isIP(base) === 6 ? 'ipv6' : 'ipv4'
    list.addSubnet(base, Number(bits ?? (family === 'ipv6' ? 128 : 32)), family)
  }
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '')
  return list.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4')
}

function requireNetworks(networks: readonly string[]): void {
  for (const [at, network] of networks.entries()) {
    const [base = '', bits, more] = network.split('/')
    const family = isIP(base)
    const fits =
      family !== 0 && more === undefined && (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32)))
    if (!fits)
      throw failure('invalid_value', {
        path: `/allowed_addresses/${at}`,
        rule: 'network',
        message: 'is an address or network such as 203.0.113.0/24',
      })
  }
}

/** Makes a key and returns it whole, this once. What it may do was held against its maker before. Throws `invalid_value`. */
export async function createApiKey(tx: Tx, key: NewApiKey): Promise<{ key: string; info: ApiKeyInfo }> {
  requireNetworks(key.allowedAddresses)
  if (key.expiresAt && Date.parse(key.expiresAt) <= tx.now.getTime()) {
    throw failure('invalid_value', { path: '/expires_at', rule: 'future', message: 'lies in the future' })
  }
  const id = newId()
  // The prefix finds the row; the last twelve hex digits of a UUIDv7 are random.
  const prefix = id.slice(-12)
  const whole = secret()
  const made = await tx.one(sql.prepared(ApiKeyInfo)`
    insert into res_api_keys (id, tenant_id, user_id, name, prefix, secret_hash, permissions, organization_id, workspace_id, allowed_addresses, expires_at)
    values (${id}, ${tx.tenantId}, ${tx.actor.userId}, ${key.name}, ${prefix}, decode(${digest(whole)}, 'hex'), ${sql.array([...key.permissions], 'text')},
      ${key.organizationId}, ${key.workspaceId}, ${sql.array([...key.allowedAddresses], 'text')}::text[]::cidr[], ${key.expiresAt})
    returning ${info}`)
  return { key: `tk_${prefix}_${whole}`, info: made }
}

/** A page of keys, the newest first: one user's, or everybody's. */
export const apiKeysOf = (tx: Tx, userId: string | null): Promise<readonly ApiKeyInfo[]> =>
  tx.any(sql.prepared(ApiKeyInfo)`
    select ${info} from res_api_keys where tenant_id = ${tx.tenantId} and (${userId}::uuid is null or user_id = ${userId}::uuid) order by id desc limit 500`)

/** Throws `not_found` for what is not this user's; null is anyone. */
export async function apiKey(tx: Tx, id: string, userId: string | null): Promise<ApiKeyInfo> {
  const found = await tx.maybeOne(sql.prepared(ApiKeyInfo)`
    select ${info} from res_api_keys where tenant_id = ${tx.tenantId} and id = ${id} and (${userId}::uuid is null or user_id = ${userId}::uuid)`)
  if (!found) throw failure('not_found')
  return found
}

/** Ends a key for good. */
export async function revokeApiKey(tx: Tx, id: string): Promise<void> {
  await tx.query(sql.run`
    update res_api_keys set revoked_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and revoked_at is null`)
}

/**
 * A new key like the old one; the old one works for so many hours more. The old row is locked, so that of two rotations
 * at once the second finds it replaced: `invalid_transition`.
 */
export async function rotateApiKey(tx: Tx, id: string, overlapHours: number): Promise<{ key: string; info: ApiKeyInfo }> {
  const old = await tx.maybeOne(sql.prepared(ApiKeyInfo)`
    select ${info} from res_api_keys where tenant_id = ${tx.tenantId} and id = ${id} and user_id = ${tx.actor.userId} for update`)
  if (!old) throw failure('not_found')
  if (old.revoked_at || old.replaced_by)
    throw failure('invalid_transition', { status: old.revoked_at ? 'revoked' : 'replaced', transition: 'rotate' })
  const made = await createApiKey(tx, {
    name: old.name,
    permissions: old.permissions,
    organizationId: old.organization_id,
    workspaceId: old.workspace_id,
    allowedAddresses: old.allowed_addresses,
    expiresAt: old.expires_at,
  })
  const until = new Date(tx.now.getTime() + overlapHours * 3_600_000).toISOString()
  await tx.query(sql.run`
    update res_api_keys set replaced_by = ${made.info.id}, expires_at = least(expires_at, ${until}::timestamptz), version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  await record(tx, 'res_api_keys', id, 'api_key.rotated', { replaced_by: made.info.id })
  return made
}
