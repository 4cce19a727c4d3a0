// How a process ends: on a signal, in phases, within a deadline.
import { Worker } from 'node:worker_threads'
import type { Log } from './log.ts'

/**
 * Kills this process after a time in ms, from a thread of its own: a native call that never returns (librdkafka waits for a
 * frozen broker) blocks the main thread, and with it every timer that could end the process there.
 */
function killAfter(ms: number): void {
  const work = `
    const { workerData } = require('node:worker_threads')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, workerData)
    process.kill(process.pid, 'SIGKILL')`
  new Worker(work, { eval: true, workerData: ms, execArgv: [], env: {} }).on('error', () => {}).unref()
}

/**
 * Runs the phases in order on SIGTERM or SIGINT, then exits. A phase that hangs is killed at the deadline, and a main
 * thread that hangs a second later. Killed and not exited: an exit waits for the threads of the pool, and one that waits
 * for a frozen broker holds it for ever.
 */
export function onStop(log: Log, phases: readonly (() => Promise<unknown>)[], deadlineSeconds: number): void {
  let stopping = false
  const stop = async (signal: string) => {
    if (stopping) return
    stopping = true
    log.root.info({ signal }, 'stopping')
    killAfter((deadlineSeconds + 1) * 1000)
    setTimeout(() => {
      log.root.error({ seconds: deadlineSeconds }, 'not stopped within the deadline')
      process.kill(process.pid, 'SIGKILL')
    }, deadlineSeconds * 1000).unref()
    for (const phase of phases) await phase().catch((error: unknown) => log.root.error({ err: error }, 'a phase of stopping failed'))
    process.exit(0)
  }
  process.once('SIGTERM', () => void stop('SIGTERM'))
  process.once('SIGINT', () => void stop('SIGINT'))
}
