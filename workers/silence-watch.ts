// Looks every few seconds for devices that have fallen silent, where a rule says that somebody wants to know.

import type { Database } from '../domain/kernel/index.ts'
import { isIngested, tenantsWithTimedRules, watchTime } from '../domain/telemetry/index.ts'
import type { Planes, TenantDirectory } from '../domain/tenancy/index.ts'
import { pause } from './kafka.ts'
import type { WorkerLog } from './log.ts'

const EVERY_MS = 5_000

/** Watches all tenants, one after the other. In many processes at once it does the same work more often, and no harm. */
export class SilenceWatch {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #log: WorkerLog
  readonly #abort = new AbortController()
  #loop: Promise<void> | undefined

  constructor(planes: Planes, tenants: TenantDirectory, log: WorkerLog) {
    this.#planes = planes
    this.#tenants = tenants
    this.#log = log
  }

  start(): void {
    this.#loop = this.#run()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#loop
  }

  async #look(database: Database): Promise<void> {
    for (const id of await tenantsWithTimedRules(database)) {
      // Whose readings are refused is not told that they are missing.
      if (isIngested(await this.#tenants.byId(id))) await watchTime(database, id)
    }
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      for (const database of this.#planes.telemetry.values()) {
        await this.#look(database).catch((error) => this.#log.warn({ err: error }, 'silence not watched, it is tried again in a moment'))
      }
      await pause(EVERY_MS, this.#abort.signal)
    }
  }
}
