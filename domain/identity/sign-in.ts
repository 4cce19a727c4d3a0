// Signing in with a password: a try is taken, the password is compared outside of any transaction, the outcome is kept.
import { availableParallelism } from 'node:os'
import type { Tx } from '../kernel/index.ts'
import { type Account, accountByEmail, mayEnter } from './account.ts'
import { canonicalEmail } from './email.ts'
import { requireNoSso } from './identity-providers.ts'
import { factorsOf } from './mfa.ts'
import { issueToken } from './one-time-tokens.ts'
import { verifyPassword } from './passwords.ts'
import type { Client } from './sessions.ts'
import { type Counters, clearAttempts, countFailure, signInCounters, takeAttempt } from './throttle.ts'
import { record } from './trail.ts'
import { Turnstile } from './turnstile.ts'

/**
 * The whole of signing in passes here, few at a time: a crowd would otherwise have all its small statements done before
 * the first password is compared, at the cost of everybody else. Wide enough that the hashing never waits.
 */
export const door = new Turnstile(availableParallelism() + 1, 200)

export interface Attempt {
  /** The keys that it is counted by. */
  counters: Counters
  account: Account | null
  /** Until when the account waits should this attempt fail. */
  waits: string | null
}

/** First step, done before the password is looked at, and kept whatever comes of it. Throws `rate_limited`, `sso_required`. */
export async function beginSignIn(tx: Tx, typed: string, client: Client): Promise<Attempt> {
  const email = canonicalEmail(typed) ?? typed.toLowerCase()
  await requireNoSso(tx, email)
  const counters = await signInCounters(tx, email, client)
  const waits = await takeAttempt(tx, counters)
  return { counters, account: await accountByEmail(tx, email), waits }
}

/** Second step: takes as long for an account that is not there, or may not enter, as for one that is and may. */
export async function passwordMatches({ account }: Attempt, password: string): Promise<boolean> {
  const matches = await verifyPassword(account?.password_hash ?? null, password)
  return matches && account !== null && mayEnter(account)
}

/** Third step where it was wrong: the same statements whether there is such an account or not. */
export async function failSignIn(tx: Tx, { account, counters, waits }: Attempt, client: Client): Promise<void> {
  await countFailure(tx, counters)
  await record(tx, 'res_users', account?.id ?? null, waits ? 'sign_in.locked' : 'sign_in.failed', { address: client.address, until: waits })
}

/**
 * Third step where it was right: null, or a challenge where the account has a second factor. Its tries are forgotten only
 * once that was given too: otherwise whoever knows the password could try codes without end.
 */
export async function passSignIn(tx: Tx, { counters, account }: Attempt): Promise<{ challenge: string; methods: string[] } | null> {
  if (!account!.mfa) {
    await clearAttempts(tx, counters)
    return null
  }
  return challengeSecondFactor(tx, account!.id, null)
}

/**
 * A challenge to a user whose first step succeeded, and the kinds of factor that answer it.
 * @param identityId the link of a single sign-on; null after a password
 */
export async function challengeSecondFactor(
  tx: Tx,
  userId: string,
  identityId: string | null,
): Promise<{ challenge: string; methods: string[] }> {
  const factors = await factorsOf(tx, userId)
  const methods = [...new Set(factors.map(({ kind }) => kind)), 'recovery_code']
  return { challenge: await issueToken(tx, 'mfa_challenge', userId, identityId ? { identity: identityId } : {}), methods }
}

/** The first step that a challenge followed: the link of a single sign-on, or null for a password. */
export const identityOfChallenge = ({ data }: { data: Record<string, unknown> }): string | null =>
  typeof data.identity === 'string' ? data.identity : null
