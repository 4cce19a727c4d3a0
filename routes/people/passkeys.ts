// Passkeys: adding one, signing in with one alone, and as the second step after a password.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  accountById,
  assertLinkUsable,
  beginAuthentication,
  beginRegistration,
  consumeToken,
  finishAuthentication,
  finishRegistration,
  hasFactors,
  identityOfChallenge,
  mayEnter,
  mfaChanged,
  type RelyingParty,
  reauthenticated,
  replaceRecoveryCodes,
  tryToken,
} from '../../domain/identity/index.ts'
import { failure, Name, nullable, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { originsFor } from '../../plugins/origin.ts'
import { mutation, ok, open } from '../http/envelope.ts'
import { clientOf, enter, noSso, Signed, TokenQuery, wantsTokens } from '../http/session-reply.ts'

const Ceremony = Type.String({ maxLength: 100, description: 'Comes back with the authenticator’s answer' })
const Base64Url = Type.String({ pattern: '^[A-Za-z0-9_-]+={0,2}$', maxLength: 20_000 })
const credential = <P extends Record<string, ReturnType<typeof Type.String>>>(response: P) =>
  Type.Object(
    {
      id: Base64Url,
      rawId: Base64Url,
      type: Type.Literal('public-key'),
      response: Type.Object(response, { additionalProperties: true }),
      clientExtensionResults: Type.Object({}, { additionalProperties: true }),
      authenticatorAttachment: Type.Optional(Type.String({ maxLength: 40 })),
    },
    { additionalProperties: false, description: 'PublicKeyCredential.toJSON() of the browser' },
  )
const Attestation = credential({ clientDataJSON: Base64Url, attestationObject: Base64Url })
const Assertion = credential({ clientDataJSON: Base64Url, authenticatorData: Base64Url, signature: Base64Url })
const Begun = ok(Type.Object({ ceremony: Type.String(), options: Type.Object({}, { additionalProperties: true }) }))
const Register = Type.Object({ ceremony: Ceremony, credential: Attestation, label: Type.Optional(Name) }, { additionalProperties: false })
const Begin = Type.Optional(
  Type.Object(
    { challenge: Type.Optional(Type.String({ maxLength: 100, description: 'Of a sign-in that waits for its second step' })) },
    { additionalProperties: false },
  ),
)
const Answer = Type.Object(
  { ceremony: Ceremony, credential: Assertion, challenge: Type.Optional(Type.String({ maxLength: 100 })) },
  { additionalProperties: false },
)
const StepUp = Type.Object({ ceremony: Ceremony, credential: Assertion }, { additionalProperties: false })
const Registered = Type.Object({ id: Uuid, recovery_codes: nullable(Type.Array(Type.String())) })

export default async function passkeys(app: FastifyInstance) {
  const tags = ['auth']
  const own = { authenticated: true, sessionOnly: true, allowReadOnly: true, plane: 'control' } as const
  const entrance = { public: true, authLimit: true, allowReadOnly: true, plane: 'control' } as const

  /** The tenant's host is what a passkey belongs to; its pages are where the tenant's origins are. */
  const partyOf = (request: FastifyRequest): RelyingParty => ({
    id: request.hostname,
    name: request.tenant.name,
    origins: originsFor(request),
  })

  app.post(
    '/auth/passkeys/registration/options',
    {
      ...own,
      stepUp: true,
      schema: { tags, summary: 'Begin to add a passkey', response: { 200: Begun, ...mutation('session_required') } },
    },
    async (request) => {
      const { email, name } = request.grants
      return { data: await request.write((tx) => beginRegistration(tx, partyOf(request), { email, name })) }
    },
  )

  app.post<{ Body: Static<typeof Register> }>(
    '/auth/passkeys/registration',
    {
      ...own,
      schema: {
        tags,
        summary: 'Add the passkey; from now on signing in with the password asks for a second step',
        body: Register,
        response: { 201: ok(Registered), ...mutation('invalid_challenge', 'invalid_passkey', 'already_exists', 'session_required') },
      },
    },
    async (request, reply) => {
      const { ceremony, credential, label } = request.body
      let codes: string[] | null = null
      const id = await request.write(async (tx) => {
        const first = !(await hasFactors(tx, tx.actor.userId!))
        const made = await finishRegistration(tx, partyOf(request), ceremony, credential as never, label ?? null)
        codes = first ? await replaceRecoveryCodes(tx) : null
        await reauthenticated(tx, ['hwk', 'mfa'])
        await mfaChanged(tx, tx.actor.userId!, 'passkey_added')
        return made
      })
      reply.status(201).header('cache-control', 'no-store')
      return { data: { id, recovery_codes: codes } }
    },
  )

  app.post<{ Body: Static<typeof Begin> }>(
    '/auth/passkeys/options',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Begin to sign in with a passkey: alone, or as the second step of `challenge`',
        body: Begin,
        response: { 200: Begun, ...open('invalid_challenge') },
      },
    },
    async (request) => {
      const challenge = request.body?.challenge
      return {
        data: await request.write(async (tx) => {
          const waiting = challenge ? await tryToken(tx, 'mfa_challenge', challenge) : null
          if (challenge && !waiting) throw failure('invalid_challenge')
          return beginAuthentication(tx, partyOf(request), waiting?.user_id ?? null)
        }),
      }
    },
  )

  app.post<{ Body: Static<typeof Answer> }>(
    '/auth/passkeys/login',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Sign in with the passkey’s answer',
        querystring: TokenQuery,
        body: Answer,
        response: {
          200: Signed,
          ...open('invalid_challenge', 'invalid_passkey', 'sso_required', 'sso_link_suspended', 'blocked', 'invalid_query'),
        },
      },
    },
    async (request, reply) => {
      const { ceremony, credential, challenge } = request.body
      const alone = challenge === undefined
      const { userId, identityId } = await request.write(async (tx: Tx) => {
        const userId = await finishAuthentication(tx, partyOf(request), ceremony, credential as never, alone)
        if (alone) return { userId, identityId: null }
        const challenged = await consumeToken(tx, 'mfa_challenge', challenge)
        if (challenged?.user_id !== userId) throw failure('invalid_challenge')
        return { userId, identityId: identityOfChallenge(challenged) }
      })
      const account = await request.read((tx) => accountById(tx, userId))
      if (!account || !mayEnter(account)) throw failure('invalid_passkey')
      const methods = [...(alone ? [] : [identityId ? ('sso' as const) : ('pwd' as const)]), 'hwk', 'mfa'] as const
      const first = identityId
        ? async (tx: Tx) => {
            await assertLinkUsable(tx, userId, identityId)
            return undefined
          }
        : noSso(account)
      return enter(app, request, reply, account, methods, clientOf(request, reply), first, wantsTokens(request), identityId)
    },
  )

  app.post(
    '/auth/step-up/passkey/options',
    {
      ...own,
      authLimit: true,
      schema: { tags, summary: 'Begin a step-up with one of my passkeys', response: { 200: Begun, ...mutation('session_required') } },
    },
    async (request) => ({
      data: await request.write((tx) => beginAuthentication(tx, partyOf(request), tx.actor.userId, 'step_up')),
    }),
  )
  app.post<{ Body: Static<typeof StepUp> }>(
    '/auth/step-up/passkey',
    {
      ...own,
      authLimit: true,
      schema: {
        tags,
        summary: 'Prove again who I am, for ten minutes, with the passkey’s answer',
        body: StepUp,
        response: { 204: Type.Null(), ...mutation('invalid_challenge', 'invalid_passkey', 'session_required') },
      },
    },
    async (request, reply) => {
      const { ceremony, credential } = request.body
      await request.write(async (tx) => {
        const userId = await finishAuthentication(tx, partyOf(request), ceremony, credential as never, false, 'step_up')
        if (userId !== tx.actor.userId) throw failure('invalid_challenge')
        await reauthenticated(tx, ['hwk', 'mfa'])
      })
      return reply.status(204).send()
    },
  )
}
