// Tables from strangers: limits hold before memory is used, in a thread that cannot take the process with it.
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import t from 'tap'
import { type Cell, csvLine, readTable, TABLE_LIMITS } from '../../../domain/files/index.ts'
import { times } from '../../support/app.ts'
import { sheetOf, type WorkbookParts, workbookOf, zip } from '../../support/zip.ts'

const XLSX = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet'
const folder = mkdtempSync(path.join(tmpdir(), 'tenantry-test-tables-'))
let serial = 0

interface Outcome {
  rows: Cell[][]
  /** The rule of the refusal. */
  rule?: string
  /** How much the process grew while the file was read, in MB. */
  grown: number
}

/** Reads a file to its end and keeps the first rows. */
async function read(bytes: Buffer | string, mediaType = XLSX): Promise<Outcome> {
  const file = path.join(folder, String(serial++))
  writeFileSync(file, bytes)
  const rows: Cell[][] = []
  const before = process.memoryUsage().rss
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss)
  }, 20)
  const outcome = (rule?: string): Outcome => ({ rows, ...(rule ? { rule } : {}), grown: (most - before) / 1024 / 1024 })
  try {
    for await (const row of readTable(file, mediaType, 'utf-8')) if (rows.length < 100) rows.push(row)
    return outcome()
  } catch (error) {
    const { rule } = (error as { details?: { rule?: string } }).details ?? {}
    if (!rule) throw error
    return outcome(rule)
  } finally {
    clearInterval(watch)
  }
}
const book = (parts: WorkbookParts) => read(workbookOf(parts))
const cell = (reference: string, value = 'x') => `<c r="${reference}" t="str"><v>${value}</v></c>`
const HEADING = `<row r="1">${cell('A1', 'code')}</row>`

t.test('F18: a two-cell spreadsheet of 1,048,576 rows is refused before memory is used', async (t) => {
  const bomb = workbookOf({ sheet: sheetOf(`<row r="1">${cell('A1')}</row><row r="1048576">${cell('XFD1048576')}</row>`) })
  t.ok(bomb.length < 2_000, 'it is small')
  const { rule, rows, grown } = await read(bomb)
  t.equal(rule, 'lines')
  t.ok(rows.length <= 1)
  t.ok(grown < 100, `the process grew by ${grown.toFixed()} MB`)
})

t.test('F18: spreadsheets larger than they look are refused, each by its rule', async (t) => {
  const spaces = Buffer.alloc(100 * 1024 * 1024, ' ')
  const sheet = sheetOf(HEADING)
  const manyRows = Buffer.alloc(210 * 1024 * 1024, '<row/>')
  const strings = Buffer.concat([
    Buffer.from('<sst>'),
    Buffer.alloc(100 * 1024 * 1024, `<si><t>${'s'.repeat(1000)}</t></si>`).subarray(0, 1015 * 100_000),
    Buffer.from('</sst>'),
  ])
  const long = 'x'.repeat(TABLE_LIMITS.characters + 1)
  const cases: [title: string, parts: WorkbookParts, rule: string][] = [
    ['a cell in column 16,384', { sheet: sheetOf(`<row r="1">${cell('XFD1')}</row>`) }, 'columns'],
    ['16,384 columns', { sheet: sheetOf(`<row r="1">${'<c><v>1</v></c>'.repeat(16_384)}</row>`) }, 'columns'],
    ['a column that no spreadsheet has', { sheet: sheetOf(`<row r="1">${cell('ZZZZZZZZ1')}</row>`) }, 'xlsx'],
    ['a row number of no integer', { sheet: sheetOf(`<row r="1e9">${cell('A1')}</row>`) }, 'lines'],
    ['rows that go back', { sheet: sheetOf(`<row r="2">${cell('A2')}</row><row r="1">${cell('A1')}</row>`) }, 'xlsx'],
    ['a sheet of 210 MB', { sheet: Buffer.concat([Buffer.from('<worksheet><sheetData>'), manyRows]) }, 'unpacked'],
    ['100 MB of shared strings', { sheet, sharedStrings: strings }, 'unpacked'],
    ['100 MB between two tags', { sheet: Buffer.concat([Buffer.from('<worksheet>'), spaces]) }, 'xlsx'],
    ['100 MB in an attribute', { sheet: Buffer.concat([Buffer.from('<worksheet a="'), spaces]) }, 'xlsx'],
    ['100 MB in a comment', { sheet: Buffer.concat([Buffer.from('<worksheet><!--'), spaces]) }, 'xlsx'],
    [
      'one text of 10,000 characters in a hundred cells of each row',
      {
        sheet: sheetOf(times(1_000, (n) => `<row r="${n + 1}">${'<c t="s"><v>0</v></c>'.repeat(100)}</row>`).join('')),
        sharedStrings: `<sst><si><t>${'x'.repeat(10_000)}</t></si></sst>`,
      },
      'text',
    ],
    [
      'one text of 10,000 characters in 200,000 rows',
      {
        sheet: sheetOf(times(200_000, (n) => `<row r="${n + 1}"><c t="s"><v>0</v></c></row>`).join('')),
        sharedStrings: `<sst><si><t>${'x'.repeat(10_000)}</t></si></sst>`,
      },
      'text',
    ],
    ['a cell of one text too long', { sheet: sheetOf(`<row r="1">${cell('A1', long)}</row>`) }, 'text'],
    ['a shared string that is too long', { sheet, sharedStrings: `<sst><si><t>${long}</t></si></sst>` }, 'text'],
    ['elements a thousand deep', { sheet: '<a>'.repeat(1_000) }, 'xlsx'],
    ['a document type with entities', { sheet: `<!DOCTYPE a [<!ENTITY b "${'x'.repeat(1000)}">]><worksheet>&b;</worksheet>` }, 'xlsx'],
    ['a shared string that is not there', { sheet: sheetOf('<row r="1"><c r="A1" t="s"><v>7</v></c></row>') }, 'xlsx'],
    [
      'a thousand parts',
      { sheet, also: Array.from({ length: 1_001 }, (_, n) => ({ name: `p${n}`, bytes: Buffer.from('x') })) },
      'unpacked',
    ],
    ['a part that declares another size', { sheet: sheetOf(HEADING.repeat(1)), declared: 10 }, 'xlsx'],
  ]
  for (const [title, parts, expected] of cases) {
    const { rule, grown } = await book(parts)
    t.equal(rule, expected, title)
    t.ok(grown < 400, `${title}: the process grew by ${grown.toFixed()} MB`)
  }
  t.equal((await read(zip([{ name: 'xl/other.xml', bytes: Buffer.from('<a/>') }]))).rule, 'xlsx')
  t.equal((await read('PK\x03\x04 no zip')).rule, 'xlsx')
  const [line] = csvLine(Array.from({ length: 201 }, () => 'x')).split('\r\n')
  t.equal((await read(line!, 'text/plain')).rule, 'columns')
  t.equal((await read('x\n'.repeat(TABLE_LIMITS.rows + 1), 'text/plain')).rule, 'lines')
})

t.test('a spreadsheet that claims much and has little is read', async (t) => {
  const nested = zip([{ name: 'a', bytes: Buffer.alloc(300 * 1024 * 1024) }])
  const { rows, grown } = await book({
    sheet: `<worksheet><dimension ref="A1:XFD1048576"/><sheetData>
      <row r="1">${cell('A1', 'code')}${cell('C1', 'name')}<c r="XFD1" s="1"/></row>
      <row r="1048576" s="1" customFormat="1"><c r="A1048576" s="1"/></row></sheetData>
      <mergeCells><mergeCell ref="A1:XFD1048576"/></mergeCells></worksheet>`,
    also: [{ name: 'xl/embeddings/inner.zip', bytes: nested }],
  })
  t.same(rows, [['code', null, 'name']])
  t.ok(grown < 100, `the process grew by ${grown.toFixed()} MB`)
})

t.test('cells of a spreadsheet are read by their types', async (t) => {
  const styles = `<styleSheet><numFmts><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd"/><numFmt numFmtId="165" formatCode="0.00&quot; days&quot;"/></numFmts>
    <cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/><xf numFmtId="165"/></cellXfs></styleSheet>`
  const sharedStrings = '<sst><si><r><t>Rich </t></r><r><t>text</t></r><rPh><t>ignored</t></rPh></si><si><t>&lt;ä&gt;</t></si></sst>'
  const row = `<c r="A2" t="s"><v>0</v></c><c r="B2" t="s"><v>1</v></c><c r="C2" t="b"><v>1</v></c><c r="D2"><v>-1.5</v></c>
    <c r="E2" s="1"><v>45992.5</v></c><c r="F2" s="2"><v>45992</v></c><c r="G2" s="3"><v>3</v></c>
    <c r="H2" t="inlineStr"><is><t>in</t><t>line</t></is></c><c r="I2" t="e"><v>#N/A</v></c><c r="J2" s="1"><v>1e300</v></c>`
  const sheet = sheetOf(`<row r="1">${cell('A1')}</row><row r="2">${row}</row>`)
  const read2 = async (properties = '') => (await book({ sheet, sharedStrings, styles, properties })).rows[1]!
  t.same(await read2(), [
    'Rich text',
    '<ä>',
    true,
    -1.5,
    new Date('2025-12-01T12:00:00Z'),
    new Date('2025-12-01T00:00:00Z'),
    3,
    'inline',
    '#N/A',
    1e300,
  ])
  t.same((await read2('date1904="1"'))[5], new Date('2029-12-02T00:00:00Z'))
})

t.test('R7: CSV cells are defused for every separator, numbers stay numbers, and our import reads them back', async (t) => {
  const field = (value: unknown) => csvLine([value]).slice(0, -2)
  for (const [value, expected] of [
    ['=1+1', "'=1+1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['+1', "'+1"],
    ['-2+3', "'-2+3"],
    ['\uff1dcmd', "'\uff1dcmd"],
    ['  =cmd', "'  =cmd"],
    ['x;=cmd', `"x;'=cmd"`],
    ['x; -cmd', `"x;' -cmd"`],
    ['x;"=cmd"', `"x;'""=cmd"""`],
    ['x\t=cmd', `"x\t'=cmd"`],
    ['\tcmd', `"'\tcmd"`],
    ['\rcmd', `"'\rcmd"`],
    ['x\r\n=cmd', `"x\r\n'=cmd"`],
    ['x;-5', '"x;-5"'],
    ['a-b=c', 'a-b=c'],
    [-5, '-5'],
    ['-5.25', '-5.25'],
    [['=a'], '"[""=a""]"'],
    [null, ''],
  ] as const)
    t.equal(field(value), expected, JSON.stringify(value))
  const values = ['=1+1', 'x;=cmd', '\tcmd', 'x\r\n- y', "it's", '-5', '+34 600 000 000']
  t.same((await read(csvLine(values.map((_, n) => `c${n}`)) + csvLine(values), 'text/plain')).rows[1], values)
})
