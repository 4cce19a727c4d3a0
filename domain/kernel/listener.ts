// One connection that listens for NOTIFY. Caches ask it whether they may be trusted, and writers whether all have heard.
import { Client, type QueryResult, type QueryResultRow } from 'pg'
import { newId } from './ids.ts'

/** How often the connection is asked whether it lives, and how long it may take to say so. */
const HEARTBEAT_MS = 5_000
/** Every listener holds this advisory lock, shared: `pg_locks` thereby knows who listens, and forgets who is gone. */
const PRESENCE = 7_403_113
/** How often a writer looks whether somebody that it waits for has gone. */
const LOOK_MS = 250

interface Waiting {
  missing: Set<number>
  /** Those who were named before anybody knew whom to expect. */
  early: Set<number>
  known: boolean
  done: () => void
}

/**
 * Hears PostgreSQL notifications and reconnects by itself. While `up` is false, whoever relies on it must not. A host that
 * fell silent is noticed by a heartbeat: `up` is true for at most twice its interval without being so.
 */
export class Listener {
  readonly #url: string
  readonly #heartbeatMs: number
  readonly #channels = new Map<string, ((payload: string) => void)[]>()
  readonly #onReconnect: (() => void)[] = []
  readonly #waiting = new Map<string, Waiting>()
  #client: Client | null = null
  /** The question before: a connection answers one at a time. */
  #asked: Promise<unknown> = Promise.resolve()
  #closed = false
  #timer: NodeJS.Timeout | undefined
  #heartbeat: NodeJS.Timeout | undefined
  up = false

  constructor(url: string, heartbeatMs = HEARTBEAT_MS) {
    this.#url = url
    this.#heartbeatMs = heartbeatMs
    this.on('tenantry_barrier', (id) => void this.#acknowledge(id))
    this.on('tenantry_heard', (payload) => this.#heard(payload))
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
      for (const { done } of this.#waiting.values()) done()
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
      await client.query('select pg_advisory_lock_shared($1)', [PRESENCE])
      this.#client = client
      this.up = true
      this.#heartbeat = setInterval(() => this.#ask(client, 'select').catch(lost), this.#heartbeatMs).unref()
      for (const handler of this.#onReconnect) handler()
    } catch {
      lost()
    }
  }

  /**
   * Returns when every process that listens has heard all that was committed before: notifications come in the order of
   * their commits, so whoever hears the barrier has heard what went before it. A process that does not answer is waited
   * for until it has gone, or until its own heartbeat must have told it not to trust what it remembers.
   */
  async everyoneHeard(): Promise<void> {
    const client = this.#client
    if (!client) return
    const id = newId()
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiting: Waiting = { missing: new Set(), early: new Set(), known: false, done: resolve }
    this.#waiting.set(id, waiting)
    const patience = setTimeout(resolve, 2 * this.#heartbeatMs)
    const look = setInterval(() => void this.#expect(client, waiting, null), LOOK_MS)
    try {
      await this.#expect(client, waiting, id)
      await promise
    } finally {
      clearTimeout(patience)
      clearInterval(look)
      this.#waiting.delete(id)
    }
  }

  /** Learns who listens now; with `id` it raises the barrier in the same statement. */
  async #expect(client: Client, waiting: Waiting, id: string | null): Promise<void> {
    const raise = id === null ? '' : `, pg_notify('tenantry_barrier', '${id}')`
    const result = await this.#ask<{ pids: number[] }>(
      client,
      `select array(select pid from pg_locks where locktype = 'advisory' and classid = 0 and objid = ${PRESENCE} and granted
          and database = (select oid from pg_database where datname = current_database())) as pids${raise}`,
    ).catch(() => null)
    const listening = new Set(result?.rows[0]?.pids)
    waiting.missing = waiting.known ? waiting.missing.intersection(listening) : listening.difference(waiting.early)
    waiting.known = true
    if (waiting.missing.size === 0) waiting.done()
  }

  async #acknowledge(id: string): Promise<void> {
    const client = this.#client as (Client & { processID?: number }) | null
    if (client) await this.#ask(client, 'select pg_notify($1, $2)', ['tenantry_heard', `${id} ${client.processID}`]).catch(() => {})
  }

  #ask<R extends QueryResultRow = QueryResultRow>(client: Client, text: string, values: string[] = []): Promise<QueryResult<R>> {
    const answer = this.#asked.then(() => client.query<R>(text, values))
    this.#asked = answer.catch(() => {})
    return answer
  }

  #heard(payload: string): void {
    const [id = '', pid] = payload.split(' ')
    const waiting = this.#waiting.get(id)
    if (!waiting) return
    waiting.early.add(Number(pid))
    waiting.missing.delete(Number(pid))
    if (waiting.known && waiting.missing.size === 0) waiting.done()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.up = false
    clearTimeout(this.#timer)
    clearInterval(this.#heartbeat)
    for (const { done } of this.#waiting.values()) done()
    await this.#client?.end().catch(() => {})
  }
}
