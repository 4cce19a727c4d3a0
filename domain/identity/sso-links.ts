// Links between users and subjects of identity providers.
//
// pending → active → suspended → active: a subject signs in only through an active link. A link becomes active by provisioning
// (the provider creates the account), by an invitation that was never taken up, or by a confirmation of the account's owner or of
// an administrator who may act on the account. A provider alone never makes a link to an account that has an owner.
//
// Locks: a link changes only under the lock of its account or the exclusive lock of its provider. A holder of an account's
// lock takes the provider's shared lock before it changes links; a change of a provider takes no account's lock. The tenant's lock
// (of changes of rights) comes after both. So there is no cycle.
import { type Static, Type } from 'typebox'
import { keepingAnAdministrator } from '../access/index.ts'
import { type Fragment, failure, newId, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockAccount } from './account.ts'
import { record } from './trail.ts'

/** Hours for which a request for a link can be confirmed; the next sign-in renews it. */
const REQUEST_HOURS = 24

export const SsoLink = Type.Object(
  {
    id: Uuid,
    user_id: Uuid,
    provider_id: Uuid,
    provider: Type.String({ description: 'Name of the provider' }),
    issuer: Type.String(),
    subject: Type.String({ description: 'The user’s identifier at the provider' }),
    email: nullable(Type.String({ description: 'The address that the provider asserted last' })),
    status: oneOf(['pending', 'active', 'suspended'], {
      description: '`pending`: waits 24 hours for a confirmation; `suspended`: signs in again once confirmed',
    }),
    reason: Type.String({ description: 'Why the status is what it is, such as `requested` or `provider_changed`' }),
    changed_at: Timestamp,
    last_login_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type SsoLink = Static<typeof SsoLink>

const selectLinks = (tx: Tx, condition: Fragment) => sql.prepared(SsoLink)`
  select i.id, i.user_id, i.provider_id, p.name as provider, p.issuer, i.subject, i.email, i.status, i.reason, i.changed_at, i.last_login_at
  from res_user_identities i
  join res_identity_providers p on p.tenant_id = i.tenant_id and p.id = i.provider_id and p.deleted_at is null
  where i.tenant_id = ${tx.tenantId} and ${condition}
    and (i.status <> 'pending' or i.changed_at > ${tx.now.toISOString()}::timestamptz - make_interval(hours => ${REQUEST_HOURS}))
  order by i.id limit 100`

/** The links of a user: active, suspended, and requests that can still be confirmed. */
export const linksOf = (tx: Tx, userId: string): Promise<readonly SsoLink[]> => tx.any(selectLinks(tx, sql.fragment`i.user_id = ${userId}`))

const linkOf = (tx: Tx, userId: string, id: string): Promise<SsoLink | null> =>
  tx.maybeOne(selectLinks(tx, sql.fragment`i.user_id = ${userId} and i.id = ${id}`))

/** Reads a link under the locks of its account and its provider. Throws `not_found`. */
async function lockLink(tx: Tx, userId: string, id: string): Promise<SsoLink> {
  await lockAccount(tx, userId)
  const link = await linkOf(tx, userId, id)
  if (!link) throw failure('not_found')
  await tx.query(sql.run`select 1 from res_identity_providers where tenant_id = ${tx.tenantId} and id = ${link.provider_id} for share`)
  // Again, by a statement that sees what the lock waited for.
  const locked = await linkOf(tx, userId, id)
  if (!locked) throw failure('not_found')
  return locked
}

/**
 * Confirms a request or a suspended link. The account is locked first, so of several confirmations at once one succeeds and the
 * others find the link active. Other inactive links of the user and provider are deleted: they belong to
 * another subject, or to the provider as it was. Throws `not_found`, `invalid_transition`, `already_exists` where another
 * subject of the provider is linked.
 */
export async function confirmLink(tx: Tx, userId: string, id: string, by: 'owner' | 'administrator'): Promise<SsoLink> {
  const link = await lockLink(tx, userId, id)
  if (link.status === 'active') throw failure('invalid_transition', { status: link.status, transition: 'confirm' })
  const now = tx.now.toISOString()
  const linked = await tx.exists(sql.run`
    select 1 from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${link.provider_id} and user_id = ${userId} and status = 'active'`)
  if (linked) throw failure('already_exists', { fields: ['provider_id'] })
  await tx.query(sql.run`
    update res_user_identities set status = 'active', reason = ${`confirmed_by_${by}`}, confirmed_by = ${tx.actor.userId}, changed_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  await tx.query(sql.run`
    delete from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${link.provider_id} and user_id = ${userId} and status <> 'active'`)
  await record(tx, 'res_users', userId, 'sso.linked', { provider_id: link.provider_id, confirmed_by: by })
  tellUser(tx, userId, 'sso_linked', link.provider)
  return (await linkOf(tx, userId, id))!
}

/**
 * Confirms a link of the actor's own account. The session must rest on something of ours, a password or a second factor: a
 * session that another provider alone vouches for confirms nothing. Throws as `confirmLink`, and `step_up_required`.
 */
export async function confirmOwnLink(tx: Tx, id: string, methods: readonly string[]): Promise<SsoLink> {
  if (!methods.includes('pwd') && !methods.includes('mfa')) throw failure('step_up_required')
  return confirmLink(tx, tx.actor.userId!, id, 'owner')
}

/**
 * Removes a link: sessions through it end, and the roles that the provider's groups gave are withdrawn. Throws `not_found`,
 * `last_administrator`.
 */
export const removeLink = (tx: Tx, userId: string, id: string): Promise<void> => keepingAnAdministrator(tx, () => unlink(tx, userId, id))

async function unlink(tx: Tx, userId: string, id: string): Promise<void> {
  const link = await lockLink(tx, userId, id)
  if (link.status !== 'pending')
    await endSessions(
      tx,
      sql.fragment`(s.identity_id = ${id} or (s.identity_id is null and s.user_id = ${userId}))`,
      'sso_link_removed',
      null,
    )
  await tx.query(sql.run`delete from res_user_identities where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (link.status === 'active')
    await tx.query(sql.run`
      delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${userId} and provider_id = ${link.provider_id}`)
  await record(tx, 'res_users', userId, 'sso.unlinked', { provider_id: link.provider_id })
  tellUser(tx, userId, 'sso_unlinked', link.provider)
}

const Affected = Type.Object({ user_id: Uuid }, { additionalProperties: false })

/** Suspends the active links of a provider and drops requests for it; sessions through them end, their users get a mail. */
export async function suspendLinks(
  tx: Tx,
  { id, name }: { id: string; name: string },
  reason: 'provider_changed' | 'provider_deleted',
): Promise<void> {
  await endSessionsOfProvider(tx, id, reason)
  await tx.query(sql.run`delete from res_user_identities where tenant_id = ${tx.tenantId} and provider_id = ${id} and status = 'pending'`)
  const suspended = await tx.any(sql.prepared(Affected)`
    update res_user_identities set status = 'suspended', reason = ${reason}, changed_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and provider_id = ${id} and status = 'active' returning user_id`)
  for (const { user_id } of suspended) tellUser(tx, user_id, 'sso_suspended', name)
}

function tellUser(tx: Tx, userId: string, kind: 'sso_linked' | 'sso_unlinked' | 'sso_suspended', provider: string): void {
  tx.enqueue({ queue: 'mail', data: { kind, tenant_id: tx.tenantId, user_id: userId, facts: { provider, time: tx.now.toISOString() } } })
}

/** Ends the sessions that came through a provider. The actor's own goes on until its next refresh, so that they can finish. */
export const endSessionsOfProvider = (tx: Tx, providerId: string, reason: string): Promise<void> =>
  endSessions(
    tx,
    sql.fragment`exists (
      select from res_user_identities i
      where i.tenant_id = s.tenant_id and i.provider_id = ${providerId} and i.user_id = s.user_id and (s.identity_id is null or s.identity_id = i.id))`,
    reason,
    tx.actor.sessionId,
  )

/** Sessions from before links were noted on them have no identity; they are taken by their user. */
async function endSessions(tx: Tx, condition: Fragment, reason: string, keep: string | null): Promise<void> {
  await tx.query(sql.run`
    update res_sessions s set revoked_at = ${tx.now.toISOString()}, revoked_reason = ${reason}
    where s.tenant_id = ${tx.tenantId} and s.revoked_at is null and 'sso' = any(s.methods) and s.id is distinct from ${keep} and ${condition}`)
}

/**
 * Whether a session that came through single sign-on may go on: its link is active, its provider enabled, and the domain of the
 * address that was asserted last still proven (unknown for links that did not sign in since it is noted). A session from
 * before links were noted on them needs any active link. Takes no lock: a suspension ends the sessions after the link, and so
 * waits for a session that is being renewed.
 */
export const isLinkUsable = (tx: Tx, userId: string, identityId: string | null): Promise<boolean> =>
  tx.exists(sql.run`
    select 1 from res_user_identities i
    join res_identity_providers p on p.tenant_id = i.tenant_id and p.id = i.provider_id
    where i.tenant_id = ${tx.tenantId} and i.user_id = ${userId} and (${identityId}::uuid is null or i.id = ${identityId}::uuid)
      and i.status = 'active' and p.enabled and p.deleted_at is null
      and (i.email is null or exists (
        select from res_identity_provider_domains d
        where d.tenant_id = i.tenant_id and d.provider_id = i.provider_id and d.domain = split_part(i.email, '@', 2) and d.verified_at is not null))`)

/**
 * The same before a session is opened, under locks: a suspension or removal of the link comes before, and is seen here,
 * or after, and finds the session. Throws `sso_link_suspended`.
 */
export async function assertLinkUsable(tx: Tx, userId: string, identityId: string): Promise<void> {
  await lockAccount(tx, userId)
  await tx.query(sql.run`
    select 1 from res_identity_providers p
    where p.tenant_id = ${tx.tenantId}
      and p.id = (select i.provider_id from res_user_identities i where i.tenant_id = ${tx.tenantId} and i.id = ${identityId}) for share`)
  if (!(await isLinkUsable(tx, userId, identityId))) throw failure('sso_link_suspended')
}

/** Keeps the request of a subject to be linked to an account, in place of earlier requests for the same account or subject. */
export async function requestLink(tx: Tx, userId: string, providerId: string, subject: string, email: string): Promise<void> {
  await tx.query(sql.run`
    delete from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${providerId} and status = 'pending' and (user_id = ${userId} or subject = ${subject})`)
  await tx.query(sql.run`
    insert into res_user_identities (id, tenant_id, user_id, provider_id, subject, email, status, reason, changed_at)
    values (${newId()}, ${tx.tenantId}, ${userId}, ${providerId}, ${subject}, ${email}, 'pending', 'requested', ${tx.now.toISOString()})`)
  await record(tx, 'res_users', userId, 'sso.link_requested', { provider_id: providerId })
}
