// What every way of signing in ends with: the session's cookies, and the same answer.
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { defaultContext, TENANT } from '../../domain/access/index.ts'
import {
  ACCESS_SECONDS,
  type Account,
  accessToken,
  type Client,
  type Method,
  openSession,
  requireNoSso,
  type SignedIn,
} from '../../domain/identity/index.ts'
import { Failure, failure, nullable, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { accessMode } from '../../domain/tenancy/index.ts'
import { ok } from './envelope.ts'

export const SESSION_PATH = '/api/v1/auth'
const DEVICE_SECONDS = 365 * 86_400

export const TokenQuery = Type.Object({ token: Type.Optional(Type.Literal('body')) }, { additionalProperties: false })
export const ContextBody = Type.Object({ organization_id: nullable(Uuid), workspace_id: nullable(Uuid) })
export const UserInfo = Type.Object({
  id: Uuid,
  email: Type.String(),
  name: Type.String(),
  kind: Type.String(),
  locale: nullable(Type.String()),
})
export const TenantInfo = Type.Object({
  id: Uuid,
  slug: Type.String(),
  name: Type.String(),
  locale: Type.String(),
  timezone: Type.String(),
  currency: Type.String(),
})
export const Signed = ok(
  Type.Object({
    user: UserInfo,
    tenant: TenantInfo,
    context: ContextBody,
    access_token: Type.Optional(Type.String()),
    refresh_token: Type.Optional(Type.String()),
  }),
)

/** Operators ask for the tokens in the body; browsers have them in cookies. */
export const wantsTokens = (request: FastifyRequest): boolean => (request.query as Static<typeof TokenQuery>).token === 'body'

export const tenantInfo = ({ tenant: { id, slug, name, locale, timezone, currency } }: FastifyRequest) => ({
  id,
  slug,
  name,
  locale,
  timezone,
  currency,
})
export const contextBody = ({ organizationId, workspaceId }: SignedIn['context']) => ({
  organization_id: organizationId,
  workspace_id: workspaceId,
})

export const lifetimesOf = ({ tenant: { security } }: FastifyRequest) => ({
  idleMinutes: security.session_idle_minutes,
  absoluteHours: security.session_absolute_hours,
})

/** Who sits at the other end. A browser gets a mark of its own, by which the next sign-in is known to come from the same device. */
export function clientOf(request: FastifyRequest, reply: FastifyReply): Client {
  const { development } = request.server.services.settings
  let device = request.cookies.device ?? ''
  if (!/^[A-Za-z0-9_-]{22}$/.test(device)) {
    device = randomBytes(16).toString('base64url')
    reply.setCookie('device', device, { httpOnly: true, sameSite: 'lax', secure: !development, path: SESSION_PATH, maxAge: DEVICE_SECONDS })
  }
  return { userAgent: request.headers['user-agent']?.slice(0, 300) ?? null, address: request.ip, device }
}

/** Sets the cookies of a session and makes the answer. */
export async function signedInReply(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  signedIn: SignedIn,
  inBody = wantsTokens(request),
) {
  const cookie = { httpOnly: true, sameSite: 'lax', secure: !app.services.settings.development } as const
  const token = await accessToken(app.services.keys, request.tenant.id, signedIn)
  reply.setCookie('access_token', token, { ...cookie, path: '/', maxAge: ACCESS_SECONDS })
  reply.setCookie('refresh_token', signedIn.refreshToken, {
    ...cookie,
    path: SESSION_PATH,
    maxAge: request.tenant.security.session_absolute_hours * 3600,
  })
  reply.header('cache-control', 'no-store')
  return {
    data: {
      user: signedIn.user,
      tenant: tenantInfo(request),
      context: contextBody(signedIn.context),
      ...(inBody ? { access_token: token, refresh_token: signedIn.refreshToken } : {}),
    },
  }
}

/** Refuses with `sso_required` whoever's company wants him to come in by its own door. */
export const noSso = (account: Account) => async (tx: Tx) => {
  await requireNoSso(tx, account.email)
  return undefined
}

/** Refuses with `blocked` where this kind of user may not come in now. */
function requireOpen(request: FastifyRequest, account: Account): void {
  const { mode, reason } = accessMode(request.tenant, account.kind)
  if (mode === 'blocked') throw failure('blocked', { reason })
}

/**
 * Opens a session where the user was last. `first` runs in the same transaction, before; a refusal that it returns, rather
 * than throws, is thrown once what it wrote is committed, and no session is opened.
 * @param identityId the link of a single sign-on, which the session ends with
 */
export async function enter(
  app: FastifyInstance,
  request: FastifyRequest,
  reply: FastifyReply,
  account: Account,
  methods: readonly Method[],
  client: Client,
  first: (tx: Tx) => Promise<Failure | undefined> = async () => undefined,
  inBody = wantsTokens(request),
  identityId: string | null = null,
) {
  requireOpen(request, account)
  const grants = await app.services.access.grants(request.tenant.id, account.id)
  // From the account, which was read now: where a user works is no right, so the cache is not told of it.
  const { last_organization_id, last_workspace_id } = account
  const context = grants ? defaultContext({ ...grants, last_organization_id, last_workspace_id }, Date.now()) : TENANT
  const signedIn = await request.write(async (tx) => {
    const refused = await first(tx)
    return refused ?? openSession(tx, account, client, context, methods, lifetimesOf(request), identityId)
  })
  if (signedIn instanceof Failure) throw signedIn
  return signedInReply(app, request, reply, signedIn, inBody)
}
