import fp from 'fastify-plugin'
import { checkContext } from '../domain/access/index.ts'
import { type Context, failure } from '../domain/kernel/index.ts'

declare module 'fastify' {
  interface FastifyRequest {
    context: Context
  }
}

/**
 * Organization and workspace, held on every request against assignments and settings. Refuses with `context_required`,
 * `context_forbidden`; a route that only needs a session goes on without one.
 */
export default fp(
  async (app) => {
    app.decorateRequest('context', null as never)
    app.addHook('onRequest', (request, _reply, done) => {
      if (!request.actor) return done()
      const verdict = checkContext(request.grants, request.claimedContext, Date.now())
      const { authenticated } = request.routeOptions.config.access ?? {}
      if (verdict !== 'ok' && !authenticated) throw failure(verdict)
      request.context = verdict === 'ok' ? request.claimedContext : { organizationId: null, workspaceId: null }
      done()
    })
  },
  { name: 'context', dependencies: ['access-mode'] },
)
