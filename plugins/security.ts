import cookie from '@fastify/cookie'
import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import underPressure from '@fastify/under-pressure'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'

/** Whether a browser origin belongs to the tenant that the request's host names. */
export function originAllowed(origin: string, host: string, domains: readonly string[]): boolean {
  try {
    const name = new URL(origin).hostname.toLowerCase()
    return name === host.replace(/:\d+$/, '').toLowerCase() || domains.includes(name)
  } catch {
    return false
  }
}

/** Headers, CORS by tenant domain, cookies, and refusing work (`overloaded`) before the event loop drowns. */
export default fp(
  async (app) => {
    await app.register(helmet, {
      contentSecurityPolicy: {
        directives: {
          defaultSrc: ["'self'"],
          styleSrc: ["'self'", "'unsafe-inline'"],
          imgSrc: ["'self'", 'data:'],
          upgradeInsecureRequests: null,
        },
      },
      hsts: !app.services.settings.development,
    })
    await app.register(cookie)
    await app.register(underPressure, { maxEventLoopDelay: 2_000, maxEventLoopUtilization: 0.995, sampleInterval: 2_000, retryAfter: 1 })
    await app.register(cors, {
      delegator: async (request: FastifyRequest) => {
        const tenant = await app.services.tenants.byHost(request.headers.host ?? '')
        const { origin } = request.headers
        const allowed = origin !== undefined && tenant !== null && originAllowed(origin, request.headers.host ?? '', tenant.domains)
        return {
          origin: allowed,
          credentials: true,
          exposedHeaders: ['etag', 'link', 'location', 'x-correlation-id', 'idempotency-replayed', 'retry-after'],
        }
      },
    })
  },
  { name: 'security', dependencies: ['errors'] },
)
