// Limits on tables in files. They are enforced while a file is read, before memory is used for it.

export const TABLE_LIMITS = {
  /** Rows, the heading among them. A cell whose row number is larger is refused too, however few rows there are. */
  rows: 200_001,
  columns: 200,
  /** Cells of a workbook that have a value. */
  cells: 4_000_000,
  /**
   * Characters of a cell, of a row, and of a file. A workbook may name one long text in each of its cells, so the size of its
   * parts says nothing about the text that is read of it.
   */
  characters: 10_000,
  rowCharacters: 100_000,
  fileCharacters: 100_000_000,
  /** Bytes of a workbook's parts after unpacking, counted while they are unpacked: the sizes that a zip declares prove nothing. */
  unpackedBytes: 200 * 1024 * 1024,
  /** Parts of a workbook. */
  parts: 1_000,
  /** Strings in a workbook's table of shared strings, and their bytes as UTF-8. */
  sharedStrings: 2_000_000,
  sharedBytes: 64 * 1024 * 1024,
  /** Characters between two tags of a workbook's XML, and elements within each other. */
  xmlToken: 1024 * 1024,
  xmlDepth: 32,
  /** Bytes of one record of a CSV file. */
  csvRecord: 1024 * 1024,
} as const

/** Encodings of CSV files. */
export const ENCODINGS = ['utf-8', 'utf-16le', 'windows-1252'] as const
export type Encoding = (typeof ENCODINGS)[number]

/** A cell as it is read: CSV has text alone. */
export type Cell = string | number | boolean | Date | null

/**
 * A file that is no table, or a larger one than is taken. The reading thread imports nothing of the kernel, so that it starts
 * quickly; `readTable` makes this an `invalid_value`.
 */
export class TableError extends Error {
  readonly rule: string
  readonly at: Readonly<Record<string, unknown>>

  constructor(rule: string, message: string, at: Readonly<Record<string, unknown>> = {}) {
    super(message)
    this.rule = rule
    this.at = at
  }
}

export const tooManyRows = () => new TableError('lines', `A file has at most ${TABLE_LIMITS.rows - 1} lines.`)
export const tooManyColumns = () => new TableError('columns', `A table has at most ${TABLE_LIMITS.columns} columns.`)
export const tooLongText = () => new TableError('text', `A cell has at most ${TABLE_LIMITS.characters} characters.`)
export const tooLongRow = () => new TableError('text', `A row has at most ${TABLE_LIMITS.rowCharacters} characters.`)
export const tooMuchText = () => new TableError('text', `A file has at most ${TABLE_LIMITS.fileCharacters} characters.`)

/** Characters of the texts in a row. */
export const charactersOf = (row: readonly Cell[]): number =>
  row.reduce<number>((sum, cell) => sum + (typeof cell === 'string' ? cell.length : 0), 0)
