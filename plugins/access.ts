import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { assertMay, decide, decideOnLevel, type Granter, holdsAnywhere, mayIn } from '../domain/access/index.ts'
import { type Context, failure } from '../domain/kernel/index.ts'
import { hasFlag } from '../domain/platform/index.ts'
import { lacksFactor } from './assurance.ts'
import { mutates, type RouteAccess } from './route-options.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether the actor holds a permission in the scope that its level names. */
    may(permission: string): boolean
    /** Refuses with `permission_denied` what `may` denies. */
    require(permission: string): void
    /** Refuses with `permission_denied` an actor who lacks a permission in this scope. */
    requireIn(permission: string, scope: Context): void
    /** The actor, for functions that change rights. */
    granter: Granter
  }
}

/** Whether the actor passes the gate of a route. */
function passes(request: FastifyRequest, { permission, level, organizationFrom }: RouteAccess): boolean {
  const now = Date.now()
  if (level === 'object' || level === 'shared') return holdsAnywhere(request.grants, permission!, now)
  if (organizationFrom) {
    const organizationId = (request.params as Record<string, string>)[organizationFrom]!
    return decide(request.grants, permission!, { organizationId, workspaceId: null }, now).allowed
  }
  return decideOnLevel(request.grants, permission!, { level: level!, mutates: mutates(request) }, request.context, now).allowed
}

/**
 * The tenant's entitlement, then the actor's rights: the calls of its plan, the module, the feature, the permission in the
 * scope of the route's level. A module that was withdrawn stays readable. Refuses with `plan_limit`,
 * `module_unavailable`, `permission_denied`.
 */
export default fp(
  async (app) => {
    const { apiCalls } = app.services
    app.decorateRequest('may', function (this: FastifyRequest, permission: string) {
      // A route that any session passes was not asked for the second factor that a permission takes.
      if (this.routeOptions.config.access?.authenticated && lacksFactor(this)) return false
      return mayIn(this.grants, app.permissionsOf(this.tenant), permission, this.context, Date.now())
    })
    app.decorateRequest('require', function (this: FastifyRequest, permission: string) {
      if (!this.may(permission)) throw failure('permission_denied', { permission })
    })
    app.decorateRequest('requireIn', function (this: FastifyRequest, permission: string, scope: Context) {
      assertMay(this.granter, permission, scope, Date.now())
    })
    app.decorateRequest('granter', {
      getter(this: FastifyRequest) {
        return { grants: this.grants, registry: app.permissionsOf(this.tenant) }
      },
    })
    app.addHook('onRequest', (request, _reply, done) => {
      if (!request.actor) return done()
      const access = request.routeOptions.config.access ?? {}
      const { permission, module, flag } = access
      const { tenant, actor } = request
      const now = new Date()
      // Calls that need a session alone are counted and go on: signing out, the menu, the usage.
      const limit = permission ? tenant.limits.api_calls : null
      if (!apiCalls.take(tenant.id, limit, now)) throw failure('plan_limit', { metric: 'api_calls', limit })
      if (module) {
        const availability = tenant.modules[module] ?? 'disabled'
        if (availability !== 'enabled' && (availability !== 'read_only' || (mutates(request) && !access.allowReadOnly))) {
          throw failure('module_unavailable', { module, availability })
        }
      }
      if (flag && !hasFlag(tenant, flag, actor.userId, now.getTime())) throw failure('module_unavailable', { flag })
      if (permission && !(app.permissionsOf(tenant).has(permission) && passes(request, access))) {
        throw failure('permission_denied', { permission })
      }
      done()
    })
  },
  { name: 'access', dependencies: ['context'] },
)
