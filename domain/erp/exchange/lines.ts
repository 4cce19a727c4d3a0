// A line of a file becomes a record: cells are read as what the record's schema says, codes become ids.
import type { TObject, TSchema } from 'typebox'
import { Type } from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import type { Cell } from '../../files/index.ts'
import { type CustomField, customFieldsOf, customSchema, isUuid, type Row, scopeOf, sql, type Tx, tableOf } from '../../kernel/index.ts'
import type { exchanged } from './entities.ts'

export interface LineError {
  column: string
  rule: string
  message: string
}
export interface ReadLine {
  record: Record<string, unknown>
  errors: LineError[]
  /** The record that it changes, and as of which version; none for one that it makes. */
  changes?: { id: string; version: number }
}
/** Whether lines make records, change those that are there, or either. */
export const MODES = ['create', 'update', 'upsert'] as const
export type Mode = (typeof MODES)[number]
/** Column of the file → property of the record, `custom.<code>` for a company's own field. */
export type Mapping = Readonly<Record<string, string>>

/** Tables whose codes are unique within more than the organization: the database has the word when they are taken in. */
const CODES_WITHIN = ['erp_product_variant']

/** Whether a record is known by its code within the organization. */
export const hasCodes = (row: Row): boolean => 'code' in row.properties && !CODES_WITHIN.includes(row.table)

const isNullish = (cell: Cell | undefined): cell is null | undefined => cell === null || cell === undefined || cell === ''
const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9.]+/g, '_')

/** The mapping that a heading suggests: columns that are called as a property is. */
export function suggest(heading: readonly string[], properties: readonly string[]): Mapping {
  const found = heading.map((column) => {
    const name = plain(column)
    return [column, properties.find((property) => property === name || property === `${name}_id`)] as const
  })
  return Object.fromEntries(found.filter((pair): pair is [string, string] => pair[1] !== undefined))
}

/** The type that a schema names first, null left out. */
function typeOf(schema: TSchema | undefined): { type?: string; format?: string; items?: TSchema } {
  const { type, ...rest } = (schema ?? {}) as { type?: string | string[] }
  const first = Array.isArray(type) ? type.find((one) => one !== 'null') : type
  return { ...rest, ...(first ? { type: first } : {}) }
}

/** A cell as its property is typed; what does not fit stays as it is, and the schema says so. */
function cellAs(cell: Cell, schema: TSchema | undefined): unknown {
  const { type, format, items } = typeOf(schema)
  if (cell instanceof Date) return format === 'date' ? cell.toISOString().slice(0, 10) : cell.toISOString()
  const text = typeof cell === 'string' ? cell.trim() : String(cell)
  if (type === 'boolean') {
    if (/^(true|yes|1|x)$/i.test(text)) return true
    return /^(false|no|0)$/i.test(text) ? false : text
  }
  if (type === 'integer' || type === 'number') return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text
  if (type === 'array') return text.split(/[;,|]/).map((part) => cellAs(part, items))
  if (type === 'object') {
    try {
      return JSON.parse(text)
    } catch {
      return text
    }
  }
  return text
}

/** Characters of a code. */
const MAX_CODE = 64
const There = Type.Object({ id: Type.String(), version: Type.Integer(), code: Type.String() }, { additionalProperties: false })

/** Reads lines of one entity; made once a file. */
export class LineReader {
  readonly #row: Row
  readonly #references: Readonly<Record<string, () => Row>>
  readonly #columns: readonly string[]
  readonly #mapping: Mapping
  readonly #mode: Mode
  readonly #check: Validator
  readonly #checkChange: Validator
  readonly #custom: TObject
  readonly #checkCustom: Validator
  readonly #checkCustomChange: Validator
  readonly #codes: Set<string>

  private constructor(
    resource: ReturnType<typeof exchanged>,
    columns: readonly string[],
    mapping: Mapping,
    mode: Mode,
    fields: readonly CustomField[],
    codes: Iterable<string>,
  ) {
    this.#row = resource.row
    this.#references = resource.references
    this.#columns = columns
    this.#mapping = mapping
    this.#mode = mode
    this.#check = Compile(resource.row.input) as unknown as Validator
    this.#checkChange = Compile(resource.row.patch) as unknown as Validator
    this.#custom = customSchema(fields)
    this.#checkCustom = Compile(this.#custom) as unknown as Validator
    // What a record has already need not be said again.
    this.#checkCustomChange = Compile(customSchema(fields.map((field) => ({ ...field, required: false })))) as unknown as Validator
    this.#codes = new Set(codes)
  }

  /** @param codes those of lines that were read before */
  static async of(
    tx: Tx,
    resource: ReturnType<typeof exchanged>,
    columns: readonly string[],
    mapping: Mapping,
    mode: Mode,
    codes: Iterable<string>,
  ): Promise<LineReader> {
    return new LineReader(resource, columns, mapping, mode, resource.row.custom ? await customFieldsOf(tx, resource.row.table) : [], codes)
  }

  /** Lines as records, each with what is wrong with it; a query a reference for all of them. */
  async read(tx: Tx, lines: readonly (readonly Cell[])[]): Promise<ReadLine[]> {
    const read = lines.map((cells) => this.#recordOf(cells))
    for (const [property, target] of Object.entries(this.#references)) await this.#refer(tx, property, target(), read)
    if (hasCodes(this.#row)) await this.#findCodes(tx, read)
    for (const line of read) this.#validate(line)
    return read
  }

  #recordOf(cells: readonly Cell[]): ReadLine {
    const record: Record<string, unknown> = {}
    const custom: Record<string, unknown> = {}
    const properties = (this.#row.input as { properties: Record<string, TSchema> }).properties
    for (const [at, column] of this.#columns.entries()) {
      const property = this.#mapping[column]
      const cell = cells[at]
      if (!property || isNullish(cell)) continue
      if (!property.startsWith('custom.')) record[property] = cellAs(cell, properties[property])
      else {
        const code = property.slice('custom.'.length)
        custom[code] = cellAs(cell, this.#custom.properties[code])
      }
    }
    return { record: Object.keys(custom).length > 0 ? { ...record, custom } : record, errors: [] }
  }

  /** Codes of what is referred to become its id; both are looked for among what is there. */
  async #refer(tx: Tx, property: string, target: Row, read: readonly ReadLine[]): Promise<void> {
    const named = [...new Set(read.flatMap(({ record }) => (typeof record[property] === 'string' ? [record[property]] : [])))]
    if (named.length === 0) return
    const hasCode = 'code' in target.properties
    const code = hasCode ? sql.fragment`code` : sql.fragment`id::text`
    const found = await tx.any(sql.prepared(Type.Object({ id: Type.String(), code: Type.String() }, { additionalProperties: false }))`
      select id, ${code} as code from ${tableOf(target)}
      where ${sql.and(scopeOf(tx, target))} and deleted_at is null
        and (id = any(${sql.array(named.filter(isUuid), 'uuid')}) or ${code} = any(${sql.array(named, 'text')}))`)
    const ids = new Map(found.flatMap(({ id, code }) => [[id, id] as const, [code, id] as const]))
    for (const line of read) {
      const name = line.record[property]
      if (typeof name !== 'string') continue
      const id = ids.get(name)
      if (id) line.record[property] = id
      else line.errors.push({ column: property, rule: 'reference', message: `'${name.slice(0, 64)}' is not there: give a code or an id` })
    }
  }

  #validate({ record, errors, changes }: ReadLine): void {
    const changing = changes !== undefined || this.#mode === 'update'
    const whole = changing ? record : this.#row.complete(record)
    const [check, checkCustom] = changing ? [this.#checkChange, this.#checkCustomChange] : [this.#check, this.#checkCustom]
    const told = new Set(errors.map(({ column }) => column))
    const add = (path: string, rule: string, message: string) => {
      if (!told.has(path)) errors.push({ column: path, rule, message })
    }
    if (!check.Check(whole))
      for (const error of [...check.Errors(whole)].slice(0, 20)) {
        const { requiredProperties } = error.params as { requiredProperties?: string[] }
        for (const column of requiredProperties ?? [error.instancePath.slice(1)])
          add(column, error.keyword, requiredProperties ? 'is needed' : error.message)
      }
    if (this.#row.custom && !checkCustom.Check(whole.custom ?? {}))
      for (const error of [...checkCustom.Errors(whole.custom ?? {})].slice(0, 20)) {
        const { requiredProperties } = error.params as { requiredProperties?: string[] }
        for (const column of requiredProperties ?? [error.instancePath.slice(1)]) add(`custom.${column}`, error.keyword, error.message)
      }
  }

  /** Codes are a record's name: whether it is taken, here or in the file, or has to be, is said before anything is written. */
  async #findCodes(tx: Tx, read: readonly ReadLine[]): Promise<void> {
    const codes = read.flatMap(({ record }) => (typeof record.code === 'string' ? [record.code] : []))
    const there = await tx.any(sql.prepared(There)`
      select id, version, code from ${tableOf(this.#row)}
      where ${sql.and(scopeOf(tx, this.#row))} and deleted_at is null and code = any(${sql.array(codes, 'text')})`)
    const byCode = new Map(there.map(({ code, ...found }) => [code, found]))
    for (const line of read) {
      const { code } = line.record
      if (typeof code !== 'string') {
        if (this.#mode === 'update') line.errors.push({ column: 'code', rule: 'required', message: 'is needed: records are found by it' })
        continue
      }
      const found = byCode.get(code)
      const wrong = (rule: string, message: string) => line.errors.push({ column: 'code', rule, message })
      if (found && this.#mode === 'create') wrong('already_exists', `'${code}' is taken`)
      else if (!found && this.#mode === 'update') wrong('not_found', `'${code.slice(0, 64)}' is not there`)
      else if (this.#codes.has(code)) wrong('twice', `'${code}' stands in this file twice`)
      else if (found) line.changes = found
      // A longer text is refused as a code, and would only fill the memory.
      if (code.length <= MAX_CODE) this.#codes.add(code)
    }
  }
}
