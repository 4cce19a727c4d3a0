// Second factors of one's own account, and proving once more who one is.
import type { FastifyInstance } from 'fastify'
import { toString as qrCode } from 'qrcode'
import { type Static, Type } from 'typebox'
import { needsMfa } from '../../domain/access/index.ts'
import {
  addTotp,
  base32,
  confirmTotp,
  Factor,
  factorsOf,
  hasFactors,
  MAX_PASSWORD_BYTES,
  mfaChanged,
  newTotpSecret,
  otpauthUri,
  reauthenticated,
  recoveryCodesLeft,
  removeFactor,
  replaceRecoveryCodes,
  TOTP_PURPOSE,
  totpsOf,
} from '../../domain/identity/index.ts'
import { failure, Name, nullable, Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Code, checkCode, checkOwnPassword, matchTotp, RecoveryCode, takeProof } from '../http/proof.ts'

const Enroll = Type.Object({ label: Type.Optional(Name) }, { additionalProperties: false })
const Enrolled = Type.Object({
  id: Uuid,
  secret: Type.String({ description: 'Base32, for those who type it' }),
  otpauth_uri: Type.String(),
  qr_svg: Type.String({ description: 'The same as a picture' }),
})
const Verify = Type.Object({ id: Uuid, code: Code }, { additionalProperties: false })
const RecoveryCodes = Type.Object({
  recovery_codes: nullable(
    Type.Array(Type.String(), { description: 'Shown this once. Null on a replay, and where there are codes already.' }),
  ),
})
const Factors = Type.Object({ factors: Type.Array(Factor), recovery_codes_left: Type.Integer(), required: Type.Boolean() })
const StepUp = Type.Object(
  {
    password: Type.Optional(Type.String({ minLength: 1, maxLength: MAX_PASSWORD_BYTES })),
    code: Type.Optional(Code),
    recovery_code: Type.Optional(RecoveryCode),
  },
  { additionalProperties: false, minProperties: 1, maxProperties: 1, examples: [{ code: '123456' }] },
)

export default async function mfa(app: FastifyInstance) {
  const tags = ['auth']
  const own = { authenticated: true, sessionOnly: true, allowReadOnly: true, plane: 'control' } as const

  app.get(
    '/auth/mfa',
    {
      authenticated: true,
      sessionOnly: true,
      plane: 'control',
      schema: { tags, summary: 'List my second factors', response: { 200: ok(Factors), ...guarded('session_required') } },
    },
    async (request) => {
      const { userId } = request.actor
      const [factors, left] = await request.read(
        async (tx) => [await factorsOf(tx, userId!), await recoveryCodesLeft(tx, userId!)] as const,
      )
      return { data: { factors, recovery_codes_left: left, required: needsMfa(request.grants, Date.now()) } }
    },
  )

  app.post<{ Body: Static<typeof Enroll> | undefined }>(
    '/auth/mfa/enroll',
    {
      ...own,
      stepUp: true,
      schema: {
        tags,
        summary: 'Add an authenticator: scan the code, then verify',
        body: Type.Optional(Enroll),
        response: { 201: ok(Enrolled), ...mutation('session_required') },
      },
    },
    async (request, reply) => {
      const secret = newTotpSecret()
      const sealed = await app.services.vault.seal(request.tenant.id, TOTP_PURPOSE, secret)
      let known = ''
      const id = await request.write(async (tx) => {
        known = await addTotp(tx, sealed, request.body?.label ?? null)
        return known
      })
      // A replayed key names the factor of the first request, whose secret was shown then and is not this one.
      if (id !== known) throw failure('idempotency_key_reused')
      const uri = otpauthUri(secret, request.tenant.name, request.grants.email)
      reply.status(201).header('cache-control', 'no-store')
      return { data: { id, secret: base32(secret), otpauth_uri: uri, qr_svg: await qrCode(uri, { type: 'svg' }) } }
    },
  )

  app.post<{ Body: Static<typeof Verify> }>(
    '/auth/mfa/verify',
    {
      ...own,
      schema: {
        tags,
        summary: 'Confirm an authenticator by its first code; from now on signing in asks for one',
        body: Verify,
        response: { 200: ok(RecoveryCodes), ...mutation('invalid_code', 'not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      const forget = await takeProof(request, request.grants.email)
      const totps = await request.read((tx) => totpsOf(tx, request.actor.userId!, request.body.id))
      if (totps.length === 0) throw failure('not_found')
      const matched = await matchTotp(app, request, totps, request.body.code)
      if (!matched) throw failure('invalid_code')
      let codes: string[] | null = null
      await request.write(async (tx) => {
        const first = !(await hasFactors(tx, tx.actor.userId!))
        await confirmTotp(tx, matched.id, matched.step)
        codes = first ? await replaceRecoveryCodes(tx) : null
        await reauthenticated(tx, ['otp', 'mfa'])
        await mfaChanged(tx, tx.actor.userId!, 'totp_added')
        await forget(tx)
        return null
      })
      reply.header('cache-control', 'no-store')
      return { data: { recovery_codes: codes } }
    },
  )

  app.post(
    '/auth/mfa/recovery-codes',
    {
      ...own,
      stepUp: true,
      schema: {
        tags,
        summary: 'Ten new recovery codes in place of the old ones',
        response: { 200: ok(RecoveryCodes), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      let codes: string[] | null = null
      await request.write(async (tx) => {
        if (!(await hasFactors(tx, tx.actor.userId!))) throw failure('not_found')
        codes = await replaceRecoveryCodes(tx)
        await mfaChanged(tx, tx.actor.userId!, 'recovery_codes_replaced')
        return null
      })
      reply.header('cache-control', 'no-store')
      return { data: { recovery_codes: codes } }
    },
  )

  app.post<{ Body: { id: string } }>(
    '/auth/mfa/disable',
    {
      ...own,
      stepUp: true,
      schema: {
        tags,
        summary: 'Remove one of my second factors; the last one only where none is required',
        body: Type.Object({ id: Uuid }, { additionalProperties: false }),
        response: { 204: Type.Null(), ...mutation('not_found', 'last_administrator', 'session_required', 'mfa_enrollment_required') },
      },
    },
    async (request, reply) => {
      await request.write(async (tx) => {
        await removeFactor(tx, tx.actor.userId!, request.body.id)
        if (needsMfa(request.grants, tx.now.getTime()) && !(await hasFactors(tx, tx.actor.userId!)))
          throw failure('mfa_enrollment_required')
        await mfaChanged(tx, tx.actor.userId!, 'factor_removed')
      })
      return reply.status(204).send()
    },
  )

  app.post<{ Body: Static<typeof StepUp> }>(
    '/auth/step-up',
    {
      ...own,
      authLimit: true,
      schema: {
        tags,
        summary: 'Prove again who I am, for ten minutes: by code where I have a second factor, by password where not',
        body: StepUp,
        response: { 204: Type.Null(), ...mutation('invalid_credentials', 'invalid_code', 'mfa_required', 'session_required') },
      },
    },
    async (request, reply) => {
      const { password, ...code } = request.body
      if (password === undefined) {
        const use = await checkCode(app, request, { id: request.grants.user_id, email: request.grants.email }, code)
        await request.write(async (tx) => reauthenticated(tx, await use(tx)))
        return reply.status(204).send()
      }
      // With a second factor a stolen password must not be enough.
      if (request.grants.mfa)
        throw failure('mfa_required', {}, 'Your account has a second factor: send a code, or POST /api/v1/auth/step-up/passkey/options.')
      await checkOwnPassword(request, password)
      await request.write((tx) => reauthenticated(tx, ['pwd']))
      return reply.status(204).send()
    },
  )
}
