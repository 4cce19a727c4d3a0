// The one SQL tag. Rows are checked against their TypeBox schema as they arrive (see database.ts).
import { createHash } from 'node:crypto'
import { createSqlTag, type QuerySqlToken } from 'slonik'
import type { Static, TSchema } from 'typebox'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'

/** What slonik asks of a schema: https://standardschema.dev. TypeBox does not implement it, so this adapter does. */
interface RowParser<T> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => { value: T } | { issues: { message: string }[] }
    readonly types?: { readonly input: T; readonly output: T }
  }
}

/** Keywords about content: the database's own types and constraints answer for it, checking it again would cost a list dearly. */
const CONTENT = new Set(['format', 'pattern', 'minLength', 'maxLength', 'minimum', 'maximum', 'minItems', 'maxItems', 'uniqueItems'])

/** The shape of a row's schema: which columns there are, of what type, and which may be null. */
function shapeOf(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(shapeOf)
  if (schema === null || typeof schema !== 'object') return schema
  return Object.fromEntries(
    Object.entries(schema).flatMap(([key, value]) => (CONTENT.has(key) && typeof value !== 'object' ? [] : [[key, shapeOf(value)]])),
  )
}

const parsers = new WeakMap<TSchema, RowParser<never>>()

/** The row parser of a schema, compiled once. */
export function parser<S extends TSchema>(schema: S): RowParser<Static<S>> {
  const known = parsers.get(schema)
  if (known) return known
  const compiled = Compile(shapeOf(schema) as S)
  const made: RowParser<Static<S>> = {
    '~standard': {
      version: 1,
      vendor: 'typebox',
      validate: (value) => {
        if (compiled.Check(value)) return { value: value as Static<S> }
        return {
          issues: compiled
            .Errors(value)
            .slice(0, 3)
            .map((error) => ({ message: `${error.instancePath} ${error.message}` })),
        }
      },
    },
  }
  parsers.set(schema, made as RowParser<never>)
  return made
}

const tag = createSqlTag()

const names = new Map<string, string>()
/** Named statements stay on the server for the life of a connection, so how many texts get a name is bounded. */
const MAX_NAMED = 400

function statementName(text: string): string | undefined {
  let name = names.get(text)
  if (!name && names.size < MAX_NAMED) {
    name = `t_${createHash('sha1').update(text).digest('hex').slice(0, 16)}`
    names.set(text, name)
  }
  return name
}

/** Turns a query into a prepared one, named by its text: parsed and planned once a connection. */
export function prepared<T extends QuerySqlToken>(query: T): T {
  const name = statementName(query.sql)
  return name ? { ...query, name } : query
}

type Values = Parameters<typeof tag.fragment> extends [unknown, ...infer V] ? V : never
const nothing = Type.Object({}, { additionalProperties: true })

export const sql = {
  /** A query whose rows have this schema. */
  type: <S extends TSchema>(schema: S) => tag.type(parser(schema)),
  /** The same, prepared: for statements with a stable text on hot paths. */
  prepared:
    <S extends TSchema>(schema: S) =>
    (parts: TemplateStringsArray, ...values: Values) =>
      prepared(tag.type(parser(schema))(parts, ...values)),
  /** A statement whose rows nobody reads. */
  run: tag.type(parser(nothing)),
  fragment: tag.fragment,
  join: tag.join,
  identifier: tag.identifier,
  array: tag.array,
  unnest: tag.unnest,
  jsonb: tag.jsonb,
  and: (members: Fragment[]): Fragment => (members.length ? tag.fragment`(${tag.join(members, tag.fragment` and `)})` : tag.fragment`true`),
}

export type Fragment = ReturnType<typeof tag.fragment>

/** A column's time as every time is sent, for where it travels inside JSON and no parser sees it. */
export const jsonTime = (column: string): Fragment =>
  sql.fragment`to_char(${sql.identifier(column.split('.'))} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
