// Zip files and workbooks that say and hold what a test wants, however wrong.
import { crc32, deflateRawSync } from 'node:zlib'

export interface ZipPart {
  name: string
  bytes: Buffer
  /** The size that the directory declares; the real one by default. */
  declared?: number
}

/** A zip file of these parts. */
export function zip(parts: readonly ZipPart[]): Buffer {
  const locals: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const { name, bytes, declared = bytes.length } of parts) {
    const packed = deflateRawSync(bytes)
    // Common to both headers: version, flags, method, time, date, checksum, sizes, name length.
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0)
    common.writeUInt16LE(8, 4)
    common.writeUInt32LE(crc32(bytes), 10)
    common.writeUInt32LE(packed.length, 14)
    common.writeUInt32LE(declared, 18)
    common.writeUInt16LE(name.length, 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), packed])
    const rest = Buffer.alloc(14)
    rest.writeUInt32LE(offset, 10)
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, rest, Buffer.from(name)]))
    locals.push(local)
    offset += local.length
  }
  const size = directory.reduce((sum, one) => sum + one.length, 0)
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06', 0, 'latin1')
  end.writeUInt16LE(parts.length, 8)
  end.writeUInt16LE(parts.length, 10)
  end.writeUInt32LE(size, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...locals, ...directory, end])
}
/** The part that makes a zip file pass for a workbook. */
export const CONTENT_TYPES = Buffer.from(
  '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
)

export interface WorkbookParts {
  /** The XML of the sheet. */
  sheet: string | Buffer
  sharedStrings?: string | Buffer
  styles?: string
  /** Attributes of `workbookPr`. */
  properties?: string
  also?: readonly ZipPart[]
  /** The size that the directory declares for the sheet. */
  declared?: number
}

/** A workbook of one sheet, made of raw XML. */
export function workbookOf({ sheet, sharedStrings, styles, properties = '', also = [], declared }: WorkbookParts): Buffer {
  const part = (name: string, text: string | Buffer): ZipPart => ({ name, bytes: Buffer.from(text as string) })
  return zip([
    { name: '[Content_Types].xml', bytes: CONTENT_TYPES },
    part('xl/workbook.xml', `<workbook><workbookPr ${properties}/><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>`),
    part('xl/_rels/workbook.xml.rels', '<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"/></Relationships>'),
    { ...part('xl/worksheets/sheet1.xml', sheet), ...(declared === undefined ? {} : { declared }) },
    ...(sharedStrings === undefined ? [] : [part('xl/sharedStrings.xml', sharedStrings)]),
    ...(styles === undefined ? [] : [part('xl/styles.xml', styles)]),
    ...also,
  ])
}

/** A sheet with these rows of XML. */
export const sheetOf = (rows: string): string => `<?xml version="1.0"?><worksheet><sheetData>${rows}</sheetData></worksheet>`
