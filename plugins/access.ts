import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Decision } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Refuses with `permission_denied` unless the caller has the permission in his context; a promise only when it must ask. */
    require(permission: string): void | Promise<void>
  }
}

/** Module, then permission, in the caller's context. Refuses with `module_unavailable`, `permission_denied`. */
export default fp(
  async (app) => {
    const { access } = app.services
    app.decorateRequest('require', function (this: FastifyRequest, permission: string) {
      const { tenantId, userId } = this.actor
      const settle = ({ allowed }: Decision) => {
        if (!allowed) throw failure('permission_denied', { permission })
      }
      const decision = access.decide(tenantId, userId!, permission, this.context, Date.now())
      return decision instanceof Promise ? decision.then(settle) : settle(decision)
    })
    app.addHook('onRequest', (request, _reply, done) => {
      const { permission, module } = request.routeOptions.config.access ?? {}
      if (!request.actor || !permission) return done()
      if (module && request.tenant.modules[module] !== 'enabled') throw failure('module_unavailable', { module })
      const waiting = request.require(permission)
      if (waiting) return waiting
      done()
    })
  },
  { name: 'access', dependencies: ['context'] },
)
