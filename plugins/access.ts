import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { decide, matches } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Has the caller this permission in his context? An API key has what its maker has and it was given. */
    may(permission: string): boolean
    /** Refuses with `permission_denied` unless he may. */
    require(permission: string): void
  }
}

/** Module, then permission, in the caller's context. Refuses with `module_unavailable`, `permission_denied`. */
export default fp(
  async (app) => {
    app.decorateRequest('may', function (this: FastifyRequest, permission: string) {
      if (this.apiKey && !this.apiKey.permissions.some((pattern) => matches(pattern, permission))) return false
      return decide(this.grants, permission, this.context, Date.now()).allowed
    })
    app.decorateRequest('require', function (this: FastifyRequest, permission: string) {
      if (!this.may(permission)) throw failure('permission_denied', { permission })
    })
    app.addHook('onRequest', (request, _reply, done) => {
      const { permission, module } = request.routeOptions.config.access ?? {}
      if (!request.actor || !permission) return done()
      if (module && request.tenant.modules[module] !== 'enabled') throw failure('module_unavailable', { module })
      request.require(permission)
      done()
    })
  },
  { name: 'access', dependencies: ['context'] },
)
