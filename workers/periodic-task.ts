import { pause } from './kafka.ts'

/** Work that is repeated with a pause in between until it is stopped. */
export abstract class PeriodicTask {
  readonly #everyMs: number
  readonly #abort = new AbortController()
  #loop: Promise<void> | undefined

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  /** One round of the work. It reports its own errors: one that it throws ends the task. */
  protected abstract work(signal: AbortSignal): Promise<void>

  start(): void {
    this.#loop = this.#run()
  }

  /** Waits for the round in progress. */
  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#loop
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      await this.work(signal)
      await pause(this.#everyMs, signal)
    }
  }
}
