// Bringing people in, and the links that let them set their passwords.
import { keepingAnAdministrator } from '../access/index.ts'
import { failure, newId, requireRoom, sql, type Tx } from '../kernel/index.ts'
import { type Account, accountByEmail, accountById, lockAccount, mayEnter } from './account.ts'
import { canonicalEmail, requireEmail } from './email.ts'
import { requireNoSso } from './identity-providers.ts'
import { openTokenUser, requireToken, withdrawTokens } from './one-time-tokens.ts'
import { checkPassword, hashPassword } from './passwords.ts'
import { revokeAll } from './sessions.ts'
import { takeMailTurn } from './throttle.ts'
import { record } from './trail.ts'
import { type User, userLifecycle } from './user.ts'

export interface NewUser {
  email: string
  name: string
  password: string
  kind?: User['kind']
}

/** Hash first, outside the transaction; then `createUser`. */
export const hashed = async (user: NewUser): Promise<NewUser & { hash: string }> => ({ ...user, hash: await hashPassword(user.password) })

/** An active, verified user, for seeds and tests; people are invited. Throws `already_exists` for a taken email. */
export async function createUser(tx: Tx, user: NewUser & { hash: string }): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    insert into res_users (id, tenant_id, email, name, kind, status, password_hash, password_changed_at, verified_at)
    values (${id}, ${tx.tenantId}, ${requireEmail(user.email)}, ${user.name}, ${user.kind ?? 'worker'}, 'active', ${user.hash}, ${tx.now.toISOString()}, ${tx.now.toISOString()})`)
  return id
}

export interface Invitation {
  email: string
  name: string
  kind?: User['kind'] | undefined
  locale?: User['locale'] | undefined
}

/** Refuses with `plan_limit` where the plan allows no more users; those who were let go are not counted. */
export const requireRoomForUser = (tx: Tx): Promise<void> =>
  requireRoom(tx, 'users', 1, sql.fragment`select count(*) as n from res_users where tenant_id = ${tx.tenantId} and deleted_at is null`)

/**
 * Adds a user and sends them a link; a service account is a program, gets no mail and no password, and works by keys that
 * administrators make for it. Throws `already_exists`, `invalid_value`, `plan_limit`.
 */
export async function inviteUser(tx: Tx, { email, name, kind = 'worker', locale = null }: Invitation): Promise<User> {
  await requireRoomForUser(tx)
  const id = newId()
  const isProgram = kind === 'service'
  await tx.query(sql.run`
    insert into res_users (id, tenant_id, email, name, kind, locale, status, verified_at, invited_by)
    values (${id}, ${tx.tenantId}, ${requireEmail(email)}, ${name}, ${kind}, ${locale}, ${isProgram ? 'active' : 'invited'},
      ${isProgram ? tx.now.toISOString() : null}, ${tx.actor.userId})`)
  tx.emit({ type: 'identity.user.invited', entity_id: id, version: 1, data: { id, kind } })
  if (isProgram) return userLifecycle.lock(tx, id)
  tx.enqueue({ queue: 'mail', data: { kind: 'invitation', tenant_id: tx.tenantId, user_id: id, asked_at: tx.now.toISOString() } })
  return userLifecycle.lock(tx, id)
}

/** Refuses with `rate_limited` while the last mail of this kind to the account is younger than the interval. */
async function requireMailTurn(tx: Tx, kind: string, userId: string, intervalSeconds: number): Promise<void> {
  const wait = await takeMailTurn(tx, kind, userId, intervalSeconds)
  if (wait > 0) throw failure('rate_limited', { retry_after_seconds: wait })
}

/**
 * Sends the link once more; those sent before end. Throws `invalid_transition` for a user who has accepted, `rate_limited`
 * when it was sent again within the interval.
 */
export async function inviteAgain(tx: Tx, id: string, intervalSeconds: number): Promise<void> {
  const user = await userLifecycle.lock(tx, id)
  if (user.status !== 'invited') throw failure('invalid_transition', { status: user.status, transition: 'invite' })
  await requireMailTurn(tx, 'invitation', id, intervalSeconds)
  await withdrawTokens(tx, id, ['invitation'])
  await record(tx, 'res_users', id, 'invitation.sent_again')
  tx.enqueue({ queue: 'mail', data: { kind: 'invitation', tenant_id: tx.tenantId, user_id: id, asked_at: tx.now.toISOString() } })
}

/** What everybody knows of somebody: no password is made of it. */
const known = (account: Account, tenant: string) => [account.email, account.email.split('@')[0]!, account.name, tenant]

/**
 * Checks a new password against the account that a link names, before it is hashed outside the transaction. The link
 * stays good. Throws `invalid_link`, `weak_password`, `sso_required`.
 */
export async function checkLink(
  tx: Tx,
  purpose: 'invitation' | 'password_reset',
  token: string,
  password: string,
  tenant: string,
): Promise<void> {
  const account = await accountOfLink(tx, purpose, token)
  await requireNoSso(tx, account.email)
  checkPassword(password, known(account, tenant))
}

async function accountOfLink(tx: Tx, purpose: 'invitation' | 'password_reset', token: string): Promise<Account> {
  const userId = await openTokenUser(tx, purpose, token)
  const account = userId ? await accountById(tx, userId) : null
  if (!account) throw failure('invalid_link')
  return account
}

/** Takes up an invitation. Of two at once one succeeds and the other gets `invalid_link`. */
export async function acceptInvitation(
  tx: Tx,
  token: string,
  hash: string,
  changes: { name?: string | undefined; locale?: string | undefined },
): Promise<Account> {
  const { user_id } = await requireToken(tx, 'invitation', token)
  const account = await lockAccount(tx, user_id!)
  if (account?.status !== 'invited') throw failure('invalid_link')
  await requireNoSso(tx, account.email)
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update res_users set status = 'active', verified_at = ${now}, password_hash = ${hash}, password_changed_at = ${now},
      name = ${changes.name ?? account.name}, locale = ${changes.locale ?? account.locale}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${account.id}`)
  await withdrawTokens(tx, account.id, ['invitation'])
  await record(tx, 'res_users', account.id, 'invitation.accepted')
  return (await accountById(tx, account.id))!
}

/**
 * Sends a link to choose a new password; nothing is sent while the last one is younger than the interval. The same
 * statements run, and the same answer is given, whether there is such an account or not, and whether or not a mail is sent. Throws
 * `sso_required`.
 */
export async function forgotPassword(tx: Tx, typed: string, intervalSeconds: number): Promise<void> {
  const email = canonicalEmail(typed)
  await requireNoSso(tx, email ?? '')
  const wait = await takeMailTurn(tx, 'password_reset', email ?? typed.toLowerCase(), intervalSeconds)
  const account = await accountByEmail(tx, email ?? '')
  const to = wait === 0 && account && mayEnter(account) && account.kind !== 'service' ? account.id : null
  // For accounts that do not exist as well: the same statements run.
  await record(tx, 'res_users', account?.id ?? null, 'password.reset_requested')
  tx.enqueue({ queue: 'mail', data: { kind: 'password_reset', tenant_id: tx.tenantId, user_id: to, asked_at: tx.now.toISOString() } })
}

/** Sets a password by link. All sessions end, and so do all other links. Throws `invalid_link`. */
export async function resetPassword(tx: Tx, token: string, hash: string): Promise<void> {
  const { user_id } = await requireToken(tx, 'password_reset', token)
  const account = await lockAccount(tx, user_id!)
  if (!account || !mayEnter(account)) throw failure('invalid_link')
  await requireNoSso(tx, account.email)
  await setPassword(tx, account.id, hash, null)
}

/** Sets a password for someone who gave the old one; his other sessions end. */
export const changePassword = (tx: Tx, hash: string): Promise<void> => setPassword(tx, tx.actor.userId!, hash, tx.actor.sessionId)

async function setPassword(tx: Tx, userId: string, hash: string, keep: string | null): Promise<void> {
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update res_users set password_hash = ${hash}, password_changed_at = ${now}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${userId}`)
  await withdrawTokens(tx, userId, ['password_reset', 'mfa_challenge'])
  await revokeAll(tx, userId, 'password_changed', keep)
  await record(tx, 'res_users', userId, 'password.changed')
  tx.enqueue({ queue: 'mail', data: { kind: 'password_changed', tenant_id: tx.tenantId, user_id: userId, facts: { time: now } } })
}

/** Refuses with `weak_password` a new password that is weak for this account, and the present one. */
export async function checkNewPassword(tx: Tx, userId: string, password: string, tenant: string, present: string): Promise<void> {
  if (password.normalize('NFKC') === present.normalize('NFKC'))
    throw failure('weak_password', { path: '/password', rule: 'same', message: 'is not the present one' })
  const account = await accountById(tx, userId)
  if (!account) throw failure('not_found')
  checkPassword(password, known(account, tenant))
}

/**
 * Asks for a link at a new address; the old one stays until it is followed. A user of an enforced domain keeps their address:
 * another one would be a way around their company's sign-in. Throws `sso_required`, and
 * `rate_limited` within the interval.
 */
export async function changeEmail(tx: Tx, typed: string, intervalSeconds: number): Promise<void> {
  const email = requireEmail(typed)
  const account = await accountById(tx, tx.actor.userId!)
  await requireNoSso(tx, account?.email ?? '')
  await requireMailTurn(tx, 'email_verification', tx.actor.userId!, intervalSeconds)
  await withdrawTokens(tx, tx.actor.userId!, ['email_verification'])
  await record(tx, 'res_users', tx.actor.userId, 'email.change_requested')
  tx.enqueue({
    queue: 'mail',
    data: {
      kind: 'email_verification',
      tenant_id: tx.tenantId,
      user_id: tx.actor.userId,
      asked_at: tx.now.toISOString(),
      facts: { email },
    },
  })
}

/**
 * The link at the new address was followed. An administrator does not move into an enforced domain as the last one with a
 * password. Throws `invalid_link`, `last_administrator`, and `already_exists` where the address was taken meanwhile.
 */
export async function verifyEmail(tx: Tx, token: string): Promise<void> {
  const { user_id, data } = await requireToken(tx, 'email_verification', token)
  const account = await lockAccount(tx, user_id!)
  if (!account) throw failure('invalid_link')
  await requireNoSso(tx, account.email)
  tx.enqueue({
    queue: 'mail',
    data: { kind: 'email_changed', tenant_id: tx.tenantId, user_id, facts: { to: account.email, time: tx.now.toISOString() } },
  })
  await keepingAnAdministrator(tx, () => takeAddress(tx, account.id, String(data.email)))
}

async function takeAddress(tx: Tx, id: string, email: string): Promise<void> {
  await tx.query(sql.run`
    update res_users set email = ${email}, verified_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  // Links that were mailed to the old address end with it.
  await withdrawTokens(tx, id, ['password_reset', 'email_verification', 'mfa_challenge'])
  await record(tx, 'res_users', id, 'email.changed')
}
