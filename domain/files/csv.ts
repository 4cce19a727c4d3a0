// CSV files: read record by record, and written so that a spreadsheet runs nothing in them (RFC 4180, OWASP CSV Injection).
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { parse } from 'csv-parse'
import { type Cell, ENCODINGS, type Encoding, TABLE_LIMITS, TableError } from './table-limits.ts'

/** The records of a CSV file; empty lines are left out. Throws `TableError`. */
export async function* readCsv(file: string, encoding: Encoding): AsyncGenerator<Cell[]> {
  let first = ''
  for await (const text of decoded(createReadStream(file, { end: 64 * 1024 }), encoding, false)) first += text
  const heading = first.split(/\r?\n/, 1)[0]!
  // The one of the usual separators that the heading has most of.
  const count = (separator: string) => heading.split(separator).length
  const delimiter = [',', ';', '\t'].reduce((best, one) => (count(one) > count(best) ? one : best))
  const parser = parse({
    delimiter,
    bom: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: TABLE_LIMITS.csvRecord,
  })
  const bytes = createReadStream(file)
  const feed = async () => {
    for await (const text of decoded(bytes, encoding, true))
      if (!parser.write(text)) await new Promise((resolve) => parser.once('drain', resolve))
    parser.end()
  }
  feed().catch((error) => parser.destroy(error))
  try {
    for await (const line of parser) yield (line as string[]).map(undefused)
  } catch (error) {
    const { code, lines } = error as { code?: string; lines?: number }
    if (code?.startsWith('CSV_')) throw new TableError('csv', `Line ${lines} is no CSV: is a quote missing?`, { line: lines })
    throw error
  } finally {
    bytes.destroy() // a consumer that stops early leaves no file open
  }
}

/** Bytes as text. Throws where they are of another encoding, rather than return wrong letters. */
async function* decoded(bytes: Readable, encoding: Encoding, whole: boolean): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding, { fatal: true })
  try {
    for await (const chunk of bytes) yield decoder.decode(chunk as Buffer, { stream: true })
    if (whole) yield decoder.decode()
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new TableError('encoding', `The file is not ${encoding.toUpperCase()}: save it so, or say which it is (${ENCODINGS.join(', ')}).`)
  }
}

/**
 * A place where a spreadsheet may begin a formula: after the start of a cell, `;`, tab or a line break, with any space and
 * quotes between. Spreadsheets of many countries split by `;` and ignore quotes in the middle of a cell, so a quoted
 * field is no protection there. The signs are OWASP's, with their full-width forms:
 * https://owasp.org/www-community/attacks/CSV_Injection. A negative number is none.
 */
const FORMULA = /(^|\r\n|[;\t\r\n])(?=[\s"]*(?:[=+@\uFF1D\uFF0B\uFF0D\uFF20]|-(?!\d+(?:\.\d+)?(?:$|[;\t\r\n]))))|^(?=[\t\r\n])/g
const DEFUSED = /(^|\r\n|[;\t\r\n])'(?=[\s"]*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20\t\r\n])/g
const MAY_BE_FORMULA = /[=+\-@\uFF1D\uFF0B\uFF0D\uFF20\t\r\n]/

/** Text with a quote before everything that a spreadsheet may run as a formula. */
const defused = (text: string): string => (MAY_BE_FORMULA.test(text) ? text.replace(FORMULA, "$1'") : text)
/** The text again: a file that was exported here can be imported. */
const undefused = (text: string): string => (text.includes("'") ? text.replace(DEFUSED, '$1') : text)

function csvField(value: unknown): string {
  if (value === null || value === undefined) return ''
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  const text = defused(typeof value === 'object' ? JSON.stringify(value) : String(value))
  return /[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

/** One record of a CSV file, as RFC 4180 wants it. Numbers stay numbers; text that could be a formula is defused. */
export const csvLine = (values: readonly unknown[]): string => `${values.map(csvField).join(',')}\r\n`
