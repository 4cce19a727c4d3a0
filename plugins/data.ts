import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { isEverything, reachOf } from '../domain/access/index.ts'
import { type Once, openRows, type Row, type Scope, systemScope, type Tx } from '../domain/kernel/index.ts'
import { databaseOf, type Plane, writeAtHome } from '../domain/tenancy/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Reads on the route's plane, or another one, bound to tenant, actor and context. */
    read<T>(work: (tx: Tx) => Promise<T>, plane?: Plane): Promise<T>
    /** Writes on the route's plane in one transaction; with an Idempotency-Key, once. `work` may run twice: SQL only. */
    write<T>(work: (tx: Tx) => Promise<T>): Promise<T>
    /** Records as they are shown: sealed columns opened under the tenant's key. */
    reveal<R>(row: Row, records: readonly R[]): Promise<R[]>
    /** Makes `write` happen once; the idempotency plugin sets it. */
    once: Once | undefined
  }
}

function scopeOf(request: FastifyRequest): Scope {
  const { tenant, actor, context } = request
  if (!actor) return { ...systemScope(tenant.id, 'public', request.id), limits: tenant.limits }
  const { permission, level } = request.routeOptions.config.access ?? {}
  const narrows = permission !== undefined && (level === 'workspace' || level === 'object')
  const reach = narrows ? reachOf(request.grants, permission, Date.now()) : null
  const organization = request.grants.organizations.find(({ id }) => id === context.organizationId)
  return {
    tenantId: tenant.id,
    actor,
    context,
    correlationId: request.id,
    reach: reach && isEverything(request.grants, reach) ? null : reach,
    limits: tenant.limits,
    secrets: request.server.services.vault.of(tenant.id),
    numberFormats: organization,
    currency: organization?.currency,
  }
}

/** Adds what a unit of work took to what the request spent in databases. */
function timed<T>(request: FastifyRequest, work: Promise<T>): Promise<T> {
  const began = performance.now()
  return work.finally(() => {
    request.databaseMs += performance.now() - began
  })
}

/** The two ways to a database that a route has. Refuses with `database_unavailable`, `tenant_migrating`. */
export default fp(
  async (app) => {
    const { planes, tenants } = app.services
    const plane = (request: FastifyRequest): Plane => request.routeOptions.config.access?.plane ?? 'data'
    app.decorateRequest('once', undefined)
    app.decorateRequest('reveal', function <R>(this: FastifyRequest, row: Row, records: readonly R[]) {
      return openRows(app.services.vault.of(this.tenant.id), row, records)
    })
    app.decorateRequest('read', function <T>(this: FastifyRequest, work: (tx: Tx) => Promise<T>, on?: Plane) {
      const database = databaseOf(planes, on ?? plane(this), this.tenant)
      const reading = this.routeOptions.config.access?.across
        ? database.readAcross(scopeOf(this), work)
        : database.read(scopeOf(this), work)
      return timed(this, reading)
    })
    app.decorateRequest('write', function <T>(this: FastifyRequest, work: (tx: Tx) => Promise<T>) {
      const writing = writeAtHome(planes, tenants, plane(this), this.tenant, (database, tenant) => {
        this.tenant = tenant // what is read after this write is read where it was written
        return database.write(scopeOf(this), work, this.once)
      })
      return timed(this, writing)
    })
  },
  { name: 'data', dependencies: ['access'] },
)
