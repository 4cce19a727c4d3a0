// A database and its units of work: the only way to a connection.
import { createPool, type DatabasePool, type DatabasePoolConnection, type Interceptor, SchemaValidationError } from 'slonik'
import { Type } from 'typebox'
import type { Actor, Context, DomainEvent, Job, Queries, Scope, Tx } from './context.ts'
import { databaseFailure } from './database-failure.ts'
import { Failure, failure } from './errors.ts'
import { claim, keepAnswer, type Once } from './idempotency.ts'
import { newId, type Uuid } from './ids.ts'
import { type Fragment, prepared, sql } from './sql.ts'

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

export interface DatabaseOptions {
  /** Connections at most. */
  max: number
  /** How long a unit of work may take, in ms; longer than any statement may, because the server sees to that itself. */
  deadlineMs?: number
  /** Puts jobs into the queue, by the transaction's own connection. */
  enqueue?: (queries: Queries, jobs: readonly Job[]) => Promise<void>
  /** Waits, after a commit that changed somebody's rights, until every process knows; only the control plane has them. */
  settle?: () => Promise<void>
  /** Ran around each finished unit of work: metrics and the statement test hang here. */
  interceptors?: Interceptor[]
}

/** Sees every tenant: for tenant resolution, the relay and the platform's own jobs, on tables whose policy allows it. */
export const PLATFORM = 'platform' as const
type Binding = Uuid | typeof PLATFORM

/** Set by the triggers that raise a tenant's access epoch. */
const rightsChanged = sql.prepared(Type.Object({ changed: Type.Boolean() }, { additionalProperties: false }))`
  select coalesce(current_setting('tenantry.rights_changed', true), '') = 'on' as changed`

interface Success<T> {
  value: T
}
type Outcome<T> = Success<T> | Failure

/** How long a process waits before it wakes the relay, so that a burst of commits wakes it once. */
const WAKE_MS = 10

export class Database {
  readonly #make: () => Promise<DatabasePool>
  #made: Promise<DatabasePool> | undefined
  #closed = false
  #waking: NodeJS.Timeout | undefined
  readonly #deadlineMs: number
  readonly #enqueue: DatabaseOptions['enqueue']
  readonly #settle: DatabaseOptions['settle']
  /** What each server connection is bound to, so that a read needs no round trip of its own to bind it again. */
  readonly #bound = new WeakMap<object, Binding>()

  /** Connects at the first use: a process starts, and goes on, while one of its databases is away. */
  constructor(url: string, { max, deadlineMs = 40_000, enqueue, settle, interceptors = [] }: DatabaseOptions) {
    this.#deadlineMs = deadlineMs
    this.#enqueue = enqueue
    this.#settle = settle
    const uri = new URL(url)
    uri.searchParams.set('application_name', 'tenantry')
    this.#make = () =>
      createPool(uri.href, {
        maxPoolSize: max,
        captureStackTrace: false,
        connectionTimeout: Math.min(5_000, deadlineMs),
        connectionRetryLimit: 1,
        idleTimeout: 30_000,
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
    if (this.#closed) throw failure('database_unavailable')
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

  /** Reads for a tenant: no transaction, each statement sees what is committed. Emitting is an error. */
  async read<T>(scope: Scope, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#checkout(scope.tenantId, (connection) => work(new UnitOfWork(connection, scope, refuseEffects, refuseEffects)))
  }

  /** Reads across tenants, where the policy of the table lets the platform in: for its staff. */
  async readAcross<T>(scope: Scope, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#checkout(PLATFORM, (connection) => work(new UnitOfWork(connection, scope, refuseEffects, refuseEffects)))
  }

  /**
   * Writes for a tenant: one transaction, bound to tenant, actor and correlation id for RLS and audit; emitted events are
   * written with it. Runs again once after a serialization failure or deadlock, so `work` must do nothing but SQL. With
   * `once`, a unit of work that was done before is not done again: the earlier value is returned.
   */
  async write<T>(scope: Scope, work: (tx: Tx) => Promise<T>, once?: Once): Promise<T> {
    let emitted = false
    let changedRights = false
    const value = await this.#checkout(scope.tenantId, (connection) =>
      connection.transaction(async (transaction) => {
        const events: DomainEvent[] = []
        const jobs: Job[] = []
        const tx = new UnitOfWork(
          transaction,
          scope,
          (event) => events.push(event),
          (job) => jobs.push(job),
        )
        const settings = sql.fragment`
          set_config('tenantry.actor_id', ${scope.actor.userId ?? ''}, true),
          set_config('tenantry.actor_name', ${scope.actor.name}, true),
          set_config('tenantry.correlation_id', ${scope.correlationId}, true),
          set_config('tenantry.records_allowed', ${String(scope.limits?.records ?? '')}, true)`
        if (once) {
          const earlier = await claim(tx, once, settings)
          if (earlier) return earlier.answer as T
        } else {
          await tx.query(prepared(sql.run`select ${settings}`))
        }
        const value = await work(tx)
        if (jobs.length > 0) {
          if (!this.#enqueue) throw new TypeError('only the control plane has a job queue')
          await this.#enqueue(transaction, jobs)
        }
        await seal(tx, events, once ? keepAnswer(tx, once, value) : null)
        if (this.#settle) changedRights = (await transaction.one(rightsChanged)).changed
        emitted = events.length > 0
        return value
      }, 1),
    )
    if (emitted) this.#wakeRelay()
    if (changedRights) await this.#settle?.()
    return value
  }

  /**
   * Wakes the relay after a commit. Not inside the transaction: one that notifies holds a lock of the whole server while
   * it commits, so that commits would wait for one another. Should a wake-up be lost, the relay looks by itself soon.
   */
  #wakeRelay(): void {
    this.#waking ??= setTimeout(() => {
      this.#waking = undefined
      this.#pool()
        .then((pool) => pool.query(prepared(sql.run`select pg_notify('tenantry_outbox', '')`)))
        .catch(() => {})
    }, WAKE_MS).unref()
  }

  /** Reads or writes across tenants, in one transaction, where the policy of the table lets the platform in. */
  async platform<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#checkout(PLATFORM, (connection) => connection.transaction(work, 1))
  }

  /** One cheap round trip; throws `database_unavailable`. */
  async ping(): Promise<void> {
    await this.#checkout(PLATFORM, async (connection) => connection.query(sql.run`select 1 as one`))
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#waking)
    await (await this.#made?.catch(() => undefined))?.end()
  }

  async #checkout<T>(binding: Binding, work: (connection: DatabasePoolConnection) => Promise<T>): Promise<T> {
    let outcome: Outcome<T>
    try {
      const pool = await within(this.#deadlineMs, this.#pool())
      outcome = await pool.connect(async (connection): Promise<Outcome<T>> => {
        try {
          return {
            value: await within(
              this.#deadlineMs,
              this.#bind(connection, binding).then(() => work(connection)),
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
    }
    if (outcome instanceof Failure) throw outcome
    return outcome.value
  }

  async #bind(connection: DatabasePoolConnection, binding: Binding): Promise<void> {
    const client = clientOf(connection)
    if (this.#bound.get(client) === binding) return
    this.#bound.delete(client)
    const [tenant, platform] = binding === PLATFORM ? ['', 'on'] : [binding, 'off']
    await connection.query(
      prepared(sql.run`
      select set_config('tenantry.tenant_id', ${tenant}, false), set_config('tenantry.platform', ${platform}, false)`),
    )
    this.#bound.set(client, binding)
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

const refuseEffects = (): never => {
  throw new TypeError('a read emits no events and enqueues no jobs')
}

/** A transaction, or a connection for reads, as domain functions see it. */
class UnitOfWork implements Tx {
  readonly now = new Date()
  readonly tenantId: Uuid
  readonly actor: Actor
  readonly context: Context
  readonly correlationId: string
  readonly limits: Tx['limits']
  readonly numberFormats: Tx['numberFormats']
  readonly emit: Tx['emit']
  readonly enqueue: Tx['enqueue']
  readonly #queries: Queries

  constructor(queries: Queries, scope: Scope, emit: Tx['emit'], enqueue: Tx['enqueue']) {
    this.#queries = queries
    this.tenantId = scope.tenantId
    this.actor = scope.actor
    this.context = scope.context
    this.correlationId = scope.correlationId
    this.limits = scope.limits ?? {}
    this.numberFormats = scope.numberFormats
    this.emit = emit
    this.enqueue = enqueue
  }

  any: Queries['any'] = (query) => this.#queries.any(query)
  exists: Queries['exists'] = (query) => this.#queries.exists(query)
  maybeOne: Queries['maybeOne'] = (query) => this.#queries.maybeOne(query)
  one: Queries['one'] = (query) => this.#queries.one(query)
  query: Queries['query'] = (query) => this.#queries.query(query)
}

/** Ends a unit of work, in one statement: its events go to the outbox, its answer to its idempotency key. */
async function seal(tx: Tx, events: readonly DomainEvent[], answer: Fragment | null): Promise<void> {
  if (events.length === 0) {
    if (answer) await tx.query(prepared(sql.run`${answer}`))
    return
  }
  const now = tx.now.toISOString()
  const rows = events.map((e) => [newId(), e.type, e.entity_id, e.version, JSON.stringify(e.data)])
  await tx.query(
    prepared(sql.run`
    with ${answer ? sql.fragment`answered as (${answer}),` : sql.fragment``}
    e as (select * from ${sql.unnest(rows, ['uuid', 'text', 'uuid', 'int4', 'jsonb'])} as e (event_id, type, entity_id, version, data))
    insert into plane.event_outbox (event_id, tenant_id, type, entity_id, version, occurred_at, data, correlation_id)
    select event_id, ${tx.tenantId}, type, entity_id, version, ${now}, data, ${tx.correlationId} from e`),
  )
}
