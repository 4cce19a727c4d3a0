// Many databases, few connections: how many of them are open at once.
import { failure } from './errors.ts'

/** What holds connections, and can give them back. */
export interface Closable {
  /** Gives its connections back; at its next use it opens others. */
  disconnect(): Promise<void>
}

/** Whoever waits longer for a database than this is refused, in ms. */
const PATIENCE_MS = 5_000

/**
 * Admits users to at most so many open pools. One that nobody uses gives way to the next, the one that was not used for
 * longest first; while all are at work, others wait in line. So the connections are bounded however many tenants ask at once.
 */
export class OpenPools {
  readonly #max: number
  /** How many use each open pool now; in the order of their last use. */
  readonly #open = new Map<Closable, number>()
  readonly #waiting: (() => void)[] = []

  constructor(max: number) {
    this.#max = max
  }

  /** Throws `overloaded` when all are at work for too long. */
  async enter(pool: Closable): Promise<void> {
    const until = Date.now() + PATIENCE_MS
    for (;;) {
      const users = this.#open.get(pool)
      if (users !== undefined || this.#open.size < this.#max) {
        this.#open.delete(pool)
        this.#open.set(pool, (users ?? 0) + 1)
        return
      }
      const idle = [...this.#open].find(([, users]) => users === 0)?.[0]
      if (idle) {
        // Its place is taken at once; the connections are gone before others are opened.
        this.#open.delete(idle)
        this.#open.set(pool, 1)
        await idle.disconnect().catch(() => {})
        return
      }
      await this.#turn(until - Date.now())
    }
  }

  leave(pool: Closable): void {
    const users = this.#open.get(pool)
    if (users === undefined) return
    this.#open.set(pool, users - 1)
    if (users === 1) this.#waiting.shift()?.()
  }

  /** For one that is closed for good. */
  forget(pool: Closable): void {
    if (this.#open.delete(pool)) this.#waiting.shift()?.()
  }

  #turn(ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const called = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(
        () => {
          this.#waiting.splice(this.#waiting.indexOf(called), 1)
          reject(failure('overloaded'))
        },
        Math.max(0, ms),
      )
      this.#waiting.push(called)
    })
  }
}
