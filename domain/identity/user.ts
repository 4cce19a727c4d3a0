// The users of a tenant as its administrators see them.
import { Type } from 'typebox'
import { assertCanAdminister, type Granter, keepAnAdministrator } from '../access/index.ts'
import {
  columns,
  failure,
  inReach,
  type ListSpec,
  lifecycle,
  Name,
  nullable,
  oneOf,
  type RowOf,
  requireTimeZone,
  row,
  sql,
  Timestamp,
  TimeZone,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { removeAllFactors } from './mfa.ts'
import { withdrawTokens } from './one-time-tokens.ts'
import { revokeAll } from './sessions.ts'
import { record } from './trail.ts'

export const LOCALES = ['en', 'es', 'pt', 'tr', 'az'] as const
export const KINDS = ['worker', 'client', 'service'] as const

export const User = row(
  'res_users',
  {
    email: Type.String(),
    name: Name,
    kind: oneOf(KINDS),
    status: oneOf(['invited', 'active', 'locked', 'disabled', 'deleted']),
    locale: nullable(oneOf(LOCALES)),
    timezone: nullable(TimeZone),
    verified_at: nullable(Timestamp),
    last_login_at: nullable(Timestamp),
    invited_by: nullable(Uuid),
  },
  {
    scope: 'tenant',
    derived: ['email', 'status', 'verified_at', 'last_login_at', 'invited_by'],
    // An organization's administrator sees the users who have a role in it.
    within: (tx, column) => sql.fragment`(${tx.reach?.tenant ?? true} or exists (
      select from res_user_roles a where a.tenant_id = ${tx.tenantId} and a.user_id = ${column('id')} and (a.organization_id is not null)
        and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)}))`,
  },
)
export type User = RowOf<typeof User>

export const userList = {
  row: User,
  filter: ['status', 'kind', 'email', 'created_at'],
  sort: ['name', 'email', 'created_at'],
  search: ['email', 'name'],
  expand: {},
} satisfies ListSpec

const notOneself = (tx: Tx, user: User) => {
  if (user.id === tx.actor.userId) throw failure('own_account')
}

/** The actor of a change of an account. */
export interface Administration {
  granter: Granter
}

const administrable = (tx: Tx, user: User, { granter }: Administration) => assertCanAdminister(tx, granter, user.id)

const anotherAdministrator = (tx: Tx, user: User) => keepAnAdministrator(tx, user.id)

/** Nothing that was given out before lets him in again. */
async function shutOut(tx: Tx, user: User): Promise<void> {
  await revokeAll(tx, user.id, `user_left_${user.status}`)
  await withdrawTokens(tx, user.id, ['invitation', 'password_reset', 'email_verification', 'mfa_challenge', 'webauthn'])
}

export const userLifecycle = lifecycle(User, {
  initial: 'invited',
  permission: 'identity.user',
  // The event names who, not how he is called: topics are kept longer than people stay.
  describe: ({ id, kind, status }) => ({ id, kind, status }),
  transitions: {
    lock: {
      from: 'active',
      to: 'locked',
      summary: 'Lock an account until it is unlocked',
      guard: [notOneself, administrable, anotherAdministrator],
      effect: shutOut,
    },
    unlock: { from: 'locked', to: 'active', guard: administrable, summary: 'Unlock an account' },
    disable: {
      from: ['active', 'locked'],
      to: 'disabled',
      summary: 'Switch an account off: sessions and keys stop at the next request',
      guard: [notOneself, administrable, anotherAdministrator],
      effect: shutOut,
    },
    enable: { from: 'disabled', to: 'active', guard: administrable, summary: 'Switch an account on again' },
  },
})

/**
 * Erases a user for good: their personal data and every credential. The row stays, so that the trail keeps its fact.
 * Throws `own_account`, `grant_exceeds`, `last_administrator`, `version_conflict`.
 */
export async function eraseUser(tx: Tx, granter: Granter, id: string, version: number): Promise<void> {
  const user = await userLifecycle.lock(tx, id)
  if (user.version !== version) throw failure('version_conflict', { current: user })
  notOneself(tx, user)
  await administrable(tx, user, { granter })
  await anotherAdministrator(tx, user)
  await shutOut(tx, user)
  await erasePerson(tx, id)
  tx.emit({ type: 'identity.user.erased', entity_id: id, version: version + 1, data: { id } })
}

/** Takes everything personal from a user's rows. Whoever calls has decided that he may go. */
async function erasePerson(tx: Tx, id: string): Promise<void> {
  const now = tx.now.toISOString()
  await removeAllFactors(tx, id)
  await tx.query(sql.run`delete from res_one_time_tokens where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  // Mails that wait or were sent name addresses, and kept answers of requests name the user.
  await tx.query(
    sql.run`delete from pgboss.job where name = 'mail' and data ->> 'tenant_id' = ${tx.tenantId} and data ->> 'user_id' = ${id}`,
  )
  await tx.query(sql.run`
    update plane.idempotency_keys set answer = answer || jsonb_build_object('name', 'Erased', 'email', 'erased-' || ${id} || '@erased.invalid')
    where tenant_id = ${tx.tenantId} and answer ->> 'id' = ${id} and answer ? 'email'`)
  await tx.query(sql.run`delete from res_user_identities where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  await tx.query(sql.run`delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  await tx.query(sql.run`delete from res_user_permission_overrides where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  await tx.query(sql.run`
    update res_api_keys set revoked_at = coalesce(revoked_at, ${now}), allowed_addresses = '{}', version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  await tx.query(sql.run`
    update res_sessions set user_agent = null, address = null, device_hash = null where tenant_id = ${tx.tenantId} and user_id = ${id}`)
  await tx.query(sql.run`
    update res_users set status = 'deleted', email = 'erased-' || id || '@erased.invalid', name = 'Erased', password_hash = null, locale = null, timezone = null,
      last_organization_id = null, last_workspace_id = null, deleted_at = ${now}, erased_at = ${now}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  await record(tx, 'res_users', id, 'user.erased')
}

/** Changes what is his own to say, or an administrator's: name, language, time zone, kind. Throws `version_conflict`, `not_found`, `last_administrator`. */
export async function updateUser(
  tx: Tx,
  id: string,
  version: number | null,
  patch: Partial<Pick<User, 'name' | 'locale' | 'timezone' | 'kind'>>,
): Promise<User> {
  if (patch.timezone) requireTimeZone(patch.timezone, '/timezone')
  const user = await userLifecycle.lock(tx, id)
  if (version !== null && user.version !== version) throw failure('version_conflict', { current: user })
  const { name, locale, timezone, kind } = { ...user, ...patch }
  // Clients are blocked when a trial ends, and services are programs: neither administers a tenant.
  if (kind !== user.kind && kind !== 'worker') await keepAnAdministrator(tx, id)
  const changed = await tx.one(sql.prepared(User.schema)`
    update res_users set name = ${name}, locale = ${locale}, timezone = ${timezone}, kind = ${kind}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} returning ${columns(User)}`)
  tx.emit({
    type: 'identity.user.updated',
    entity_id: id,
    version: changed.version,
    data: { id, kind: changed.kind, status: changed.status },
  })
  return changed as User
}

/** Throws `not_found` for a user who does not exist, whatever the unit of work reaches. */
export async function assertUserExists(tx: Tx, id: string): Promise<void> {
  const found = await tx.exists(sql.run`select 1 from res_users where tenant_id = ${tx.tenantId} and id = ${id} and deleted_at is null`)
  if (!found) throw failure('not_found')
}

const Named = Type.Object({ id: Uuid, name: Type.String() }, { additionalProperties: false })

/** What users are called now, by id; the erased are called `Erased`. */
export async function namesOf(tx: Tx, ids: readonly string[]): Promise<Map<string, string>> {
  if (ids.length === 0) return new Map()
  const rows = await tx.any(sql.prepared(Named)`
    select id, name from res_users where tenant_id = ${tx.tenantId} and id = any(${sql.array([...new Set(ids)], 'uuid')})`)
  return new Map(rows.map(({ id, name }) => [id, name]))
}
