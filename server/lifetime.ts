// How a process ends: on a signal, in phases, within a deadline.
import type { Log } from './log.ts'

const DEADLINE_MS = 20_000

/** Runs the phases in order on SIGTERM or SIGINT, then exits; a phase that hangs does not hold the process for ever. */
export function onStop(log: Log, phases: readonly (() => Promise<unknown>)[]): void {
  let stopping = false
  const stop = async (signal: string) => {
    if (stopping) return
    stopping = true
    log.root.info({ signal }, 'stopping')
    setTimeout(() => process.exit(1), DEADLINE_MS).unref()
    for (const phase of phases) await phase().catch((error: unknown) => log.root.error({ err: error }, 'a phase of stopping failed'))
    process.exit(0)
  }
  process.once('SIGTERM', () => void stop('SIGTERM'))
  process.once('SIGINT', () => void stop('SIGINT'))
}
