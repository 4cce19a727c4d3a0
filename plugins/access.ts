import fp from 'fastify-plugin'
import type { Decision } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'

/** Module, then permission, in the caller's context. Refuses with `module_unavailable`, `permission_denied`. */
export default fp(
  async (app) => {
    const { access } = app.services
    app.addHook('onRequest', (request, _reply, done) => {
      const { permission, module } = request.routeOptions.config.access ?? {}
      if (!request.actor || !permission) return done()
      if (module && request.tenant.modules[module] !== 'enabled') throw failure('module_unavailable', { module })
      const { tenantId, userId } = request.actor
      const now = Date.now()
      const settle = ({ allowed }: Decision) => {
        if (!allowed) throw failure('permission_denied', { permission })
      }
      const decision = access.decideNow(tenantId, userId!, permission, request.context, now)
      if (!decision) return access.decide(tenantId, userId!, permission, request.context, now).then(settle)
      settle(decision)
      done()
    })
  },
  { name: 'access', dependencies: ['context'] },
)
