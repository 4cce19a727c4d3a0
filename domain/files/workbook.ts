// XLSX workbooks (ECMA-376): the first sheet is read row by row, and one is written.
import path from 'node:path'
import writeXlsxFile from 'write-excel-file/node'
import { SharedStrings } from './shared-strings.ts'
import { SheetRows } from './sheet.ts'
import { type Cell, TABLE_LIMITS, tooLongText } from './table-limits.ts'
import { brokenWorkbook, readXml, type XmlEvents } from './xml.ts'
import { ZipParts } from './zip.ts'

export const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'
const WORKBOOK = 'xl/workbook.xml'
/** Sheets, relations, formats and styles of a workbook that are looked at. */
const MAX_LISTED = 10_000

/** The rows of the first sheet, without those that are empty. Throws `TableError`. */
export async function* readWorkbook(file: string): AsyncGenerator<Cell[]> {
  const zip = await ZipParts.open(file)
  try {
    const { sheet, from1904 } = await firstSheet(zip)
    const isDate = await readDateStyles(zip)
    const rows = new SheetRows({ shared: await readSharedStrings(zip), isDate, from1904 })
    for await (const _ of readXml(await zip.read(sheet), rows)) yield* rows.take()
    yield* rows.take()
  } finally {
    zip.close()
  }
}

/** Reads a part to its end; a part that is not there has nothing. */
async function readPart(zip: ZipParts, name: string, events: Partial<XmlEvents>): Promise<void> {
  if (!zip.has(name)) return
  const all: XmlEvents = { open: () => {}, close: () => {}, text: () => {}, ...events }
  for await (const _ of readXml(await zip.read(name), all));
}

async function firstSheet(zip: ZipParts): Promise<{ sheet: string; from1904: boolean }> {
  if (!zip.has(WORKBOOK)) throw brokenWorkbook()
  let relation: string | undefined
  let from1904 = false
  await readPart(zip, WORKBOOK, {
    open: (name, attributes) => {
      if (name === 'sheet') relation ??= Object.entries(attributes).find(([attribute]) => /(^|:)id$/.test(attribute))?.[1]
      if (name === 'workbookPr') from1904 = attributes.date1904 === '1' || attributes.date1904 === 'true'
    },
  })
  let target = 'worksheets/sheet1.xml'
  await readPart(zip, 'xl/_rels/workbook.xml.rels', {
    open: (name, { Id, Target }) => {
      if (name === 'Relationship' && Id === relation && Target) target = Target
    },
  })
  // Absolute within the package, or relative to the workbook. Names are looked up in the zip alone, never on the disk.
  const sheet = target.startsWith('/') ? target.slice(1) : path.posix.join('xl', target)
  return { sheet, from1904 }
}

/** Formats of numbers that every workbook has and that are dates or times (ECMA-376, 18.8.30). */
const isBuiltInDate = (format: number): boolean =>
  (format >= 14 && format <= 22) || (format >= 27 && format <= 36) || (format >= 45 && format <= 47) || (format >= 50 && format <= 58)
/** A format of a number that shows a date: letters of dates outside of quotes, brackets and escapes. */
const isDateFormat = (code: string): boolean => /[dmyhs]/i.test(code.replace(/"[^"]*"|\[[^\]]*\]|\\.|_.|\*./g, ''))

async function readDateStyles(zip: ZipParts): Promise<(style: number) => boolean> {
  const own = new Map<number, boolean>()
  const styles: boolean[] = []
  let inCellFormats = false
  await readPart(zip, 'xl/styles.xml', {
    open: (name, { numFmtId = '0', formatCode = '' }) => {
      if (own.size > MAX_LISTED || styles.length > MAX_LISTED * 10) throw brokenWorkbook()
      if (name === 'numFmt') own.set(Number(numFmtId), isDateFormat(formatCode.slice(0, 255)))
      else if (name === 'cellXfs') inCellFormats = true
      else if (name === 'xf' && inCellFormats) styles.push(own.get(Number(numFmtId)) ?? isBuiltInDate(Number(numFmtId)))
    },
    close: (name) => {
      if (name === 'cellXfs') inCellFormats = false
    },
  })
  return (style) => styles[style] ?? false
}

async function readSharedStrings(zip: ZipParts): Promise<SharedStrings> {
  const strings = new SharedStrings()
  let text: string | null = null
  let inText = false
  let inPhonetic = false
  await readPart(zip, 'xl/sharedStrings.xml', {
    open: (name) => {
      if (name === 'si') text = ''
      else if (name === 'rPh') inPhonetic = true
      else if (name === 't') inText = !inPhonetic
    },
    text: (part) => {
      if (text === null || !inText) return
      text += part
      if (text.length > TABLE_LIMITS.characters) throw tooLongText()
    },
    close: (name) => {
      if (name === 't') inText = false
      else if (name === 'rPh') inPhonetic = false
      else if (name === 'si' && text !== null) {
        strings.add(text)
        text = null
      }
    },
  })
  return strings
}

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
