// Lists: filters, sort, search and keyset pages over one table, all declared, each with an index behind it.
import type { Static, TSchema } from 'typebox'
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Tx } from './context.ts'
import { type CustomField, customConditions, customFieldsOf, customSort, isOwn } from './custom.ts'
import { type Expansion, expanded } from './expand.ts'
import { compared, contains, escapeLike, OPERATORS, type Operator, refuseQuery as refuse } from './operators.ts'
import { columns, expressionOf, isOfOrganization, type Row, scopeOf, tableOf } from './row.ts'
import { sealedCondition } from './sealed.ts'
import { type Fragment, prepared, sql } from './sql.ts'

export interface ListSpec {
  row: Row
  /** Columns that may be filtered. */
  filter: readonly string[]
  /** Columns that may be sorted; none may be null. `id` breaks ties. */
  sort: readonly string[]
  /** Text columns that `q` searches by trigram. */
  search?: readonly string[]
  /** What `expand` may ask for, by name. */
  expand?: Readonly<Record<string, Expansion>>
}

interface Filter {
  /** Of the table, or `custom.<code>`: a field that the company added. */
  column: string
  operator: Operator
  values: unknown[]
}

export interface ListQuery {
  limit: number
  sort: { column: string; descending: boolean }[]
  filters: Filter[]
  q?: string
  count?: 'exact' | 'estimated'
  expand: string[]
  fields?: string[]
  /** The sort values and id of the last row of the page before. */
  after?: unknown[]
}

export interface Page<T = Record<string, unknown>> {
  rows: T[]
  /** Where the next page starts, or null on the last one. */
  next: unknown[] | null
  total?: number
}

const RESERVED = new Set(['limit', 'cursor', 'sort', 'q', 'count', 'expand', 'fields'])

/** The part of a column's schema that a filter value is held against: of a nullable one its type, of an array its item. */
function scalarOf(schema: TSchema): TSchema {
  const some = schema as { type?: string | string[]; enum?: unknown[]; items?: TSchema }
  if (Array.isArray(some.type)) {
    const { enum: values, ...rest } = some
    return {
      ...rest,
      type: some.type.find((type) => type !== 'null'),
      ...(values ? { enum: values.filter((v) => v !== null) } : {}),
    } as TSchema
  }
  return some.type === 'array' ? scalarOf(some.items!) : schema
}

const isArray = (schema: TSchema) => (schema as { type?: string }).type === 'array'

/** PostgreSQL's name of a column's type, from its schema. */
function pgType(schema: TSchema): string {
  const s = scalarOf(schema) as { type?: string; format?: string; 'x-pg'?: string }
  if (s['x-pg']) return s['x-pg']
  if (s.type === 'boolean') return 'bool'
  if (s.type === 'integer') return 'int8'
  if (s.type === 'number') return 'float8'
  return { uuid: 'uuid', 'date-time': 'timestamptz', date: 'date' }[s.format ?? ''] ?? 'text'
}

const columnSchema = (row: Row, column: string): TSchema => (row.schema as { properties: Record<string, TSchema> }).properties[column]!

/** Whether PostgreSQL has this moment: it knows no year zero, and no offset of sixteen hours or more. */
const isStorable = (moment: string): boolean => !/^0000|[+-](1[6-9]|2\d):\d{2}$/.test(moment)

function parseValue(row: Row, column: string, operator: Operator, text: string): unknown {
  if (operator === 'null') {
    if (text !== 'true' && text !== 'false') throw refuse(`${column}.null`, 'is true or false')
    return text === 'true'
  }
  if (operator === 'like') return text
  const schema = columnSchema(row, column)
  const scalar = scalarOf(schema) as { format?: string }
  if (scalar.format === 'date-time' && /^\d{4}-\d{2}-\d{2}$/.test(text)) return `${text}T00:00:00Z`
  const value = Value.Convert(scalarOf(schema), text)
  if (!Value.Check(scalarOf(schema), value) || (scalar.format === 'date-time' && !isStorable(text)))
    throw refuse(column, `'${text.slice(0, 60)}' is not a valid value of ${column}`)
  return value
}

/** Reads the query of a list against its declaration; anything undeclared is refused with `invalid_query`. */
export function parseListQuery(spec: ListSpec, query: Record<string, unknown>): ListQuery {
  const expandable = Object.keys(spec.expand ?? {})
  const list: ListQuery = { limit: 50, sort: [], filters: [], expand: [] }
  for (const [key, given] of Object.entries(query)) {
    if (typeof given !== 'string') throw refuse(key, 'is given more than once')
    const names = given.split(',').filter(Boolean)
    if (key === 'limit') {
      list.limit = Number(given)
      if (!Number.isInteger(list.limit) || list.limit < 1 || list.limit > 200) throw refuse(key, 'is a whole number from 1 to 200')
    } else if (key === 'sort') {
      for (const name of names) {
        const column = name.replace(/^-/, '')
        const own = isOwn(spec.row, column)
        if (own && names.length > 1) throw refuse(key, `${column} stands alone`)
        if (!own && !spec.sort.includes(column)) throw refuse(key, `${column} is not one of ${spec.sort.join(', ')}`)
        list.sort.push({ column, descending: name.startsWith('-') })
      }
    } else if (key === 'q') {
      if (!spec.search?.length) throw refuse(key, 'this list has no search')
      if (given.length > 200) throw refuse(key, 'is at most 200 characters')
      if (given) list.q = given
    } else if (key === 'count') {
      if (given !== 'exact' && given !== 'estimated') throw refuse(key, 'is exact or estimated')
      list.count = given
    } else if (key === 'expand' || key === 'fields') {
      const allowed = key === 'expand' ? expandable : spec.row.columns
      for (const name of names) if (!allowed.includes(name)) throw refuse(key, `${name} is not one of ${allowed.join(', ') || '(none)'}`)
      list[key] = names
    } else if (!RESERVED.has(key)) {
      const own = isOwn(spec.row, key)
      const [, column = key, operator = 'in'] = (own ? /^(custom\.[^.]*)(?:\.(.*))?$/ : /^([^.]*)(?:\.(.*))?$/).exec(key) ?? []
      if (!own && !spec.filter.includes(column)) throw refuse(key, `is not a filter of this list: ${spec.filter.join(', ')}`)
      if (!Object.hasOwn(OPERATORS, operator)) throw refuse(key, `the operator is one of ${Object.keys(OPERATORS).join(', ')}`)
      const op = operator as Operator
      if (column in spec.row.sealed && op !== 'in' && op !== 'null')
        throw refuse(key, `${column} is kept encrypted and found whole: ${column}=value`)
      if (names.length > 100) throw refuse(key, 'has at most 100 values')
      const values = op === 'in' ? names : [given]
      // What a field of the company's own may be is known when the list is read.
      list.filters.push({
        column,
        operator: op,
        values: own && op !== 'null' ? values : values.map((v) => parseValue(spec.row, column, op, v)),
      })
    }
  }
  if (list.sort.length === 0) list.sort = [{ column: spec.sort.includes('created_at') ? 'created_at' : spec.sort[0]!, descending: true }]
  return list
}

function condition(row: Row, { column, operator, values }: Filter): Fragment {
  const name = expressionOf(row, column)
  const schema = columnSchema(row, column)
  if (operator === 'null') return values[0] ? sql.fragment`${name} is null` : sql.fragment`${name} is not null`
  if (operator === 'like') return contains(sql.fragment`${name}::text`, String(values[0]))
  const list = sql.array(values as string[], pgType(schema))
  if (isArray(schema)) return sql.fragment`${name} && ${list}`
  return compared(name, operator, sql.fragment`${list}`)
}

/** What a list is sorted by: where it stands in the statement, its type, and its value in a row that was read. */
interface Order {
  name: Fragment
  type: string
  descending: boolean
  of: (row: Record<string, unknown>) => unknown
}

/** `(a, b, id) > (x, y, z)` where all go one way, which an index answers in one step; written out where they do not. */
function keyset(order: readonly Order[], after: unknown[]): Fragment {
  const value = (at: number) => sql.fragment`(${sql.array([after[at] as string], order[at]!.type)})[1]`
  const name = (at: number) => order[at]!.name
  const descending = order[0]!.descending
  if (order.every((o) => o.descending === descending)) {
    const left = sql.join(
      order.map((_, at) => name(at)),
      sql.fragment`, `,
    )
    const right = sql.join(
      order.map((_, at) => value(at)),
      sql.fragment`, `,
    )
    return descending ? sql.fragment`(${left}) < (${right})` : sql.fragment`(${left}) > (${right})`
  }
  const cases = order.map((o, at) =>
    sql.and([
      ...order.slice(0, at).map((_, before) => sql.fragment`${name(before)} = ${value(before)}`),
      o.descending ? sql.fragment`${name(at)} < ${value(at)}` : sql.fragment`${name(at)} > ${value(at)}`,
    ]),
  )
  return sql.fragment`(${sql.join(cases, sql.fragment` or `)})`
}

/** Above this many hits a term is common: walking the sort order finds a page sooner than sorting all hits. */
const COMMON = 1000
const Ids = Type.Object({ ids: Type.Union([Type.Array(Type.String()), Type.Null()]) })

/**
 * Search, in two ways. Row security keeps the planner from using a trigram index for the application's role (LIKE is
 * not leakproof), so `plane.search_ids`, which runs as the owner and checks the tenant itself, asks first.
 * Few hits: the list is narrowed to those ids. Many: the ordered index is walked and filtered, a page is soon full.
 */
async function searched(tx: Tx, spec: ListSpec, q: string): Promise<Fragment> {
  const pattern = `%${escapeLike(q)}%`
  const organization = isOfOrganization(spec.row) ? tx.context.organizationId : null
  const { ids } = await tx.one(sql.prepared(Ids)`
    select plane.search_ids(${spec.row.table}::regclass, ${sql.array([...spec.search!], 'text')}, ${tx.tenantId}::uuid, ${organization}::uuid, ${pattern}, ${COMMON}) as ids`)
  if (ids) return sql.fragment`id = any(${sql.array(ids, 'uuid')})`
  // Of a comparison of numbers the planner believes that it is often so, and walks; of LIKE that it hardly ever is, and sorts all.
  const matches = spec.search!.map((column) => sql.fragment`strpos(lower(${sql.identifier([column])}), lower(${q}::text)) > 0`)
  return sql.fragment`(${sql.join(matches, sql.fragment` or `)})`
}

/** What a list is sorted by, and the rows among which: of a field of the company's own, those that have it, by its index. */
function ordered(tx: Tx, row: Row, { sort }: ListQuery, fields: readonly CustomField[]): { from: Fragment; order: Order[] } {
  const { column, descending } = sort.at(-1)!
  const by = ({ column, descending }: ListQuery['sort'][number]): Order => ({
    name: sql.fragment`${sql.identifier([column])}`,
    type: pgType(columnSchema(row, column)),
    descending,
    of: (found) => found[column],
  })
  const from = sql.fragment`${tableOf(row)}`
  if (!isOwn(row, column)) return { from, order: [...sort, { column: 'id', descending }].map(by) }
  const own = customSort(tx, fields, column)
  const value = (found: Record<string, unknown>) => (found.custom as Record<string, unknown>)[own.code]
  return {
    from: sql.fragment`${from} join (${own.values}) as own (row_id, own_value) on row_id = id`,
    order: [
      { name: sql.fragment`own_value`, type: own.type, descending, of: value },
      { name: sql.fragment`row_id`, type: 'uuid', descending, of: ({ id }) => id },
    ],
  }
}

/** One page of a list; of the rows that fulfill `conditions`, where a list has more than its scope. */
export async function listRows<T = Record<string, unknown>>(
  tx: Tx,
  spec: ListSpec,
  query: ListQuery,
  conditions: readonly Fragment[] = [],
): Promise<Page<T>> {
  const { row } = spec
  const [own, declared] = [true, false].map((wanted) => query.filters.filter(({ column }) => isOwn(row, column) === wanted)) as [
    Filter[],
    Filter[],
  ]
  const fields = own.length > 0 || isOwn(row, query.sort[0]!.column) ? await customFieldsOf(tx, row.table) : []
  const { from, order } = ordered(tx, row, query, fields)
  const where = [
    ...scopeOf(tx, row),
    ...conditions,
    ...(await Promise.all(
      declared.map((f) =>
        f.operator === 'in' && f.column in row.sealed ? sealedCondition(tx, row, f.column, f.values) : condition(row, f),
      ),
    )),
    ...customConditions(tx, fields, own),
  ]
  if (row.softDelete) where.push(sql.fragment`deleted_at is null`)
  if (query.q) where.push(await searched(tx, spec, query.q))
  const total = query.count ? await count(tx, row, where, query.count) : undefined
  const beyond = query.after ? [...where, keyset(order, query.after)] : where
  const orderBy = order.map(({ name, descending }) => (descending ? sql.fragment`${name} desc` : name))
  const rows = (await tx.any(
    prepared(sql.type(row.schema)`
    select ${columns(row)} from ${from} where ${sql.and(beyond)}
    order by ${sql.join(orderBy, sql.fragment`, `)} limit ${query.limit + 1}`),
  )) as unknown as Record<string, unknown>[]
  const more = rows.length > query.limit
  const page = more ? rows.slice(0, query.limit) : rows
  const next = more ? order.map(({ of }) => of(page.at(-1)!)) : null
  const whole = query.expand.length > 0 ? await expanded(tx, spec, query.expand, page) : page
  return { rows: whole as T[], next, ...(total === undefined ? {} : { total }) }
}

const Total = Type.Object({ total: Type.Integer() })
const Plan = Type.Object({ 'QUERY PLAN': Type.Unknown() })

async function count(tx: Tx, row: Row, where: Fragment[], kind: 'exact' | 'estimated'): Promise<number> {
  if (kind === 'exact') {
    const { total } = await tx.one(sql.type(Total)`select count(*) as total from ${tableOf(row)} where ${sql.and(where)}`)
    return total
  }
  const plan = (await tx.one(sql.type(Plan)`explain (format json) select 1 from ${tableOf(row)} where ${sql.and(where)}`)) as Static<
    typeof Plan
  >
  return (plan['QUERY PLAN'] as { Plan: { 'Plan Rows': number } }[])[0]!.Plan['Plan Rows']
}
