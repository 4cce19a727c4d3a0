// Who is asking: a person by access token, from the cookie or the Authorization header; a program by API key; a worker by service token.
import jwt from '@fastify/jwt'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { type ApiKey, type Caller, type Grants, grantsByConsent, grantsOfKey, type Session } from '../domain/access/index.ts'
import { addressAllowed, ISSUER, keyMatches, partsOfKey, SERVICE_AUDIENCE } from '../domain/identity/index.ts'
import { type Actor, type Context, Failure, failure, STAFF_NAME } from '../domain/kernel/index.ts'
import { originAllowed } from './origin.ts'
import { mutates } from './route-options.ts'

interface Claims {
  iss: string
  aud: string
  sub: string
  tenant_id: string
  session_id: string
  organization_id: string | null
  workspace_id: string | null
  kind: Actor['kind']
  /** Seconds since 1970; set when signed. */
  exp: number
}

declare module '@fastify/jwt' {
  interface FastifyJWT {
    user: Claims
  }
}
declare module 'fastify' {
  interface FastifyRequest {
    actor: Actor
    grants: Grants
    /** Null where an API key asks. */
    session: Session | null
    /** Null where a person asks. */
    apiKey: ApiKey | null
    /** What the token or key says; the context plugin decides whether it holds. */
    claimedContext: Context
  }
}

const LEEWAY_MS = 30_000
const MAX_VERIFIED = 5_000

/** Access tokens whose signature was right, to the letter, so that RSA is verified once a token and not once a request. */
class VerifiedTokens {
  readonly #claims = new Map<string, Claims>()

  get(token: string): Claims | undefined {
    const claims = this.#claims.get(token)
    return claims && claims.exp * 1000 + LEEWAY_MS > Date.now() ? claims : undefined
  }

  keep(token: string, claims: Claims): void {
    if (this.#claims.size >= MAX_VERIFIED) this.#claims.clear()
    this.#claims.set(token, claims)
  }

  clear(): void {
    this.#claims.clear()
  }
}

const bearer = (request: FastifyRequest): string | undefined => request.headers.authorization?.match(/^Bearer (\S+)$/i)?.[1]

/** fast-jwt's codes → our words. Whatever else is wrong with a token is `invalid_token`. */
const tokenFailure = (error: unknown) =>
  failure((error as { code?: string }).code === 'FST_JWT_AUTHORIZATION_TOKEN_EXPIRED' ? 'token_expired' : 'invalid_token')

/**
 * Decides who asks. Refuses with `missing_token`, `invalid_token`, `token_expired`, `tenant_mismatch`, `session_revoked`,
 * `address_forbidden`, and a mutation by cookie from a foreign origin with `origin_forbidden`.
 */
export default fp(
  async (app) => {
    const { keys, access, settings } = app.services
    await app.register(jwt, {
      secret: {
        private: keys.current.privatePem, // never used here: tokens are signed by domain/identity/tokens.ts
        public: async (_request: FastifyRequest, token: unknown) =>
          keys.publicPem((token as { header?: { kid?: string } }).header?.kid ?? '') ?? Promise.reject(failure('invalid_token')),
      },
      decode: { complete: true },
      // `none`, HS256 with the public key and other tricks end at the list of one algorithm.
      verify: {
        algorithms: ['RS256'],
        allowedIss: ISSUER,
        clockTolerance: LEEWAY_MS,
        extractToken: (request) => bearer(request) ?? request.cookies.access_token,
      },
    })

    const verified = new VerifiedTokens()
    keys.onChange(() => verified.clear())
    app.decorateRequest('actor', null as never)
    app.decorateRequest('grants', null as never)
    app.decorateRequest('session', null)
    app.decorateRequest('apiKey', null)
    app.decorateRequest('claimedContext', null as never)

    /** The signature, checked for a token that was not seen yet. */
    async function verify(request: FastifyRequest, token: string): Promise<Claims> {
      const claims = await request.jwtVerify<Claims>().catch((error: unknown) => {
        throw tokenFailure(error)
      })
      verified.keep(token, claims)
      return claims
    }

    /** What the token says and the database confirms. */
    function admit(request: FastifyRequest, claims: Claims, { session, grants }: Caller): void {
      if (!session || grants?.status !== 'active') throw failure('session_revoked')
      // Staff who impersonate a user change data only in the scopes of the tenant's consents, in every context.
      request.grants = session.impersonated_by && mutates(request) ? grantsByConsent(grants, session.consents) : grants
      request.session = session
      request.actor = {
        tenantId: request.tenant.id,
        userId: claims.sub,
        kind: grants.kind,
        sessionId: claims.session_id,
        name: session.impersonated_by ? STAFF_NAME : '',
        ...(session.impersonated_by ? { impersonatorId: session.impersonated_by } : {}),
      }
      request.claimedContext = { organizationId: claims.organization_id, workspaceId: claims.workspace_id }
      request.log = request.log.child({ user_id: claims.sub })
    }

    function checkAudience(request: FastifyRequest, claims: Claims, byCookie: boolean): void {
      if (claims.tenant_id !== request.tenant.id || claims.aud !== request.tenant.id) throw failure('tenant_mismatch')
      if (byCookie && mutates(request) && !originAllowed(settings, request.headers.origin ?? '', request.host, request.tenant.domains)) {
        throw failure('origin_forbidden')
      }
    }

    /** A key of another tenant, an unknown one and a wrong secret are told alike. */
    async function admitKey(request: FastifyRequest, token: string): Promise<void> {
      const parts = partsOfKey(token)
      const key = parts && (await access.key(request.tenant.id, parts.prefix))
      if (!key || !keyMatches(parts.secret, key.secret_hash)) throw failure('invalid_token')
      if (!addressAllowed(key.allowed_addresses, request.ip)) throw failure('address_forbidden')
      const grants = await access.grants(request.tenant.id, key.user_id)
      if (grants?.status !== 'active') throw failure('session_revoked')
      request.grants = grantsOfKey(key, grants)
      request.apiKey = key
      request.actor = { tenantId: request.tenant.id, userId: key.user_id, kind: grants.kind, sessionId: null, name: `tk_${key.prefix}` }
      request.claimedContext = { organizationId: key.organization_id, workspaceId: key.workspace_id }
      request.log = request.log.child({ user_id: key.user_id, api_key: key.prefix })
      access.keySeen(request.tenant.id, key.id)
    }

    /** Whether a route that ends sessions goes on by the refresh cookie, sent by a page of the tenant. */
    const goesOnByRefreshToken = (request: FastifyRequest): boolean =>
      request.routeOptions.config.access?.orRefreshToken === true &&
      request.cookies.refresh_token !== undefined &&
      originAllowed(settings, request.headers.origin ?? '', request.host, request.tenant.domains)

    app.addHook('onRequest', async (request, reply) => {
      if (request.is404 || request.routeOptions.config.access?.public) return
      try {
        await authenticate(request, reply)
      } catch (error) {
        if (!(error instanceof Failure) || !goesOnByRefreshToken(request)) throw error
      }
    })

    async function authenticate(request: FastifyRequest, reply: FastifyReply): Promise<void> {
      const route = request.routeOptions.config.access
      const fromHeader = bearer(request)
      const token = fromHeader ?? request.cookies.access_token
      if (!token) throw failure('missing_token')
      if (fromHeader?.startsWith('tk_') && !route?.service) {
        await admitKey(request, fromHeader)
      } else {
        const claims = verified.get(token) ?? (await verify(request, token))
        if (route?.service) {
          if (claims.aud !== SERVICE_AUDIENCE) throw failure('invalid_token')
          return
        }
        checkAudience(request, claims, !fromHeader)
        admit(
          request,
          claims,
          await access.caller(request.tenant.id, claims.sub, claims.session_id, request.tenant.security.session_idle_minutes * 60_000),
        )
      }
      await request.countUser(reply)
    }
  },
  { name: 'session', dependencies: ['tenant'] },
)
