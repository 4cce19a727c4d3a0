// Fields that a company adds to its records: what they are, what may stand in them, and how records are found by them.
import { type Static, type TObject, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { compared, contains, type Operator, refuseQuery as refuse } from './operators.ts'
import { columns, type Row, type RowOf, row, scopeOf } from './row.ts'
import { type Fragment, sql } from './sql.ts'
import { Name, nullable, oneOf, Text } from './types.ts'

export const CustomField = row('erp_custom_field', {
  entity: Type.String({ pattern: '^[a-z_]{1,63}$', description: 'The table of the records that have it', examples: ['erp_product'] }),
  code: Type.String({ pattern: '^[a-z][a-z0-9_]{0,39}$', description: 'Its name in `custom`', examples: ['pot_size'] }),
  label: Name,
  description: nullable(Text),
  kind: oneOf(['text', 'number', 'integer', 'boolean', 'date', 'choice']),
  required: Type.Boolean({ default: false, description: 'Of records that are made, or whose fields are changed, from now on' }),
  choices: Type.Array(Type.String({ minLength: 1, maxLength: 100 }), { maxItems: 200, uniqueItems: true, default: [] }),
  minimum: nullable(Type.Number()),
  maximum: nullable(Type.Number()),
  max_length: nullable(Type.Integer({ minimum: 1, maximum: 2000 })),
  filterable: Type.Boolean({ default: false, description: 'Records are filtered by `custom.<code>` and sorted by it' }),
})
export type CustomField = RowOf<typeof CustomField>

/** The fields of a table in the context's organization. */
export const customFieldsOf = async (tx: Tx, table: string): Promise<readonly CustomField[]> =>
  (await tx.any(sql.prepared(CustomField.schema)`
    select ${columns(CustomField)} from erp_custom_field where ${sql.and(scopeOf(tx, CustomField))} and entity = ${table} and deleted_at is null
    order by code`)) as unknown as readonly CustomField[]

/** A field's values as JSON Schema. */
function valueSchema({ kind, label, description, choices, minimum, maximum, max_length }: CustomField): TSchema {
  const words = { title: label, ...(description ? { description } : {}) }
  const range = { ...(minimum === null ? {} : { minimum }), ...(maximum === null ? {} : { maximum }) }
  if (kind === 'number') return Type.Number({ ...words, ...range })
  if (kind === 'integer') return Type.Integer({ ...words, ...range })
  if (kind === 'boolean') return Type.Boolean(words)
  if (kind === 'date') return Type.String({ ...words, format: 'date' })
  if (kind === 'choice') return oneOf(choices, words)
  return Type.String({ ...words, maxLength: max_length ?? 500 })
}

/** What `custom` of a record with these fields is, as JSON Schema. */
export const customSchema = (fields: readonly CustomField[]): TObject =>
  Type.Object(
    Object.fromEntries(fields.map((field) => [field.code, field.required ? valueSchema(field) : Type.Optional(valueSchema(field))])),
    { additionalProperties: false },
  )

type Values = Record<string, unknown>

/**
 * Holds the fields of records against what they may be, and returns the records with them. A change is a merge patch: what
 * is not named stays, null takes it away. Throws `invalid_value` with what is wrong in each.
 */
export async function checkCustom<R extends Values>(tx: Tx, row: Row, records: readonly R[], before?: Values): Promise<readonly R[]> {
  if (!row.custom || records.length === 0) return records
  const fields = await customFieldsOf(tx, row.table)
  const schema = customSchema(fields)
  const needed = fields.some(({ required }) => required)
  return records.map((record, at) => {
    const merged = { ...(before?.custom as Values | undefined), ...(record.custom as Values | undefined) }
    const custom = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null))
    const bare = !needed && Object.keys(custom).length === 0
    if (!bare && !Value.Check(schema, custom)) {
      // A field that is not declared is told of twice, once as `false`.
      const told = [...Value.Errors(schema, custom)].filter(({ keyword }) => keyword !== 'boolean')
      const errors = told.slice(0, 20).map((error) => ({
        path: `${records.length > 1 ? `/rows/${at}` : ''}/custom${error.instancePath}`,
        rule: error.keyword,
        message: `${error.message}${'additionalProperties' in error.params ? `: ${error.params.additionalProperties}` : ''}`,
      }))
      throw failure('invalid_value', { errors }, 'A field of your company is not as it is declared: GET /api/v1/custom-fields.')
    }
    return { ...record, custom }
  })
}

const OWN = 'custom.'
/** Whether a name in a list's query is that of a field of the company's own: `custom.pot_size`. */
export const isOwn = (row: Row, name: string): boolean => row.custom && name.startsWith(OWN)

/** What is asked of a field of the company's own. */
interface OwnFilter {
  column: string
  operator: Operator
  values: readonly unknown[]
}

/** Where the values of a field stand in `erp_custom_value`, and their type. */
const placeOf = ({ kind }: CustomField) =>
  kind === 'number' || kind === 'integer'
    ? { name: sql.fragment`number_value`, type: 'float8', number: true }
    : { name: sql.fragment`text_value`, type: 'text', number: false }

/** The field that a list's query names. Throws `invalid_query` where there is none, or none that records are found by. */
function fieldOf(fields: readonly CustomField[], column: string): CustomField {
  const field = fields.find(({ code }) => OWN + code === column)
  if (!field) throw refuse(column, `is no field of these: ${fields.map(({ code }) => code).join(', ') || '(none)'}`)
  if (!field.filterable) throw refuse(column, 'is not filterable: an administrator switches that on for the field')
  return field
}

/** The records that have a field, each with its value, for a list that is sorted by it. Throws `invalid_query`. */
export function customSort(tx: Tx, fields: readonly CustomField[], column: string): { code: string; type: string; values: Fragment } {
  const field = fieldOf(fields, column)
  const { name, type } = placeOf(field)
  const values = sql.fragment`
    select row_id, ${name} from erp_custom_value where tenant_id = ${tx.tenantId} and field_id = ${field.id} and ${name} is not null`
  return { code: field.code, type, values }
}

/** Records whose fields have such values, by their index: one look at it a field, however much is asked of it. Throws `invalid_query`. */
export function customConditions(tx: Tx, fields: readonly CustomField[], filters: readonly OwnFilter[]): Fragment[] {
  return [...new Set(filters.map(({ column }) => column))].flatMap((column) => {
    const field = fieldOf(fields, column)
    const asked = filters.filter((filter) => filter.column === column)
    const those = (conditions: Fragment[]) => sql.fragment`
      id in (select row_id from erp_custom_value where tenant_id = ${tx.tenantId} and field_id = ${field.id} and ${sql.and(conditions)})`
    const without = asked.some(({ operator, values }) => operator === 'null' && values[0])
    const conditions = asked.filter(({ operator }) => operator !== 'null').map((filter) => valueCondition(field, filter))
    const some = conditions.length > 0 || asked.some(({ operator, values }) => operator === 'null' && !values[0])
    return [...(some ? [those(conditions)] : []), ...(without ? [sql.fragment`not ${those([])}`] : [])]
  })
}

/** What is asked of the value of one field. */
function valueCondition(field: CustomField, { column, operator, values }: OwnFilter): Fragment {
  const { name, type, number } = placeOf(field)
  const given = values as readonly string[]
  const bad = number ? given.find((value) => !/^-?\d{1,15}(\.\d{1,10})?$/.test(value)) : undefined
  if (bad !== undefined) throw refuse(column, `'${bad.slice(0, 60)}' is no number`)
  if (operator === 'like' && number) throw refuse(`${column}.like`, 'is asked of text')
  if (operator === 'like') return contains(name, given[0]!)
  return compared(name, operator as Exclude<Operator, 'like' | 'null'>, sql.fragment`${sql.array([...given], type)}`)
}

export type CustomSchemas = Static<typeof CustomSchemas>
export const CustomSchemas = Type.Record(Type.String(), Type.Object({}, { additionalProperties: true }), {
  description: 'Entity → what `custom` of its records is, as JSON Schema',
})

/** Every entity's fields as JSON Schema. */
export async function customSchemas(tx: Tx, tables: readonly string[]): Promise<CustomSchemas> {
  const fields = (await tx.any(sql.prepared(CustomField.schema)`
    select ${columns(CustomField)} from erp_custom_field where ${sql.and(scopeOf(tx, CustomField))} and deleted_at is null order by entity, code`)) as unknown as readonly CustomField[]
  return Object.fromEntries(tables.map((table) => [table, customSchema(fields.filter(({ entity }) => entity === table))]))
}
