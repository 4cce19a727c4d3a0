// Master data: what every declared table can do.

import type { Static, TProperties } from 'typebox'
import type { Tx } from './context.ts'
import { checkCustom } from './custom.ts'
import { failure } from './errors.ts'
import type { Expansion } from './expand.ts'
import { type Change, historyOf } from './history.ts'
import { newId, type Uuid } from './ids.ts'
import { type ListQuery, type ListSpec, listRows, type Page } from './list.ts'
import { columns, isOfOrganization, ownerOf, type Row, type RowOf, scopeOf, tableOf } from './row.ts'
import { checkReferences, checkTree, checkUnused, lockAlone, type Use } from './rules.ts'
import { indexOf, publicOf, sealRows } from './sealed.ts'
import { type Fragment, sql } from './sql.ts'

export interface ResourceOptions<P extends TProperties> {
  /** The platform module that a tenant needs for it: `erp.parties`; null for what every tenant has. */
  module: string | null
  /** The stem of its permissions and events: `erp.party`. */
  permission: string
  search?: readonly (keyof P & string)[]
  filter: readonly string[]
  sort: readonly string[]
  /** Columns that name a row of another table of the same organization. */
  references?: Readonly<Record<string, () => Row>>
  /** What `expand` may ask for in a list, by name. */
  expand?: Readonly<Record<string, Expansion>>
  /** The column that names a row's parent: no row is above itself. */
  tree?: keyof P & string
  /** Who needs one: while there is any it is not deleted. */
  usedBy?: readonly Use[]
  /** A rule beyond form and references: rows as they will be, and the one that is changed as it is. It throws to refuse. */
  check?: (tx: Tx, rows: readonly Record<string, unknown>[], before?: Record<string, unknown>) => Promise<void>
}

/** What is changed of a record, as long as it is what somebody has seen. */
export interface RecordChange {
  id: Uuid
  version: number
  patch: Readonly<Record<string, unknown>>
}

export interface Resource<P extends TProperties = TProperties, R = RowOf<Row<P>>> {
  readonly row: Row<P>
  readonly module: string | null
  readonly permission: string
  readonly spec: ListSpec
  /** Columns that name a row of another table. */
  readonly references: Readonly<Record<string, () => Row>>
  list(tx: Tx, query: ListQuery): Promise<Page<R>>
  get(tx: Tx, id: Uuid): Promise<R>
  create(tx: Tx, input: object): Promise<R>
  createMany(tx: Tx, inputs: readonly object[]): Promise<R[]>
  update(tx: Tx, id: Uuid, version: number, patch: object): Promise<R>
  updateMany(tx: Tx, changes: readonly RecordChange[]): Promise<R[]>
  softDelete(tx: Tx, id: Uuid, version: number): Promise<void>
  recover(tx: Tx, id: Uuid): Promise<R>
  history(tx: Tx, id: Uuid): Promise<readonly Static<typeof Change>[]>
}

/** Makes a resource of a row: each method is one or two statements. */
export function resource<P extends TProperties>(row: Row<P>, options: ResourceOptions<P>): Resource<P> {
  type R = RowOf<Row<P>>
  const anyRow: Row = row
  const spec: ListSpec = {
    row: anyRow,
    filter: options.filter,
    sort: options.sort,
    search: options.search ?? [],
    expand: options.expand ?? {},
  }
  const live = (alias = row.table): Fragment =>
    row.softDelete ? sql.fragment`${sql.identifier([alias, 'deleted_at'])} is null` : sql.fragment`true`
  const emit = (tx: Tx, verb: string, r: R) => {
    const { id, version } = r as unknown as { id: string; version: number }
    const type = `${options.permission}.${verb}`
    tx.emit({ type, entity_id: id, version, data: publicOf(anyRow, r as object), ...ownerOf(anyRow) })
  }
  /** @param id of the row that is changed; @param now that row as it is, where somebody has read it */
  const check = async (tx: Tx, rows: readonly Record<string, unknown>[], id?: Uuid, now?: Record<string, unknown>) => {
    if (options.references) await checkReferences(tx, options.references, rows)
    if (id) await checkChange(tx, id, rows[0]!, now)
    else await options.check?.(tx, rows)
  }
  const checkChange = async (tx: Tx, id: Uuid, patch: Readonly<Record<string, unknown>>, now?: Record<string, unknown>) => {
    const parent = options.tree ? patch[options.tree] : null
    if (parent) await checkTree(tx, anyRow, options.tree!, id, parent as string)
    if (!options.check) return
    // Who changes it meanwhile changes its version too, and this one is refused.
    const before = now ?? ((await get(tx, id)) as Record<string, unknown>)
    await options.check(tx, [{ ...before, ...patch }], before)
  }
  const indexes = Object.entries(row.sealed).flatMap(([column, canonical]) => (canonical ? [indexOf(column)] : []))

  async function get(tx: Tx, id: Uuid): Promise<R> {
    const found = await tx.maybeOne(sql.prepared(row.schema)`
      select ${columns(anyRow)} from ${tableOf(anyRow)} where ${sql.and(scopeOf(tx, anyRow))} and id = ${id} and ${live()}`)
    if (!found) throw failure('not_found')
    return found as R
  }

  /** One insert for one row or a thousand: the rows travel as one JSON parameter, typed by the table itself. */
  async function createMany(tx: Tx, inputs: readonly object[]): Promise<R[]> {
    const now = tx.now.toISOString()
    const rows = inputs.map((input) => ({
      ...row.complete(input),
      id: newId(),
      tenant_id: tx.tenantId,
      ...(isOfOrganization(row) ? { organization_id: tx.context.organizationId } : {}),
      ...(row.scope === 'workspace' ? { workspace_id: tx.context.workspaceId } : {}),
      version: 1,
      created_at: now,
      updated_at: now,
    }))
    scopeOf(tx, anyRow) // an organization's table needs a chosen one
    await check(tx, rows)
    const checked = await checkCustom(tx, anyRow, rows)
    const names = [
      'id',
      'tenant_id',
      ...(isOfOrganization(row) ? ['organization_id'] : []),
      ...(row.scope === 'workspace' ? ['workspace_id'] : []),
      'version',
      'created_at',
      'updated_at',
      ...row.writable,
      ...indexes,
    ]
    const list = sql.join(
      names.map((n) => sql.identifier([n])),
      sql.fragment`, `,
    )
    const made = await tx.any(sql.prepared(row.schema)`
      insert into ${tableOf(anyRow)} (${list})
      select ${list} from jsonb_populate_recordset(null::${tableOf(anyRow)}, ${JSON.stringify(await sealRows(tx, anyRow, checked))}::jsonb)
      returning ${columns(anyRow)}`)
    for (const r of made) emit(tx, 'created', r as R)
    // `returning` follows the insert's order, which is the input's; a map by id keeps that true whatever the planner does.
    const byId = new Map(made.map((r) => [(r as { id: string }).id, r as R]))
    return rows.map((r) => byId.get(r.id)!)
  }

  /** Tells a lost race from a missing row, after an update matched nothing. */
  async function conflict(tx: Tx, id: Uuid): Promise<never> {
    throw failure('version_conflict', { current: await get(tx, id) })
  }

  async function update(tx: Tx, id: Uuid, version: number, patch: object): Promise<R> {
    const { version: _, ...asked } = patch as Record<string, unknown>
    const now = asked.custom === undefined ? undefined : ((await get(tx, id)) as Record<string, unknown>)
    await check(tx, [asked], id, now)
    const [changes] = now ? await checkCustom(tx, anyRow, [asked], now) : [asked]
    const [written] = await sealRows(tx, anyRow, [changes!])
    const names = Object.keys(written!).filter((n) => row.writable.includes(n) || indexes.includes(n))
    const sets = names.map((n) => sql.fragment`, ${sql.identifier([n])} = r.${sql.identifier([n])}`)
    const changed = await tx.maybeOne(sql.prepared(row.schema)`
      update ${tableOf(anyRow)} as t
      set version = t.version + 1, updated_at = ${tx.now.toISOString()} ${sets.length ? sql.join(sets, sql.fragment` `) : sql.fragment``}
      from jsonb_populate_record(null::${tableOf(anyRow)}, ${JSON.stringify(written)}::jsonb) as r
      where ${sql.and(scopeOf(tx, anyRow, 't'))} and t.id = ${id} and t.version = ${version} and ${live('t')}
      returning ${columns(anyRow, 't')}`)
    if (!changed) return conflict(tx, id)
    emit(tx, 'updated', changed as R)
    return changed as R
  }

  /**
   * One update for as many records as are given, each with changes of its own: they are laid over the record as JSON, typed by
   * the table itself. Throws `version_conflict` with the ids of those that were changed meanwhile, or are gone.
   */
  async function updateMany(tx: Tx, changes: readonly RecordChange[]): Promise<R[]> {
    if (changes.length === 0) return []
    const ids = sql.array(
      changes.map(({ id }) => id),
      'uuid',
    )
    const there = await tx.any(sql.prepared(row.schema)`
      select ${columns(anyRow)} from ${tableOf(anyRow)} where ${sql.and(scopeOf(tx, anyRow))} and id = any(${ids}) and ${live()}`)
    const before = new Map(there.map((r) => [(r as { id: string }).id, r as Record<string, unknown>]))
    const conflicting = (changed: ReadonlySet<string>) => {
      const stale = changes.flatMap(({ id }) => (changed.has(id) ? [] : [id]))
      if (stale.length > 0) throw failure('version_conflict', { ids: stale.slice(0, 20) })
    }
    conflicting(new Set(changes.flatMap(({ id, version }) => (before.get(id)?.version === version ? [id] : []))))
    if (options.references)
      await checkReferences(
        tx,
        options.references,
        changes.map(({ patch }) => patch),
      )
    for (const { id, patch } of changes) await checkChange(tx, id, patch, before.get(id))
    const own = changes.filter(({ patch }) => row.custom && patch.custom !== undefined)
    const merged = own.map(({ id, patch }) => ({
      ...patch,
      custom: { ...(before.get(id)!.custom as object), ...(patch.custom as object) },
    }))
    const checked = new Map((await checkCustom(tx, anyRow, merged)).map((patch, at) => [own[at]!.id, patch]))
    const whole = changes.map(({ id, patch }) => checked.get(id) ?? patch)
    const written = await sealRows(tx, anyRow, whole)
    const names = [...new Set(written.flatMap((patch) => Object.keys(patch)))].filter(
      (n) => row.writable.includes(n) || indexes.includes(n),
    )
    const sets = names.map((n) => sql.fragment`, ${sql.identifier([n])} = n.${sql.identifier([n])}`)
    const asked = changes.map(({ id, version }, at) => ({ id, version, patch: written[at]! }))
    const changed = await tx.any(sql.prepared(row.schema)`
      update ${tableOf(anyRow)} as t set version = t.version + 1, updated_at = ${tx.now.toISOString()} ${sql.join(sets, sql.fragment` `)}
      from jsonb_to_recordset(${JSON.stringify(asked)}::jsonb) as c (id uuid, version int, patch jsonb)
      join ${tableOf(anyRow)} as o on o.id = c.id and ${sql.and(scopeOf(tx, anyRow, 'o'))}
      cross join lateral jsonb_populate_record(o, c.patch) as n
      where ${sql.and(scopeOf(tx, anyRow, 't'))} and t.id = o.id and t.version = c.version and o.version = c.version and ${live('t')}
      returning ${columns(anyRow, 't')}`)
    conflicting(new Set(changed.map((r) => (r as { id: string }).id)))
    for (const r of changed) emit(tx, 'updated', r as R)
    return changed as unknown as R[]
  }

  async function mark(tx: Tx, id: Uuid, deleted: boolean, version?: number): Promise<R | null> {
    const state = deleted ? sql.fragment`deleted_at is null` : sql.fragment`deleted_at is not null`
    const matches = version === undefined ? sql.fragment`true` : sql.fragment`version = ${version}`
    const marked = (await tx.maybeOne(sql.prepared(row.schema)`
      update ${tableOf(anyRow)} set deleted_at = ${deleted ? tx.now.toISOString() : null}, version = version + 1, updated_at = ${tx.now.toISOString()}
      where ${sql.and(scopeOf(tx, anyRow))} and id = ${id} and ${state} and ${matches}
      returning ${columns(anyRow)}`)) as R | null
    if (marked) emit(tx, deleted ? 'deleted' : 'recovered', marked)
    return marked
  }

  return {
    row,
    module: options.module,
    permission: options.permission,
    spec,
    references: options.references ?? {},
    list: (tx, query) => listRows<R>(tx, spec, query),
    get,
    createMany,
    create: async (tx, input) => (await createMany(tx, [input]))[0]!,
    update,
    updateMany,
    softDelete: async (tx, id, version) => {
      if (options.usedBy) {
        await lockAlone(tx, anyRow, id)
        await checkUnused(tx, anyRow, id, options.usedBy)
      }
      if (!(await mark(tx, id, true, version))) await conflict(tx, id)
    },
    recover: async (tx, id) => {
      const back = await mark(tx, id, false)
      if (!back) throw failure('not_found')
      // What it names may have gone meanwhile, and what it would close a ring with may have come.
      await check(tx, [back as Record<string, unknown>], id)
      return back
    },
    history: (tx, id) => historyOf(tx, anyRow, id),
  }
}
