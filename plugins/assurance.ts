import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { consentCovers, needsMfa } from '../domain/access/index.ts'
import { failure } from '../domain/kernel/index.ts'
import { mutates, type RouteAccess } from './route-options.ts'

/** A re-authentication holds for ten minutes. */
const FRESH_MS = 600_000

/** A second factor of ours, or the company's own identity provider where its security policy says that it is enough. */
const isStrong = (methods: readonly string[], ssoCounts: boolean) => methods.includes('mfa') || (ssoCounts && methods.includes('sso'))

/** Whether a session lacks the second factor that its user needs: by role or organization, or as platform staff. */
export function lacksFactor({ session, grants, tenant, server }: FastifyRequest): boolean {
  if (!session || session.impersonated_by || isStrong(session.methods, tenant.security.sso_counts_as_mfa)) return false
  return needsMfa(grants, Date.now()) || (tenant.kind === 'platform' && server.services.settings.staffMfa)
}

/**
 * Refuses staff in a user's place what is never theirs to do (`impersonation_forbidden`): rights, users, credentials,
 * settings, approvals and exports; and any other change without the tenant's consent (`impersonation_read_only`).
 */
function checkImpersonation(request: FastifyRequest, access: RouteAccess): void {
  const changes = mutates(request)
  const settings = changes && access.plane === 'control'
  const exports = request.headers.accept?.includes('text/csv')
  if (access.notImpersonated || settings || exports || access.permission?.endsWith('.approve')) throw failure('impersonation_forbidden')
  if (changes && !consentCovers(request.session!.consents, request.claimedContext, Date.now())) throw failure('impersonation_read_only')
}

/**
 * The assurance of the actor's identity: a person where the route takes one, with a second factor where one is required, and
 * a recent authentication where the route asks for it. Refuses with `session_required`, `mfa_enrollment_required`,
 * `step_up_required`, `impersonation_forbidden`, `impersonation_read_only`.
 */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request: FastifyRequest, _reply, done) => {
      const { actor, session, grants } = request
      if (!actor) return done()
      const access = request.routeOptions.config.access ?? {}
      // Staff in a user's place is not that user: their password, factors and keys stay their own.
      if (!session || session.impersonated_by) {
        if (access.sessionOnly || access.stepUp) throw failure('session_required')
        if (session) checkImpersonation(request, access)
        return done()
      }
      // Routes that need a session alone stay open: otherwise users could not add the factor that they lack.
      if (!access.authenticated && lacksFactor(request)) throw failure(grants.mfa ? 'step_up_required' : 'mfa_enrollment_required')
      if (access.stepUp && (session.authenticated_at ?? 0) + FRESH_MS < Date.now()) throw failure('step_up_required')
      done()
    })
  },
  { name: 'assurance', dependencies: ['session'] },
)
