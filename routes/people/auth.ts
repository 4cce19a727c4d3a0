// Sign-in, refresh, sign-out; the current user and context.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { allowedOf, checkContext } from '../../domain/access/index.ts'
import {
  ACCESS_SECONDS,
  accessToken,
  accountById,
  assertLinkUsable,
  beginSignIn,
  consumeToken,
  door,
  failSignIn,
  identityOfChallenge,
  MAX_PASSWORD_BYTES,
  passSignIn,
  passwordMatches,
  rememberContext,
  requireNoSso,
  revokeOf,
  rotate,
  SessionInfo,
  sessionsOf,
  signOut,
  tryToken,
} from '../../domain/identity/index.ts'
import { failure, networkOf, nullable, Timestamp, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { flagsFor } from '../../domain/platform/index.ts'
import { accessMode, noticeOf, PlatformNotice } from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok, open } from '../http/envelope.ts'
import { Code, checkCode, RecoveryCode } from '../http/proof.ts'
import {
  ContextBody,
  clientOf,
  contextBody,
  enter,
  lifetimesOf,
  SESSION_PATH,
  Signed,
  signedInReply,
  TenantInfo,
  TokenQuery,
  tenantInfo,
  UserInfo,
  wantsTokens,
} from '../http/session-reply.ts'

const Login = Type.Object(
  { email: Type.String({ minLength: 3, maxLength: 254 }), password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_BYTES }) },
  { additionalProperties: false },
)
const SecondStep = Type.Object(
  {
    challenge: Type.String({ maxLength: 100, description: 'From details of the 401 `mfa_required`' }),
    code: Type.Optional(Code),
    recovery_code: Type.Optional(RecoveryCode),
  },
  { additionalProperties: false },
)
/** A refresh token begins with the id of its session. */
const SESSION_ID_LENGTH = 36
const Refresh = Type.Optional(
  Type.Object({ refresh_token: Type.Optional(Type.String({ maxLength: 200 })) }, { additionalProperties: false }),
)
const Switch = Type.Object({ organization_id: Uuid, workspace_id: Type.Optional(nullable(Uuid)) }, { additionalProperties: false })
export const Me = Type.Object({
  user: UserInfo,
  tenant: TenantInfo,
  context: ContextBody,
  access_mode: Type.Object({ mode: Type.String(), reason: Type.String() }),
  permissions: Type.Array(Type.String()),
  modules: Type.Record(Type.String(), Type.String()),
  notice: nullable(
    Type.Object(
      { kind: Type.String({ description: 'trial_ends, trial_ended, payment_due, payment_overdue, maintenance' }), at: Timestamp },
      { description: 'What people should know about how long they may work' },
    ),
  ),
  notices: Type.Array(PlatformNotice, {
    description: 'Announcements of the platform that are current, and maintenance of the next seven days',
  }),
  impersonated: Type.Boolean({ description: 'The platform’s staff works in this user’s place' }),
  flags: Type.Record(Type.String(), Type.Unknown()),
  plan: nullable(Type.String()),
  limits: Type.Record(Type.String(), nullable(Type.Integer()), { description: 'Of the plan; null is without limit' }),
})

export default async function auth(app: FastifyInstance) {
  const { settings } = app.services
  const cookie = { httpOnly: true, sameSite: 'lax', secure: !settings.development } as const
  const tags = ['auth']
  const presentedIn = ({ body, cookies }: FastifyRequest): string | undefined =>
    (body as Static<typeof Refresh>)?.refresh_token ?? cookies.refresh_token
  /** Refreshes of one session at one network: sign-ins of others there do not count, and others elsewhere cannot use it up. */
  const bySession = app.limiter(settings.rateLimitAuth, (request) => {
    const session = presentedIn(request)?.slice(0, SESSION_ID_LENGTH)
    return `refresh:${request.tenant.id}:${session}:${networkOf(request.ip)}`
  })
  const entrance = { public: true, authLimit: true, allowReadOnly: true, plane: 'control' } as const

  app.post<{ Body: Static<typeof Login> }>(
    '/auth/login',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Sign in',
        querystring: TokenQuery,
        body: Login,
        response: { 200: Signed, ...open('invalid_credentials', 'mfa_required', 'sso_required', 'blocked', 'invalid_query') },
      },
    },
    (request, reply) =>
      door.pass(async () => {
        const client = clientOf(request, reply)
        // Each statement of the first step, and of a failure, stands for itself: a transaction around them would only take longer.
        const attempt = await request.read((tx) => beginSignIn(tx, request.body.email, client))
        if (!(await passwordMatches(attempt, request.body.password))) {
          await request.read((tx) => failSignIn(tx, attempt, client))
          throw failure('invalid_credentials')
        }
        return enter(app, request, reply, attempt.account!, ['pwd'], client, async (tx) => {
          const challenged = await passSignIn(tx, attempt)
          return challenged ? failure('mfa_required', challenged) : undefined
        })
      }),
  )

  app.post<{ Body: Static<typeof SecondStep> }>(
    '/auth/mfa',
    {
      ...entrance,
      schema: {
        tags,
        summary: 'Finish a sign-in by password or single sign-on with a code of the authenticator, or a recovery code',
        querystring: TokenQuery,
        body: SecondStep,
        response: {
          200: Signed,
          ...open('invalid_challenge', 'invalid_code', 'sso_required', 'sso_link_suspended', 'blocked', 'invalid_query'),
        },
      },
    },
    async (request, reply) => {
      const { challenge, ...given } = request.body
      const tried = await request.write((tx) => tryToken(tx, 'mfa_challenge', challenge))
      const account = tried?.user_id ? await request.read((tx) => accountById(tx, tried.user_id!)) : null
      if (!account) throw failure('invalid_challenge')
      const use = await checkCode(app, request, account, given)
      const client = clientOf(request, reply)
      const identityId = identityOfChallenge(tried!)
      const methods = [identityId ? 'sso' : 'pwd', ...(given.code ? (['otp'] as const) : []), 'mfa'] as const
      const first = async (tx: Tx) => {
        // Enforced or suspended between the two steps, the first one counts no more.
        if (identityId) await assertLinkUsable(tx, account.id, identityId)
        else await requireNoSso(tx, account.email)
        await use(tx)
        // Of two that answer one challenge at once, the token's row lets one in.
        if (!(await consumeToken(tx, 'mfa_challenge', challenge))) throw failure('invalid_challenge')
        return undefined
      }
      return enter(app, request, reply, account, methods, client, first, wantsTokens(request), identityId)
    },
  )

  app.post<{ Body: Static<typeof Refresh> }>(
    '/auth/refresh',
    {
      public: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Exchange the refresh token; a replayed old one ends the session',
        querystring: TokenQuery,
        body: Refresh,
        response: { 200: Signed, ...open('missing_token', 'invalid_token', 'session_revoked', 'sso_required', 'invalid_query') },
      },
    },
    async (request, reply) => {
      const token = presentedIn(request)
      if (!token) throw failure('missing_token')
      await app.countRequest(bySession, request, reply)
      const result = await request.write((tx) => rotate(tx, token, lifetimesOf(request)))
      if ('reuse' in result || 'ended' in result) throw failure('session_revoked')
      if ('refused' in result) throw failure('invalid_token')
      return signedInReply(app, request, reply, result)
    },
  )

  /**
   * A route that ends sessions, this one among them. The access token may have expired: then the refresh cookie says which.
   * The cookies are cleared whatever is answered, so that no user stays signed in at a shared computer.
   */
  const signOutRoute = (path: string, summary: string, everywhere: boolean) =>
    app.post(
      path,
      {
        authenticated: true,
        sessionOnly: true,
        orRefreshToken: true,
        allowReadOnly: true,
        plane: 'control',
        onSend: (request, reply, payload, done) => {
          // Another site's form is answered 401, as its request brings no cookies: it clears none.
          if (reply.statusCode !== 403 && request.headers['sec-fetch-site'] !== 'cross-site') {
            reply.clearCookie('access_token', { path: '/' })
            reply.clearCookie('refresh_token', { path: SESSION_PATH })
          }
          done(null, payload)
        },
        schema: {
          tags,
          summary,
          description: 'By access token, or, where that has expired, by the refresh cookie alone. Both cookies are cleared.',
          response: { 204: Type.Null(), ...mutation('session_required') },
        },
      },
      async (request, reply) => {
        await request.write((tx) => signOut(tx, request.cookies.refresh_token ?? '', everywhere))
        return reply.status(204).send()
      },
    )
  signOutRoute('/auth/logout', 'End this session', false)
  signOutRoute('/auth/logout-all', 'End all sessions of this user', true)

  app.get(
    '/auth/sessions',
    {
      authenticated: true,
      sessionOnly: true,
      plane: 'control',
      schema: { tags, summary: 'List my sessions', response: { 200: ok(Type.Array(SessionInfo)), ...guarded('session_required') } },
    },
    async (request) => ({ data: await request.read((tx) => sessionsOf(tx, request.actor.userId!, lifetimesOf(request))) }),
  )
  app.delete<{ Params: { id: string } }>(
    '/auth/sessions/:id',
    {
      authenticated: true,
      sessionOnly: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'End one of my sessions',
        params: Type.Object({ id: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => revokeOf(tx, request.actor.userId!, request.params.id, 'revoked_by_user'))
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
      const { user_id: id, email, name, kind, locale } = grants
      const allowed = allowedOf(grants, app.permissionsOf(tenant), context, Date.now())
      return {
        data: {
          user: { id, email, name, kind, locale },
          tenant: tenantInfo(request),
          context: contextBody(context),
          impersonated: request.session?.impersonated_by != null,
          access_mode: accessMode(tenant, kind),
          notice: noticeOf(tenant),
          notices: tenant.notices,
          permissions: allowed,
          modules: tenant.modules,
          flags: flagsFor(tenant, id, Date.now()),
          plan: tenant.plan,
          limits: tenant.limits,
        },
      }
    },
  )

  app.post<{ Body: Static<typeof Switch> }>(
    '/context/switch',
    {
      authenticated: true,
      sessionOnly: true,
      allowReadOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Work in another organization or workspace',
        querystring: TokenQuery,
        body: Switch,
        response: {
          200: ok(Type.Object({ context: ContextBody, access_token: Type.Optional(Type.String()) })),
          ...mutation('context_required', 'context_forbidden', 'invalid_query', 'session_required'),
        },
      },
    },
    async (request, reply) => {
      const context = { organizationId: request.body.organization_id, workspaceId: request.body.workspace_id ?? null }
      const verdict = checkContext(request.grants, context, Date.now())
      if (verdict !== 'ok') throw failure(verdict)
      await request.write((tx) => rememberContext(tx, context))
      const { user_id: id, email, name, kind, locale } = request.grants
      const signedIn = { sessionId: request.actor.sessionId!, user: { id, email, name, kind, locale }, context }
      const token = await accessToken(app.services.keys, request.tenant.id, signedIn)
      reply.setCookie('access_token', token, { ...cookie, path: '/', maxAge: ACCESS_SECONDS })
      return {
        data: {
          context: contextBody(context),
          ...(wantsTokens(request) ? { access_token: token } : {}),
        },
      }
    },
  )
}
