import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { evaluate, matches } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Has the caller this permission in his context? An API key has what its maker has and it was given. */
    may(permission: string): boolean
    /** Refuses with `permission_denied` unless he may; a promise only when the database must be asked. */
    require(permission: string): void | Promise<void>
  }
}

/** Module, then permission, in the caller's context. Refuses with `module_unavailable`, `permission_denied`. */
export default fp(
  async (app) => {
    const { access } = app.services
    app.decorateRequest('may', function (this: FastifyRequest, permission: string) {
      if (this.apiKey && !this.apiKey.permissions.some((pattern) => matches(pattern, permission))) return false
      return evaluate(this.grants, permission, this.context, Date.now()).allowed
    })
    app.decorateRequest('require', function (this: FastifyRequest, permission: string) {
      const refuse = () => {
        throw failure('permission_denied', { permission })
      }
      if (this.apiKey && !this.apiKey.permissions.some((pattern) => matches(pattern, permission))) return refuse()
      const { tenantId, userId } = this.actor
      const decision = access.decide(tenantId, userId!, permission, this.context, Date.now())
      if (decision instanceof Promise) return decision.then(({ allowed }) => (allowed ? undefined : refuse()))
      if (!decision.allowed) refuse()
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
