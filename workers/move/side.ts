// One end of a move: a place where the tenant is at home, or will be, or was.
import type { Client } from 'pg'
import type { Place, Storage } from '../../domain/tenancy/index.ts'
import { type MovedTable, quote, tablesOf } from './tables.ts'

/** How long a trigger may wait for its table; everybody else waits behind it. */
const TABLE_PATIENCE_MS = 50
const TABLE_TRIES = 400
const CLEARED_AT_ONCE = 20_000
/** Events held in one statement, so that neither the relay nor a writer waits long for it. */
const HELD_AT_ONCE = 2_000

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** Waits a moment between tries, never the same for two. */
const moment = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms * (0.5 + Math.random())))

/** Which database of which server this is, whatever the addresses are that lead to it; null when there is none of this name. */
async function databaseNamed(client: Client, name: string | null): Promise<string | null> {
  const { rows } = await client.query<{ database: string }>(
    `select datname || ' ' || oid || ' ' || extract(epoch from pg_postmaster_start_time()) as database from pg_database
     where datname = coalesce($1, current_database())`,
    [name],
  )
  return rows[0]?.database ?? null
}

export const codeOf = (error: unknown): string | undefined => (error as { code?: string }).code

/** Held on the connection to a place, so that one worker alone is at it, whatever became of the one before. */
const WORKER_LOCK = 7265

/** Nothing can be brought to a server, or removed from it, by a role that may not say so. */
export class Powerless extends Error {
  override name = 'Powerless'
  constructor(catalogKey: string) {
    super(
      `the role of DATA_OWNER_CATALOG for ${catalogKey} may not set session_replication_role: as a superuser, grant set on parameter session_replication_role to it`,
    )
  }
}

export class Side {
  readonly place: Place
  readonly tenantId: string
  /** The schema of its tables. */
  readonly home: string
  readonly #client: Client
  #receives = false
  /** Whether its connection was given up. */
  ended = false
  /** Which database this is; a move inside one leaves what belongs to the database where it is. */
  readonly database: string

  private constructor(place: Place, tenantId: string, client: Client, database: string) {
    this.place = place
    this.tenantId = tenantId
    this.home = place.schema_name ?? 'public'
    this.#client = client
    this.database = database
  }

  /** Connects as the owner. Throws what the driver throws when the server is away. */
  static async open(storage: Storage, place: Place, tenantId: string): Promise<Side> {
    const client = await storage.connect(place)
    try {
      const side = new Side(place, tenantId, client, (await databaseNamed(client, null))!)
      await client.query(`select pg_advisory_lock($1, hashtext($2))`, [WORKER_LOCK, `${side.home} ${tenantId}`])
      await client.query(`set timezone to 'UTC'; set datestyle to 'ISO'; set extra_float_digits to 1; set statement_timeout to 0`)
      return side
    } catch (error) {
      await client.end().catch(() => {})
      throw error
    }
  }

  /** Whether a place is this very one. Two keys of the catalog may lead to one database, and two modes never do. */
  async is(storage: Storage, { catalog_key, schema_name, database_name }: Place): Promise<boolean> {
    if ((schema_name ?? 'public') !== this.home) return false
    const server = await storage.connect({ mode: 'shared', catalog_key, schema_name: null, database_name: null })
    try {
      return (await databaseNamed(server, database_name)) === this.database
    } finally {
      await server.end().catch(() => {})
    }
  }

  end = (): Promise<void> => {
    this.ended = true
    return this.#client.end().catch(() => {})
  }

  /** Limits every statement that follows to `ms`, with `57014`; 0 is without limit. */
  limit = (ms: number) => this.#client.query(`set statement_timeout to ${Math.max(0, Math.round(ms))}`)

  /** For what carries rows. */
  get client(): Client {
    return this.#client
  }

  /** The name of a table at this place, quoted. */
  table({ name, schema }: MovedTable): string {
    return schema ? name.split('.').map(quote).join('.') : `${quote(this.home)}.${quote(name)}`
  }

  /** The tables of this place; with `plane` also those that belong to the database. */
  async tables(plane: boolean): Promise<MovedTable[]> {
    return [...(await tablesOf(this.#client, this.home)), ...(plane ? await tablesOf(this.#client, 'plane') : [])]
  }

  /** Which planes this database serves. */
  async planes(): Promise<string[]> {
    const { rows } = await this.#client.query<{ plane: string }>(
      `select distinct split_part(name, '/', 1) as plane from public.schema_migrations`,
    )
    return rows.map(({ plane }) => plane)
  }

  /**
   * As the one that rows are brought to or removed from: triggers and references did their work where the rows were
   * written, and must not do it again. Throws `Powerless`.
   */
  async receive(): Promise<void> {
    try {
      await this.#client.query(`set session_replication_role to replica; set tenantry.platform to 'on'`)
      this.#receives = true
    } catch (error) {
      throw codeOf(error) === '42501' ? new Powerless(this.place.catalog_key) : error
    }
  }

  /** As the one that rows are taken from: what is changed here is noted, and passes the fence. */
  async give(): Promise<void> {
    // Also to take it back one must be allowed to set it.
    if (this.#receives) await this.#client.query('reset session_replication_role')
    this.#receives = false
    await this.#client.query(`set tenantry.platform to 'on'`)
  }

  /** Notes from now on what changes, whoever changes it: when this returns, whoever did not see the triggers has finished. */
  async watch(tables: readonly MovedTable[], closed: boolean): Promise<void> {
    await this.#client.query(
      `insert into plane.move_sides (tenant_id, home, closed) values ($1, $2, $3) on conflict (tenant_id, home) do update set closed = excluded.closed`,
      [this.tenantId, this.home, closed],
    )
    for (const table of tables) {
      const call = `execute function plane.note_change(${[this.home, this.tenantId, table.name, `{${table.key.map(({ name }) => name)}}`].map(literal).join(', ')})`
      await this.#alter(
        `create or replace trigger ${this.#trigger('written')} after insert or update on ${this.table(table)} for each row when (new.tenant_id = ${literal(this.tenantId)}) ${call};
         create or replace trigger ${this.#trigger('deleted')} after delete on ${this.table(table)} for each row when (old.tenant_id = ${literal(this.tenantId)}) ${call}`,
      )
    }
  }

  /** Ends what `watch` began. Doing it again changes nothing. */
  async forget(tables: readonly MovedTable[]): Promise<void> {
    for (const table of tables) {
      const { rowCount } = await this.#client.query('select from pg_trigger where tgrelid = to_regclass($1) and tgname = any ($2)', [
        this.table(table),
        [this.#name('written'), this.#name('deleted')],
      ])
      if (!rowCount) continue
      await this.#alter(
        `drop trigger if exists ${this.#trigger('written')} on ${this.table(table)}; drop trigger if exists ${this.#trigger('deleted')} on ${this.table(table)}`,
      )
    }
    await this.#client.query('delete from plane.changed_rows where tenant_id = $1 and home = $2', [this.tenantId, this.home])
    await this.#client.query('delete from plane.move_sides where tenant_id = $1 and home = $2', [this.tenantId, this.home])
  }

  /**
   * Closes the place to writers: when this returns, all earlier writers have committed and are noted. Throws `55P03` when
   * one of them takes longer than `patienceMs`; then the place is open as before.
   */
  async close(patienceMs: number): Promise<void> {
    await this.#client.query(`set lock_timeout to ${patienceMs}`)
    try {
      await this.#client.query('select pg_advisory_lock(plane.move_lock($1, $2))', [this.tenantId, this.home])
      await this.#mark(true)
      await this.#client.query('select pg_advisory_unlock(plane.move_lock($1, $2))', [this.tenantId, this.home])
    } finally {
      await this.#client.query('set lock_timeout to 0')
    }
  }

  /** Lets the tenant write here. */
  open = () => this.#mark(false)

  #mark = (closed: boolean) =>
    this.#client.query('update plane.move_sides set closed = $3 where tenant_id = $1 and home = $2', [this.tenantId, this.home, closed])

  /** Which tables are here already. Written with the rows themselves. */
  async copied(): Promise<Set<string>> {
    const { rows } = await this.#client.query<{ copied: string[] }>(
      'select copied from plane.move_sides where tenant_id = $1 and home = $2',
      [this.tenantId, this.home],
    )
    return new Set(rows[0]?.copied)
  }

  /** When the trail of the tenant begins here. */
  async oldestTrail(): Promise<string | null> {
    const { rows } = await this.#client.query<{ at: string | null }>(
      'select min(created_at)::text as at from plane.audit_events where tenant_id = $1',
      [this.tenantId],
    )
    return rows[0]!.at
  }

  /** Makes the partitions that a trail needs which began elsewhere. */
  async makeRoomForTrail(since: string | null): Promise<void> {
    if (since) await this.#client.query('select plane.make_audit_partitions(since => $1)', [since])
  }

  /** Lets the planner know what came. */
  analyze = (tables: readonly MovedTable[]) => this.#client.query(`analyze ${tables.map((table) => this.table(table)).join(', ')}`)

  /** Removes the tenant's rows, some at a time, so that nobody waits long for the database. */
  async clear(tables: readonly MovedTable[], usage: boolean): Promise<void> {
    if (usage) await this.#client.query('delete from plane.usage_changes where tenant_id = $1', [this.tenantId])
    for (const name of tables.map((table) => this.table(table))) {
      const { rows: parts } = await this.#client.query<{ part: string }>(
        'select relid::text as part from pg_partition_tree($1::regclass) where isleaf',
        [name],
      )
      // A table that has no partitions is none of its own tree on PostgreSQL 15.
      for (const part of parts.length > 0 ? parts.map(({ part }) => part) : [name]) {
        for (let more = true; more; ) {
          const { rowCount } = await this.#client.query(
            `delete from ${part} where ctid = any (array(select ctid from ${part} where tenant_id = $1 limit ${CLEARED_AT_ONCE}))`,
            [this.tenantId],
          )
          more = rowCount === CLEARED_AT_ONCE
        }
      }
    }
  }

  /**
   * Holds the pending events of this place: the relay leaves them alone, and they are carried with the tenant. The relay is
   * given `patienceMs` to publish those that are due first, so that none is under way while it is carried. In short
   * statements; returns how many were held.
   */
  async holdEvents(patienceMs: number): Promise<number> {
    const until = Date.now() + patienceMs
    while (Date.now() < until) {
      const { rows } = await this.#client.query<{ due: boolean }>(
        `select exists (select from plane.event_outbox where tenant_id = $1 and status = 'pending' and available_at <= now()) as due`,
        [this.tenantId],
      )
      if (!rows[0]!.due) break
      await this.#client.query(`select pg_notify('tenantry_outbox', '')`)
      await moment(10)
    }
    for (let held = 0; ; ) {
      const { rowCount } = await this.#client.query(
        `update plane.event_outbox set available_at = 'infinity' where status = 'pending' and event_id = any (array(
           select event_id from plane.event_outbox where tenant_id = $1 and status = 'pending' and available_at < 'infinity' limit ${HELD_AT_ONCE}))`,
        [this.tenantId],
      )
      held += rowCount ?? 0
      if ((rowCount ?? 0) < HELD_AT_ONCE) return held
    }
  }

  /** Events that came with the tenant are published from here. */
  releaseEvents = () =>
    this.#client.query(
      `update plane.event_outbox set available_at = now() where tenant_id = $1 and status = 'pending' and available_at = 'infinity'`,
      [this.tenantId],
    )

  #name = (what: string) => `move_${this.tenantId.replaceAll('-', '')}_${what}`
  #trigger = (what: string) => quote(this.#name(what))

  /** Changes a table that others use: in short tries, so that nobody waits behind one. */
  async #alter(text: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#client.query(`begin; set local lock_timeout to ${TABLE_PATIENCE_MS}; ${text}; commit`)
        return
      } catch (error) {
        await this.#client.query('rollback')
        // 55P03 lock not available, 40P01 deadlock
        if (!['55P03', '40P01'].includes(codeOf(error) ?? '') || tries === TABLE_TRIES) throw error
        await moment(2 * TABLE_PATIENCE_MS)
      }
    }
  }
}

/**
 * What is carried between two places. Throws when they would not understand each other’s rows, or when the trail of
 * another plane lies among what would have to go.
 */
export async function tablesBetween(source: Side, target: Side): Promise<MovedTable[]> {
  const apart = source.database !== target.database
  for (const side of apart ? [source, target] : []) {
    if (side.place.mode !== 'database' && (await side.planes()).some((plane) => plane !== 'data' && plane !== 'plane'))
      throw new Error(`${side.place.catalog_key} is the database of another plane too: what belongs to which cannot be told apart`)
  }
  const [mine, yours] = await Promise.all([source.tables(apart), target.tables(apart)])
  // Where a tenant is by itself there are its tables alone; the shared database may have others.
  const tables = source.place.mode === 'shared' && target.place.mode !== 'shared' ? yours : mine
  for (const table of tables) {
    const [here, there] = [mine, yours].map((side) => side.find(({ name }) => name === table.name))
    if (JSON.stringify(here) !== JSON.stringify(there))
      throw new Error(`${table.name} is not the same at both places: npm run migrate brings them to one version`)
  }
  return tables
}
