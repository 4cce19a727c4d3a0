// Outbox → Kafka: who publishes, and when. One active relay for a database, or for all tenants' own databases; the others stand by.
import { Client } from 'pg'
import { type Database, sql } from '../domain/kernel/index.ts'
import { homeOf, isServed, type Planes, type Tenant, type TenantDirectory, tenantIdOf } from '../domain/tenancy/index.ts'
import { type Producer, pause } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { BATCH, publishBatch } from './outbox.ts'

const IDLE_MS = 2_000
/** How often the active relay shows on its connection that it works. */
const SIGN_MS = 2_000
/** An active relay that shows no sign for so long is hung: its connection is ended, and another takes over. */
const HUNG_SECONDS = 10
/** A round that takes longer than this is hung too: every wait within it is bounded by less. */
const MAX_ROUND_MS = 120_000
/** How often all tenants' own databases are looked into, should one's call have been lost. */
const SWEEP_MS = 60_000

/** What a relay looks after. */
interface Charge {
  /** As operators know it. */
  name: string
  /** Where it listens, and holds the lock that makes it the only one. */
  url: string
  lock: number
  channel: string
  /** The databases to look into now. @param named what notifications named since it was asked last */
  databases(named: ReadonlySet<string>): Promise<ReadonlyMap<string, Database>>
}

/** How operators know the outbox of a database: its server and name, without who connects. */
export const outboxName = (url: string): string => `${new URL(url).host}${new URL(url).pathname}`

/** A database of a catalog: looked into again and again, and at once when a commit says so. */
export const catalogCharge = (database: Database, url: string): Charge => ({
  name: outboxName(url),
  url,
  lock: 7262,
  channel: 'tenantry_outbox',
  databases: async () => new Map([['', database]]),
})

const OWN_CHANNEL = 'tenantry_outbox_own'

/** Says on the control plane that a tenant's own database has events; nobody listens to each of a thousand databases. */
export function announceOwn(control: Database, key: string): void {
  control.platform((queries) => queries.query(sql.run`select pg_notify(${OWN_CHANNEL}, ${key})`)).catch(() => {})
}

const keyOf = ({ catalog_key, database_name }: Tenant): string => `${catalog_key}/${database_name}`

/** Tenants' own databases: those that called, and from time to time all of them. */
export function ownCharge(planes: Planes, tenants: TenantDirectory, controlUrl: string): Charge {
  let sweptAt = 0
  return {
    name: 'own databases',
    url: controlUrl,
    lock: 7264,
    channel: OWN_CHANNEL,
    databases: async (named) => {
      if (Date.now() - sweptAt >= SWEEP_MS) {
        sweptAt = Date.now()
        const own = (await tenants.active()).filter(({ mode, state }) => mode === 'database' && isServed({ state }))
        return new Map(own.map((tenant) => [keyOf(tenant), homeOf(planes, 'data', tenant)]))
      }
      const ids = [...named].flatMap((key) => tenantIdOf(key.slice(key.indexOf('/') + 1)) ?? [])
      const called = await Promise.all(ids.map((id) => tenants.byId(id)))
      // A tenant that moved meanwhile called from where it does not live any more.
      const there = called.filter((tenant) => tenant !== null && named.has(keyOf(tenant))) as Tenant[]
      return new Map(there.map((tenant) => [keyOf(tenant), homeOf(planes, 'data', tenant)]))
    },
  }
}

/**
 * The advisory lock, held by a connection of its own, makes one relay active; when that connection is lost the lock goes
 * with it and another takes over. A relay that hangs (stopped, its host gone, its thread blocked) keeps its connection:
 * the active one asks something on it every two seconds, and one that stands by ends a connection that has been silent
 * for ten. A relay that comes back meanwhile may publish once more what it had in hand; consumers know an event by its id.
 */
export class Relay {
  readonly #charge: Charge
  readonly #producer: Producer
  readonly #log: WorkerLog
  readonly #abort = new AbortController()
  #named = new Set<string>()
  /** Databases where something is to be tried again soon. */
  #restless = new Set<string>()
  #wake: () => void = () => {}
  #loop: Promise<void> | undefined
  /** When the round under way began. */
  #roundAt = 0
  active = false
  readonly #away = new Set<string>()
  /** Databases that could not be read when they were looked into last. */
  get unreachable(): number {
    return this.#away.size
  }
  /** How often this relay took over from one that was hung. */
  takeovers = 0

  constructor(charge: Charge, producer: Producer, log: WorkerLog) {
    this.#charge = charge
    this.#producer = producer
    this.#log = log
  }

  get name(): string {
    return this.#charge.name
  }

  start(): void {
    this.#loop = this.#run()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    this.#wake()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      const client = new Client({ connectionString: this.#charge.url, application_name: 'tenantry-relay', connectionTimeoutMillis: 5_000 })
      let lost = false
      const onLost = () => {
        lost = true
        this.#wake()
      }
      client.on('error', onLost)
      client.on('end', onLost)
      client.on('notification', ({ payload }) => {
        if (payload) this.#named.add(payload)
        this.#wake()
      })
      try {
        await client.connect()
        await client.query(`listen ${this.#charge.channel}`)
        await this.#lead(client, () => lost)
      } catch (error) {
        this.#log.warn({ err: error }, 'relay lost its database')
        await pause(1_000, signal)
      } finally {
        this.active = false
        await client.end().catch(() => {})
      }
    }
  }

  async #lead(client: Client, lost: () => boolean): Promise<void> {
    const sign = setInterval(() => {
      if (Date.now() - this.#roundAt < MAX_ROUND_MS) client.query('select').catch(() => {})
    }, SIGN_MS)
    try {
      await this.#rounds(client, lost)
    } finally {
      clearInterval(sign)
    }
  }

  /**
   * Ends the connection of an active relay that has shown no sign. In two statements: a condition with an effect, within
   * the query that finds the connection, would be run on connections that the query does not find.
   */
  async #endHung(client: Client): Promise<void> {
    const { rows } = await client.query<{ pid: number }>(
      `select a.pid from pg_locks l join pg_stat_activity a on a.pid = l.pid
       where l.locktype = 'advisory' and l.classid = 0 and l.objid = $1 and l.objsubid = 1 and l.granted
         and l.database = (select oid from pg_database where datname = current_database())
         and a.state_change < clock_timestamp() - make_interval(secs => $2)`,
      [this.#charge.lock, HUNG_SECONDS],
    )
    for (const { pid } of rows) {
      try {
        await client.query('select pg_terminate_backend($1)', [pid])
        this.takeovers++
        this.#log.warn({ lock: this.#charge.lock, pid }, 'the active relay showed no sign and was ended')
      } catch (error) {
        // Workers that sign in as different roles cannot end each other's connections.
        this.#log.warn({ err: error, lock: this.#charge.lock, pid }, 'the active relay shows no sign and cannot be ended')
      }
    }
  }

  async #rounds(client: Client, lost: () => boolean): Promise<void> {
    const { signal } = this.#abort
    let idle = 50
    while (!signal.aborted && !lost()) {
      if (!this.active) {
        const { rows } = await client.query<{ locked: boolean }>('select pg_try_advisory_lock($1) as locked', [this.#charge.lock])
        this.active = rows[0]!.locked
        if (!this.active) {
          await this.#endHung(client)
          await pause(IDLE_MS, signal)
          continue
        }
      }
      this.#roundAt = Date.now()
      const sent = await this.#publish(lost)
      idle = sent > 0 ? 50 : Math.min(IDLE_MS, idle * 2)
      if (this.#named.size === 0) await this.#sleep(sent > 0 ? 0 : idle)
      for (const key of this.#restless) this.#named.add(key)
      this.#restless.clear()
    }
  }

  /** Until woken by NOTIFY, or for a while: a lost notification costs at most two seconds. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  /**
   * Looks into each database until it has no more; returns how many events were dispatched. One that is away stops no
   * other, and is looked into again, as is one where something was refused.
   */
  async #publish(lost: () => boolean): Promise<number> {
    const named = this.#named
    this.#named = new Set()
    let dispatched = 0
    for (const [key, database] of await this.#charge.databases(named)) {
      try {
        let unfinished = true
        while (unfinished && !this.#abort.signal.aborted && !lost()) {
          this.#roundAt = Date.now()
          const { sent, waiting } = await publishBatch(database, this.#producer, this.#log)
          dispatched += sent
          unfinished = sent + waiting === BATCH && sent > 0
          if (waiting > 0) this.#restless.add(key)
        }
        this.#away.delete(key)
      } catch (error) {
        this.#log.warn({ err: error, database: key }, 'an outbox was not read, it is tried again')
        this.#away.add(key)
        this.#restless.add(key)
      }
    }
    return dispatched
  }
}
