// What a route says about itself beyond method and path. The app refuses to start on a route that says nothing.
import fp from 'fastify-plugin'
import type { Plane, Tenant } from '../domain/tenancy/index.ts'

/** The scope that a route's permissions are decided in: the scope of what it touches, not of the caller's context. */
export type Level = 'tenant' | 'organization' | 'workspace'

export interface RouteAccess {
  /** Where `permission` and `widens` are decided. Every route that names a permission says it. */
  level?: Level
  /** Needs this permission in the caller's context. */
  permission?: string
  /** Permissions that let the caller see or do more here: others' keys beside his own. Asked by `request.may`. */
  widens?: readonly string[]
  /** Needs a session, and neither a permission nor a chosen organization. */
  authenticated?: true
  /** For a part of the system, by service token. */
  service?: true
  /** For a signed-in person; an API key is refused. */
  sessionOnly?: true
  /** For someone who proved lately who he is. */
  stepUp?: true
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
  /** Allowed while the tenant is read-only: signing in and out, paying, export. */
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
  'authenticated',
  'public',
  'service',
  'sessionOnly',
  'stepUp',
  'tenantless',
  'module',
  'flag',
  'platform',
  'across',
  'plane',
  'allowReadOnly',
  'authLimit',
] as const

interface RegisteredPermission {
  module: string | null
  /** Asked for on the platform's own host alone. */
  platform: boolean
  routes: string[]
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Every permission that some route asks for, with its module: the registry is generated from here. */
    permissions: Map<string, RegisteredPermission>
    /** Those that there are for a kind of tenant. */
    permissionsOf(tenant: { kind: Tenant['kind'] }): ReadonlyMap<string, RegisteredPermission>
  }
}

export default fp(
  async (app) => {
    app.decorate('permissions', new Map())
    let ofCustomers: Map<string, RegisteredPermission> | undefined
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
      if (access.across && !access.platform)
        throw new Error(`${route.method} ${route.url} reads across tenants and must say platform: true`)
      route.config = { ...route.config, access }
      for (const permission of [...(access.permission ? [access.permission] : []), ...(access.widens ?? [])]) {
        const entry = app.permissions.get(permission) ?? { module: access.module ?? null, platform: access.platform ?? false, routes: [] }
        entry.routes.push(`${[route.method].flat().join(',')} ${route.url}`)
        app.permissions.set(permission, entry)
      }
    })
  },
  { name: 'route-options' },
)
