// Keys for programs: a part of their maker's rights, in one context, until they expire or are revoked.
import { timingSafeEqual } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import { type Static, Type } from 'typebox'
import {
  allGrants,
  assertCanAdminister,
  assertFuture,
  assertHolds,
  assertHoldsUntil,
  assertMay,
  assertScopeExists,
  checkContext,
  type Granter,
  type Grants,
} from '../access/index.ts'
import { Failure, failure, Name, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
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

const HostBits = Type.Object({ at: Type.Integer(), network: Type.String() }, { additionalProperties: false })

/** Refuses with `invalid_value` what is no address or network, and a network whose address lies within it, such as 10.1.2.3/24. */
async function requireNetworks(tx: Tx, networks: readonly string[]): Promise<void> {
  const refuse = (at: number, message: string) => {
    throw failure('invalid_value', { path: `/allowed_addresses/${at}`, rule: 'network', message })
  }
  for (const [at, network] of networks.entries()) {
    const [base = '', bits, more] = network.split('/')
    const family = isIP(base)
    const fits =
      family !== 0 &&
      !base.includes('%') &&
      more === undefined &&
      (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32)))
    if (!fits) refuse(at, 'is an address or network such as 203.0.113.0/24')
  }
  const within = await tx.maybeOne(sql.type(HostBits)`
    select n.at::int - 1 as at, network(n.given::inet)::text as network from unnest(${sql.array([...networks], 'text')}) with ordinality as n (given, at)
    where n.given::inet <> network(n.given::inet)::inet order by n.at limit 1`)
  if (within) refuse(within.at, `is an address within ${within.network}: name the network or the address alone`)
}

/**
 * The grants of the user whose key an actor makes or changes: their own, or those of a service account on which they may act.
 * Persons make their own keys. Throws `not_found`, `invalid_value`, `grant_exceeds`.
 */
async function ownerOf(tx: Tx, granter: Granter, userId: string): Promise<Grants> {
  const [owner] = await allGrants(tx, [userId])
  if (!owner) throw failure('not_found')
  if (userId === tx.actor.userId) return granter.grants
  if (owner.kind !== 'service')
    throw failure('invalid_value', { path: '/user_id', rule: 'service', message: 'is a service account: persons make their own keys' })
  await assertCanAdminister(tx, granter, userId)
  return owner
}

/**
 * Makes a key on behalf of an actor, for themselves or for a service account. The actor holds its permissions in its scope until
 * its end, and so does its user now. Throws `grant_exceeds`, `context_forbidden`, `context_required`, `invalid_value`,
 * `not_found`.
 */
export async function makeApiKey(tx: Tx, granter: Granter, userId: string, key: NewApiKey): Promise<{ key: string; info: ApiKeyInfo }> {
  const now = tx.now.getTime()
  const { organizationId, workspaceId } = key
  const scope = { organizationId, workspaceId }
  const owner = await ownerOf(tx, granter, userId)
  const verdict = organizationId === null ? 'ok' : checkContext(owner, scope, now)
  if (verdict !== 'ok') throw failure(verdict)
  assertMay(granter, 'identity.api_key.create', scope, now)
  assertHoldsUntil(granter, key.permissions, scope, now, key.expiresAt)
  assertHolds({ ...granter, grants: owner }, key.permissions, scope, now, { user_id: userId })
  // The tenant's lock: the place is deleted before, and found gone, or after, and the key is counted.
  await lockTenant(tx)
  await assertScopeExists(tx, scope)
  return createApiKey(tx, userId, key)
}

/** Makes a key and returns it whole, this once. Throws `invalid_value`. */
async function createApiKey(tx: Tx, userId: string, key: NewApiKey): Promise<{ key: string; info: ApiKeyInfo }> {
  await requireNetworks(tx, key.allowedAddresses)
  if (key.expiresAt && Date.parse(key.expiresAt) <= tx.now.getTime()) {
    throw failure('invalid_value', { path: '/expires_at', rule: 'future', message: 'lies in the future' })
  }
  const id = newId()
  // The prefix finds the row; the last twelve hex digits of a UUIDv7 are random.
  const prefix = id.slice(-12)
  const whole = secret()
  const made = await tx.one(sql.prepared(ApiKeyInfo)`
    insert into res_api_keys (id, tenant_id, user_id, name, prefix, secret_hash, permissions, organization_id, workspace_id, allowed_addresses, expires_at)
    values (${id}, ${tx.tenantId}, ${userId}, ${key.name}, ${prefix}, decode(${digest(whole)}, 'hex'), ${sql.array([...key.permissions], 'text')},
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

/** Locks a key that the actor may change: their own or a service account's, neither revoked, replaced nor ended. */
async function lockKey(tx: Tx, granter: Granter, id: string, transition: string): Promise<ApiKeyInfo> {
  const key = await tx.maybeOne(sql.prepared(ApiKeyInfo)`
    select ${info} from res_api_keys where tenant_id = ${tx.tenantId} and id = ${id} for update`)
  if (!key) throw failure('not_found')
  // Another person's key does not exist for the actor.
  await ownerOf(tx, granter, key.user_id).catch((error: unknown) => {
    throw error instanceof Failure && error.detail === 'invalid_value' ? failure('not_found') : error
  })
  const ended = key.expires_at !== null && Date.parse(key.expires_at) <= tx.now.getTime()
  const status = key.revoked_at ? 'revoked' : key.replaced_by ? 'replaced' : ended ? 'expired' : null
  if (status) throw failure('invalid_transition', { status, transition })
  return key
}

export interface KeyChange {
  name?: string
  allowed_addresses?: readonly string[]
  expires_at?: string | null
}

/**
 * Changes a key in place, at its next request. The actor holds its permissions until a new end. Throws `not_found`,
 * `version_conflict`, `invalid_transition`, `invalid_value`, `grant_exceeds`.
 */
export async function changeApiKey(tx: Tx, granter: Granter, id: string, version: number, change: KeyChange): Promise<ApiKeyInfo> {
  const key = await lockKey(tx, granter, id, 'change')
  if (key.version !== version) throw failure('version_conflict', { current: key })
  const { name, allowed_addresses, expires_at } = { ...key, ...change }
  await requireNetworks(tx, allowed_addresses)
  const scope = { organizationId: key.organization_id, workspaceId: key.workspace_id }
  assertMay(granter, 'identity.api_key.create', scope, tx.now.getTime())
  if (expires_at !== key.expires_at) {
    assertFuture(tx, expires_at, '/expires_at')
    assertHoldsUntil(granter, key.permissions, scope, tx.now.getTime(), expires_at)
  }
  return tx.one(sql.prepared(ApiKeyInfo)`
    update res_api_keys set name = ${name}, allowed_addresses = ${sql.array([...allowed_addresses], 'text')}::text[]::cidr[], expires_at = ${expires_at},
      version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} returning ${info}`)
}

/**
 * A new key like the old one, with an end of its own where one is given; the old one works for so many hours more. The old row
 * is locked, so that of two rotations at once the second finds it replaced. Throws `not_found`, `invalid_transition`,
 * `invalid_value`, `grant_exceeds`.
 */
export async function rotateApiKey(
  tx: Tx,
  granter: Granter,
  id: string,
  overlapHours: number,
  expiresAt?: string | null,
): Promise<{ key: string; info: ApiKeyInfo }> {
  const old = await lockKey(tx, granter, id, 'rotate')
  const made = await makeApiKey(tx, granter, old.user_id, {
    name: old.name,
    permissions: old.permissions,
    organizationId: old.organization_id,
    workspaceId: old.workspace_id,
    allowedAddresses: old.allowed_addresses,
    expiresAt: expiresAt === undefined ? old.expires_at : expiresAt,
  })
  const until = new Date(tx.now.getTime() + overlapHours * 3_600_000).toISOString()
  await tx.query(sql.run`
    update res_api_keys set replaced_by = ${made.info.id}, expires_at = least(expires_at, ${until}::timestamptz), version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  await record(tx, 'res_api_keys', id, 'api_key.rotated', { replaced_by: made.info.id })
  return made
}
