import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { checkContext, defaultContext, evaluate, type Grants } from '../domain/access/index.ts'
import {
  authenticate,
  MAX_PASSWORD_BYTES,
  openSession,
  recordFailure,
  rememberContext,
  revoke,
  revokeAll,
  revokeOwn,
  rotate,
  SessionInfo,
  type SignedIn,
  sessionsOf,
} from '../domain/identity/index.ts'
import { type Actor, Failure, failure, newId, nullable, type Tx, Uuid } from '../domain/kernel/index.ts'
import { accessMode } from '../domain/tenancy/index.ts'
import { guarded, mutation, ok, open } from './http/envelope.ts'

const Login = Type.Object(
  { email: Type.String({ minLength: 3, maxLength: 254 }), password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_BYTES }) },
  { additionalProperties: false },
)
const Refresh = Type.Optional(
  Type.Object({ refresh_token: Type.Optional(Type.String({ maxLength: 200 })) }, { additionalProperties: false }),
)
const TokenQuery = Type.Object({ token: Type.Optional(Type.Literal('body')) }, { additionalProperties: false })
const ContextBody = Type.Object({ organization_id: nullable(Uuid), workspace_id: nullable(Uuid) })
const User = Type.Object({ id: Uuid, email: Type.String(), name: Type.String(), kind: Type.String(), locale: nullable(Type.String()) })
const TenantInfo = Type.Object({
  id: Uuid,
  slug: Type.String(),
  name: Type.String(),
  locale: Type.String(),
  timezone: Type.String(),
  currency: Type.String(),
})
const Signed = ok(
  Type.Object({
    user: User,
    tenant: TenantInfo,
    context: ContextBody,
    access_token: Type.Optional(Type.String()),
    refresh_token: Type.Optional(Type.String()),
  }),
)
const Switch = Type.Object({ organization_id: Uuid, workspace_id: Type.Optional(nullable(Uuid)) }, { additionalProperties: false })
const Me = Type.Object({
  user: User,
  tenant: TenantInfo,
  context: ContextBody,
  access_mode: Type.Object({ mode: Type.String(), reason: Type.String() }),
  permissions: Type.Array(Type.String()),
  modules: Type.Record(Type.String(), Type.String()),
  flags: Type.Record(Type.String(), Type.Unknown()),
  plan: nullable(Type.String()),
})

const userOf = ({ user_id: id, email, name, kind, locale }: Grants): SignedIn['user'] => ({ id, email, name, kind, locale })
/** Operators ask for the tokens in the body; browsers have them in cookies. */
const wantsTokens = (request: FastifyRequest): boolean => (request.query as Static<typeof TokenQuery>).token === 'body'

const SESSION_PATH = '/api/v1/auth'
const client = (request: FastifyRequest) => ({ userAgent: request.headers['user-agent']?.slice(0, 300) ?? null, address: request.ip })

export default async function auth(app: FastifyInstance) {
  const { access, settings } = app.services
  const cookie = { httpOnly: true, sameSite: 'lax', secure: !settings.development } as const
  const tags = ['auth']

  const tenantInfo = ({ tenant: { id, slug, name, locale, timezone, currency } }: FastifyRequest) => ({
    id,
    slug,
    name,
    locale,
    timezone,
    currency,
  })
  const contextBody = ({ organizationId, workspaceId }: SignedIn['context']) => ({
    organization_id: organizationId,
    workspace_id: workspaceId,
  })

  function answer(request: FastifyRequest, reply: FastifyReply, signedIn: SignedIn) {
    const token = app.accessToken(request.tenant.id, signedIn, newId())
    reply.setCookie('access_token', token, { ...cookie, path: '/', maxAge: 900 })
    reply.setCookie('refresh_token', signedIn.refreshToken, { ...cookie, path: SESSION_PATH, maxAge: 30 * 86_400 })
    reply.header('cache-control', 'no-store')
    return {
      data: {
        user: signedIn.user,
        tenant: tenantInfo(request),
        context: contextBody(signedIn.context),
        ...(wantsTokens(request) ? { access_token: token, refresh_token: signedIn.refreshToken } : {}),
      },
    }
  }

  app.post<{ Body: Static<typeof Login> }>(
    '/auth/login',
    {
      public: true,
      authLimit: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Sign in',
        querystring: TokenQuery,
        body: Login,
        response: { 200: Signed, ...open('invalid_credentials', 'blocked', 'invalid_query') },
      },
    },
    async (request, reply) => {
      const { email, password } = request.body
      const account = await request
        .read((tx) => authenticate(tx, email, password))
        .catch(async (error) => {
          if (error instanceof Failure && error.detail === 'invalid_credentials') await request.write((tx) => recordFailure(tx, email))
          throw error
        })
      const { mode, reason } = accessMode(request.tenant, account.kind as 'worker')
      if (mode === 'blocked') throw failure('blocked', { reason })
      const grants = await access.grants(request.tenant.id, account.id)
      const context = grants ? defaultContext(grants, Date.now()) : { organizationId: null, workspaceId: null }
      return answer(request, reply, await request.write((tx) => openSession(tx, account, client(request), context)))
    },
  )

  app.post<{ Body: Static<typeof Refresh> }>(
    '/auth/refresh',
    {
      public: true,
      authLimit: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Exchange the refresh token; a replayed old one ends the session',
        querystring: TokenQuery,
        body: Refresh,
        response: { 200: Signed, ...open('missing_token', 'invalid_token', 'session_revoked', 'invalid_query') },
      },
    },
    async (request, reply) => {
      const token = request.body?.refresh_token ?? request.cookies.refresh_token
      if (!token) throw failure('missing_token')
      const result = await request.write((tx) => rotate(tx, token))
      if ('reuse' in result) throw failure('session_revoked')
      if ('refused' in result) throw failure('invalid_token')
      return answer(request, reply, result)
    },
  )

  /** A route that ends sessions, this one among them, and takes the cookies back. */
  const signOutRoute = (path: string, summary: string, end: (tx: Tx, actor: Actor) => Promise<unknown>) =>
    app.post(
      path,
      {
        authenticated: true,
        allowReadOnly: true,
        plane: 'control',
        schema: { tags, summary, response: { 204: Type.Null(), ...mutation() } },
      },
      async (request, reply) => {
        await request.write((tx) => end(tx, request.actor))
        reply.clearCookie('access_token', { path: '/' }).clearCookie('refresh_token', { path: SESSION_PATH })
        return reply.status(204).send()
      },
    )
  signOutRoute('/auth/logout', 'End this session', (tx, { sessionId }) => revoke(tx, sessionId!, 'signed_out'))
  signOutRoute('/auth/logout-all', 'End all sessions of this user', (tx, { userId }) => revokeAll(tx, userId!, 'signed_out_everywhere'))

  app.get(
    '/auth/sessions',
    {
      authenticated: true,
      plane: 'control',
      schema: { tags, summary: 'Where am I signed in', response: { 200: ok(Type.Array(SessionInfo)), ...guarded() } },
    },
    async (request) => ({ data: await request.read((tx) => sessionsOf(tx, request.actor.userId!)) }),
  )
  app.delete<{ Params: { id: string } }>(
    '/auth/sessions/:id',
    {
      authenticated: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'End one of my sessions',
        params: Type.Object({ id: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => revokeOwn(tx, request.params.id))
      return reply.status(204).send()
    },
  )

  app.get(
    '/auth/me',
    {
      authenticated: true,
      plane: 'control',
      schema: { tags, summary: 'Who am I, where, and what may I do', response: { 200: ok(Me), ...guarded() } },
    },
    async (request) => {
      const { grants, tenant, context } = request
      const now = Date.now()
      const permissions = [...app.permissions.keys()].filter((p) => evaluate(grants, p, context, now).allowed).sort()
      return {
        data: {
          user: userOf(grants),
          tenant: tenantInfo(request),
          context: contextBody(context),
          access_mode: accessMode(tenant, grants.kind),
          permissions,
          modules: tenant.modules,
          flags: tenant.flags,
          plan: tenant.plan,
        },
      }
    },
  )

  app.post<{ Body: Static<typeof Switch> }>(
    '/context/switch',
    {
      authenticated: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Work in another organization or workspace',
        querystring: TokenQuery,
        body: Switch,
        response: {
          200: ok(Type.Object({ context: ContextBody, access_token: Type.Optional(Type.String()) })),
          ...mutation('context_required', 'context_forbidden', 'invalid_query'),
        },
      },
    },
    async (request, reply) => {
      const context = { organizationId: request.body.organization_id, workspaceId: request.body.workspace_id ?? null }
      const verdict = checkContext(request.grants, context, Date.now())
      if (verdict !== 'ok') throw failure(verdict)
      await request.write((tx) => rememberContext(tx, context))
      const user = userOf(request.grants)
      const token = app.accessToken(request.tenant.id, { sessionId: request.actor.sessionId!, user, context }, newId())
      reply.setCookie('access_token', token, { ...cookie, path: '/', maxAge: 900 })
      return {
        data: {
          context: contextBody(context),
          ...(wantsTokens(request) ? { access_token: token } : {}),
        },
      }
    },
  )
}
