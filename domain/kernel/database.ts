// A database and its units of work: the only way to a connection.
import type { DatabasePoolConnection } from 'slonik'
import { Type } from 'typebox'
import type { Actor, Context, DomainEvent, Job, Queries, Scope, Tx } from './context.ts'
import { failure } from './errors.ts'
import { claim, keepAnswer, type Once } from './idempotency.ts'
import { newId, type Uuid } from './ids.ts'
import { PLATFORM, Pool, type PoolOptions, SHARED_SCHEMA } from './pool.ts'
import { type Fragment, prepared, sql } from './sql.ts'

export interface DatabaseOptions extends PoolOptions {
  /** Puts jobs into the queue, by the transaction's own connection. */
  enqueue?: (queries: Queries, jobs: readonly Job[]) => Promise<void>
  /** Waits, after a commit that changed somebody's rights, until every process knows; only the control plane has them. */
  settle?: () => Promise<void>
  /** Told of a tenant once a commit of his has left events. */
  announce?: (tenantId: Uuid) => void
  /** Tells whoever publishes this database's events that there are some. Those of a catalog database are listened for. */
  wake?: () => void
}

/** Set by the triggers that raise a tenant's access epoch. */
const rightsChanged = sql.prepared(Type.Object({ changed: Type.Boolean() }, { additionalProperties: false }))`
  select coalesce(current_setting('tenantry.rights_changed', true), '') = 'on' as changed`

export class Database {
  readonly #pool: Pool
  readonly #options: DatabaseOptions
  readonly #schema: string

  /** @param source a URL, or the pool of another view on the same database */
  constructor(source: string | Pool, options: DatabaseOptions, schema: string = SHARED_SCHEMA) {
    this.#pool = typeof source === 'string' ? new Pool(source, options) : source
    this.#options = options
    this.#schema = schema
  }

  /** The same database and the same connections, for a tenant whose tables are in a schema of its own. */
  inSchema(schema: string): Database {
    return new Database(this.#pool, this.#options, schema)
  }

  /** Reads for a tenant: no transaction, each statement sees what is committed. Emitting is an error. */
  async read<T>(scope: Scope, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#pool.lend(scope.tenantId, this.#schema, (connection) => work(new UnitOfWork(connection, scope)))
  }

  /** Reads across tenants, where the policy of the table lets the platform in: for its staff. */
  async readAcross<T>(scope: Scope, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#pool.lend(PLATFORM, this.#schema, (connection) => work(new UnitOfWork(connection, scope)))
  }

  /**
   * Writes for a tenant: one transaction, bound to tenant, actor and correlation id for RLS and audit; emitted events are
   * written with it. Runs again once after a serialization failure or deadlock, so `work` must do nothing but SQL. With
   * `once`, a unit of work that was done before is not done again: the earlier value is returned.
   */
  async write<T>(scope: Scope, work: (tx: Tx) => Promise<T>, once?: Once): Promise<T> {
    let emitted = 0
    let changedRights = false
    const run = (connection: DatabasePoolConnection) =>
      connection.transaction(async (transaction) => {
        const jobs: Job[] = []
        const tx = new UnitOfWork(transaction, scope, (job) => jobs.push(job))
        const settings = sql.fragment`
          set_config('tenantry.actor_id', ${scope.actor.userId ?? ''}, true),
          set_config('tenantry.actor_name', ${scope.actor.name}, true),
          set_config('tenantry.impersonator_id', ${scope.actor.impersonatorId ?? ''}, true),
          set_config('tenantry.correlation_id', ${scope.correlationId}, true),
          set_config('tenantry.records_allowed', ${String(scope.limits?.records ?? '')}, true),
          set_config('tenantry.storage_allowed', ${String(scope.limits?.storage ?? '')}, true)`
        if (once) {
          const earlier = await claim(tx, once, settings)
          if (earlier) return earlier.answer as T
        } else {
          await tx.query(prepared(sql.run`select ${settings}`))
        }
        const value = await work(tx)
        if (jobs.length > 0) {
          if (!this.#options.enqueue) throw new TypeError('only the control plane has a job queue')
          await this.#options.enqueue(transaction, jobs)
        }
        emitted = await tx.seal(once ? keepAnswer(tx, once, value) : null)
        if (this.#options.settle) changedRights = (await transaction.one(rightsChanged)).changed
        return value
      }, 1)
    const value = await this.#pool.lend(scope.tenantId, this.#schema, run, scope.deadlineMs)
    if (emitted > 0) {
      this.wakeRelay()
      this.#options.announce?.(scope.tenantId)
    }
    if (changedRights) await this.#options.settle?.()
    return value
  }

  /** Reads or writes across tenants, in one transaction, where the policy of the table lets the platform in. */
  async platform<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.#pool.lend(PLATFORM, this.#schema, (connection) => connection.transaction(work, 1))
  }

  /** One cheap round trip; throws `database_unavailable`. */
  async ping(): Promise<void> {
    await this.#pool.lend(PLATFORM, this.#schema, async (connection) => connection.query(sql.run`select 1 as one`))
  }

  /** Says that there are events to publish. Soon, and once for many calls. */
  wakeRelay(): void {
    ;(this.#options.wake ?? this.#pool.wakeRelay)()
  }

  close(): Promise<void> {
    return this.#pool.close()
  }
}

const refuseEffects = (): never => {
  throw new TypeError('a read emits no events and enqueues no jobs')
}

/** So many events are written while the work goes on: a file of 100,000 lines is not held in memory until its end. */
const MOST_EVENTS_HELD = 1_000

/** A transaction, or a connection for reads, as domain functions see it. */
class UnitOfWork implements Tx {
  readonly now = new Date()
  readonly tenantId: Uuid
  readonly actor: Actor
  readonly context: Context
  readonly correlationId: string
  readonly reach: Tx['reach']
  readonly limits: Tx['limits']
  readonly numberFormats: Tx['numberFormats']
  readonly enqueue: Tx['enqueue']
  readonly #queries: Queries
  readonly #writes: boolean
  readonly #events: DomainEvent[] = []
  #written = 0
  readonly #secrets: Scope['secrets']
  readonly #currency: string | undefined

  /** @param enqueue nothing for reads, which have no effects */
  constructor(queries: Queries, scope: Scope, enqueue?: Tx['enqueue']) {
    this.#queries = queries
    this.#writes = enqueue !== undefined
    this.enqueue = enqueue ?? refuseEffects
    this.tenantId = scope.tenantId
    this.actor = scope.actor
    this.context = scope.context
    this.correlationId = scope.correlationId
    this.reach = scope.reach ?? null
    this.limits = scope.limits ?? {}
    this.numberFormats = scope.numberFormats
    this.#secrets = scope.secrets
    this.#currency = scope.currency
  }

  get currency() {
    if (!this.#currency) throw failure('context_required')
    return this.#currency
  }

  get secrets() {
    if (!this.#secrets) throw new TypeError('this unit of work was given no key')
    return this.#secrets
  }

  any: Queries['any'] = async (query) => (await this.#relieved()).any(query)
  exists: Queries['exists'] = async (query) => (await this.#relieved()).exists(query)
  maybeOne: Queries['maybeOne'] = async (query) => (await this.#relieved()).maybeOne(query)
  one: Queries['one'] = async (query) => (await this.#relieved()).one(query)
  query: Queries['query'] = async (query) => (await this.#relieved()).query(query)

  emit: Tx['emit'] = (event) => {
    if (!this.#writes) refuseEffects()
    this.#events.push(event)
  }

  /** The connection, once it holds no more events than it may. */
  async #relieved(): Promise<Queries> {
    if (this.#events.length >= MOST_EVENTS_HELD) await this.#write(null)
    return this.#queries
  }

  /** Ends the work, in one statement: its events go to the outbox, its answer to its idempotency key. Returns how many events there were. */
  async seal(answer: Fragment | null): Promise<number> {
    await this.#write(answer)
    return this.#written
  }

  async #write(answer: Fragment | null): Promise<void> {
    const events = this.#events.splice(0)
    this.#written += events.length
    if (events.length > 0) await this.#queries.query(outboxOf(this, events, answer))
    else if (answer) await this.#queries.query(prepared(sql.run`${answer}`))
  }
}

/** The statement that writes events, and an answer with them. */
function outboxOf(tx: Tx, events: readonly DomainEvent[], answer: Fragment | null) {
  const now = tx.now.toISOString()
  const own = tx.context.organizationId
  const rows = events.map((e) => [
    newId(),
    e.type,
    e.entity_id,
    e.version,
    JSON.stringify(e.data),
    e.organization_id === undefined ? ((e.data.organization_id as string | undefined) ?? own) : e.organization_id,
  ])
  return prepared(sql.run`
    with ${answer ? sql.fragment`answered as (${answer}),` : sql.fragment``}
    e as (select * from ${sql.unnest(rows, ['uuid', 'text', 'uuid', 'int4', 'jsonb', 'uuid'])} as e (event_id, type, entity_id, version, data, organization_id))
    insert into plane.event_outbox (event_id, tenant_id, type, entity_id, version, occurred_at, data, correlation_id, organization_id)
    select event_id, ${tx.tenantId}, type, entity_id, version, ${now}, data, ${tx.correlationId}, organization_id from e`)
}
