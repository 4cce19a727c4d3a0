import fp from 'fastify-plugin'
import { failure } from '../domain/kernel/index.ts'

/** Module, then permission, in the caller's context. Refuses with `module_unavailable`, `permission_denied`. */
export default fp(
  async (app) => {
    const { access } = app.services
    app.addHook('onRequest', async (request) => {
      const { permission, module } = request.routeOptions.config.access ?? {}
      if (!request.actor || !permission) return
      if (module && request.tenant.modules[module] !== 'enabled') throw failure('module_unavailable', { module })
      const { tenantId, userId } = request.actor
      const now = Date.now()
      const decision =
        access.decideNow(tenantId, userId!, permission, request.context, now) ??
        (await access.decide(tenantId, userId!, permission, request.context, now))
      if (!decision.allowed) throw failure('permission_denied', { permission })
    })
  },
  { name: 'access', dependencies: ['context'] },
)
