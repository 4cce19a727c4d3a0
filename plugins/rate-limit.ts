// Two buckets: one by address before anything is known of the caller, one by tenant and user once it is.
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { failure, networkOf } from '../domain/kernel/index.ts'
import { type Counted, SharedCounters } from './shared-counters.ts'

const WINDOW_MS = 60_000
/** Requests a minute of one address for a document of megabytes. */
const DOCUMENTS_PER_MINUTE = 120

type Settle = (error: Error | null, result?: Counted) => void

/** The counters, in the form that @fastify/rate-limit takes. */
function storeOver(counters: SharedCounters) {
  return class Store {
    incr(key: string, settle: Settle): void {
      counters.count(key).then((counted) => settle(null, counted), settle)
    }

    child(): Store {
      return new Store()
    }
  }
}

export type Limiter = ReturnType<FastifyInstance['createRateLimit']>

declare module 'fastify' {
  interface FastifyInstance {
    /** A bucket of `max` requests a minute for each key. */
    limiter(max: number, key: (request: FastifyRequest) => string): Limiter
    /** Counts a request in a bucket. Refuses with `rate_limited`, and says in headers how much is left. */
    countRequest(limiter: Limiter, request: FastifyRequest, reply: FastifyReply): Promise<void>
  }
  interface FastifyRequest {
    /** Counts the request in its user's bucket; the session plugin calls it once the user is known. */
    countUser(reply: FastifyReply): Promise<void>
  }
}

async function countRequest(limiter: Limiter, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const result = await limiter(request)
  if (result.isAllowed) return
  reply.headers({ 'ratelimit-limit': result.max, 'ratelimit-remaining': result.remaining, 'ratelimit-reset': result.ttlInSeconds })
  if (!result.isExceeded) return
  reply.header('retry-after', result.ttlInSeconds)
  throw failure('rate_limited', { retry_after_seconds: result.ttlInSeconds })
}

/**
 * Every request is counted by its address, whatever host it names; sign-in routes are counted once more, by tenant
 * (plugins/attempt-limit.ts). Probes are not counted: their answers are cached, and a balancer asks for all processes
 * from one address.
 */
export default fp(
  async (app) => {
    const { redis, settings } = app.services
    const counters = new SharedCounters(redis, WINDOW_MS, (message) => app.log.warn(message))
    await app.register(rateLimit, { global: false, store: storeOver(counters) as never })
    app.decorate('limiter', (max: number, keyGenerator: (request: FastifyRequest) => string) =>
      app.createRateLimit({ max, timeWindow: WINDOW_MS, keyGenerator }),
    )
    app.decorate('countRequest', countRequest)
    const byAddress = app.limiter(settings.rateLimit * 4, ({ ip }) => `ip:${networkOf(ip)}`)
    const byDocument = app.limiter(DOCUMENTS_PER_MINUTE, ({ ip }) => `document:${networkOf(ip)}`)
    const byUser = app.limiter(settings.rateLimit, ({ actor, ip }) => `user:${actor.tenantId}:${actor.userId ?? networkOf(ip)}`)

    app.addHook('onRequest', async (request, reply) => {
      const { probe, document } = request.routeOptions.config
      if (probe) return
      await countRequest(byAddress, request, reply)
      if (document) await countRequest(byDocument, request, reply)
    })
    app.decorateRequest('countUser', function (this: FastifyRequest, reply: FastifyReply) {
      return countRequest(byUser, this, reply)
    })
  },
  { name: 'rate-limit', dependencies: ['security'] },
)

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Asked by balancers and monitors: not counted. */
    probe?: true
    /** Answers with megabytes: counted in a stricter bucket. */
    document?: true
  }
}
