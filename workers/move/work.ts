// The course of a move, step by step. Each step may be begun again, by whoever.
import { setTimeout as wait } from 'node:timers/promises'
import { type Database, Failure, failure, newId, type Scope, systemScope } from '../../domain/kernel/index.ts'
import {
  type Compared,
  homeOf,
  liveAt,
  type Mark,
  type Move,
  type MoveState,
  markMove,
  moveOf,
  type Place,
  type Planes,
  pauseWriters,
  type Storage,
  samePlace,
  stayAtHome,
  takeLease,
  tenantOf,
} from '../../domain/tenancy/index.ts'
import type { WorkerLog } from '../log.ts'
import { carryChanges, copyTable, Doubt, type Pass } from './carry.ts'
import { codeOf, Powerless, Side, tablesBetween } from './side.ts'
import type { MovedTable } from './tables.ts'

/** Changes are carried again and again, until a pass is as short as this, or carries so few that writers may wait for the next. */
const SHORT_PASS_MS = 250
const FEW_ROWS = 500
const MAX_PASSES = 60
/** A tenant that is compared whole in this time is compared whole once more while writers wait; a larger one before it, and its last rows then. */
const WHOLE_AT_SWITCH_MS = 300
/** How long the relay may take to publish what is due before it is held; while writers wait, and before. */
const EVENTS_PATIENCE_MS = { closed: 100, open: 500 } as const
/** How long writers may take to finish before the switch is put off. */
const WRITERS_PATIENCE_MS = 800
/** How long one try may shut writers out. Whatever is not done by then is given up: writers go on, and it is tried again. */
const CLOSED_MS = 1_800
const SWITCH_TRIES = 5
/** How often whoever watches is told which table is copied. */
const TELL_MS = 1_000

export interface MoverDependencies {
  planes: Planes
  storage: Storage
  controlUrl: string
  log: WorkerLog
  /** Told of each step before it is done. */
  onStep?: (step: string) => void
}

/** What will pass by itself: a server that is away, a lock that somebody holds, a stop. */
function passing(error: unknown): boolean {
  if (error instanceof Failure) return error.status >= 500
  const { code = '', message = '' } = error as { code?: string; message?: string }
  return (
    /^(08|40|53|57P|57014|55000|55P03)|^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_)/.test(code) ||
    /connection terminated|timeout expired/i.test(message)
  )
}

/** A try of the switch took longer than writers may be shut out. */
class Late extends Error {
  override name = 'Late'
}

/** Both ends of a move, open. */
interface Way {
  move: Move
  source: Side
  target: Side
  tables: readonly MovedTable[]
  /** In one database, what belongs to the database stays. */
  apart: boolean
}

export class MoveWork {
  readonly #deps: MoverDependencies
  readonly #scope: Scope
  readonly #id: string
  /** Whoever takes the move over writes another; what this one marks is refused from then on. */
  readonly #lease = newId()
  readonly #signal: AbortSignal
  readonly #control: Database

  constructor(deps: MoverDependencies, tenantId: string, moveId: string, signal: AbortSignal) {
    this.#deps = deps
    this.#scope = systemScope(tenantId, 'tenant-move', newId())
    this.#id = moveId
    this.#signal = signal
    this.#control = deps.planes.control
  }

  /** Takes the move over. Throws `not_found`. */
  begin = () => this.#control.write(this.#scope, (tx) => takeLease(tx, this.#id, this.#lease))

  #read = () => this.#control.read(this.#scope, (tx) => moveOf(tx, this.#id))
  #mark = (mark: Mark) => this.#control.write(this.#scope, (tx) => markMove(tx, this.#id, this.#lease, mark))
  #open = (place: Place) => Side.open(this.#deps.storage, place, this.#scope.tenantId)

  async #step(move: Move, step: string): Promise<void> {
    if (this.#signal.aborted) throw failure('overloaded', {}, 'The worker was stopped: the next one goes on.')
    this.#deps.onStep?.(step)
    // Why it is taken back is still to be read when that is done.
    await this.#mark({ in: move.state, step, ...(move.state === 'cancelling' ? {} : { error: null }) })
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
    // Staff decided otherwise, as the next look shows, or another worker has taken over.
    if (error instanceof Failure && error.detail === 'version_conflict') return (await this.#read()).state !== state
    this.#deps.log.warn({ err: error, tenant_id: this.#scope.tenantId, move_id: this.#id, state, step: move.step }, 'a move met trouble')
    const reason = (error as Error).message.slice(0, 500)
    if (passing(error)) {
      await this.#mark({ in: state, error: reason })
      throw error
    }
    const turns: Partial<Record<MoveState, Mark>> = {
      copying: { in: 'copying', state: 'cancelling', error: reason },
      // On the way back it goes on working where it is, and staff decides again.
      returning: { in: 'returning', state: 'switched', step: 'kept', error: reason },
    }
    await this.#control.write(this.#scope, async (tx) => {
      await markMove(tx, this.#id, this.#lease, turns[state] ?? { in: state, error: reason })
      if (state === 'returning') await stayAtHome(tx)
    })
    return state === 'copying'
  }

  /** Brings everything from one place to another while the tenant works, then lets it work there. */
  async #bring(move: Move, from: Place, to: Place, then: MoveState): Promise<void> {
    const source = await this.#open(from)
    let target: Side | undefined
    try {
      if (move.state === 'copying' && (move.step === null || move.step === 'room')) await this.#makeRoom(move, source, to)
      target = await this.#open(to)
      await target.receive()
      // The old copy will be removed from there: better to know now that it can be.
      await source.receive()
      await source.give()
      const way = { move, source, target, tables: await tablesBetween(source, target), apart: source.database !== target.database }
      await this.#step(move, 'watch')
      await target.watch(way.tables, true)
      await source.watch(way.tables, false)
      await this.#letWrite(way)
      if (move.state === 'copying') await this.#copy(way)
      await this.#step(move, 'compare')
      const { compared, ms } = await carryChanges(source, target, way.tables, { compare: 'all' })
      await this.#catchUp(way)
      await this.#switch(way, then, ms <= WHOLE_AT_SWITCH_MS ? null : compared)
    } finally {
      await Promise.all([source.end(), target?.end()])
    }
  }

  /** Throws rather than empty the place where the tenant lives, whatever a row says. */
  async #refuseHome(place: Place): Promise<void> {
    if (samePlace(await this.#control.read(this.#scope, tenantOf), place))
      throw new Error('the tenant lives in the place that would be emptied')
  }

  /** An empty place with all tables. What is there is left of an earlier try. */
  async #makeRoom(move: Move, source: Side, to: Place): Promise<void> {
    const { storage } = this.#deps
    await this.#step(move, 'room')
    await this.#refuseHome(to)
    if (await source.is(storage, to)) throw new Error(`${to.catalog_key} leads to the database where the tenant lives`)
    if (to.mode !== 'shared') {
      await storage.drop(to)
      await storage.make(to)
    }
    const side = await this.#open(to)
    try {
      await side.receive()
      await side.clear(to.mode === 'shared' ? await side.tables(false) : [], false)
      await side.forget([])
    } finally {
      await side.end()
    }
  }

  async #copy({ move, source, target, tables, apart }: Way): Promise<void> {
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

  /**
   * Until what changes meanwhile is carried in a moment. Events that wait are held and carried here, while writers work:
   * however many there are, only those written since are left for the switch.
   */
  async #catchUp({ move, source, target, tables, apart }: Way): Promise<void> {
    for (let pass = 1; pass <= MAX_PASSES; pass++) {
      await this.#step(move, 'catch up')
      if (apart) await source.holdEvents(pass === 1 ? EVENTS_PATIENCE_MS.open : 0)
      const { ms, rows } = await carryChanges(source, target, tables, { compare: 'changed' })
      if (ms <= SHORT_PASS_MS || rows <= FEW_ROWS) return
    }
    throw new Error('more is written than is carried: move the tenant when it writes less')
  }

  /** @param compared the whole tenant, compared before; null where it is small enough to be compared while writers wait */
  async #switch(way: Way, then: MoveState, compared: Compared | null): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#trySwitch(way, then, compared)
      } catch (error) {
        await this.#letWriteAgain(way).catch(() => {}) // it stays closed, and the next try opens it
        // A writer takes long, or this try did: writers go on for a while, then it is tried again.
        const isLate = error instanceof Late
        if (!isLate && codeOf(error) !== '55P03') throw error
        if (tries === SWITCH_TRIES)
          throw isLate ? new Error(`writers would be shut out for more than ${CLOSED_MS} ms: move the tenant when it writes less`) : error
        if (way.source.ended || way.target.ended) throw error
        await wait(1_000 * tries)
        await this.#catchUp(way)
      }
    }
  }

  /** Limits the statements of both sides to what is left of the time; throws `Late` when nothing is. */
  async #limit({ source, target }: Way, until: number): Promise<void> {
    const left = until - Date.now()
    if (left <= 0) throw new Late('the switch took too long: writers go on, and it is tried again')
    await Promise.all([source.limit(left), target.limit(left)])
  }

  /**
   * Writers wait; the last rows go over and are compared; the tenant lives at the new place. One commit on the control
   * plane decides: before it the tenant has never left, after it the old place takes nothing from anybody. Throws `Late`
   * when that is not reached within `CLOSED_MS`.
   */
  async #trySwitch(way: Way, then: MoveState, compared: Compared | null): Promise<void> {
    const { log, planes } = this.#deps
    const { move, source, target, tables, apart } = way
    await this.#step(move, 'close')
    const began = Date.now()
    const until = began + CLOSED_MS
    let tail: Pass
    try {
      await this.#control.write(this.#scope, (tx) => pauseWriters(tx, true))
      await source.close(WRITERS_PATIENCE_MS)
      await this.#limit(way, until)
      if (apart) await source.holdEvents(EVENTS_PATIENCE_MS.closed)
      this.#deps.onStep?.('last rows')
      await this.#limit(way, until)
      tail = await carryChanges(source, target, tables, { compare: compared ? 'changed' : 'all', last: true })
      await this.#limit(way, until)
      if (JSON.stringify(await tablesBetween(source, target)) !== JSON.stringify(tables))
        throw new Doubt('the tables were migrated meanwhile')
      await this.#limit(way, until)
      await target.open()
    } catch (error) {
      throw codeOf(error) === '57014' ? new Late('a statement of the switch took too long') : error
    } finally {
      await Promise.allSettled([source.limit(0), target.limit(0)])
    }
    this.#deps.onStep?.('switch')
    await this.#control.write(this.#scope, async (tx) => {
      const mark = { step: 'switched', tables: compared ?? tail.compared, error: null }
      await markMove(tx, this.#id, this.#lease, { in: move.state, state: then, ...mark })
      await liveAt(tx, target.place, target.place.mode === 'shared' ? 0 : planes.dataVersion)
      tx.emit({ type: 'platform.tenant.moved', entity_id: tx.tenantId, version: 1, data: { move_id: move.id, ...target.place } })
    })
    const readOnlyMs = Date.now() - began
    log.info({ tenant_id: this.#scope.tenantId, move_id: move.id, read_only_ms: readOnlyMs, last_rows: tail.rows }, 'tenant moved')
    await this.#mark({ in: then, readOnlyMs })
  }

  /** `letWrite` after a try that failed, by a new connection where the old one was given up. */
  async #letWriteAgain(way: Way): Promise<void> {
    if (!way.source.ended) return this.#letWrite(way)
    const source = await this.#open(way.source.place)
    try {
      await source.give()
      await this.#letWrite({ ...way, source })
    } finally {
      await source.end()
    }
  }

  /**
   * Whoever waits writes where the tenant is at home still, and what waits is published from there. Nothing of it once the
   * switch has committed, also when its answer was lost: then the old place stays closed.
   */
  async #letWrite({ move, source, apart }: Way): Promise<void> {
    if ((await this.#read()).state !== move.state) return
    await source.open()
    if (apart) await source.releaseEvents()
    const { writable } = await this.#control.read(this.#scope, tenantOf)
    if (!writable) await this.#control.write(this.#scope, (tx) => pauseWriters(tx, false))
  }

  /** What came with the tenant and waits to be published is published from its new place. */
  async #publishAt(place: Place): Promise<void> {
    const side = await this.#open(place)
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
    await this.#mark({ in: 'switched', step: 'kept', error: null })
  }

  /** Removes the place where the tenant does not live, with everything that the move put on either. */
  async #giveUp(move: Move, { old, home }: { old: Place; home: Place }, then: 'confirmed' | 'rolled_back'): Promise<void> {
    const { storage, planes } = this.#deps
    await this.#step(move, 'give up')
    await this.#refuseHome(old)
    await this.#publishAt(home)
    await this.#control.write(this.#scope, stayAtHome)
    const living = await this.#open(home)
    let elsewhere = false
    try {
      const tables = await living.tables(true)
      elsewhere = !(await living.is(storage, old))
      this.#deps.onStep?.('forget')
      if (elsewhere && old.mode !== 'database') await this.#empty(old, living, tables)
      await living.forget(tables)
    } finally {
      await living.end()
    }
    this.#deps.onStep?.('drop')
    if (elsewhere) {
      if (old.mode === 'database') await planes.own.close(old.catalog_key, old.database_name!)
      await storage.drop(old)
    }
    await this.#control.write(this.#scope, async (tx) => {
      await markMove(tx, this.#id, this.#lease, { in: move.state, state: then, step: then })
      tx.emit({ type: `platform.tenant.move_${then}`, entity_id: tx.tenantId, version: 1, data: { move_id: move.id } })
    })
  }

  /** Removes the tenant's rows from a database that others share. What is in a schema of its own goes with that. */
  async #empty(old: Place, living: Side, tables: readonly MovedTable[]): Promise<void> {
    const left = await this.#open(old)
    try {
      const apart = left.database !== living.database
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
}
