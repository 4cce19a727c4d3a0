// The options of a route beyond method and path. The app refuses to start on a route without them.
import fp from 'fastify-plugin'
import type { Level, PermissionEntry, Registry } from '../domain/access/index.ts'
import type { Plane, Tenant } from '../domain/tenancy/index.ts'

export interface RouteAccess {
  /** The scope that `permission` and `widens` are decided in; a route that names one of them must say it. */
  level?: Level
  /** Needs this permission in the scope that the level names. */
  permission?: string
  /** Permissions that let the caller see or do more here: others' keys beside their own. Asked by `request.may`. */
  widens?: readonly string[]
  /** The path parameter that names the organization whose scope decides, instead of the context's organization. */
  organizationFrom?: string
  /** Never for platform staff in a user's place, whatever the tenant consented to. */
  notImpersonated?: true
  /** Needs a session, and neither a permission nor a chosen organization. */
  authenticated?: true
  /** For a part of the system, by service token. */
  service?: true
  /** For a signed-in person; an API key is refused. */
  sessionOnly?: true
  /** For someone who proved lately who he is. */
  stepUp?: true
  /** Without a valid access token the refresh cookie will do, which the route looks at: there is no actor then. */
  orRefreshToken?: true
  /** For anyone. */
  public?: true
  /** Answers on any host: health, keys, docs. */
  tenantless?: true
  /** The platform module that the tenant must have. */
  module?: string
  /** The feature flag that must be on for the caller. */
  flag?: string
  /** For platform staff, on the platform's own host; on any other there is no such endpoint. */
  platform?: true
  /** Reads across tenants; only where `platform` is said too. */
  across?: true
  /** Whose database `request.read` and `request.write` go to; the data plane when nothing is said. */
  plane?: Plane
  /** Allowed while the tenant or the module is read-only: signing in and out, export, questions that are asked by POST. */
  allowReadOnly?: true
  /** Counted in the stricter bucket of sign-in attempts. */
  authLimit?: true
}

declare module 'fastify' {
  interface RouteShorthandOptions extends RouteAccess {}
  interface RouteOptions extends RouteAccess {}
  interface FastifyContextConfig {
    access?: RouteAccess
  }
}

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])
/** Whether a request means to change something (RFC 9110, 9.2.1). */
export const mutates = ({ method }: { method: string }): boolean => !SAFE.has(method)

const KEYS = [
  'level',
  'permission',
  'widens',
  'organizationFrom',
  'notImpersonated',
  'authenticated',
  'public',
  'service',
  'sessionOnly',
  'stepUp',
  'orRefreshToken',
  'tenantless',
  'module',
  'flag',
  'platform',
  'across',
  'plane',
  'allowReadOnly',
  'authLimit',
] as const

declare module 'fastify' {
  interface FastifyInstance {
    /** Every permission that some route asks for, with its module: the registry is generated from here. */
    permissions: Map<string, PermissionEntry>
    /** Those that there are for a kind of tenant. */
    permissionsOf(tenant: { kind: Tenant['kind'] }): Registry
  }
}

export default fp(
  async (app) => {
    app.decorate('permissions', new Map())
    let ofCustomers: Registry | undefined
    app.addHook('onReady', async () => {
      ofCustomers = new Map([...app.permissions].filter(([, { platform }]) => !platform))
    })
    app.decorate('permissionsOf', ({ kind }) => (kind === 'platform' ? app.permissions : (ofCustomers ?? app.permissions)))
    app.addHook('onRoute', (route) => {
      // Registered by libraries that know nothing of our options: CORS preflights and the documentation page's own files.
      if (route.method === 'OPTIONS' || route.url.startsWith('/docs')) Object.assign(route, { public: true, tenantless: true })
      const access = Object.fromEntries(KEYS.filter((key) => route[key] !== undefined).map((key) => [key, route[key]])) as RouteAccess
      if (!access.permission && !access.authenticated && !access.public && !access.service) {
        throw new Error(`${route.method} ${route.url} must say permission, authenticated: true, public: true or service: true`)
      }
      const permissions = [...(access.permission ? [access.permission] : []), ...(access.widens ?? [])]
      if (permissions.length > 0 && !access.level) {
        throw new Error(`${route.method} ${route.url} must say the level that ${permissions.join(', ')} is decided on`)
      }
      if (access.across && !access.platform)
        throw new Error(`${route.method} ${route.url} reads across tenants and must say platform: true`)
      route.config = { ...route.config, access }
      const methods = [route.method].flat()
      for (const permission of permissions) {
        const entry = app.permissions.get(permission) ?? {
          module: access.module ?? null,
          platform: access.platform ?? false,
          level: access.level!,
          mutates: false,
          organizationInPath: true,
          allowReadOnly: true,
          sessionOnly: true,
          routes: [],
        }
        // Asked for by routes of several levels it is decided on the object of each.
        if (entry.level !== access.level) entry.level = 'object'
        const changes = methods.some((method) => mutates({ method }))
        entry.mutates ||= changes
        entry.organizationInPath &&= access.organizationFrom !== undefined
        entry.allowReadOnly &&= !changes || access.allowReadOnly === true
        entry.sessionOnly &&= access.sessionOnly === true || access.stepUp === true
        entry.routes.push(`${methods.join(',')} ${route.url}`)
        app.permissions.set(permission, entry)
      }
    })
  },
  { name: 'route-options' },
)
