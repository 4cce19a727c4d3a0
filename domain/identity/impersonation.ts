// The platform's staff in somebody's place: for a while, for a reason, told and written down.
import { randomBytes } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { administratorIds } from '../access/index.ts'
import { type Context, failure, newId, STAFF_NAME, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { accountById } from './account.ts'
import { type SignedIn, userOf } from './sessions.ts'
import { record } from './trail.ts'

export interface Impersonation {
  userId: string
  reason: string
  minutes: number
  staffId: string
  address: string
}

/**
 * Opens a session in the place of a user, which ends after so many minutes and cannot be renewed. The user and the
 * administrators of the tenant are told by mail, with the reason. Throws `not_found` for a user that may not enter.
 */
export async function impersonate(
  tx: Tx,
  context: Context,
  { userId, reason, minutes, staffId, address }: Impersonation,
): Promise<Pick<SignedIn, 'sessionId' | 'user' | 'context'> & { expiresAt: string }> {
  const account = await accountById(tx, userId)
  if (account?.status !== 'active') throw failure('not_found')
  const id = newId()
  const expiresAt = new Date(tx.now.getTime() + minutes * 60_000).toISOString()
  const now = tx.now.toISOString()
  // No refresh token is given to anybody: what its hash is of was never kept.
  await tx.query(sql.run`
    insert into res_sessions (id, tenant_id, user_id, family_id, refresh_hash, organization_id, workspace_id, user_agent, address, methods,
      authenticated_at, last_seen_at, expires_at, impersonated_by, impersonation_reason)
    values (${id}, ${tx.tenantId}, ${userId}, ${id}, decode(${randomBytes(32).toString('hex')}, 'hex'), ${context.organizationId}, ${context.workspaceId},
      ${STAFF_NAME}, ${address}, '{}', ${now}, ${now}, ${expiresAt}, ${staffId}, ${reason})`)
  await record(tx, 'res_sessions', id, 'session.impersonated', { user_id: userId, reason, expires_at: expiresAt })
  for (const told of new Set([userId, ...(await administratorIds(tx))])) {
    tx.enqueue({
      queue: 'mail',
      data: { kind: 'impersonation', tenant_id: tx.tenantId, user_id: told, facts: { person: account.name, reason, time: expiresAt } },
    })
  }
  return { sessionId: id, user: userOf(account), context, expiresAt }
}

export const RunningImpersonation = Type.Object(
  {
    session_id: Uuid,
    user_id: Uuid,
    user_name: Type.String(),
    staff_id: Uuid,
    reason: Type.String(),
    created_at: Timestamp,
    expires_at: Timestamp,
  },
  { additionalProperties: false },
)

/** Impersonations in the tenant that run now, the latest first. */
export const runningImpersonations = (tx: Tx): Promise<readonly Static<typeof RunningImpersonation>[]> =>
  tx.any(sql.prepared(RunningImpersonation)`
    select s.id as session_id, s.user_id, u.name as user_name, s.impersonated_by as staff_id, s.impersonation_reason as reason, s.created_at, s.expires_at
    from res_sessions s join res_users u on u.tenant_id = s.tenant_id and u.id = s.user_id
    where s.tenant_id = ${tx.tenantId} and s.impersonated_by is not null and s.revoked_at is null and s.expires_at > ${tx.now.toISOString()}
    order by s.created_at desc limit 200`)

export const FoundUser = Type.Object(
  { id: Uuid, name: Type.String(), email: Type.String(), kind: Type.String(), status: Type.String(), administrator: Type.Boolean() },
  { additionalProperties: false },
)

/** Users of the tenant whose name or address has a text, administrators first: whom staff may have to act for. */
export const findUsers = (tx: Tx, text: string): Promise<readonly Static<typeof FoundUser>[]> =>
  tx.any(sql.prepared(FoundUser)`
    select id, name, email, kind, status, administrator from (
      select u.id, u.name, u.email, u.kind, u.status, exists (select from res_user_roles a join res_role_permissions p on p.tenant_id = a.tenant_id and p.role_id = a.role_id
          where a.tenant_id = u.tenant_id and a.user_id = u.id and a.organization_id is null and p.permission = '*') as administrator
      from res_users u
      where u.tenant_id = ${tx.tenantId} and u.deleted_at is null and (strpos(lower(u.email), lower(${text})) > 0 or strpos(lower(u.name), lower(${text})) > 0)) as f
    order by administrator desc, name, id limit 50`)

/** Ends one before its time. Throws `not_found` for a session that is none, or has ended. */
export async function endImpersonation(tx: Tx, sessionId: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = 'impersonation_ended'
    where tenant_id = ${tx.tenantId} and id = ${sessionId} and impersonated_by is not null and revoked_at is null and expires_at > ${tx.now.toISOString()}`)
  if (rowCount === 0) throw failure('not_found')
  await record(tx, 'res_sessions', sessionId, 'session.impersonation_ended')
}
