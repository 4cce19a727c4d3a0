// What proves who somebody is, asked again: his password, or a code of a second factor. A try is taken and kept before
// either is looked at, and neither is looked at inside a transaction. These statements stand each for itself, by `read`: the
// first `write` of a request takes its Idempotency-Key, which belongs to what the request is for.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import {
  type Account,
  accountById,
  clearAttempts,
  type Method,
  secondStepCounters,
  sessionCounters,
  signInCounters,
  TOTP_PURPOSE,
  takeAttempt,
  totpStep,
  totpsOf,
  useRecoveryCode,
  useStep,
  verifyPassword,
} from '../../domain/identity/index.ts'
import { failure, type Tx } from '../../domain/kernel/index.ts'

export const Code = Type.String({ pattern: '^\\d{6}$', description: 'Of the authenticator, six digits', examples: ['123456'] })
export const RecoveryCode = Type.String({ minLength: 16, maxLength: 40, description: 'One of the ten; each works once' })

export interface GivenCode {
  code?: string
  recovery_code?: string
}

/**
 * Takes a try: of a live session in the session's own counter, which no other session can fill, otherwise in that of
 * the second step. A second step that was right ends the sign-in, whose count is then forgotten too. Returns what forgets the
 * counts when the proof was right. Throws `rate_limited`.
 */
export async function takeProof(request: FastifyRequest, email: string): Promise<(tx: Tx) => Promise<void>> {
  const sessionId = request.actor?.sessionId
  if (sessionId) {
    const taken = sessionCounters(sessionId)
    await request.read((tx) => takeAttempt(tx, taken))
    return (tx) => clearAttempts(tx, taken)
  }
  const client = { userAgent: null, address: request.ip, device: request.cookies.device ?? '' }
  const taken = await request.read((tx) => secondStepCounters(tx, email, client))
  await request.read((tx) => takeAttempt(tx, taken))
  return async (tx) => {
    await clearAttempts(tx, taken)
    await clearAttempts(tx, await signInCounters(tx, email, client))
  }
}

/**
 * Checks a code for an account. What comes back is run in the transaction that needs the proof; it uses the code up and
 * says how the user proved himself. Throws `rate_limited`, `invalid_code`.
 */
export async function checkCode(
  app: FastifyInstance,
  request: FastifyRequest,
  { id, email }: Pick<Account, 'id' | 'email'>,
  given: GivenCode,
): Promise<(tx: Tx) => Promise<Method[]>> {
  const forget = await takeProof(request, email)
  if (given.recovery_code) {
    const code = given.recovery_code
    return async (tx) => {
      if (!(await useRecoveryCode(tx, id, code))) throw failure('invalid_code')
      await forget(tx)
      return ['mfa']
    }
  }
  const matched = await matchTotp(app, request, await request.read((tx) => totpsOf(tx, id)), given.code ?? '')
  if (!matched) throw failure('invalid_code')
  return async (tx) => {
    if (!(await useStep(tx, matched.id, matched.step))) throw failure('invalid_code')
    await forget(tx)
    return ['otp', 'mfa']
  }
}

/** Checks the password of whoever is signed in. Throws `rate_limited`, `invalid_credentials`. */
export async function checkOwnPassword(request: FastifyRequest, password: string): Promise<void> {
  const { email, user_id } = request.grants
  const forget = await takeProof(request, email)
  const account = await request.read((tx) => accountById(tx, user_id))
  if (!(await verifyPassword(account?.password_hash ?? null, password))) throw failure('invalid_credentials')
  await request.read(forget)
}

/** Which of these secrets a code belongs to, and to which time step. */
export async function matchTotp(
  app: FastifyInstance,
  request: FastifyRequest,
  totps: readonly { id: string; sealed: Buffer }[],
  code: string,
): Promise<{ id: string; step: number } | null> {
  for (const { id, sealed } of totps) {
    const step = totpStep(await app.services.vault.open(request.tenant.id, TOTP_PURPOSE, sealed), code, new Date())
    if (step !== null) return { id, step }
  }
  return null
}
