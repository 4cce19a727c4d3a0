// A table's columns as one schema: the source of SQL column lists, row checks, request and response bodies and OpenAPI.
import { type Static, type TObject, type TProperties, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { type Fragment, sql } from './sql.ts'
import { Custom, isNullable, nullable, Timestamp, Uuid, Version } from './types.ts'

/**
 * The owner of a row: a workspace of an organization (or the organization, where `workspace_id` is null), an organization,
 * the whole tenant, or the platform, whose staff alone reads it, across tenants.
 */
export type RowScope = 'workspace' | 'organization' | 'tenant' | 'platform'

/** Whether rows of a table belong to an organization. */
export const isOfOrganization = ({ scope }: Pick<Row, 'scope'>): boolean => scope === 'organization' || scope === 'workspace'

/** Brings what was typed into a sealed column to the one form by which it is found; null where nobody searches. */
export type Canonical = ((typed: string) => string) | null

export interface RowOptions {
  scope?: RowScope
  /** Columns that only rules write (a document's state, its total): shown, never accepted in a body. */
  derived?: readonly string[]
  softDelete?: boolean
  /** Columns that are kept encrypted, and how those that are searched are brought to one form. */
  sealed?: Readonly<Record<string, Canonical>>
  /** Whether companies add fields of their own to it. */
  custom?: boolean
  /** Which rows of a tenant's table a narrow reach includes; all of them where nothing is declared. */
  within?: Within
  /** Properties that are worked out from others when a row is read, such as a state that time changes. */
  computed?: Readonly<Record<string, Computed>>
}

/** A condition that a row lies in the reach of a unit of work. `column` names a column of the row. */
export type Within = (tx: Tx, column: (name: string) => Fragment) => Fragment

/** An expression over columns of the row; `column` names one so that it is the row's wherever the expression stands. */
export type Computed = (column: (name: string) => Fragment) => Fragment

const base = { id: Uuid, version: Version, created_at: Timestamp, updated_at: Timestamp }
type Base = typeof base
const placed = { organization_id: Uuid, workspace_id: nullable(Uuid) }
type Scoped = typeof placed

export interface Row<P extends TProperties = TProperties> {
  readonly table: string
  readonly scope: RowScope
  readonly softDelete: boolean
  readonly properties: P
  /** What a row looks like, to SQL and to clients. */
  readonly schema: TObject<P & Base>
  /** What a client may send. */
  readonly input: TObject
  /** The same with everything optional: JSON merge patch. */
  readonly patch: TObject
  /** An input with the defaults of what it leaves out. */
  complete(input: object): Record<string, unknown>
  readonly columns: readonly string[]
  readonly writable: readonly string[]
  readonly sealed: Readonly<Record<string, Canonical>>
  readonly custom: boolean
  readonly within: Within | undefined
  readonly computed: Readonly<Record<string, Computed>>
}

/** The TypeScript type of a row. */
export type RowOf<R> = R extends Row<infer P> ? Static<TObject<P & Base & Scoped>> & { deleted_at: string | null } : never

/**
 * Declares a table. `id`, `version`, times and the organization are implied. A property with a `default` or one that may
 * be null is optional in a body.
 */
export function row<P extends TProperties>(table: string, declared: P, options: RowOptions = {}): Row<P> {
  const { scope = 'organization', derived = [], softDelete = true, sealed = {}, custom = false, computed = {}, within } = options
  const properties = (custom ? { ...declared, custom: Custom } : declared) as P
  const implied = {
    ...base,
    ...(scope === 'organization' ? { organization_id: Uuid } : scope === 'workspace' ? placed : {}),
    ...(softDelete ? { deleted_at: nullable(Timestamp) } : {}),
  }
  const writable = Object.keys(properties).filter((name) => !derived.includes(name) && !(name in computed))
  const body = Object.fromEntries(writable.map((name) => [name, properties[name]!])) as TProperties
  const optional = (schema: object) => 'default' in schema || isNullable(schema)
  const input = Type.Object(
    Object.fromEntries(Object.entries(body).map(([name, schema]) => [name, optional(schema) ? Type.Optional(schema) : schema])),
    { additionalProperties: false },
  )
  return {
    table,
    scope,
    softDelete,
    properties,
    schema: Type.Object({ ...shownOf(properties, sealed), ...implied }, { additionalProperties: false }) as never,
    input,
    complete: completing(input),
    patch: Type.Object(
      {
        ...Object.fromEntries(Object.entries(body).map(([name, schema]) => [name, Type.Optional(schema)])),
        version: Type.Optional(Version),
      },
      { additionalProperties: false },
    ),
    columns: [...Object.keys(properties), ...Object.keys(implied)],
    writable,
    sealed,
    custom,
    within,
    computed,
  }
}

/** Fills in defaults. Of plain properties by hand, as this is done for every line of a file; within objects and lists as the schema says. */
function completing({ properties }: TObject): (input: object) => Record<string, unknown> {
  const entries = Object.entries(properties) as [string, TSchema & { default?: unknown }][]
  const defaults = entries.filter(([, schema]) => 'default' in schema).map(([name, schema]) => [name, schema.default] as const)
  const nested = entries.filter(([, { default: _, ...schema }]) => JSON.stringify(schema).includes('"default":'))
  return (input) => {
    const whole: Record<string, unknown> = { ...input }
    for (const [name, value] of defaults)
      if (whole[name] === undefined) whole[name] = typeof value === 'object' ? structuredClone(value) : value
    for (const [name, schema] of nested) if (whole[name] !== undefined) whole[name] = Value.Default(schema, structuredClone(whole[name]))
    return whole
  }
}

/** A sealed column comes from the database as another text than was put in: its form is not looked at again. */
const shownOf = (properties: TProperties, sealed: object): TProperties =>
  Object.fromEntries(
    Object.entries(properties).map(([name, schema]) => [
      name,
      name in sealed
        ? (Object.fromEntries(Object.entries(schema).filter(([key]) => ['type', 'description', 'examples'].includes(key))) as never)
        : schema,
    ]),
  )

const lists = new WeakMap<Row<TProperties>, Map<string, Fragment>>()

/** The column list of a row, for a select or a returning clause. */
export function columns(row: Row<TProperties>, alias = ''): Fragment {
  const known = lists.get(row) ?? new Map<string, Fragment>()
  lists.set(row, known)
  let list = known.get(alias)
  if (!list) {
    const names = row.columns.map((name) => {
      if (name in row.computed) return sql.fragment`${expressionOf(row, name, alias)} as ${sql.identifier([name])}`
      const column = sql.identifier(alias ? [alias, name] : [name])
      return name in row.sealed ? sql.fragment`encode(${column}, 'hex') as ${sql.identifier([name])}` : column
    })
    list = sql.fragment`${sql.join(names, sql.fragment`, `)}`
    known.set(alias, list)
  }
  return list
}

/** A column of a row, or the expression of one that is computed. */
export function expressionOf(row: Row<TProperties>, name: string, alias = ''): Fragment {
  const column = (of: string) => sql.fragment`${sql.identifier([alias || row.table, of])}`
  return row.computed[name]?.(column) ?? column(name)
}

export const tableOf = (row: Row<TProperties>) => sql.identifier([row.table])

/** Whose an event about a row is: of an organization's row the context's, of any other the whole tenant's. */
export const ownerOf = (row: Pick<Row, 'scope'>): { organization_id?: null } => (isOfOrganization(row) ? {} : { organization_id: null })

/** A column that is one of a few ids: one alone is compared by equality, which an index answers in order. */
const isOneOf = (column: Fragment, ids: readonly string[]): Fragment =>
  ids.length === 1 ? sql.fragment`${column} = ${ids[0]!}` : sql.fragment`${column} = any(${sql.array([...ids], 'uuid')})`

/** Whether a scope (`organization_id`, `workspace_id`) lies in the reach of a unit of work. */
export function inReach({ reach }: Tx, organization: Fragment, workspace?: Fragment): Fragment {
  if (reach === null) return sql.fragment`true`
  const whole = [...reach.whole]
  const own = reach.organizations.filter((id) => !reach.whole.has(id))
  const parts = workspace
    ? [
        ...(whole.length > 0 ? [isOneOf(organization, whole)] : []),
        ...(own.length > 0 ? [sql.fragment`(${workspace} is null and ${isOneOf(organization, own)})`] : []),
        ...(reach.workspaces.length > 0 ? [isOneOf(workspace, reach.workspaces)] : []),
      ]
    : reach.organizations.length > 0
      ? [isOneOf(organization, reach.organizations)]
      : []
  if (reach.tenant) parts.push(sql.fragment`${organization} is null`)
  return parts.length > 0 ? sql.fragment`(${sql.join(parts, sql.fragment` or `)})` : sql.fragment`false`
}

/**
 * Rows of the context's organization in the workspaces that the unit of work reaches; those of no workspace where it
 * reaches the organization itself.
 */
function inWorkspaces({ reach }: Tx, organizationId: string, workspace: Fragment): Fragment | null {
  if (reach === null || reach.whole.has(organizationId)) return null
  const inside = isOneOf(workspace, reach.workspaces)
  return reach.organizations.includes(organizationId) ? sql.fragment`(${inside} or ${workspace} is null)` : inside
}

/**
 * Rows of this tenant; of this organization where the table is an organization's; and of these only what the unit of work
 * reaches. Refuses with `context_required`.
 */
export function scopeOf(tx: Tx, row: Pick<Row, 'table' | 'scope' | 'within'>, alias?: string): Fragment[] {
  if (row.scope === 'platform') return [sql.fragment`true`]
  const name = (column: string) => sql.identifier(alias ? [alias, column] : [column])
  const conditions = [sql.fragment`${name('tenant_id')} = ${tx.tenantId}`]
  if (isOfOrganization(row)) {
    if (!tx.context.organizationId) throw failure('context_required')
    conditions.push(sql.fragment`${name('organization_id')} = ${tx.context.organizationId}`)
    const reached = row.scope === 'workspace' && inWorkspaces(tx, tx.context.organizationId, sql.fragment`${name('workspace_id')}`)
    if (reached) conditions.push(reached)
  }
  if (row.within && tx.reach !== null)
    conditions.push(row.within(tx, (column) => sql.fragment`${sql.identifier([alias ?? row.table, column])}`))
  return conditions
}
