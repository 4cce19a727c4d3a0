// Signing in through a company's own identity provider.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  type Admission,
  admitVouched,
  assertLinkUsable,
  CLIENT_SECRET_PURPOSE,
  challengeSecondFactor,
  consumeToken,
  identityProviders,
  issueToken,
  offeredProviders,
  sealedClientSecret,
} from '../../domain/identity/index.ts'
import { Failure, failure, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { ok, open } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { clientOf, enter, SESSION_PATH, Signed } from '../http/session-reply.ts'

const STATE_COOKIE = 'sso_state'
const Start = Type.Object(
  {
    return_to: Type.Optional(
      Type.String({ pattern: '^/(?![/\\\\])[^\\s\\\\]*$', maxLength: 500, description: 'Path of this host to go to when signed in' }),
    ),
    token: Type.Optional(Type.Literal('body')),
  },
  { additionalProperties: false },
)
const Callback = Type.Object(
  { state: Type.Optional(Type.String({ maxLength: 200 })), code: Type.Optional(Type.String({ maxLength: 4000 })) },
  { additionalProperties: true },
)
const Offer = Type.Object({ id: Uuid, name: Type.String(), start: Type.String({ description: 'Send the browser here' }) })

export default async function sso(app: FastifyInstance) {
  const { vault, openId, settings } = app.services
  const tags = ['single sign-on']
  const entrance = { public: true, authLimit: true, plane: 'control' } as const
  const redirectUri = (request: FastifyRequest) => `${settings.publicUrl.replace('{host}', request.hostname)}${SESSION_PATH}/sso/callback`

  async function providerOf(request: FastifyRequest, id: string) {
    const [provider, sealed] = await request.read(
      async (tx) => [await identityProviders.get(tx, id), await sealedClientSecret(tx, id)] as const,
    )
    if (!provider.enabled) throw failure('not_found')
    const secret = sealed && (await vault.open(request.tenant.id, CLIENT_SECRET_PURPOSE, sealed)).toString()
    return { provider, secret }
  }

  app.get(
    '/auth/sso',
    {
      ...entrance,
      schema: { tags, summary: 'List the identity providers to sign in at', response: { 200: ok(Type.Array(Offer)), ...open() } },
    },
    async (request) => {
      const offered = await request.read(offeredProviders)
      return { data: offered.map(({ id, name }) => ({ id, name, start: `${SESSION_PATH}/sso/${id}/start` })) }
    },
  )

  app.get<{ Params: { id: string }; Querystring: Static<typeof Start> }>(
    '/auth/sso/:id/start',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Start a sign-in at an identity provider',
        params: Id,
        querystring: Start,
        response: { 302: Type.Null(), ...open('not_found', 'sso_failed', 'invalid_query', 'invalid_params') },
      },
    },
    async (request, reply) => {
      const { provider, secret } = await providerOf(request, request.params.id)
      const { return_to: returnTo = '/', token } = request.query
      const url = await openId.begin(provider, secret, redirectUri(request), async (secrets) => {
        const { issuer, client_id } = provider
        const state = await request.write((tx) =>
          issueToken(tx, 'oidc', null, { provider: provider.id, issuer, client_id, ...secrets, returnTo, token: token ?? null }),
        )
        // The answer must come back to the browser that asked: nobody is signed in as someone else by a link.
        reply.setCookie(STATE_COOKIE, state, {
          httpOnly: true,
          sameSite: 'lax',
          secure: !settings.development,
          path: SESSION_PATH,
          maxAge: 600,
        })
        return state
      })
      return reply.header('cache-control', 'no-store').redirect(url.href, 302)
    },
  )

  app.get<{ Querystring: Static<typeof Callback> }>(
    '/auth/sso/callback',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Finish a sign-in at an identity provider',
        description:
          'A local second factor is asked with `mfa_required`, unless the security policy sets `sso_counts_as_mfa`. `sso_link_required`: an account with the address exists and its owner, or an administrator, confirms the link first.',
        querystring: Callback,
        response: {
          200: Signed,
          302: Type.Null(),
          ...open(
            'invalid_challenge',
            'mfa_required',
            'sso_failed',
            'sso_link_required',
            'sso_link_suspended',
            'blocked',
            'not_found',
            'plan_limit',
          ),
        },
      },
    },
    async (request, reply) => {
      const { state } = request.query
      if (!state || request.cookies[STATE_COOKIE] !== state) throw failure('invalid_challenge')
      const begun = await request.write((tx) => consumeToken(tx, 'oidc', state))
      if (!begun) throw failure('invalid_challenge')
      const { provider: id, issuer, client_id, verifier, nonce, returnTo, token } = begun.data as Record<string, string>
      const { provider, secret } = await providerOf(request, id!)
      // A code of the provider as it was is not sent to the provider as it is.
      if (provider.issuer !== issuer || provider.client_id !== client_id) throw failure('invalid_challenge')
      const callback = new URL(redirectUri(request))
      callback.search = request.url.split('?')[1] ?? ''
      const vouched = await openId.finish(provider, secret, callback, { verifier: verifier!, nonce: nonce!, state }).catch((error) => {
        request.log.warn({ err: error.cause ?? error, provider: provider.id }, 'single sign-on failed')
        throw error
      })
      const admission = await request.write((tx) => admitVouched(tx, provider, vouched))
      reply.clearCookie(STATE_COOKIE, { path: SESSION_PATH })
      if (admission instanceof Failure) throw admission
      const inBody = token === 'body'
      const { account, identityId } = admission
      const client = clientOf(request, reply)
      const signed = await enter(app, request, reply, account, ['sso'], client, secondFactor(request, admission), inBody, identityId)
      return inBody ? signed : reply.redirect(returnTo!, 302)
    },
  )

  /** Asks for a local second factor where the user has one and the policy does not take the provider's word for it. */
  const secondFactor =
    ({ tenant }: FastifyRequest, { account, identityId }: Admission) =>
    async (tx: Tx): Promise<Failure | undefined> => {
      await assertLinkUsable(tx, account.id, identityId)
      if (!account.mfa || tenant.security.sso_counts_as_mfa) return undefined
      return failure('mfa_required', await challengeSecondFactor(tx, account.id, identityId))
    }
}
