// Secrets that work once: links in mails, challenges, the state of a sign-in elsewhere. Only their hashes are kept.
import { createHash, randomBytes } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { failure, newId, nullable, sql, type Tx, Uuid } from '../kernel/index.ts'

export type Purpose = 'invitation' | 'password_reset' | 'email_verification' | 'mfa_challenge' | 'webauthn' | 'oidc'

/** Minutes that each kind lives. */
const LIVES: Record<Purpose, number> = {
  invitation: 7 * 24 * 60,
  password_reset: 60,
  email_verification: 24 * 60,
  mfa_challenge: 5,
  webauthn: 5,
  oidc: 10,
}
const MAX_ATTEMPTS = 5

const Consumed = Type.Object(
  { id: Uuid, user_id: nullable(Uuid), data: Type.Record(Type.String(), Type.Unknown()) },
  { additionalProperties: false },
)
type Consumed = Static<typeof Consumed>

/** 256 random bits as text. */
export const secret = (): string => randomBytes(32).toString('base64url')
/** SHA-256 in hex: enough for secrets of 256 random bits, which no list can hold. */
export const digest = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Makes a token and returns it; it cannot be read again. */
export async function issueToken(tx: Tx, purpose: Purpose, userId: string | null, data: Record<string, unknown> = {}): Promise<string> {
  const token = secret()
  const expires = new Date(tx.now.getTime() + LIVES[purpose] * 60_000).toISOString()
  await tx.query(sql.run`
    insert into res_one_time_tokens (id, tenant_id, user_id, purpose, token_hash, expires_at, data)
    values (${newId()}, ${tx.tenantId}, ${userId}, ${purpose}, decode(${digest(token)}, 'hex'), ${expires}, ${sql.jsonb(data as never)})`)
  return token
}

/**
 * Uses a token up. Of two that present it at once, the row's lock lets one in; the other finds it used. Null for a
 * token that is unknown, used, withdrawn or expired: which of these is nobody's business.
 */
export const consumeToken = (tx: Tx, purpose: Purpose, token: string): Promise<Consumed | null> =>
  tx.maybeOne(sql.prepared(Consumed)`
    update res_one_time_tokens set used_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and token_hash = decode(${digest(token)}, 'hex') and purpose = ${purpose}
      and used_at is null and expires_at > ${tx.now.toISOString()}
    returning id, user_id, data`)

/** The same, thrown as `invalid_link`. */
export async function requireToken(tx: Tx, purpose: Purpose, token: string): Promise<Consumed> {
  const consumed = await consumeToken(tx, purpose, token)
  if (!consumed) throw failure('invalid_link')
  return consumed
}

/** Whose a token is that is still good, without using it up. */
export async function openTokenUser(tx: Tx, purpose: Purpose, token: string): Promise<string | null> {
  const found = await tx.maybeOne(sql.prepared(Consumed)`
    select id, user_id, data from res_one_time_tokens
    where tenant_id = ${tx.tenantId} and token_hash = decode(${digest(token)}, 'hex') and purpose = ${purpose}
      and used_at is null and expires_at > ${tx.now.toISOString()}`)
  return found?.user_id ?? null
}

/** Takes one of a challenge's five tries, to be kept whatever comes of it; null when there is none left. */
export const tryToken = (tx: Tx, purpose: Purpose, token: string): Promise<Consumed | null> =>
  tx.maybeOne(sql.prepared(Consumed)`
    update res_one_time_tokens set attempts = attempts + 1
    where tenant_id = ${tx.tenantId} and token_hash = decode(${digest(token)}, 'hex') and purpose = ${purpose}
      and used_at is null and expires_at > ${tx.now.toISOString()} and attempts < ${MAX_ATTEMPTS}
    returning id, user_id, data`)

const MAILED: readonly Purpose[] = ['invitation', 'password_reset', 'email_verification']

/** Ends the open tokens of a user. */
export async function endTokens(tx: Tx, userId: string, purposes: readonly Purpose[]): Promise<void> {
  await tx.query(sql.run`
    update res_one_time_tokens set used_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and purpose = any(${sql.array([...purposes], 'text')}) and used_at is null`)
}

/**
 * Ends the open tokens of a user and the requests for links whose mails are not written yet: a link that was asked for before
 * the password changed must not change it again, whichever is committed first.
 */
export async function withdrawTokens(tx: Tx, userId: string, purposes: readonly Purpose[]): Promise<void> {
  await endTokens(tx, userId, purposes)
  const mailed = purposes.filter((purpose) => MAILED.includes(purpose))
  if (mailed.length === 0) return
  const from = Object.fromEntries(mailed.map((purpose) => [purpose, tx.now.toISOString()]))
  await tx.query(sql.run`
    update res_users set links_from = links_from || ${sql.jsonb(from)} where tenant_id = ${tx.tenantId} and id = ${userId}`)
}
