// Counters that all processes share through Redis, and that a process keeps alone while Redis does not answer.
import type { Redis } from 'ioredis'

const MAX_KEYS = 50_000
/** How long a request waits for Redis. */
const PATIENCE_MS = 100

/** Counts and opens the window in one atomic step. */
const INCREMENT = `local n = redis.call('incr', KEYS[1])
if n == 1 then redis.call('pexpire', KEYS[1], ARGV[1]) end
return {n, redis.call('pttl', KEYS[1])}`

/** How often a key was counted in its window, and how many ms the window has left. */
export interface Counted {
  current: number
  ttl: number
}

class Silence extends Error {}

/**
 * Rejects after `ms`, unless the answer has arrived by then. When the timer fires the event loop may have been busy and
 * the answer may wait in the socket: it is read first, so that a slow process does not take a living server for a dead one.
 */
function answerWithin<T>(ms: number, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => setImmediate(reject, new Silence('no answer in time')), ms)
    answer.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

export class SharedCounters {
  readonly #redis: Redis | null
  readonly #windowMs: number
  readonly #warn: (message: string) => void
  readonly #local = new Map<string, { count: number; until: number }>()
  #degraded = false
  /** False from a silence of the server until the client is ready again. */
  #answering = true

  /** @param warn told once each time that Redis stops answering */
  constructor(redis: Redis | null, windowMs: number, warn: (message: string) => void) {
    this.#redis = redis
    this.#windowMs = windowMs
    this.#warn = warn
    redis?.on('ready', () => {
      this.#answering = true
    })
  }

  /** Counts a key. Answers within 100 ms whatever Redis does. */
  async count(key: string): Promise<Counted> {
    const redis = this.#redis
    if (!redis) return this.#countHere(key)
    if (!this.#answering || redis.status !== 'ready') return this.#fallBack(key)
    try {
      const asked = redis.eval(INCREMENT, 1, `rate:${key}`, this.#windowMs) as Promise<[number, number]>
      const [current, ttl] = await answerWithin(PATIENCE_MS, asked)
      this.#degraded = false
      return { current, ttl }
    } catch (error) {
      // A frozen server keeps its connections open. They are given up, and the next request does not wait as well; the
      // client is `ready` again once the server answers.
      if (error instanceof Silence && this.#answering) {
        this.#answering = false
        redis.disconnect(true)
      }
      return this.#fallBack(key)
    }
  }

  #fallBack(key: string): Counted {
    if (!this.#degraded) this.#warn('Redis is away: rate limits are counted by each process for itself')
    this.#degraded = true
    return this.#countHere(key)
  }

  #countHere(key: string): Counted {
    const now = Date.now()
    let entry = this.#local.get(key)
    if (!entry || entry.until <= now) {
      if (this.#local.size >= MAX_KEYS) this.#local.clear()
      entry = { count: 0, until: now + this.#windowMs }
      this.#local.set(key, entry)
    }
    entry.count++
    return { current: entry.count, ttl: entry.until - now }
  }
}
