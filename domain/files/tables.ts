// Tables in files, CSV and XLSX, read in a thread of their own: neither memory nor the event loop depends on what is in a file.
import { Worker } from 'node:worker_threads'
import { failure } from '../kernel/index.ts'
import type { Cell, Encoding } from './table-limits.ts'
import type { TableAnswer, TableOrder } from './table-thread.ts'

/** Heap of a reading thread. Beyond it the thread ends, and the process goes on. */
const THREAD_LIMITS = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 }
/** How long the next rows may take: a sheet of the largest size without a single row takes a third of it. */
const ROWS_MS = 60_000

const refuse = (rule: string, message: string, at: object = {}) => failure('invalid_value', { path: 'file', rule, ...at }, message)

/**
 * The rows of a table, the heading first; empty rows are left out. Throws `invalid_value` for a file that is no table or is
 * beyond `TABLE_LIMITS`, with the rule and, in CSV, the line. A consumer that stops early ends the thread.
 */
export async function* readTable(file: string, mediaType: string, encoding: Encoding): AsyncGenerator<Cell[]> {
  const order: TableOrder = { file, mediaType, encoding }
  const thread = new Worker(new URL('./table-thread.ts', import.meta.url), {
    workerData: order,
    resourceLimits: THREAD_LIMITS,
    execArgv: [],
    env: {},
  })
  try {
    for (;;) {
      const answer = await nextAnswer(thread)
      if ('done' in answer) return
      if ('refused' in answer) throw refuse(answer.refused.rule, answer.refused.message, answer.refused.at)
      yield* answer.rows
    }
  } finally {
    await thread.terminate()
  }
}

/** Asks the thread for more and waits. Throws `invalid_value` when it runs out of memory or time. */
function nextAnswer(thread: Worker): Promise<TableAnswer> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => settle(() => reject(refuse('time', 'The file takes too long to read: save it as CSV.'))), ROWS_MS)
    const onMessage = (answer: TableAnswer) => settle(() => resolve(answer))
    const onError = (error: Error & { code?: string }) =>
      settle(() =>
        reject(
          error.code === 'ERR_WORKER_OUT_OF_MEMORY'
            ? refuse('memory', 'The file takes more memory than a table may: save it as CSV, or in parts.')
            : error,
        ),
      )
    const onExit = () => settle(() => reject(new Error('the thread that reads a table ended')))
    function settle(end: () => void) {
      clearTimeout(timer)
      thread.off('message', onMessage).off('error', onError).off('exit', onExit)
      end()
    }
    thread.on('message', onMessage).on('error', onError).on('exit', onExit)
    thread.postMessage('more')
  })
}
