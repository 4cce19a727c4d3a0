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
 * `context_forbidden` on the routes that are decided in the context; others go on without one.
 */
export default fp(
  async (app) => {
    app.decorateRequest('context', null as never)
    app.addHook('onRequest', (request, _reply, done) => {
      if (!request.actor) return done()
      const verdict = checkContext(request.grants, request.claimedContext, Date.now())
      const { level, organizationFrom } = request.routeOptions.config.access ?? {}
      const works = level === 'workspace' || (level === 'organization' && !organizationFrom)
      if (verdict !== 'ok' && works) throw failure(verdict)
      request.context = verdict === 'ok' ? request.claimedContext : { organizationId: null, workspaceId: null }
      done()
    })
  },
  { name: 'context', dependencies: ['access-mode'] },
)
