// Looks every few seconds for alerts that time alone raises: silent devices, and limits that stay exceeded.

import type { Database } from '../domain/kernel/index.ts'
import { isIngested, tenantsWithTimedRules, watchTime } from '../domain/telemetry/index.ts'
import type { Planes, TenantDirectory } from '../domain/tenancy/index.ts'
import { writtenUntil } from './ingest-progress.ts'
import type { WorkerLog } from './log.ts'
import { PeriodicTask } from './periodic-task.ts'
import { TOPICS } from './topics.ts'

const EVERY_MS = 5_000

/**
 * Watches all tenants, one after the other, as of the time until which readings are written: while they wait in Kafka no
 * device is silent. In many processes at once it does the same work more often, and no harm.
 */
export class SilenceWatch extends PeriodicTask {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #log: WorkerLog
  readonly #topic: string

  /** @param topic where readings come from; a test has its own */
  constructor(planes: Planes, tenants: TenantDirectory, log: WorkerLog, topic: string = TOPICS.telemetry) {
    super(EVERY_MS)
    this.#planes = planes
    this.#tenants = tenants
    this.#log = log
    this.#topic = topic
  }

  async #look(database: Database): Promise<void> {
    for (const id of await tenantsWithTimedRules(database)) {
      // Readings of these tenants are refused: that they are missing says nothing of the devices.
      if (!isIngested(await this.#tenants.byId(id))) continue
      // Read for each tenant: the one before may have taken long.
      const asOf = await writtenUntil(this.#planes.control, this.#topic)
      if (asOf) await watchTime(database, id, asOf)
    }
  }

  protected async work(): Promise<void> {
    for (const database of this.#planes.telemetry.values()) {
      await this.#look(database).catch((error) => this.#log.warn({ err: error }, 'silence not watched, it is tried again in a moment'))
    }
  }
}
