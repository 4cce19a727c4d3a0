// Second factors: time-based codes (RFC 6238) and the recovery codes for the day the telephone is lost.
import { randomBytes } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import { type Static, Type } from 'typebox'
import { keepingAnAdministrator } from '../access/index.ts'
import { failure, newId, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { digest } from './one-time-tokens.ts'
import { record } from './trail.ts'

const PERIOD_SECONDS = 30
/** Steps before and after the current one: clocks may be thirty seconds apart. */
const WINDOW = 1
const RECOVERY_CODES = 10
/** What a TOTP secret is sealed for. */
export const TOTP_PURPOSE = 'res_user_mfa.secret'

export const Factor = Type.Object(
  {
    id: Uuid,
    kind: oneOf(['totp', 'webauthn']),
    label: nullable(Type.String()),
    created_at: Timestamp,
    used_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
export type Factor = Static<typeof Factor>

/** Has the account a second factor that works? */
export const hasFactors = (tx: Tx, userId: string): Promise<boolean> =>
  tx.exists(sql.run`
    select 1 from res_user_mfa
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind in ('totp', 'webauthn') and confirmed_at is not null`)

export const factorsOf = (tx: Tx, userId: string): Promise<readonly Factor[]> =>
  tx.any(sql.prepared(Factor)`
    select id, kind, label, created_at, used_at from res_user_mfa
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind in ('totp', 'webauthn') and confirmed_at is not null order by created_at limit 50`)

/** How many recovery codes are left. */
export async function recoveryCodesLeft(tx: Tx, userId: string): Promise<number> {
  const { n } = await tx.one(sql.prepared(Type.Object({ n: Type.Integer() }))`
    select count(*) as n from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind = 'recovery' and used_at is null`)
  return n
}

/** A new secret of 160 bits, as RFC 4226 recommends. */
export const newTotpSecret = (): Buffer => randomBytes(20)

/** As the library has it. */
const secretOf = (bytes: Buffer): Secret => new Secret({ buffer: new Uint8Array(bytes).buffer as ArrayBuffer })

/** What an authenticator reads from the QR code. */
export const otpauthUri = (secret: Buffer, issuer: string, account: string): string =>
  new TOTP({
    issuer,
    label: account,
    secret: secretOf(secret),
    period: PERIOD_SECONDS,
  }).toString()

export const base32 = (secret: Buffer): string => secretOf(secret).base32

/** The time step that a code belongs to, or null where it fits none of the current three. */
export function totpStep(secret: Buffer, code: string, now: Date): number | null {
  const totp = new TOTP({ secret: secretOf(secret), period: PERIOD_SECONDS })
  const delta = totp.validate({ token: code, timestamp: now.getTime(), window: WINDOW })
  return delta === null ? null : Math.floor(now.getTime() / 1000 / PERIOD_SECONDS) + delta
}

/** Keeps a sealed secret until its first code confirms it; an earlier one that was never confirmed goes. */
export async function addTotp(tx: Tx, sealed: Buffer, label: string | null): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    delete from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${tx.actor.userId} and kind = 'totp' and confirmed_at is null`)
  await tx.query(sql.run`
    insert into res_user_mfa (id, tenant_id, user_id, kind, label, secret)
    values (${id}, ${tx.tenantId}, ${tx.actor.userId}, 'totp', ${label}, decode(${sealed.toString('hex')}, 'hex'))`)
  return id
}

const SealedTotp = Type.Object({ id: Uuid, sealed: Type.String() }, { additionalProperties: false })
export interface Totp {
  id: string
  sealed: Buffer
}

/** A user's time-based factors with their sealed secrets; `id` names one that is not confirmed yet. */
export async function totpsOf(tx: Tx, userId: string, id: string | null = null): Promise<Totp[]> {
  const rows = await tx.any(sql.prepared(SealedTotp)`
    select id, encode(secret, 'hex') as sealed from res_user_mfa
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind = 'totp'
      and case when ${id}::uuid is null then confirmed_at is not null else id = ${id}::uuid and confirmed_at is null end limit 20`)
  return rows.map((row) => ({ id: row.id, sealed: Buffer.from(row.sealed, 'hex') }))
}

/** Uses a step up: a code that was seen is worthless, and so is any before it. False where that happened already. */
export async function useStep(tx: Tx, factorId: string, step: number): Promise<boolean> {
  const { rowCount } = await tx.query(
    sql.run`
    update res_user_mfa set counter = ${step}, used_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${factorId} and counter < ${step}`,
  )
  return rowCount > 0
}

/** Confirms a factor by its first code. Throws `not_found` where it was confirmed meanwhile. */
export async function confirmTotp(tx: Tx, factorId: string, step: number): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update res_user_mfa set confirmed_at = ${tx.now.toISOString()}, used_at = ${tx.now.toISOString()}, counter = ${step}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${factorId} and user_id = ${tx.actor.userId} and confirmed_at is null`)
  if (rowCount === 0) throw failure('not_found')
}

/** Ten new recovery codes of 80 random bits, in place of those there were. Shown once; kept as hashes. */
export async function replaceRecoveryCodes(tx: Tx): Promise<string[]> {
  const codes = Array.from({ length: RECOVERY_CODES }, () => base32(randomBytes(10)).match(/.{4}/g)!.join('-').toLowerCase())
  await tx.query(sql.run`delete from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${tx.actor.userId} and kind = 'recovery'`)
  await tx.query(sql.run`
    insert into res_user_mfa (id, tenant_id, user_id, kind, secret, confirmed_at)
    select r.id, ${tx.tenantId}, ${tx.actor.userId}, 'recovery', decode(r.hash, 'hex'), ${tx.now.toISOString()}
    from ${sql.unnest(
      codes.map((code) => [newId(), digest(code)]),
      ['uuid', 'text'],
    )} as r (id, hash)`)
  return codes
}

/** Uses a recovery code up; of two that present it at once the row's lock lets one in. */
export async function useRecoveryCode(tx: Tx, userId: string, code: string): Promise<boolean> {
  const spelled =
    code
      .toLowerCase()
      .replace(/[^a-z2-7]/g, '')
      .match(/.{4}/g)
      ?.join('-') ?? ''
  const { rowCount } = await tx.query(sql.run`
    update res_user_mfa set used_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and kind = 'recovery' and secret = decode(${digest(spelled)}, 'hex') and used_at is null`)
  if (rowCount > 0) await record(tx, 'res_user_mfa', null, 'mfa.recovery_code_used', { user_id: userId })
  return rowCount > 0
}

/** Puts a change of somebody's factors into the trail and tells him by mail. */
export async function mfaChanged(tx: Tx, userId: string, what: string): Promise<void> {
  await record(tx, 'res_users', userId, `mfa.${what}`)
  tx.enqueue({
    queue: 'mail',
    data: { kind: 'mfa_changed', tenant_id: tx.tenantId, user_id: userId, facts: { time: tx.now.toISOString() } },
  })
}

/**
 * Removes one factor of a user; with the last one their recovery codes go too. A passkey can be the only way that an administrator
 * signs in by. Throws `not_found`, `last_administrator`.
 */
export const removeFactor = (tx: Tx, userId: string, factorId: string): Promise<void> =>
  keepingAnAdministrator(tx, () => deleteFactor(tx, userId, factorId))

/** Removes all factors of a user. Throws `last_administrator`. */
export const resetFactors = (tx: Tx, userId: string): Promise<void> => keepingAnAdministrator(tx, () => removeAllFactors(tx, userId))

async function deleteFactor(tx: Tx, userId: string, factorId: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    delete from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${factorId} and kind in ('totp', 'webauthn')`)
  if (rowCount === 0) throw failure('not_found')
  if (!(await hasFactors(tx, userId))) await removeAllFactors(tx, userId)
}

export async function removeAllFactors(tx: Tx, userId: string): Promise<void> {
  await tx.query(sql.run`delete from res_user_mfa where tenant_id = ${tx.tenantId} and user_id = ${userId}`)
}
