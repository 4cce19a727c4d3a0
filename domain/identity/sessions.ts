// Signing in, staying signed in, signing out. All of it in the control plane.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { type Context, failure, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { verifyPassword } from './passwords.ts'

const REFRESH_DAYS = 30
/** Two tabs that refresh at once: the loser's token, replaced moments ago, is refused without ending the family. */
const REUSE_GRACE_MS = 10_000
const MAX_FAILURES = 5

const Account = Type.Object(
  {
    id: Uuid,
    email: Type.String(),
    name: Type.String(),
    kind: Type.String(),
    status: Type.String(),
    password_hash: nullable(Type.String()),
    locked_until: nullable(Timestamp),
    failed_logins: Type.Integer(),
    verified_at: nullable(Timestamp),
    locale: nullable(Type.String()),
    last_organization_id: nullable(Uuid),
    last_workspace_id: nullable(Uuid),
  },
  { additionalProperties: false },
)

export interface Client {
  userAgent: string | null
  address: string
}

/** A session as the caller gets it: ids for the access token's claims, and the refresh token, shown once. */
export interface SignedIn {
  sessionId: string
  user: { id: string; email: string; name: string; kind: 'worker' | 'client' | 'service'; locale: string | null }
  context: Context
  refreshToken: string
}

const sha256 = (text: string) => createHash('sha256').update(text).digest()
const secret = () => randomBytes(32).toString('base64url')

/** Looks an account up and checks its password, without a transaction: hashing must not hold a connection's locks. */
export async function authenticate(tx: Tx, email: string, password: string): Promise<Static<typeof Account>> {
  const account = await tx.maybeOne(sql.prepared(Account)`
    select id, email, name, kind, status, password_hash, locked_until, failed_logins, verified_at, locale, last_organization_id, last_workspace_id
    from res_users where tenant_id = ${tx.tenantId} and lower(email) = lower(${email}) and deleted_at is null`)
  const matches = await verifyPassword(account?.password_hash ?? null, password)
  const locked = account?.locked_until && Date.parse(account.locked_until) > tx.now.getTime()
  if (!account || !matches || locked || account.status !== 'active' || account.verified_at === null) {
    throw failure('invalid_credentials')
  }
  return account
}

/** Counts a failed attempt: from the fifth on the account waits, twice as long each time, at most 15 minutes. */
export async function recordFailure(tx: Tx, email: string): Promise<void> {
  await tx.query(sql.run`
    update res_users set failed_logins = failed_logins + 1,
      locked_until = case when failed_logins + 1 >= ${MAX_FAILURES}
        then ${tx.now.toISOString()}::timestamptz + least(interval '15 minutes', interval '1 second' * power(2, failed_logins + 1 - ${MAX_FAILURES})) end
    where tenant_id = ${tx.tenantId} and lower(email) = lower(${email}) and deleted_at is null`)
}

/** Opens a session for an account whose password was right. */
export async function openSession(tx: Tx, account: Static<typeof Account>, client: Client, context: Context): Promise<SignedIn> {
  const id = newId()
  const refresh = secret()
  const expires = new Date(tx.now.getTime() + REFRESH_DAYS * 86_400_000).toISOString()
  await tx.query(sql.run`
    insert into res_sessions (id, tenant_id, user_id, family_id, refresh_hash, organization_id, workspace_id, user_agent, address, last_seen_at, expires_at)
    values (${id}, ${tx.tenantId}, ${account.id}, ${id}, decode(${sha256(refresh).toString('hex')}, 'hex'), ${context.organizationId}, ${context.workspaceId},
      ${client.userAgent}, ${client.address}, ${tx.now.toISOString()}, ${expires})`)
  await tx.query(sql.run`
    update res_users set last_login_at = ${tx.now.toISOString()}, failed_logins = 0, locked_until = null
    where tenant_id = ${tx.tenantId} and id = ${account.id}`)
  await audit(tx, 'session.opened', id, { user_id: account.id, address: client.address })
  return { sessionId: id, user: userOf(account), context, refreshToken: `${id}.${refresh}` }
}

const userOf = (account: Static<typeof Account>): SignedIn['user'] => ({
  id: account.id,
  email: account.email,
  name: account.name,
  kind: account.kind as SignedIn['user']['kind'],
  locale: account.locale,
})

const Session = Type.Object(
  {
    id: Uuid,
    user_id: Uuid,
    hash: Type.String(),
    previous: nullable(Type.String()),
    rotated_at: nullable(Timestamp),
    expires_at: Timestamp,
    revoked_at: nullable(Timestamp),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
  },
  { additionalProperties: false },
)

export type Refreshed = SignedIn | { reuse: true } | { refused: true }

/**
 * Exchanges a refresh token for a new one. The session's row is locked, so of two that come at once one rotates and the
 * other sees the rotation. A token that was good before: within the grace it is refused, later the session ends. The
 * outcome is returned, not thrown, because ending the session must be committed.
 */
export async function rotate(tx: Tx, token: string): Promise<Refreshed> {
  const [id = '', presented = ''] = token.split('.')
  if (!/^[0-9a-f-]{36}$/.test(id) || presented.length !== 43) return { refused: true }
  const session = await tx.maybeOne(sql.prepared(Session)`
    select id, user_id, encode(refresh_hash, 'hex') as hash, encode(previous_hash, 'hex') as previous, rotated_at, expires_at, revoked_at, organization_id, workspace_id
    from res_sessions where tenant_id = ${tx.tenantId} and id = ${id} for update`)
  if (!session || session.revoked_at || Date.parse(session.expires_at) <= tx.now.getTime()) return { refused: true }
  const hash = sha256(presented)
  if (!timingSafeEqual(hash, Buffer.from(session.hash, 'hex'))) {
    const replaced = session.previous === hash.toString('hex') && tx.now.getTime() - Date.parse(session.rotated_at!) < REUSE_GRACE_MS
    if (replaced) return { refused: true }
    await revoke(tx, id, 'refresh_token_reuse')
    return { reuse: true }
  }
  const account = await tx.maybeOne(sql.prepared(Account)`
    select id, email, name, kind, status, password_hash, locked_until, failed_logins, verified_at, locale, last_organization_id, last_workspace_id
    from res_users where tenant_id = ${tx.tenantId} and id = ${session.user_id} and deleted_at is null and status = 'active'`)
  if (!account) return { refused: true }
  const refresh = secret()
  await tx.query(sql.run`
    update res_sessions set previous_hash = refresh_hash, refresh_hash = decode(${sha256(refresh).toString('hex')}, 'hex'),
      rotated_at = ${tx.now.toISOString()}, last_seen_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  return {
    sessionId: id,
    user: userOf(account),
    context: { organizationId: session.organization_id, workspaceId: session.workspace_id },
    refreshToken: `${id}.${refresh}`,
  }
}

/** Ends a session; the trigger raises the access epoch, so it bites at the next request everywhere. */
export async function revoke(tx: Tx, sessionId: string, reason: string): Promise<boolean> {
  const { rowCount } = await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = ${reason}
    where tenant_id = ${tx.tenantId} and id = ${sessionId} and revoked_at is null`)
  if (rowCount > 0) await audit(tx, 'session.revoked', sessionId, { reason })
  return rowCount > 0
}

export async function revokeAll(tx: Tx, userId: string, reason: string): Promise<void> {
  await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = ${reason}
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and revoked_at is null`)
  await audit(tx, 'session.revoked_all', userId, { reason })
}

export const SessionInfo = Type.Object(
  {
    id: Uuid,
    user_agent: nullable(Type.String()),
    address: nullable(Type.String()),
    created_at: Timestamp,
    last_seen_at: Timestamp,
    expires_at: Timestamp,
  },
  { additionalProperties: false },
)

export const sessionsOf = (tx: Tx, userId: string) =>
  tx.any(sql.type(SessionInfo)`
  select id, user_agent, address, created_at, last_seen_at, expires_at from res_sessions
  where tenant_id = ${tx.tenantId} and user_id = ${userId} and revoked_at is null and expires_at > ${tx.now.toISOString()}
  order by created_at desc limit 200`)

/** Ends one of the actor's own sessions; anyone else's is `not_found`. */
export async function revokeOwn(tx: Tx, sessionId: string): Promise<void> {
  const own = await tx.exists(sql.run`
    select 1 from res_sessions where tenant_id = ${tx.tenantId} and id = ${sessionId} and user_id = ${tx.actor.userId}`)
  if (!own || !(await revoke(tx, sessionId, 'revoked_by_user'))) throw failure('not_found')
}

/** Remembers where the user works now, on the session and for the next sign-in. */
export async function rememberContext(tx: Tx, context: Context): Promise<void> {
  await tx.query(sql.run`
    update res_sessions set organization_id = ${context.organizationId}, workspace_id = ${context.workspaceId}
    where tenant_id = ${tx.tenantId} and id = ${tx.actor.sessionId}`)
  await tx.query(sql.run`
    update res_users set last_organization_id = ${context.organizationId}, last_workspace_id = ${context.workspaceId}
    where tenant_id = ${tx.tenantId} and id = ${tx.actor.userId}`)
}

async function audit(tx: Tx, action: string, entityId: string, diff: Record<string, string>): Promise<void> {
  await tx.query(sql.run`
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    values (${tx.tenantId}, 'res_sessions', ${entityId}, ${action}, ${tx.actor.userId}, ${tx.actor.name}, ${sql.jsonb(diff)}, ${tx.correlationId}, now())`)
}
