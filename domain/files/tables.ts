// Tables in files: CSV and XLSX, read with care for what a file may do to whoever opens it, and written.
import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { parse } from 'csv-parse'
import { readSheet } from 'read-excel-file/node'
import writeXlsxFile from 'write-excel-file/node'
import { open, type ZipFile } from 'yauzl'
import { failure } from '../kernel/index.ts'

/** A cell as it is read: CSV has text alone. */
export type Cell = string | number | boolean | Date | null
export const ENCODINGS = ['utf-8', 'utf-16le', 'windows-1252'] as const
export type Encoding = (typeof ENCODINGS)[number]

const MOST_COLUMNS = 200
/** Characters of a cell. */
const MOST_TEXT = 10_000
/** What a workbook may be unpacked. A zip bomb is a thousand times larger than it looks. */
const MOST_UNPACKED = 200 * 1024 * 1024
const MOST_ENTRIES = 1_000

const refuse = (rule: string, message: string, at: object = {}) => failure('invalid_value', { path: 'file', rule, ...at }, message)

/** The lines of a table, the heading first. Throws `invalid_value` for what is no table, with the line where it ends to be one. */
export async function* readTable(file: string, mediaType: string, encoding: Encoding): AsyncGenerator<Cell[]> {
  const lines = mediaType === XLSX ? await readWorkbook(file) : readCsv(file, encoding)
  for await (const line of lines) {
    if (line.length > MOST_COLUMNS) throw refuse('columns', `A table has at most ${MOST_COLUMNS} columns.`)
    if (line.some((cell) => typeof cell === 'string' && cell.length > MOST_TEXT))
      throw refuse('text', `A cell has at most ${MOST_TEXT} characters.`)
    yield line
  }
}

export const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'

async function* readCsv(file: string, encoding: Encoding): AsyncGenerator<Cell[]> {
  let first = ''
  for await (const text of decoded(createReadStream(file, { end: 64 * 1024 }), encoding, false)) first += text
  const heading = first.split(/\r?\n/, 1)[0]!
  // The one of the usual separators that the heading has most of.
  const count = (separator: string) => heading.split(separator).length
  const delimiter = [',', ';', '\t'].reduce((best, one) => (count(one) > count(best) ? one : best))
  const parser = parse({ delimiter, bom: true, relax_column_count: true, skip_empty_lines: true, max_record_size: 1024 * 1024 })
  const bytes = createReadStream(file)
  const feed = async () => {
    for await (const text of decoded(bytes, encoding, true))
      if (!parser.write(text)) await new Promise((resolve) => parser.once('drain', resolve))
    parser.end()
  }
  feed().catch((error) => parser.destroy(error))
  try {
    for await (const line of parser) yield line as string[]
  } catch (error) {
    const { code, lines } = error as { code?: string; lines?: number }
    if (code?.startsWith('CSV_')) throw refuse('csv', `Line ${lines} is no CSV: is a quote missing?`, { line: lines })
    throw error
  } finally {
    bytes.destroy() // who reads no further leaves no file open
  }
}

/** Bytes as text. Throws where they are of another encoding, rather than write wrong letters. */
async function* decoded(bytes: Readable, encoding: Encoding, whole: boolean): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding, { fatal: true })
  try {
    for await (const chunk of bytes) yield decoder.decode(chunk as Buffer, { stream: true })
    if (whole) yield decoder.decode()
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw refuse('encoding', `The file is not ${encoding.toUpperCase()}: save it so, or say which it is (${ENCODINGS.join(', ')}).`)
  }
}

async function readWorkbook(file: string): Promise<Cell[][]> {
  await checkUnpacked(file)
  try {
    return (await readSheet(file)) as Cell[][]
  } catch {
    throw refuse('xlsx', 'The file is no workbook that can be read.')
  }
}

/** Unpacks a workbook without keeping anything, to see how large it is: what its directory says of itself proves nothing. */
async function checkUnpacked(file: string): Promise<void> {
  const zip = await new Promise<ZipFile>((resolve, reject) =>
    open(file, { lazyEntries: true }, (error, opened) => (error ? reject(refuse('xlsx', 'The file is no workbook.')) : resolve(opened))),
  )
  let unpacked = 0
  let entries = 0
  await new Promise<void>((resolve, reject) => {
    const fail = (error: Error) => {
      zip.close()
      reject(error)
    }
    zip.on('error', () => fail(refuse('xlsx', 'The file is no workbook.')))
    zip.on('end', resolve)
    zip.on('entry', (entry) => {
      if (++entries > MOST_ENTRIES) return fail(refuse('unpacked', 'The workbook has too many parts.'))
      zip.openReadStream(entry, (error, bytes) => {
        if (error) return fail(refuse('xlsx', 'The file is no workbook.'))
        bytes.on('data', (chunk: Buffer) => {
          unpacked += chunk.length
          if (unpacked > MOST_UNPACKED) {
            bytes.destroy()
            fail(refuse('unpacked', `The workbook is larger than ${MOST_UNPACKED / 1024 / 1024} MB when it is unpacked.`))
          }
        })
        bytes.on('error', () => fail(refuse('xlsx', 'The file is no workbook.')))
        bytes.on('end', () => zip.readEntry())
      })
    })
    zip.readEntry()
  })
}

/** A field as RFC 4180 wants it; one that a spreadsheet would run as a formula is defused with a quote. */
function csvField(value: unknown): string {
  if (value === null || value === undefined) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  const safe = typeof value === 'string' && /^[=+@\t\r]|^-(?![\d.]+$)/.test(text) ? `'${text}` : text
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** One line of a table, as RFC 4180 wants it. */
export const csvLine = (values: readonly unknown[]): string => `${values.map(csvField).join(',')}\r\n`

/** A workbook of one sheet. Text stays text: nothing in it is a formula. It is put together in memory. */
export async function writeWorkbook(lines: readonly (readonly unknown[])[]): Promise<Buffer> {
  const cell = (value: unknown) => {
    if (value === null || value === undefined || value === '') return null
    if (typeof value === 'number') return { value, type: Number }
    if (typeof value === 'boolean') return { value, type: Boolean }
    return { value: (typeof value === 'object' ? JSON.stringify(value) : String(value)).slice(0, 32_767), type: String }
  }
  return writeXlsxFile(lines.map((line) => line.map(cell)) as never).toBuffer()
}
