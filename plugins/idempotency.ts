import fp from 'fastify-plugin'
import { failure, fingerprintOf, ownerOfKeys } from '../domain/kernel/index.ts'

/** `Idempotency-Key` on a POST: `request.write` then has its effect once. Refuses with `idempotency_key_reused`. */
export default fp(
  async (app) => {
    app.addHook('preHandler', (request, reply, done) => {
      const key = request.headers['idempotency-key']
      if (key === undefined || request.method !== 'POST') return done()
      // Signing in answers with secrets, which must not be kept; readings are idempotent by their own key.
      if (request.routeOptions.config.access?.public) return done()
      if (typeof key !== 'string' || !/^[\x20-\x7e]{1,255}$/.test(key)) {
        throw failure('invalid_headers', {
          errors: [{ path: '/idempotency-key', rule: 'pattern', message: 'is 1 to 255 printable characters' }],
        })
      }
      const { actor, apiKey, context } = request
      request.once = {
        key,
        // An API key, staff in a user's place and the same user elsewhere are not answered with what another one did.
        owner: ownerOfKeys(actor?.userId, actor?.impersonatorId, apiKey?.id, context?.organizationId, context?.workspaceId),
        fingerprint: fingerprintOf(request.method, request.url, request.body),
        onReplay: () => reply.header('idempotency-replayed', 'true'),
      }
      done()
    })
  },
  { name: 'idempotency', dependencies: ['data'] },
)
