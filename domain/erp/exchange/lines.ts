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
}
/** Column of the file → property of the record, `custom.<code>` for a company's own field. */
export type Mapping = Readonly<Record<string, string>>

/** Tables whose codes are unique within more than the organization: the database has the word when they are taken in. */
const CODES_WITHIN = ['erp_product_variant']

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

/** Reads lines of one entity; made once a file. */
export class LineReader {
  readonly #row: Row
  readonly #references: Readonly<Record<string, () => Row>>
  readonly #columns: readonly string[]
  readonly #mapping: Mapping
  readonly #check: Validator
  readonly #custom: TObject
  readonly #checkCustom: Validator
  readonly #codes: Set<string>

  private constructor(
    resource: ReturnType<typeof exchanged>,
    columns: readonly string[],
    mapping: Mapping,
    fields: readonly CustomField[],
    codes: Iterable<string>,
  ) {
    this.#row = resource.row
    this.#references = resource.references
    this.#columns = columns
    this.#mapping = mapping
    this.#check = Compile(resource.row.input) as unknown as Validator
    this.#custom = customSchema(fields)
    this.#checkCustom = Compile(this.#custom) as unknown as Validator
    this.#codes = new Set(codes)
  }

  /** @param codes those of lines that were read before */
  static async of(
    tx: Tx,
    resource: ReturnType<typeof exchanged>,
    columns: readonly string[],
    mapping: Mapping,
    codes: Iterable<string>,
  ): Promise<LineReader> {
    return new LineReader(resource, columns, mapping, resource.row.custom ? await customFieldsOf(tx, resource.row.table) : [], codes)
  }

  /** Lines as records, each with what is wrong with it; a query a reference for all of them. */
  async read(tx: Tx, lines: readonly (readonly Cell[])[]): Promise<ReadLine[]> {
    const read = lines.map((cells) => this.#recordOf(cells))
    for (const [property, target] of Object.entries(this.#references)) await this.#refer(tx, property, target(), read)
    for (const line of read) this.#validate(line)
    await this.#findTaken(tx, read)
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

  #validate({ record, errors }: ReadLine): void {
    const whole = this.#row.complete(record)
    const told = new Set(errors.map(({ column }) => column))
    const add = (path: string, rule: string, message: string) => {
      if (!told.has(path)) errors.push({ column: path, rule, message })
    }
    if (!this.#check.Check(whole))
      for (const error of [...this.#check.Errors(whole)].slice(0, 20)) {
        const { requiredProperties } = error.params as { requiredProperties?: string[] }
        for (const column of requiredProperties ?? [error.instancePath.slice(1)])
          add(column, error.keyword, requiredProperties ? 'is needed' : error.message)
      }
    if (this.#row.custom && !this.#checkCustom.Check(whole.custom ?? {}))
      for (const error of [...this.#checkCustom.Errors(whole.custom ?? {})].slice(0, 20)) {
        const { requiredProperties } = error.params as { requiredProperties?: string[] }
        for (const column of requiredProperties ?? [error.instancePath.slice(1)]) add(`custom.${column}`, error.keyword, error.message)
      }
  }

  /** Codes are a record's name: one that is taken, here or in the file, is said before anything is written. */
  async #findTaken(tx: Tx, read: readonly ReadLine[]): Promise<void> {
    if (!('code' in this.#row.properties) || CODES_WITHIN.includes(this.#row.table)) return
    const codes = read.flatMap(({ record }) => (typeof record.code === 'string' ? [record.code] : []))
    const taken = new Set(
      (
        await tx.any(sql.prepared(Type.Object({ code: Type.String() }, { additionalProperties: false }))`
        select code from ${tableOf(this.#row)} where ${sql.and(scopeOf(tx, this.#row))} and deleted_at is null and code = any(${sql.array(codes, 'text')})`)
      ).map(({ code }) => code),
    )
    for (const { record, errors } of read) {
      const { code } = record
      if (typeof code !== 'string') continue
      if (taken.has(code)) errors.push({ column: 'code', rule: 'already_exists', message: `'${code}' is taken` })
      else if (this.#codes.has(code)) errors.push({ column: 'code', rule: 'twice', message: `'${code}' stands in this file twice` })
      this.#codes.add(code)
    }
  }
}
