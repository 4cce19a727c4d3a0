import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { decide, matches } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'
import { hasFlag } from '../domain/platform/index.ts'
import { mutates } from './route-options.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Has the caller this permission in his context? An API key has what its maker has and it was given. */
    may(permission: string): boolean
    /** Refuses with `permission_denied` unless he may. */
    require(permission: string): void
  }
}

/**
 * What the tenant bought, then what the caller may: the calls of its plan, the module, the feature, the permission in the
 * caller's context. A module that was taken away stays readable. Refuses with `plan_limit`, `module_unavailable`,
 * `permission_denied`.
 */
export default fp(
  async (app) => {
    const { apiCalls } = app.services
    app.decorateRequest('may', function (this: FastifyRequest, permission: string) {
      if (!app.permissionsOf(this.tenant).has(permission)) return false
      if (this.apiKey && !this.apiKey.permissions.some((pattern) => matches(pattern, permission))) return false
      return decide(this.grants, permission, this.context, Date.now()).allowed
    })
    app.decorateRequest('require', function (this: FastifyRequest, permission: string) {
      if (!this.may(permission)) throw failure('permission_denied', { permission })
    })
    app.addHook('onRequest', (request, _reply, done) => {
      if (!request.actor) return done()
      const { permission, module, flag } = request.routeOptions.config.access ?? {}
      const { tenant, actor } = request
      const now = new Date()
      // What needs a session alone is counted and goes on: signing out, the menu, what is used up.
      const limit = permission ? tenant.limits.api_calls : null
      if (!apiCalls.take(tenant.id, limit, now)) throw failure('plan_limit', { metric: 'api_calls', limit })
      if (module) {
        const availability = tenant.modules[module] ?? 'disabled'
        if (availability !== 'enabled' && (availability !== 'read_only' || mutates(request))) {
          throw failure('module_unavailable', { module, availability })
        }
      }
      if (flag && !hasFlag(tenant, flag, actor.userId, now.getTime())) throw failure('module_unavailable', { flag })
      if (permission) request.require(permission)
      done()
    })
  },
  { name: 'access', dependencies: ['context'] },
)
