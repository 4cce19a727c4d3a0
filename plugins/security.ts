import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import underPressure from '@fastify/under-pressure'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import helmet from 'helmet'
import { originAllowed } from './origin.ts'

/** What helmet would set on each answer: the same for all, so it is asked once. */
function securityHeaders(development: boolean): Record<string, string> {
  const headers: Record<string, string> = {}
  const response = {
    setHeader: (name: string, value: string) => {
      headers[name.toLowerCase()] = value
    },
    removeHeader: () => {},
  }
  helmet({
    contentSecurityPolicy: {
      directives: {
        defaultSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        upgradeInsecureRequests: null,
      },
    },
    strictTransportSecurity: !development,
  })({} as never, response as never, () => {})
  return headers
}

/** Methods that the API's routes have. */
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']
/** For so long a browser need not ask again. */
const PREFLIGHT_SECONDS = 600

/** Headers, CORS by tenant domain, cookies, and refusing work (`overloaded`) before the event loop drowns. */
export default fp(
  async (app) => {
    const { settings } = app.services
    const headers = securityHeaders(settings.development)
    app.addHook('onRequest', (_request, reply, done) => {
      reply.headers(headers)
      done()
    })
    await app.register(cookie)
    await app.register(underPressure, { maxEventLoopDelay: settings.overloadDelayMs, sampleInterval: 2_000, retryAfter: 1 })
    /** Only a browser sends an origin; whoever sends none costs no look-up, and `/health` needs no database. */
    const knows = async ({ headers: { origin, host = '' } }: FastifyRequest): Promise<boolean> => {
      if (origin === undefined) return false
      const tenant = await Promise.resolve(app.services.tenants.byHost(host)).catch(() => null) // away: the tenant plugin says so
      return tenant !== null && originAllowed(settings, origin, host, tenant.domains)
    }
    await app.register(cors, {
      delegator: async (request: FastifyRequest) => {
        return {
          origin: await knows(request),
          credentials: true,
          methods: METHODS,
          maxAge: PREFLIGHT_SECONDS,
          exposedHeaders: ['etag', 'link', 'location', 'x-correlation-id', 'idempotency-replayed', 'retry-after'],
        }
      },
    })
  },
  { name: 'security', dependencies: ['errors'] },
)
