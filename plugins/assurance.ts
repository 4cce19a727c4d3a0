import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { needsMfa } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'

/** Proving who one is again holds for ten minutes. */
const FRESH_MS = 600_000

/** A second factor of ours, or the company's own identity provider where its security policy says that it is enough. */
const isStrong = (methods: readonly string[], ssoCounts: boolean) => methods.includes('mfa') || (ssoCounts && methods.includes('sso'))

/**
 * How sure are we who asks: a person where it takes one, with a second factor where the company wants it, and lately
 * where the route does. Refuses with `session_required`, `mfa_enrollment_required`, `step_up_required`.
 */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request: FastifyRequest, _reply, done) => {
      const { actor, session, grants } = request
      if (!actor) return done()
      const { access } = request.routeOptions.config
      // Staff in somebody's place is not that person: his password, factors and keys are his.
      if (!session || session.impersonated) {
        if (access?.sessionOnly || access?.stepUp) throw failure('session_required')
        return done()
      }
      const now = Date.now()
      // What only needs a session stays open: otherwise nobody could add the factor that he lacks.
      if (!access?.authenticated && !isStrong(session.methods, request.tenant.security.sso_counts_as_mfa) && needsMfa(grants, now)) {
        throw failure(grants.mfa ? 'step_up_required' : 'mfa_enrollment_required')
      }
      if (access?.stepUp && (session.authenticated_at ?? 0) + FRESH_MS < now) throw failure('step_up_required')
      done()
    })
  },
  { name: 'assurance', dependencies: ['session'] },
)
