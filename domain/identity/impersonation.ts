// The platform's staff in somebody's place: for a while, for a reason, told and written down.
import { randomBytes } from 'node:crypto'
import { administratorIds } from '../access/index.ts'
import { type Context, failure, newId, sql, type Tx } from '../kernel/index.ts'
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
      'platform staff', ${address}, '{}', ${now}, ${now}, ${expiresAt}, ${staffId}, ${reason})`)
  await record(tx, 'res_sessions', id, 'session.impersonated', { user_id: userId, reason, expires_at: expiresAt })
  for (const told of new Set([userId, ...(await administratorIds(tx))])) {
    tx.enqueue({
      queue: 'mail',
      data: { kind: 'impersonation', tenant_id: tx.tenantId, user_id: told, facts: { person: account.name, reason, time: expiresAt } },
    })
  }
  return { sessionId: id, user: userOf(account), context, expiresAt }
}

/** Ends one before its time. Throws `not_found` for a session that is none, or has ended. */
export async function endImpersonation(tx: Tx, sessionId: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = 'impersonation_ended'
    where tenant_id = ${tx.tenantId} and id = ${sessionId} and impersonated_by is not null and revoked_at is null and expires_at > ${tx.now.toISOString()}`)
  if (rowCount === 0) throw failure('not_found')
  await record(tx, 'res_sessions', sessionId, 'session.impersonation_ended')
}
