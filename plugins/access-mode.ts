import fp from 'fastify-plugin'
import { failure } from '../domain/kernel/index.ts'
import { accessMode } from '../domain/tenancy/index.ts'
import { mutates } from './route-options.ts'

/** Active, read-only or blocked, for this tenant and this kind of actor. Refuses with `read_only`, `blocked`. */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      if (!request.actor) return done()
      const kind = request.grants.verified ? request.actor.kind : null
      const { mode, reason } = kind ? accessMode(request.tenant, kind) : { mode: 'blocked', reason: 'user_not_verified' }
      if (mode === 'blocked') throw failure('blocked', { reason })
      if (mode === 'read_only' && mutates(request) && !request.routeOptions.config.access?.allowReadOnly)
        throw failure('read_only', { reason })
      done()
    })
  },
  { name: 'access-mode', dependencies: ['assurance'] },
)
