// Admission of a user for whom an identity provider vouches.
import { type Static, Type } from 'typebox'
import { Failure, failure, newId, oneOf, sql, type Tx, Uuid } from '../kernel/index.ts'
import { type Account, accountByEmail, lockAccount } from './account.ts'
import { canonicalEmail } from './email.ts'
import { linkDetails } from './identity-providers.ts'
import { withdrawTokens } from './one-time-tokens.ts'
import { proofOf } from './provider-domains.ts'
import { followGroups } from './provider-roles.ts'
import { requestLink } from './sso-links.ts'
import { record } from './trail.ts'
import { requireRoomForUser } from './users.ts'

/** The claims of an ID token that are used. */
export interface Vouched {
  subject: string
  email: string
  /** Null where the token has no such claim. */
  emailVerified: boolean | null
  name: string
  groups: readonly string[]
}

/** A user who may sign in, and the link that they came through. */
export interface Admission {
  account: Account
  identityId: string
}

const Provider = Type.Object(
  {
    id: Uuid,
    name: Type.String(),
    issuer: Type.String(),
    client_id: Type.String(),
    trust_email: Type.Boolean(),
    sync_profile: Type.Boolean(),
  },
  { additionalProperties: false },
)
type Provider = Static<typeof Provider>

const Link = Type.Object({ id: Uuid, user_id: Uuid, status: oneOf(['pending', 'active', 'suspended']) }, { additionalProperties: false })
type Link = Static<typeof Link>

const refuse = (reason: string) => failure('sso_failed', { reason })

/**
 * Decides on a user for whom a provider vouches. A known subject signs in through its active link. An unknown one gets a new
 * account with the roles of its groups, or takes up an invitation that was never accepted; where an account with the address
 * exists already, the request for a link is kept and refused with `sso_link_required`, which is returned, not thrown, so that
 * the request is committed. Of two first sign-ins at once one creates the account and the other signs in to it.
 * Throws `sso_failed` with a reason, `sso_link_suspended`, `not_found` for a provider that is gone or was changed meanwhile.
 * @param begun the provider as it was when the ID token was checked
 */
export async function admitVouched(
  tx: Tx,
  begun: Pick<Provider, 'id' | 'issuer' | 'client_id'>,
  vouched: Vouched,
): Promise<Admission | Failure> {
  // Shared lock: a change of the issuer, and the suspension of links with it, comes before or after this admission.
  const provider = await tx.maybeOne(sql.prepared(Provider)`
    select id, name, issuer, client_id, trust_email, sync_profile from res_identity_providers
    where tenant_id = ${tx.tenantId} and id = ${begun.id} and enabled and deleted_at is null for share`)
  if (provider?.issuer !== begun.issuer || provider.client_id !== begun.client_id) throw failure('not_found')
  const email = canonicalEmail(vouched.email)
  if (!email || !(vouched.emailVerified ?? provider.trust_email)) throw refuse('email_not_verified')
  const proof = await proofOf(tx, provider.id, email.split('@')[1]!)
  if (proof === 'foreign') throw refuse('foreign_domain')
  if (proof === null) throw refuse('domain_not_proven')
  const admitted =
    (await knownSubject(tx, provider, vouched.subject)) ?? (await unknownSubject(tx, provider, vouched, email, proof !== 'grandfathered'))
  if (admitted instanceof Failure) return admitted
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update res_user_identities set last_login_at = ${now}, email = ${email} where tenant_id = ${tx.tenantId} and id = ${admitted.identityId}`)
  if (admitted.account.status === 'invited') {
    await tx.query(sql.run`
      update res_users set status = 'active', verified_at = coalesce(verified_at, ${now}), version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId} and id = ${admitted.account.id}`)
    await record(tx, 'res_users', admitted.account.id, 'invitation.accepted')
  }
  if (provider.sync_profile)
    await syncProfile(tx, admitted.account, vouched.name, proof === 'grandfathered' ? admitted.account.email : email)
  await followGroups(tx, provider.id, admitted.account.id, vouched.groups)
  return { ...admitted, account: (await lockAccount(tx, admitted.account.id))! }
}

/**
 * Takes over name and address of a user, whose account is locked. An address that another account has is left, and recorded.
 * Links that were mailed to the former address end, and it is told.
 */
async function syncProfile(tx: Tx, { id, email: before, name: formerName }: Account, vouchedName: string, email: string): Promise<void> {
  const now = tx.now.toISOString()
  const name = vouchedName.slice(0, 200) || formerName
  const taken = email !== before && (await accountByEmail(tx, email)) !== null
  if (taken) await record(tx, 'res_users', id, 'sso.address_taken')
  const address = taken ? before : email
  if (name === formerName && address === before) return
  await tx.query(sql.run`
    update res_users set name = ${name}, email = ${address}, version = version + 1, updated_at = ${now} where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (address === before) return
  await withdrawTokens(tx, id, ['password_reset', 'email_verification', 'mfa_challenge'])
  await record(tx, 'res_users', id, 'email.changed')
  tx.enqueue({ queue: 'mail', data: { kind: 'email_changed', tenant_id: tx.tenantId, user_id: id, facts: { to: before, time: now } } })
}

const linkOf = (tx: Tx, { id }: Provider, subject: string): Promise<Link | null> =>
  tx.maybeOne(sql.prepared(Link)`
    select id, user_id, status from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${id} and subject = ${subject}`)

/** Null where the subject has no link, or only a request for one. */
async function knownSubject(tx: Tx, provider: Provider, subject: string): Promise<Admission | null> {
  const seen = await linkOf(tx, provider, subject)
  if (!seen || seen.status === 'pending') return null
  const account = await openAccount(tx, seen.user_id)
  // Again under the account's lock: it may have been removed or confirmed meanwhile.
  const link = await linkOf(tx, provider, subject)
  if (link?.user_id !== seen.user_id || link.status !== 'active') throw failure('sso_link_suspended', linkDetails(provider))
  return { account, identityId: link.id }
}

async function openAccount(tx: Tx, userId: string): Promise<Account> {
  const account = await lockAccount(tx, userId)
  if (!account || !['active', 'invited'].includes(account.status)) throw refuse('account_closed')
  return account
}

async function unknownSubject(tx: Tx, provider: Provider, vouched: Vouched, email: string, proven: boolean): Promise<Admission | Failure> {
  const { subject, name } = vouched
  const existing = await accountByEmail(tx, email)
  if (!existing) {
    const created = await provision(tx, email, name)
    if (created) return { account: await openAccount(tx, created), identityId: await link(tx, provider, created, subject, 'provisioned') }
    // Another first sign-in committed the account while this one waited on its unique address: its link is seen now.
    return (await knownSubject(tx, provider, subject)) ?? unknownSubject(tx, provider, vouched, email, proven)
  }
  const account = await openAccount(tx, existing.id)
  // An invitation that was never taken up has no owner who could confirm; owning its proven domain is owning its mailbox.
  if (
    account.status === 'invited' &&
    !account.password_hash &&
    proven &&
    !(await hasLink(tx, provider, account.id, ['active', 'suspended']))
  )
    return { account, identityId: await link(tx, provider, account.id, subject, 'invitation') }
  // An address that was given to another person at the provider: the account belongs to the first one.
  if (await hasLink(tx, provider, account.id, ['active'])) throw refuse('already_linked')
  await requestLink(tx, account.id, provider.id, subject, email)
  return failure('sso_link_required', linkDetails(provider))
}

const hasLink = (tx: Tx, provider: Provider, userId: string, statuses: readonly string[]): Promise<boolean> =>
  tx.exists(sql.run`
    select 1 from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${provider.id} and user_id = ${userId} and status = any(${sql.array([...statuses], 'text')})`)

async function link(tx: Tx, provider: Provider, userId: string, subject: string, reason: 'provisioned' | 'invitation'): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    delete from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${provider.id} and status = 'pending' and (subject = ${subject} or user_id = ${userId})`)
  await tx.query(sql.run`
    insert into res_user_identities (id, tenant_id, user_id, provider_id, subject, status, reason, changed_at)
    values (${id}, ${tx.tenantId}, ${userId}, ${provider.id}, ${subject}, 'active', ${reason}, ${tx.now.toISOString()})`)
  await record(tx, 'res_users', userId, 'sso.linked', { provider_id: provider.id, confirmed_by: reason })
  return id
}

const Created = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Creates an account without any role. Waits for another that takes the address at the same moment; null where it got it. */
async function provision(tx: Tx, email: string, name: string): Promise<string | null> {
  await requireRoomForUser(tx)
  const created = await tx.maybeOne(sql.prepared(Created)`
    insert into res_users (id, tenant_id, email, name, kind, status, verified_at)
    values (${newId()}, ${tx.tenantId}, ${email}, ${name.slice(0, 200) || email}, 'worker', 'active', ${tx.now.toISOString()})
    on conflict do nothing returning id`)
  if (!created) return null
  await record(tx, 'res_users', created.id, 'user.provisioned')
  tx.emit({ type: 'identity.user.provisioned', entity_id: created.id, version: 1, data: { id: created.id } })
  return created.id
}
