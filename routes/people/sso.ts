// Signing in through a company's own identity provider, and setting one up.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { assertCanGrant, TENANT } from '../../domain/access/index.ts'
import {
  admitVouched,
  CLIENT_SECRET_PURPOSE,
  consumeToken,
  IdentityProvider,
  identityProviders,
  issueToken,
  offeredProviders,
  sealedClientSecret,
  setClientSecret,
} from '../../domain/identity/index.ts'
import { failure, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { mutation, ok, open } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'
import { clientOf, enter, SESSION_PATH, Signed } from '../http/session-reply.ts'
import { tagged, versionOf } from '../http/version.ts'

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

type Mapping = { role_map?: Record<string, string>; default_role?: string | null }

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
      schema: { tags, summary: 'Where people of this tenant may sign in', response: { 200: ok(Type.Array(Offer)), ...open() } },
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
        summary: 'Begin: leads to the identity provider',
        params: Id,
        querystring: Start,
        response: { 302: Type.Null(), ...open('not_found', 'sso_failed', 'invalid_query', 'invalid_params') },
      },
    },
    async (request, reply) => {
      const { provider, secret } = await providerOf(request, request.params.id)
      const { return_to: returnTo = '/', token } = request.query
      const url = await openId.begin(provider, secret, redirectUri(request), async (secrets) => {
        const state = await request.write((tx) =>
          issueToken(tx, 'oidc', null, { provider: provider.id, ...secrets, returnTo, token: token ?? null }),
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
        summary: 'Back from the identity provider: signed in',
        querystring: Callback,
        response: { 200: Signed, 302: Type.Null(), ...open('invalid_challenge', 'sso_failed', 'blocked', 'not_found', 'already_exists') },
      },
    },
    async (request, reply) => {
      const { state } = request.query
      if (!state || request.cookies[STATE_COOKIE] !== state) throw failure('invalid_challenge')
      const begun = await request.write((tx) => consumeToken(tx, 'oidc', state))
      if (!begun) throw failure('invalid_challenge')
      const { provider: id, verifier, nonce, returnTo, token } = begun.data as Record<string, string>
      const { provider, secret } = await providerOf(request, id!)
      const callback = new URL(redirectUri(request))
      callback.search = request.url.split('?')[1] ?? ''
      const vouched = await openId.finish(provider, secret, callback, { verifier: verifier!, nonce: nonce!, state }).catch((error) => {
        request.log.warn({ err: error.cause ?? error, provider: provider.id }, 'single sign-on failed')
        throw error
      })
      const account = await request.write((tx) => admitVouched(tx, provider, vouched))
      reply.clearCookie(STATE_COOKIE, { path: SESSION_PATH })
      return answer(request, reply, account, token === 'body', returnTo!)
    },
  )

  async function answer(
    request: FastifyRequest,
    reply: FastifyReply,
    account: Parameters<typeof enter>[3],
    inBody: boolean,
    returnTo: string,
  ) {
    const signed = await enter(app, request, reply, account, ['sso'], clientOf(request, reply), undefined, inBody)
    return inBody ? signed : reply.redirect(returnTo, 302)
  }

  await app.register(resourceRoutes(identityProviders, { plane: 'control', only: ['list', 'get', 'delete', 'history'] }), {
    prefix: '/tenant',
  })
  const setup = { plane: 'control', stepUp: true } as const
  /** Groups give roles, so whoever maps them must hold what they give. */
  async function requireMapping(tx: Tx, request: FastifyRequest, { role_map = {}, default_role }: Mapping) {
    for (const role of new Set([...Object.values(role_map), ...(default_role ? [default_role] : [])])) {
      await assertCanGrant(tx, request.granter, role, TENANT, '/role_map')
    }
  }
  const refusals = ['already_exists', 'grant_exceeds', 'invalid_reference', 'session_required'] as const

  app.post<{ Body: object }>(
    '/tenant/identity-providers',
    {
      ...setup,
      level: 'tenant',
      permission: 'tenant.identity_provider.create',
      schema: {
        tags,
        summary: 'Set up an identity provider',
        body: IdentityProvider.input,
        response: { 201: ok(IdentityProvider.schema), ...mutation(...refusals) },
      },
    },
    async (request, reply) => {
      const created = await request.write(async (tx) => {
        await requireMapping(tx, request, request.body as Mapping)
        return identityProviders.create(tx, request.body as object)
      })
      reply.status(201).header('location', `/api/v1/tenant/identity-providers/${created.id}`)
      return tagged(reply, created)
    },
  )
  app.patch<{ Params: { id: string }; Body: object }>(
    '/tenant/identity-providers/:id',
    {
      ...setup,
      level: 'tenant',
      permission: 'tenant.identity_provider.update',
      schema: {
        tags,
        summary: 'Change an identity provider',
        params: Id,
        body: IdentityProvider.patch,
        response: { 200: ok(IdentityProvider.schema), ...mutation('not_found', 'version_required', 'version_conflict', ...refusals) },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(
        reply,
        await request.write(async (tx) => {
          await requireMapping(tx, request, request.body as Mapping)
          return identityProviders.update(tx, request.params.id, version, request.body as object)
        }),
      )
    },
  )
  app.put<{ Params: { id: string }; Body: { client_secret: string } }>(
    '/tenant/identity-providers/:id/secret',
    {
      ...setup,
      level: 'tenant',
      permission: 'tenant.identity_provider.update',
      schema: {
        tags,
        summary: 'Keep the client secret; it is never shown again',
        params: Id,
        body: Type.Object({ client_secret: Type.String({ minLength: 1, maxLength: 1000 }) }, { additionalProperties: false }),
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      const sealed = await vault.seal(request.tenant.id, CLIENT_SECRET_PURPOSE, request.body.client_secret)
      await request.write((tx) => setClientSecret(tx, request.params.id, sealed))
      return reply.status(204).send()
    },
  )
}
