import fp from 'fastify-plugin'
import { mutates } from './route-options.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Milliseconds that the request spent in units of work on databases. */
    databaseMs: number
  }
}

/** Counts what each tenant's requests cost, by feature and user, for the platform's staff. */
export default fp(
  async (app) => {
    const { activity } = app.services
    app.decorateRequest('databaseMs', 0)
    app.addHook('onResponse', (request, reply, done) => {
      done()
      // Without an actor it is no use of the tenant's: sign-ins that failed, probes, devices.
      if (!request.actor) return
      const { module, permission } = request.routeOptions.config.access ?? {}
      activity.note(
        {
          tenantId: request.tenant.id,
          // What staff or a key does is no sign of a user at work.
          userId: request.session && request.session.impersonated_by == null ? request.actor.userId : null,
          feature: module ?? permission?.split('.')[0] ?? 'account',
          changes: mutates(request) && reply.statusCode < 400,
          failed: reply.statusCode >= 500,
          durationMs: reply.elapsedTime,
          databaseMs: request.databaseMs,
        },
        new Date(),
      )
    })
  },
  { name: 'activity', dependencies: ['session'] },
)
