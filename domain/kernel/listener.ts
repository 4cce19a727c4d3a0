// One connection that listens for NOTIFY. Caches ask it whether they may be trusted.
import { Client } from 'pg'

/** How often the connection is asked whether it lives, and how long it may take to say so. */
const HEARTBEAT_MS = 5_000

/** Hears PostgreSQL notifications and reconnects by itself. While `up` is false, whoever relies on it must not. A host that
 * fell silent is noticed by a heartbeat: `up` is true for at most twice its interval without being so. */
export class Listener {
  readonly #url: string
  readonly #channels = new Map<string, ((payload: string) => void)[]>()
  readonly #onReconnect: (() => void)[] = []
  #client: Client | null = null
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  readonly #heartbeatMs: number
  up = false

  constructor(url: string, heartbeatMs = HEARTBEAT_MS) {
    this.#url = url
    this.#heartbeatMs = heartbeatMs
  }

  on(channel: string, heard: (payload: string) => void): void {
    this.#channels.set(channel, [...(this.#channels.get(channel) ?? []), heard])
  }

  /** Runs whenever the connection was lost and is back: what was said meanwhile was not heard. */
  onReconnect(handler: () => void): void {
    this.#onReconnect.push(handler)
  }

  /** Connects, or keeps trying in the background when the database is away. */
  async start(): Promise<void> {
    if (this.#closed) return
    const client = new Client({
      connectionString: this.#url,
      application_name: 'tenantry-listener',
      connectionTimeoutMillis: 5_000,
      query_timeout: this.#heartbeatMs,
    })
    const lost = () => {
      if (this.#client !== client && this.#client !== null) return
      this.up = false
      this.#client = null
      clearInterval(this.#heartbeat)
      client.end().catch(() => {})
      if (!this.#closed) {
        clearTimeout(this.#timer)
        this.#timer = setTimeout(() => void this.start(), 500)
        this.#timer.unref()
      }
    }
    client.on('error', lost)
    client.on('end', lost)
    client.on('notification', ({ channel, payload }) => {
      for (const heard of this.#channels.get(channel) ?? []) heard(payload ?? '')
    })
    try {
      await client.connect()
      for (const channel of this.#channels.keys()) await client.query(`listen ${client.escapeIdentifier(channel)}`)
      this.#client = client
      this.up = true
      this.#heartbeat = setInterval(() => client.query('select').catch(lost), this.#heartbeatMs).unref()
      for (const handler of this.#onReconnect) handler()
    } catch {
      lost()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.up = false
    clearTimeout(this.#timer)
    clearInterval(this.#heartbeat)
    await this.#client?.end().catch(() => {})
  }
}
