// Says to all processes that a tenant has something new to see. It carries nothing: whoever hears it looks for himself.
import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import type { Redis } from 'ioredis'

export type News = 'events' | 'readings'
const CHANNEL = 'tenantry:news'
/** A burst of commits is said once to other processes. */
const GATHER_MS = 20

/** News within this process, and through Redis to the others. One that is lost is made up for by whoever looks by himself from time to time. */
export class Announcements {
  readonly #redis: Redis | null
  readonly #heard = new EventEmitter<{ news: [what: News, tenantId: string] }>()
  readonly #gathered = new Set<string>()
  /** By it a process knows what it said itself, and has heard already. */
  readonly #own = randomUUID()
  #subscriber: Redis | undefined

  constructor(redis: Redis | null) {
    this.#redis = redis
    this.#heard.setMaxListeners(0)
  }

  say(what: News, tenantId: string): void {
    this.#heard.emit('news', what, tenantId)
    if (!this.#redis) return
    if (this.#gathered.size === 0) setTimeout(() => this.#publish(), GATHER_MS).unref()
    this.#gathered.add(`${what} ${tenantId}`)
  }

  #publish(): void {
    const news = [...this.#gathered]
    this.#gathered.clear()
    if (this.#redis?.status === 'ready') this.#redis.publish(CHANNEL, [this.#own, ...news].join(',')).catch(() => {})
  }

  /** Calls for what this process and, from now on, others say. */
  onNews(heard: (what: News, tenantId: string) => void): void {
    this.#heard.on('news', heard)
    if (!this.#redis || this.#subscriber) return
    this.#subscriber = this.#redis.duplicate({
      enableOfflineQueue: true,
      maxRetriesPerRequest: null,
      autoResendUnfulfilledCommands: true,
    })
    this.#subscriber.on('error', () => {}) // it connects again by itself
    this.#subscriber.on('message', (_channel, message: string) => {
      const [from, ...news] = message.split(',')
      if (from === this.#own) return
      for (const one of news) {
        const [what, tenantId] = one.split(' ') as [News, string]
        this.#heard.emit('news', what, tenantId)
      }
    })
    this.#subscriber.subscribe(CHANNEL).catch(() => {})
  }

  close(): void {
    this.#heard.removeAllListeners()
    this.#subscriber?.disconnect()
  }
}
