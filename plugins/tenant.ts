import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { failure } from '../domain/kernel/index.ts'
import type { Tenant } from '../domain/tenancy/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    tenant: Tenant
  }
  interface FastifyInstance {
    /** The logger of a request whose tenant is known. */
    logOf(correlationId: string, tenantId: string): FastifyBaseLogger
  }
}

/** Finds the tenant by host name; no header and no token can choose another. Refuses with `tenant_not_found`, `route_not_found`. */
export default fp(
  async (app) => {
    app.decorateRequest('tenant', null as never)
    const settle = (request: FastifyRequest, tenant: Tenant | null) => {
      if (!tenant) throw failure('tenant_not_found')
      request.tenant = tenant
      request.log = app.logOf(request.id, tenant.id)
      if (request.routeOptions.config.access?.platform && tenant.kind !== 'platform') throw failure('route_not_found')
    }
    app.addHook('onRequest', (request, _reply, done) => {
      // An unknown path keeps its own answer, `route_not_found`, whatever the host.
      if (request.is404 || request.routeOptions.config.access?.tenantless) return done()
      const tenant = app.services.tenants.byHost(request.host)
      if (tenant instanceof Promise) return tenant.then((found) => settle(request, found))
      settle(request, tenant)
      done()
    })
  },
  { name: 'tenant', dependencies: ['rate-limit'] },
)
