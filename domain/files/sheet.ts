// The rows of a worksheet (ECMA-376, 18.3.1), built cell by cell while its XML is read.
import type { SharedStrings } from './shared-strings.ts'
import { type Cell, TABLE_LIMITS, TableError, tooLongText, tooManyColumns, tooManyRows } from './table-limits.ts'
import { brokenWorkbook, type XmlEvents } from './xml.ts'

const DAY_MS = 86_400_000
/** Days from the two epochs of spreadsheets to 1970. */
const EPOCH_1900 = 25_569
const EPOCH_1904 = 24_107
/** Dates that PostgreSQL and ISO 8601 know as four digits: until the end of 9999. */
const MAX_SERIAL = 2_958_466

/** Column 1 to 16,384 of `AB12`; null where the reference is none. */
function columnOf(reference: string): number | null {
  let column = 0
  for (let at = 0; at < reference.length && at < 4; at++) {
    const letter = reference.charCodeAt(at) - 64
    if (letter < 1 || letter > 26) return column || null
    column = column * 26 + letter
  }
  return null
}

/** Parts of a workbook that cells refer to. */
export interface CellContext {
  shared: SharedStrings
  /** Whether a cell style shows its number as a date. */
  isDate(style: number): boolean
  /** Whether dates count from 1904. */
  from1904: boolean
}

/**
 * Collects rows while the XML of a sheet passes by. The declared dimension, merged ranges and styled cells without a value
 * are not looked at, so they cost nothing; a cell with a value outside of the limits is refused when its reference is read.
 * A row has as many cells as its last value says; rows without values are left out, as empty lines of a CSV file are.
 */
export class SheetRows implements XmlEvents {
  readonly #context: CellContext
  #rows: Cell[][] = []
  #row: Cell[] = []
  #rowNumber = 0
  #column = 0
  #cells = 0
  #type = 'n'
  #style = 0
  #value: string | null = null
  /** Whether text belongs to the value: inside of `v`, or of `t` in an inline string. */
  #inValue = false
  #inPhonetic = false

  constructor(context: CellContext) {
    this.#context = context
  }

  /** Rows that are complete, each given once. */
  take(): Cell[][] {
    const rows = this.#rows
    this.#rows = []
    return rows
  }

  open(name: string, attributes: Readonly<Record<string, string>>): void {
    if (name === 'row') {
      const number = attributes.r === undefined ? this.#rowNumber + 1 : Number(attributes.r)
      if (!Number.isInteger(number) || number <= this.#rowNumber) throw brokenWorkbook()
      this.#rowNumber = number
      this.#column = 0
      this.#row = []
    } else if (name === 'c') {
      this.#column = attributes.r === undefined ? this.#column + 1 : (columnOf(attributes.r) ?? 0)
      if (this.#column === 0) throw brokenWorkbook()
      this.#type = attributes.t ?? 'n'
      this.#style = Number(attributes.s ?? 0)
      this.#value = null
    } else if (name === 'v' || (name === 't' && this.#type === 'inlineStr' && !this.#inPhonetic)) {
      this.#inValue = true
    } else if (name === 'rPh') this.#inPhonetic = true
  }

  text(text: string): void {
    if (!this.#inValue) return
    this.#value = (this.#value ?? '') + text
    if (this.#value.length > TABLE_LIMITS.characters) throw tooLongText()
  }

  close(name: string): void {
    if (name === 'v' || name === 't') this.#inValue = false
    else if (name === 'rPh') this.#inPhonetic = false
    else if (name === 'c') this.#endCell()
    else if (name === 'row' && this.#row.length > 0) this.#rows.push(this.#row)
  }

  #endCell(): void {
    if (this.#value === null || this.#value === '') return
    const cell = this.#read(this.#value)
    this.#value = null
    if (cell === null || cell === '') return
    if (this.#rowNumber > TABLE_LIMITS.rows) throw tooManyRows()
    if (this.#column > TABLE_LIMITS.columns) throw tooManyColumns()
    if (++this.#cells > TABLE_LIMITS.cells)
      throw new TableError('cells', `A workbook has at most ${TABLE_LIMITS.cells} cells: save it as CSV, or in parts.`)
    while (this.#row.length < this.#column - 1) this.#row.push(null)
    this.#row[this.#column - 1] = cell
  }

  #read(value: string): Cell {
    switch (this.#type) {
      case 's': {
        const text = this.#context.shared.get(Number(value))
        if (text === undefined) throw brokenWorkbook()
        return text
      }
      case 'b':
        return value === '1' || value === 'true'
      case 'd':
        return dateOf(Date.parse(value)) ?? value
      case 'n': {
        const number = Number(value)
        if (!Number.isFinite(number)) return value
        if (!this.#context.isDate(this.#style) || number < 0 || number >= MAX_SERIAL) return number
        return dateOf(Math.round((number - (this.#context.from1904 ? EPOCH_1904 : EPOCH_1900)) * DAY_MS)) ?? number
      }
      default: // str, inlineStr, and e: an error such as #N/A is its text
        return value
    }
  }
}

const dateOf = (milliseconds: number): Date | null => (Number.isNaN(milliseconds) ? null : new Date(milliseconds))
