// Two buckets: one by address before anything is known of the caller, one by tenant and user once it is.
import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Redis } from 'ioredis'
import { failure } from '../domain/kernel/index.ts'

const WINDOW_MS = 60_000
const MAX_KEYS = 50_000

type Settle = (error: Error | null, result?: { current: number; ttl: number }) => void

/** Counts and opens the window in one atomic step. */
const INCREMENT = `local n = redis.call('incr', KEYS[1])
if n == 1 then redis.call('pexpire', KEYS[1], ARGV[1]) end
return {n, redis.call('pttl', KEYS[1])}`

/** A store for @fastify/rate-limit: in Redis for all processes; while Redis is away for this process alone, said once in the log. */
function storeOver(redis: Redis | null, warn: (message: string) => void) {
  const local = new Map<string, { count: number; until: number }>()
  let degraded = false

  function countHere(key: string) {
    const now = Date.now()
    let entry = local.get(key)
    if (!entry || entry.until <= now) {
      if (local.size >= MAX_KEYS) local.clear()
      entry = { count: 0, until: now + WINDOW_MS }
      local.set(key, entry)
    }
    entry.count++
    return { current: entry.count, ttl: entry.until - now }
  }

  function fallBack(key: string, settle: Settle) {
    if (redis && !degraded) warn('Redis is away: rate limits are counted by each process for itself')
    degraded = true
    settle(null, countHere(key))
  }

  return class Store {
    incr(key: string, settle: Settle): void {
      if (redis?.status !== 'ready') {
        fallBack(key, settle)
        return
      }
      ;(redis.eval(INCREMENT, 1, `rate:${key}`, WINDOW_MS) as Promise<[number, number]>).then(
        ([current, ttl]) => {
          degraded = false
          settle(null, { current, ttl })
        },
        () => fallBack(key, settle),
      )
    }

    child(): Store {
      return new Store()
    }
  }
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Counts the request in its user's bucket; the session plugin calls it once the user is known. */
    countUser(reply: FastifyReply): Promise<void>
  }
}

type Limiter = ReturnType<FastifyInstance['createRateLimit']>

/** Refuses with `rate_limited`, and says in headers how much is left. */
async function take(limiter: Limiter, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const result = await limiter(request)
  if (result.isAllowed) return
  reply.headers({ 'ratelimit-limit': result.max, 'ratelimit-remaining': result.remaining, 'ratelimit-reset': result.ttlInSeconds })
  if (!result.isExceeded) return
  reply.header('retry-after', result.ttlInSeconds)
  throw failure('rate_limited', { retry_after_seconds: result.ttlInSeconds })
}

export default fp(
  async (app) => {
    const { redis, settings } = app.services
    await app.register(rateLimit, { global: false, store: storeOver(redis, (message) => app.log.warn(message)) as never })
    const limiter = (max: number, keyGenerator: (request: FastifyRequest) => string) =>
      app.createRateLimit({ max, timeWindow: WINDOW_MS, keyGenerator })
    const byAddress = limiter(settings.rateLimit * 4, (request) => `ip:${request.ip}`)
    const byAttempt = limiter(settings.rateLimitAuth, (request) => {
      // Where any host name is answered, it must not be what tells one caller from another.
      const host = request.routeOptions.config.access?.tenantless ? '' : request.hostname
      return `auth:${host}:${request.ip}`
    })
    const byUser = limiter(settings.rateLimit, (request) => `user:${request.actor.tenantId}:${request.actor.userId ?? request.ip}`)

    app.addHook('onRequest', async (request, reply) => {
      const { access } = request.routeOptions.config
      // Probes, keys and the documentation are for everybody, as often as they like.
      if (access?.tenantless && access.public && !request.url.startsWith('/api/v1/')) return
      await take(access?.authLimit ? byAttempt : byAddress, request, reply)
    })
    app.decorateRequest('countUser', function (this: FastifyRequest, reply: FastifyReply) {
      return take(byUser, this, reply)
    })
  },
  { name: 'rate-limit', dependencies: ['security'] },
)
