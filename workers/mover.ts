// Moves a tenant: what its move asks for is done step by step. Begun again, by whoever, it goes on where it was.
import { setTimeout as wait } from 'node:timers/promises'
import { Client } from 'pg'
import { type Database, Failure, failure, newId, type Scope, systemScope } from '../domain/kernel/index.ts'
import {
  type Compared,
  homeOf,
  liveAt,
  type Mark,
  type Move,
  markMove,
  moveOf,
  type Place,
  type Planes,
  pauseWriters,
  type Storage,
  stayAtHome,
  takeLease,
  tenantOf,
} from '../domain/tenancy/index.ts'
import type { WorkerLog } from './log.ts'
import { carryChanges, copyTable, Doubt } from './move/carry.ts'
import { Powerless, Side, tablesBetween } from './move/side.ts'
import type { MovedTable } from './move/tables.ts'

/** Changes are carried again and again, until a pass is as short as this, or carries so few that writers may wait for the next. */
const SHORT_PASS_MS = 250
const FEW_ROWS = 500
const MAX_PASSES = 60
/** A tenant that is compared whole in this time is compared whole once more while writers wait; a larger one before it, and its last rows then. */
const WHOLE_AT_SWITCH_MS = 300
/** How long the relay may take to publish what waits, while writers wait too. */
const EVENTS_PATIENCE_MS = 500
const SWITCH_TRIES = 5
/** How often whoever watches is told which table is copied. */
const TELL_MS = 1_000
/** Advisory lock on the control plane: one worker a move. */
const MOVE_LOCK = 7266

export interface MoverDependencies {
  planes: Planes
  storage: Storage
  controlUrl: string
  log: WorkerLog
  /** Told of each step before it is done. */
  onStep?: (step: string) => void
}

/** Does what the state of a move asks for, until it has ended or waits for staff. Throws what a later try may mend. */
export async function carryOut(deps: MoverDependencies, tenantId: string, moveId: string, signal: AbortSignal): Promise<void> {
  const lock = await soleWorker(deps.controlUrl, moveId, signal)
  if (!lock) return
  try {
    const work = new MoveWork(deps, systemScope(tenantId, 'tenant-move', newId()), moveId, signal)
    await work.begin()
    while (await work.next());
  } catch (error) {
    if (!(error instanceof Failure && error.detail === 'not_found')) throw error
    deps.log.warn({ tenant_id: tenantId, move_id: moveId }, 'there is no such move')
  } finally {
    await lock.end().catch(() => {})
  }
}

/** A connection whose end, however it comes, lets the next worker on. Null when told to stop before it was one's turn. */
async function soleWorker(controlUrl: string, moveId: string, signal: AbortSignal): Promise<Client | null> {
  const client = new Client({ connectionString: controlUrl, application_name: 'tenantry-mover', connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  await client.connect()
  while (!signal.aborted) {
    const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as mine', [MOVE_LOCK, moveId])
    if (rows[0]!.mine) return client
    await wait(250)
  }
  await client.end()
  return null
}

/** What will pass by itself: a server that is away, a lock that somebody holds, a stop. */
function passing(error: unknown): boolean {
  if (error instanceof Failure) return error.status >= 500
  const { code = '', message = '' } = error as { code?: string; message?: string }
  return (
    /^(08|40|53|57P|55P03)|^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_)/.test(code) || /connection terminated|timeout expired/i.test(message)
  )
}

interface Way {
  source: Side
  target: Side
  tables: readonly MovedTable[]
  /** In one database, what belongs to the database stays. */
  apart: boolean
}

class MoveWork {
  readonly #deps: MoverDependencies
  readonly #scope: Scope
  readonly #id: string
  /** Whoever takes the move over writes another; what this one marks is refused from then on. */
  readonly #lease = newId()
  readonly #signal: AbortSignal
  readonly #control: Database

  constructor(deps: MoverDependencies, scope: Scope, id: string, signal: AbortSignal) {
    this.#deps = deps
    this.#scope = scope
    this.#id = id
    this.#signal = signal
    this.#control = deps.planes.control
  }

  begin = () => this.#control.write(this.#scope, (tx) => takeLease(tx, this.#id, this.#lease))
  #read = () => this.#control.read(this.#scope, (tx) => moveOf(tx, this.#id))
  #mark = (mark: Mark) => this.#control.write(this.#scope, (tx) => markMove(tx, this.#id, this.#lease, mark))

  async #step(move: Move, step: string): Promise<void> {
    if (this.#signal.aborted) throw failure('overloaded')
    this.#deps.onStep?.(step)
    await this.#mark({ in: move.state, step })
  }

  /** Does what the state asks for; false when there is nothing left to do. */
  async next(): Promise<boolean> {
    const move = await this.#read()
    const { state, from_place: from, to_place: to } = move
    try {
      if (state === 'copying') await this.#bring(move, from, to, 'switched')
      else if (state === 'returning') await this.#bring(move, to, from, 'cancelling')
      else if (state === 'confirming') await this.#giveUp(move, { old: from, home: to }, 'confirmed')
      else if (state === 'cancelling') await this.#giveUp(move, { old: to, home: from }, 'rolled_back')
      else if (state === 'switched' && move.step === 'switched') await this.#arrive(move)
      else return false
    } catch (error) {
      return this.#trouble(move, error)
    }
    return true
  }

  /** A doubt takes the move back. What will pass is thrown, and tried again; what will not waits for staff. True to go on. */
  async #trouble(move: Move, error: unknown): Promise<boolean> {
    const { state } = move
    if (error instanceof Failure && error.detail === 'version_conflict') {
      // Staff decided otherwise, as the next look shows, or another worker has taken over.
      return (await this.#read()).state !== state
    }
    this.#deps.log.warn({ err: error, tenant_id: this.#scope.tenantId, move_id: this.#id, state, step: move.step }, 'a move met trouble')
    const reason = (error as Error).message.slice(0, 500)
    if (passing(error)) {
      await this.#mark({ in: state, error: reason })
      throw error
    }
    if (state === 'copying') await this.#mark({ in: state, state: 'cancelling', error: reason })
    else if (state === 'returning') await this.#stay(reason)
    else await this.#mark({ in: state, error: reason })
    return state === 'copying'
  }

  async #stay(reason: string): Promise<void> {
    // On the way back it goes on working where it is, and staff decides again.
    await this.#control.write(this.#scope, async (tx) => {
      await markMove(tx, this.#id, this.#lease, { in: 'returning', state: 'switched', step: 'kept', error: reason })
      await stayAtHome(tx)
    })
  }

  /** Brings everything from one place to another while the tenant works, then lets it work there. */
  async #bring(move: Move, from: Place, to: Place, then: 'switched' | 'cancelling'): Promise<void> {
    const { storage } = this.#deps
    const { tenantId } = this.#scope
    const source = await Side.open(storage, from, tenantId)
    let target: Side | undefined
    try {
      if (move.state === 'copying' && (move.step === null || move.step === 'room')) await this.#makeRoom(move, to)
      target = await Side.open(storage, to, tenantId)
      await target.receive()
      // The old copy will be removed from there: better to know now that it can be.
      await source.receive()
      await source.give()
      const way = { source, target, tables: await tablesBetween(source, target), apart: source.database !== target.database }
      await this.#step(move, 'watch')
      await target.watch(way.tables, true)
      await source.watch(way.tables, false)
      await this.#letWrite(way)
      if (move.state === 'copying') await this.#copy(move, way)
      await this.#step(move, 'compare')
      const { compared, ms } = await carryChanges(source, target, way.tables, { compare: 'all' })
      await this.#catchUp(move, way)
      await this.#switch(move, way, then, compared, ms <= WHOLE_AT_SWITCH_MS)
    } finally {
      await Promise.all([source.end(), target?.end()])
    }
  }

  /** An empty place with all tables. What is there is left of an earlier try: the tenant does not live there. */
  async #makeRoom(move: Move, to: Place): Promise<void> {
    const { storage } = this.#deps
    await this.#step(move, 'room')
    if (to.mode !== 'shared') {
      await storage.drop(to)
      await storage.make(to)
      return
    }
    const side = await Side.open(storage, to, this.#scope.tenantId)
    try {
      await side.receive()
      await side.clear(await side.tables(false), false)
    } finally {
      await side.end()
    }
  }

  async #copy(move: Move, { source, target, tables, apart }: Way): Promise<void> {
    if (apart) await target.makeRoomForTrail(await source.oldestTrail())
    const copied = await target.copied()
    let said = 0
    for (const [at, table] of tables.entries()) {
      if (copied.has(table.name)) continue
      this.#deps.onStep?.(`copy ${table.name}`)
      if (Date.now() - said > TELL_MS) {
        await this.#step(move, `copy ${table.name} (${at + 1} of ${tables.length})`)
        said = Date.now()
      }
      await copyTable(source, target, table)
    }
    if (target.place.mode !== 'shared') await target.analyze(tables)
  }

  /** Until what changes meanwhile is carried in a moment. */
  async #catchUp(move: Move, { source, target, tables }: Way): Promise<void> {
    await this.#step(move, 'catch up')
    for (let pass = 1; pass <= MAX_PASSES; pass++) {
      if (this.#signal.aborted) throw failure('overloaded')
      const { ms, rows } = await carryChanges(source, target, tables)
      if (ms <= SHORT_PASS_MS || rows <= FEW_ROWS) return
    }
    throw new Error('more is written than is carried: move the tenant when it writes less')
  }

  async #switch(move: Move, way: Way, then: 'switched' | 'cancelling', compared: Compared, whole: boolean): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#trySwitch(move, way, then, compared, whole)
      } catch (error) {
        await this.#letWrite(way).catch(() => {})
        // Somebody writes for long: he is let finish.
        if ((error as { code?: string }).code !== '55P03' || tries === SWITCH_TRIES) throw error
        await wait(1_000 * tries)
        await this.#catchUp(move, way)
      }
    }
  }

  /**
   * Writers wait; the last rows go over and are compared; the tenant lives at the new place. One commit on the control
   * plane decides: before it the tenant has never left, after it the old place takes nothing from anybody.
   */
  async #trySwitch(
    move: Move,
    { source, target, tables, apart }: Way,
    then: 'switched' | 'cancelling',
    compared: Compared,
    whole: boolean,
  ) {
    const { log, planes } = this.#deps
    await this.#step(move, 'close')
    const began = Date.now()
    await this.#control.write(this.#scope, (tx) => pauseWriters(tx, true))
    await source.close()
    if (apart) await source.holdEvents(EVENTS_PATIENCE_MS)
    this.#deps.onStep?.('last rows')
    const tail = await carryChanges(source, target, tables, { compare: whole ? 'all' : 'changed', last: true })
    if (JSON.stringify(await tablesBetween(source, target)) !== JSON.stringify(tables))
      throw new Doubt('the tables were migrated meanwhile')
    await target.open()
    this.#deps.onStep?.('switch')
    await this.#control.write(this.#scope, async (tx) => {
      const tables = whole ? tail.compared : compared
      await markMove(tx, this.#id, this.#lease, { in: move.state, state: then, step: 'switched', tables, error: null })
      await liveAt(tx, target.place, target.place.mode === 'shared' ? 0 : planes.dataVersion)
      tx.emit({ type: 'platform.tenant.moved', entity_id: tx.tenantId, version: 1, data: { move_id: move.id, ...target.place } })
    })
    const readOnlyMs = Date.now() - began
    await this.#mark({ in: then, readOnlyMs })
    log.info({ tenant_id: this.#scope.tenantId, move_id: move.id, read_only_ms: readOnlyMs, last_rows: tail.rows }, 'tenant moved')
  }

  /** Still at home: whoever waits writes here, and what waits is published from here. */
  async #letWrite({ source, apart }: Way): Promise<void> {
    await source.open()
    if (apart) await source.releaseEvents()
    const { writable } = await this.#control.read(this.#scope, tenantOf)
    if (!writable) await this.#control.write(this.#scope, (tx) => pauseWriters(tx, false))
  }

  /** What came with the tenant and waits to be published is published from its new place. */
  async #publishAt(place: Place): Promise<void> {
    const side = await Side.open(this.#deps.storage, place, this.#scope.tenantId)
    try {
      await side.give()
      await side.releaseEvents()
    } finally {
      await side.end()
    }
    homeOf(this.#deps.planes, 'data', await this.#control.read(this.#scope, tenantOf)).wakeRelay()
  }

  async #arrive(move: Move): Promise<void> {
    this.#deps.onStep?.('arrive')
    await this.#publishAt(move.to_place)
    await this.#mark({ in: 'switched', step: 'kept' })
  }

  /** Removes the place where the tenant does not live, with everything that the move put on either. */
  async #giveUp(move: Move, { old, home }: { old: Place; home: Place }, then: 'confirmed' | 'rolled_back'): Promise<void> {
    const { storage, planes } = this.#deps
    const { tenantId } = this.#scope
    await this.#step(move, 'give up')
    await this.#publishAt(home)
    await this.#control.write(this.#scope, stayAtHome)
    const living = await Side.open(storage, home, tenantId)
    try {
      const tables = await living.tables(true)
      this.#deps.onStep?.('forget')
      if (old.mode !== 'database') {
        const left = await Side.open(storage, old, tenantId)
        try {
          const apart = left.database !== living.database
          // What is in a schema of its own goes with it.
          const rows = tables.filter(({ schema }) => (schema ? apart : old.mode === 'shared'))
          await left.receive().then(
            () => left.clear(rows, apart),
            (error: unknown) => {
              if (!(error instanceof Powerless)) throw error // which has received nothing
            },
          )
          await left.forget(tables)
        } finally {
          await left.end()
        }
      }
      await living.forget(tables)
    } finally {
      await living.end()
    }
    this.#deps.onStep?.('drop')
    if (old.mode === 'database') await planes.own.close(old.catalog_key, old.database_name!)
    await storage.drop(old)
    await this.#control.write(this.#scope, async (tx) => {
      await markMove(tx, this.#id, this.#lease, { in: move.state, state: then, step: then })
      tx.emit({ type: `platform.tenant.move_${then}`, entity_id: tx.tenantId, version: 1, data: { move_id: move.id } })
    })
  }
}
