// The thread that reads one table: it sends rows when they are asked for, and nothing else of the process is in its reach.
import { parentPort, workerData } from 'node:worker_threads'
import { readCsv } from './csv.ts'
import {
  type Cell,
  charactersOf,
  type Encoding,
  TABLE_LIMITS,
  TableError,
  tooLongRow,
  tooLongText,
  tooManyColumns,
  tooManyRows,
  tooMuchText,
} from './table-limits.ts'
import { readWorkbook, XLSX } from './workbook.ts'

export interface TableOrder {
  file: string
  mediaType: string
  encoding: Encoding
}
/** Rows, the end, or why the file is refused. */
export type TableAnswer = { rows: Cell[][] } | { done: true } | { refused: { rule: string; message: string; at: object } }

/** Rows that are sent at once, and characters, unless one row alone has more. */
const BATCH = 500
const BATCH_CHARACTERS = 1_000_000

const port = parentPort!
const asked = () => new Promise<void>((resolve) => port.once('message', () => resolve()))

/** Sends what is asked for; the next rows are read while the last ones are worked on. */
async function serve({ file, mediaType, encoding }: TableOrder): Promise<void> {
  let turn = asked()
  const send = async (answer: TableAnswer) => {
    await turn
    turn = asked()
    port.postMessage(answer)
  }
  try {
    let count = 0
    let total = 0
    let sent = 0
    let rows: Cell[][] = []
    for await (const row of mediaType === XLSX ? readWorkbook(file) : readCsv(file, encoding)) {
      if (++count > TABLE_LIMITS.rows) throw tooManyRows()
      if (row.length > TABLE_LIMITS.columns) throw tooManyColumns()
      if (row.some((cell) => typeof cell === 'string' && cell.length > TABLE_LIMITS.characters)) throw tooLongText()
      const characters = charactersOf(row)
      if (characters > TABLE_LIMITS.rowCharacters) throw tooLongRow()
      total += characters
      if (total > TABLE_LIMITS.fileCharacters) throw tooMuchText()
      rows.push(row)
      if (rows.length < BATCH && total - sent < BATCH_CHARACTERS) continue
      await send({ rows })
      rows = []
      sent = total
    }
    if (rows.length > 0) await send({ rows })
    await send({ done: true })
  } catch (error) {
    if (!(error instanceof TableError)) throw error
    await send({ refused: { rule: error.rule, message: error.message, at: error.at } })
  } finally {
    port.close()
  }
}

await serve(workerData as TableOrder)
