import fp from 'fastify-plugin'
import { networkOf } from '../domain/kernel/index.ts'

/**
 * The stricter bucket of routes with `authLimit`, by tenant and address: by the tenant that was found and not by the host
 * that was sent, because one tenant answers on several hosts. Such a request was counted by its address alone before
 * (plugins/rate-limit.ts). Refuses with `rate_limited`.
 */
export default fp(
  async (app) => {
    const byAttempt = app.limiter(app.services.settings.rateLimitAuth, ({ tenant, ip }) => `auth:${tenant?.id ?? ''}:${networkOf(ip)}`)
    app.addHook('onRequest', async (request, reply) => {
      if (request.routeOptions.config.access?.authLimit) await app.countRequest(byAttempt, request, reply)
    })
  },
  { name: 'attempt-limit', dependencies: ['tenant'] },
)
