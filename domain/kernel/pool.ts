// A pool of connections to one database, each bound to a tenant and a schema while it is lent.
import { createPool, type DatabasePool, type DatabasePoolConnection, type Interceptor, SchemaValidationError } from 'slonik'
import { databaseFailure } from './database-failure.ts'
import { Failure, failure } from './errors.ts'
import type { Uuid } from './ids.ts'
import type { OpenPools } from './open-pools.ts'
import { prepared, sql } from './sql.ts'

/** `numeric` stays a string, times become RFC 3339 in UTC (sessions run in UTC), `int8` becomes a number: ours fit 2^53. */
const typeParsers = [
  { name: 'numeric', parse: (value: string) => value },
  { name: 'date', parse: (value: string) => value },
  { name: 'int8', parse: Number },
  { name: 'timestamptz', parse: (value: string) => (value.endsWith('+00') ? utc(value) : new Date(value).toISOString()) },
]

/** `2026-11-21 10:00:00.12+00` → `2026-11-21T10:00:00.120Z`: every time is sent with three decimals, so they sort as text. */
function utc(value: string): string {
  const fraction = value.length > 22 ? value.slice(20, -3).padEnd(3, '0').slice(0, 3) : '000'
  return `${value.slice(0, 10)}T${value.slice(11, 19)}.${fraction}Z`
}

const checkRows: Interceptor = {
  name: 'check-rows',
  transformRow: ({ resultParser }, query, row) => {
    if (!resultParser) return row
    const result = resultParser['~standard'].validate(row)
    if (result instanceof Promise) throw new TypeError('row schemas are synchronous')
    if (result.issues) throw new SchemaValidationError({ sql: query.sql, values: [...query.values] } as never, row, result.issues as never)
    return row
  },
}

export interface PoolOptions {
  /** Connections at most. */
  max: number
  /** How long a unit of work may take, in ms; longer than any statement may, because the server sees to that itself. */
  deadlineMs?: number
  /** Ran around each finished unit of work: metrics and the statement test hang here. */
  interceptors?: Interceptor[]
  /** Whether the database may be used; while it may not, nothing connects to it. */
  admitted?: () => boolean
  /** Admits to it where many databases share few connections. */
  open?: OpenPools
}

/** Sees every tenant: for tenant resolution, the relay and the platform's own jobs, on tables whose policy allows it. */
export const PLATFORM = 'platform' as const
export type Binding = Uuid | typeof PLATFORM

/** Where tenants live together. */
export const SHARED_SCHEMA = 'public'

interface Success<T> {
  value: T
}
type Outcome<T> = Success<T> | Failure

/** How long a process waits before it wakes the relay, so that a burst of commits wakes it once. */
const WAKE_MS = 10

export class Pool {
  readonly #make: () => Promise<DatabasePool>
  #made: Promise<DatabasePool> | undefined
  #closed = false
  #waking: NodeJS.Timeout | undefined
  readonly #open: OpenPools | undefined
  readonly #deadlineMs: number
  readonly #admitted: () => boolean
  /** What each server connection is bound to, so that a read needs no round trip of its own to bind it again. */
  readonly #bound = new WeakMap<object, string>()

  /** Connects at the first use: a process starts, and goes on, while one of its databases is away. */
  constructor(url: string, { max, deadlineMs = 40_000, interceptors = [], open, admitted = () => true }: PoolOptions) {
    this.#open = open
    this.#admitted = admitted
    this.#deadlineMs = deadlineMs
    const uri = new URL(url)
    uri.searchParams.set('application_name', 'tenantry')
    this.#make = () =>
      createPool(uri.href, {
        maxPoolSize: max,
        captureStackTrace: false,
        connectionTimeout: Math.min(5_000, deadlineMs),
        connectionRetryLimit: 1,
        // Long: the first request on a new connection pays for signing in, for catalogs and for every plan (some 30 ms).
        idleTimeout: 300_000,
        statementTimeout: 30_000,
        queryRetryLimit: 0,
        typeParsers,
        interceptors: [checkRows, ...interceptors],
        // The default, DISCARD ALL at every release, costs a round trip and drops prepared statements and the binding.
        resetConnection: async () => {},
      })
  }

  /** The pool, made once; making it asks the server for the types' numbers, so it fails while the server is away. */
  async #pool(): Promise<DatabasePool> {
    if (this.#closed || !this.#admitted()) throw failure('database_unavailable')
    this.#made ??= this.#make().then((pool) => {
      pool.on('error', () => {}) // a dropped idle connection: the next checkout opens another
      return pool
    })
    try {
      return await this.#made
    } catch (error) {
      this.#made = undefined
      throw error
    }
  }

  /**
   * Wakes the relay after a commit. Not inside the transaction: one that notifies holds a lock of the whole server while
   * it commits, so that commits would wait for one another. Should a wake-up be lost, the relay looks by itself soon.
   */
  wakeRelay = (): void => {
    this.#waking ??= setTimeout(() => {
      this.#waking = undefined
      this.#pool()
        .then((pool) => pool.query(prepared(sql.run`select pg_notify('tenantry_outbox', '')`)))
        .catch(() => {})
    }, WAKE_MS).unref()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#waking)
    this.#open?.forget(this)
    await this.disconnect()
  }

  /** Gives its connections back; at its next use it opens others. */
  async disconnect(): Promise<void> {
    const made = this.#made
    this.#made = undefined
    await (await made?.catch(() => undefined))?.end()
  }

  /** Lends a connection that is bound to a tenant, or to the platform, and reads tables of that schema. */
  async lend<T>(
    binding: Binding,
    schema: string,
    work: (connection: DatabasePoolConnection) => Promise<T>,
    deadlineMs = this.#deadlineMs,
  ): Promise<T> {
    let outcome: Outcome<T>
    await this.#open?.enter(this)
    try {
      const pool = await within(this.#deadlineMs, this.#pool())
      outcome = await pool.connect(async (connection): Promise<Outcome<T>> => {
        try {
          return {
            value: await within(
              deadlineMs,
              this.#bind(connection, binding, schema).then(() => work(connection)),
            ),
          }
        } catch (error) {
          // A refusal leaves the connection healthy. Anything else is thrown on, and slonik destroys the connection.
          const refused = error instanceof Failure ? error : databaseFailure(error)
          if (!refused || refused.status >= 500) throw refused ?? error
          return refused
        }
      })
    } catch (error) {
      throw databaseFailure(error) ?? error
    } finally {
      this.#open?.leave(this)
    }
    if (outcome instanceof Failure) throw outcome
    return outcome.value
  }

  /** Prepared statements follow: PostgreSQL analyses one anew when the search path is another than it was prepared under. */
  async #bind(connection: DatabasePoolConnection, binding: Binding, schema: string): Promise<void> {
    const client = clientOf(connection)
    const key = `${binding} ${schema}`
    if (this.#bound.get(client) === key) return
    this.#bound.delete(client)
    const [tenant, platform] = binding === PLATFORM ? ['', 'on'] : [binding, 'off']
    await connection.query(
      prepared(sql.run`
      select set_config('tenantry.tenant_id', ${tenant}, false), set_config('tenantry.platform', ${platform}, false), set_config('search_path', ${schema}, false)`),
    )
    this.#bound.set(client, key)
  }
}

/**
 * A host that froze closes no connection and says nothing, not even that a statement took too long. Thrown out of a
 * checkout, this refusal makes slonik destroy the connection, which ends whatever still waits on it.
 */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(failure('database_unavailable')), ms)
  })
  try {
    return await Promise.race([work, silence])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The server connection behind a checkout. slonik wraps it anew, with a new `connectionId`, at each one, and shows it in
 * no type; were the wrapper to change, each checkout would bind again, and a test would say so.
 */
const clientOf = (checkout: DatabasePoolConnection): object => (checkout as unknown as { connection?: object }).connection ?? checkout
