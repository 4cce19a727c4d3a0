// Documents move through states; the states and moves are data, the rules are functions beside them.
import { type Static, type TProperties, type TSchema, Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import type { Uuid } from './ids.ts'
import { columns, ownerOf, type Row, type RowOf, scopeOf, tableOf } from './row.ts'
import { type Fragment, sql } from './sql.ts'
import { Version } from './types.ts'

// biome-ignore lint/suspicious/noExplicitAny: a transition's input is typed by its own schema, which a shared list cannot carry
type Input = any

export interface Transition<D> {
  from: string | readonly string[]
  to: string
  /** Throws to refuse. */
  guard?:
    | ((tx: Tx, document: D, input: Input) => Promise<void> | void)
    | readonly ((tx: Tx, document: D, input: Input) => Promise<void> | void)[]
  /** What happens with it; columns that it returns are set on the document. */
  effect?: (tx: Tx, document: D, input: Input) => Promise<Record<string, unknown> | void>
  /** What the caller sends. */
  input?: TSchema
  summary: string
  /** Only the system makes this move (a receipt completes an order); there is no route for it. */
  internal?: true
}

export interface Lifecycle<D> {
  readonly row: Row
  readonly initial: string
  readonly permission: string
  readonly transitions: Readonly<Record<string, Transition<D>>>
  allowed(status: string): string[]
  move(tx: Tx, name: string, id: Uuid, version: number | null, input?: Input): Promise<D>
  lock(tx: Tx, id: Uuid): Promise<D>
  get(tx: Tx, id: Uuid): Promise<D>
  diagram(): string
}

/** What a move takes that must be explained. */
export const Reasoned = Type.Object(
  { reason: Type.String({ minLength: 3, maxLength: 2000 }), version: Type.Optional(Version) },
  { additionalProperties: false },
)
export type Reasoned = Static<typeof Reasoned>

const PAST: Record<string, string> = {
  submit: 'submitted',
  approve: 'approved',
  send: 'sent',
  cancel: 'cancelled',
  close: 'closed',
  unlock: 'unlocked',
  enable: 'enabled',
}

/**
 * Declares the lifecycle of a document with a `status` column. `move` locks the document's row, so that two moves of one
 * document happen one after the other and the second sees what the first did; then version, state and guards are checked,
 * the effect runs, the state is set and the event is emitted.
 */
export function lifecycle<P extends TProperties, D = RowOf<Row<P>>>(
  row: Row<P>,
  declaration: {
    initial: string
    permission: string
    transitions: Record<string, Transition<D>>
    /** What the event says of the document; all of it when nothing is said. */
    describe?: (document: D) => object
  },
): Lifecycle<D> {
  const { initial, permission, transitions, describe = (document) => document as object } = declaration
  const leaves = (t: Transition<D>, status: string) => (typeof t.from === 'string' ? [t.from] : t.from).includes(status)

  const allowed = (status: string) =>
    Object.entries(transitions)
      .filter(([, t]) => !t.internal && leaves(t, status))
      .map(([name]) => name)

  async function find(tx: Tx, id: Uuid, locking: Fragment): Promise<D> {
    const found = await tx.maybeOne(sql.prepared(row.schema)`
      select ${columns(row)} from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = ${id} and deleted_at is null ${locking}`)
    if (!found) throw failure('not_found')
    return found as D
  }
  const lock = (tx: Tx, id: Uuid) => find(tx, id, sql.fragment`for update`)
  const get = (tx: Tx, id: Uuid) => find(tx, id, sql.fragment``)

  async function move(tx: Tx, name: string, id: Uuid, version: number | null, input: Input = {}): Promise<D> {
    const transition = transitions[name]!
    const document = await lock(tx, id)
    const { status, version: current } = document as { status: string; version: number }
    if (version !== null && version !== current) throw failure('version_conflict', { current: document })
    if (!leaves(transition, status)) {
      throw failure('invalid_transition', { status, transition: name, allowed_transitions: allowed(status) })
    }
    for (const guard of [transition.guard ?? []].flat()) await guard(tx, document, input)
    const changes = { ...(await transition.effect?.(tx, document, input)), status: transition.to }
    const sets = Object.keys(changes).map((n) => sql.fragment`, ${sql.identifier([n])} = r.${sql.identifier([n])}`)
    const moved = await tx.one(sql.prepared(row.schema)`
      update ${tableOf(row)} as t set version = t.version + 1, updated_at = ${tx.now.toISOString()} ${sql.join(sets, sql.fragment` `)}
      from jsonb_populate_record(null::${tableOf(row)}, ${JSON.stringify(changes)}::jsonb) as r
      where t.tenant_id = ${tx.tenantId} and t.id = ${id} returning ${columns(row, 't')}`)
    tx.emit({
      type: `${permission}.${PAST[name] ?? transition.to}`,
      entity_id: id,
      version: current + 1,
      data: { ...describe(moved as D), from: status },
      ...ownerOf(row),
    })
    return moved as D
  }

  /** The states as a Mermaid diagram, for the documentation. */
  function diagram(): string {
    const lines = Object.entries(transitions).flatMap(([name, t]) => [t.from].flat().map((from) => `  ${from} --> ${t.to}: ${name}`))
    return ['stateDiagram-v2', `  [*] --> ${initial}`, ...lines].join('\n')
  }

  return { row, initial, permission, transitions, allowed, move, lock, get, diagram }
}
