// Staying signed in, and ending it. All of it in the control plane.
import { timingSafeEqual } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { allGrants, checkContext, defaultContext } from '../access/index.ts'
import { type Context, failure, inReach, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { type Account, accountById, mayEnter } from './account.ts'
import { requireNoSso } from './identity-providers.ts'
import { digest, secret } from './one-time-tokens.ts'
import { isLinkUsable } from './sso-links.ts'
import { record } from './trail.ts'

/** Two tabs that refresh at once: the loser's token, replaced moments ago, is refused without ending the session. */
const REUSE_GRACE_MS = 10_000

/** How long sessions of a tenant live. */
export interface Lifetimes {
  /** Without being used. */
  idleMinutes: number
  /** In any case. */
  absoluteHours: number
}

export interface Client {
  userAgent: string | null
  address: string
  /** The device's own random mark, from its cookie; a new one for a device that brought none. */
  device: string
}

/** How a user proved who he is, in the words of RFC 8176; `sso` where an identity provider did it. */
export type Method = 'pwd' | 'otp' | 'hwk' | 'mfa' | 'sso'

/** A session as the caller gets it: ids for the access token's claims, and the refresh token, shown once. */
export interface SignedIn {
  sessionId: string
  user: Pick<Account, 'id' | 'email' | 'name' | 'kind' | 'locale'>
  context: Context
  refreshToken: string
}

export const userOf = ({ id, email, name, kind, locale }: Account): SignedIn['user'] => ({ id, email, name, kind, locale })

const Entered = Type.Object({ entered: Type.Boolean(), first: Type.Boolean(), known: Type.Boolean() }, { additionalProperties: false })

/**
 * Opens a session for someone who has proved who he is. Where neither the device's mark nor its software and address were
 * seen with this user before, he is told by mail, except the first time. Throws `invalid_credentials` where the account
 * changed since it was read.
 */
export async function openSession(
  tx: Tx,
  account: Account,
  client: Client,
  context: Context,
  methods: readonly Method[],
  { absoluteHours }: Lifetimes,
  identityId: string | null = null,
): Promise<SignedIn> {
  const id = newId()
  const refresh = secret()
  const now = tx.now.toISOString()
  const device = digest(client.device)
  const expires = new Date(tx.now.getTime() + absoluteHours * 3_600_000).toISOString()
  const trail = { user_id: account.id, methods: [...methods] }
  /* One round trip. The user's row is updated first, which waits for whoever changes it, and then holds only for the account
     as it was proved: a password changed or an account closed in the meantime lets nobody in, and one that comes later finds
     this session among those that it ends. What was seen of the user before is read without the new row. */
  const { entered, first, known } = await tx.one(sql.prepared(Entered)`
    with entered as (
      update res_users set last_login_at = ${now}
      where tenant_id = ${tx.tenantId} and id = ${account.id} and status = 'active' and password_hash is not distinct from ${account.password_hash}
      returning id),
    opened as (
      insert into res_sessions (id, tenant_id, user_id, family_id, refresh_hash, organization_id, workspace_id, user_agent, address, device_hash,
        identity_id, methods, authenticated_at, last_seen_at, expires_at)
      select ${id}, ${tx.tenantId}, entered.id, ${id}, decode(${digest(refresh)}, 'hex'), ${context.organizationId}::uuid, ${context.workspaceId}::uuid,
        ${client.userAgent}, ${client.address}, decode(${device}, 'hex'), ${identityId}::uuid, ${sql.array([...methods], 'text')}, ${now}::timestamptz, ${now}::timestamptz,
        ${expires}::timestamptz from entered),
    recorded as (
      insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, diff, correlation_id, address, created_at)
      select ${tx.tenantId}, 'res_sessions', ${id}, 'session.opened', entered.id, ${sql.jsonb(trail)}, ${tx.correlationId}, ${client.address}, now() from entered)
    select exists (select from entered) as entered, count(*) = 0 as first, coalesce(bool_or(device_hash = decode(${device}, 'hex')
      or (user_agent is not distinct from ${client.userAgent} and address = ${client.address})), false) as known
    from (select device_hash, user_agent, address from res_sessions where tenant_id = ${tx.tenantId} and user_id = ${account.id}) as before`)
  if (!entered) throw failure('invalid_credentials')
  if (!first && !known) {
    await record(tx, 'res_sessions', id, 'session.new_device', { user_id: account.id, address: client.address })
    tx.enqueue({
      queue: 'mail',
      data: { kind: 'new_device', tenant_id: tx.tenantId, user_id: account.id, facts: { device: client.userAgent ?? '', time: now } },
    })
  }
  return { sessionId: id, user: userOf(account), context, refreshToken: `${id}.${refresh}` }
}

const Session = Type.Object(
  {
    id: Uuid,
    user_id: Uuid,
    hash: Type.String(),
    previous: nullable(Type.String()),
    rotated_at: nullable(Timestamp),
    last_seen_at: Timestamp,
    expires_at: Timestamp,
    revoked_at: nullable(Timestamp),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    methods: Type.Array(Type.String()),
    identity_id: nullable(Uuid),
  },
  { additionalProperties: false },
)

export type Refreshed = SignedIn | { reuse: true } | { ended: true } | { refused: true }

/**
 * Exchanges a refresh token for a new one. The session's row is locked, so of two that come at once one rotates and the
 * other sees the rotation. The token before the current one is refused for ten seconds and nothing more: it opens
 * nothing, so the grace is no hole; later, and with any older token, the session ends. The outcome is returned, not
 * thrown, because ending the session must be committed. A session through a link that is gone or suspended ends; one by password
 * of an enforced domain is refused: throws `sso_required`. It goes on in
 * its context, or, where that has ended (a role withdrawn, a workspace deleted), in one where the user may work.
 */
export async function rotate(tx: Tx, token: string, { idleMinutes }: Lifetimes): Promise<Refreshed> {
  const [id = '', presented = ''] = token.split('.')
  if (!/^[0-9a-f-]{36}$/.test(id) || presented.length !== 43) return { refused: true }
  const session = await tx.maybeOne(sql.prepared(Session)`
    select id, user_id, encode(refresh_hash, 'hex') as hash, encode(previous_hash, 'hex') as previous, rotated_at, last_seen_at, expires_at, revoked_at,
      organization_id, workspace_id, methods, identity_id
    from res_sessions where tenant_id = ${tx.tenantId} and id = ${id} for update`)
  const now = tx.now.getTime()
  if (!session || session.revoked_at || Date.parse(session.expires_at) <= now) return { refused: true }
  const hash = digest(presented)
  if (!timingSafeEqual(Buffer.from(hash), Buffer.from(session.hash))) {
    if (session.previous === hash && now - Date.parse(session.rotated_at!) < REUSE_GRACE_MS) return { refused: true }
    await record(tx, 'res_sessions', id, 'session.token_reused', { user_id: session.user_id })
    await revoke(tx, id, 'refresh_token_reuse')
    return { reuse: true }
  }
  if (Date.parse(session.last_seen_at) + idleMinutes * 60_000 <= now) return { refused: true }
  const account = await accountById(tx, session.user_id)
  if (!account || !mayEnter(account)) return { refused: true }
  // Refusals at sign-in are refusals here, so that no session outlives the link or the freedom that it was opened by.
  if (!session.methods.includes('sso')) await requireNoSso(tx, account.email)
  else if (!(await isLinkUsable(tx, account.id, session.identity_id))) {
    await revoke(tx, id, 'sso_link_ended')
    return { ended: true }
  }
  const refresh = secret()
  const context = await liveContext(tx, account.id, { organizationId: session.organization_id, workspaceId: session.workspace_id })
  await tx.query(sql.run`
    update res_sessions set organization_id = ${context.organizationId}, workspace_id = ${context.workspaceId}, previous_hash = refresh_hash, refresh_hash = decode(${digest(refresh)}, 'hex'),
      rotated_at = ${tx.now.toISOString()}, last_seen_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  return {
    sessionId: id,
    user: userOf(account),
    context,
    refreshToken: `${id}.${refresh}`,
  }
}

async function liveContext(tx: Tx, userId: string, context: Context): Promise<Context> {
  const [grants] = await allGrants(tx, [userId])
  const now = tx.now.getTime()
  return !grants || checkContext(grants, context, now) === 'ok' ? context : defaultContext(grants, now)
}

/** Notes that a session's user has proved again who he is, and how. */
export async function reauthenticated(tx: Tx, methods: readonly Method[]): Promise<void> {
  await tx.query(sql.run`
    update res_sessions set authenticated_at = ${tx.now.toISOString()}, methods = array(select distinct unnest(methods || ${sql.array([...methods], 'text')}) order by 1)
    where tenant_id = ${tx.tenantId} and id = ${tx.actor.sessionId}`)
  await record(tx, 'res_sessions', tx.actor.sessionId, 'session.stepped_up', { methods: [...methods] })
}

/** Ends a session; the trigger raises the access epoch, so it bites at the next request everywhere. */
export async function revoke(tx: Tx, sessionId: string, reason: string): Promise<boolean> {
  const { rowCount } = await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = ${reason}
    where tenant_id = ${tx.tenantId} and id = ${sessionId} and revoked_at is null`)
  if (rowCount > 0) await record(tx, 'res_sessions', sessionId, 'session.revoked', { reason })
  return rowCount > 0
}

/** Ends all sessions of a user, but for one that he keeps. */
export async function revokeAll(tx: Tx, userId: string, reason: string, keep: string | null = null): Promise<void> {
  await tx.query(sql.run`
    update res_sessions set revoked_at = ${tx.now.toISOString()}, revoked_reason = ${reason}
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and revoked_at is null and id is distinct from ${keep}`)
  await record(tx, 'res_users', userId, 'session.revoked_all', { reason })
}

const Presented = Type.Object({ user_id: Uuid }, { additionalProperties: false })

/**
 * Ends the actor's session, or, where the request has no actor, the session of a refresh token: the current token or the one
 * before it. A token of no live session ends nothing.
 * @param everywhere all sessions of the user
 */
export async function signOut(tx: Tx, refreshToken: string, everywhere: boolean): Promise<void> {
  const [id = '', presented = ''] = refreshToken.split('.')
  let { userId, sessionId } = tx.actor
  if (!sessionId && /^[0-9a-f-]{36}$/.test(id)) {
    const hash = sql.fragment`decode(${digest(presented)}, 'hex')`
    const session = await tx.maybeOne(sql.prepared(Presented)`
      select user_id from res_sessions
      where tenant_id = ${tx.tenantId} and id = ${id} and revoked_at is null and (refresh_hash = ${hash} or previous_hash = ${hash})`)
    if (session) [userId, sessionId] = [session.user_id, id]
  }
  if (!userId || !sessionId) return
  if (everywhere) await revokeAll(tx, userId, 'signed_out_everywhere')
  else await revoke(tx, sessionId, 'signed_out')
}

export const SessionInfo = Type.Object(
  {
    id: Uuid,
    user_agent: nullable(Type.String()),
    address: nullable(Type.String()),
    methods: Type.Array(Type.String(), { description: 'How the user proved who he is: pwd, otp, hwk (passkey), mfa, sso' }),
    created_at: Timestamp,
    last_seen_at: Timestamp,
    expires_at: Timestamp,
  },
  { additionalProperties: false },
)
export type SessionInfo = Static<typeof SessionInfo>

/** A user's sessions in the scopes that the unit of work reaches, the newest first; sessions that lay idle too long are over and not among them. */
export const sessionsOf = (tx: Tx, userId: string, { idleMinutes }: Lifetimes) =>
  tx.any(sql.type(SessionInfo)`
  select id, user_agent, address, methods, created_at, last_seen_at, expires_at from res_sessions
  where tenant_id = ${tx.tenantId} and user_id = ${userId} and revoked_at is null and expires_at > ${tx.now.toISOString()}
    and ${inReach(tx, sql.fragment`organization_id`, sql.fragment`workspace_id`)}
    and last_seen_at > ${tx.now.toISOString()}::timestamptz - make_interval(mins => ${idleMinutes})
  order by created_at desc limit 200`)

/** Ends one of a user's sessions; anyone else's is `not_found`. */
export async function revokeOf(tx: Tx, userId: string, sessionId: string, reason: string): Promise<void> {
  const own = await tx.exists(sql.run`
    select 1 from res_sessions where tenant_id = ${tx.tenantId} and id = ${sessionId} and user_id = ${userId}`)
  if (!own || !(await revoke(tx, sessionId, reason))) throw failure('not_found')
}

/** Remembers where the user works now, on the session and for the next sign-in. */
export async function rememberContext(tx: Tx, context: Context): Promise<void> {
  await tx.query(sql.run`
    update res_sessions set organization_id = ${context.organizationId}, workspace_id = ${context.workspaceId}
    where tenant_id = ${tx.tenantId} and id = ${tx.actor.sessionId}`)
  await tx.query(sql.run`
    update res_users set last_organization_id = ${context.organizationId}, last_workspace_id = ${context.workspaceId}
    where tenant_id = ${tx.tenantId} and id = ${tx.actor.userId}`)
  await record(tx, 'res_sessions', tx.actor.sessionId, 'session.context_changed', {
    user_id: tx.actor.userId,
    organization_id: context.organizationId,
    workspace_id: context.workspaceId,
  })
}
