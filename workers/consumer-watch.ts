// Tells metrics and /ready how far the Kafka consumers of this process are.
import { Gauge, type Registry } from 'prom-client'
import { type Database, newId } from '../domain/kernel/index.ts'
import { forgetConsumers, reportConsumers } from '../domain/platform/index.ts'
import type { ConsumerState } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { PeriodicTask } from './periodic-task.ts'

const REPORT_MS = 5_000

export class ConsumerWatch extends PeriodicTask {
  readonly #control: Database
  readonly #states: () => ConsumerState[]
  readonly #log: WorkerLog
  readonly #instance = newId()

  constructor(control: Database, states: () => ConsumerState[], registry: Registry, log: WorkerLog) {
    super(REPORT_MS)
    this.#control = control
    this.#states = states
    this.#log = log
    const gauge = (name: string, help: string, value: (state: ConsumerState) => number) =>
      new Gauge({
        name,
        help,
        labelNames: ['consumer'],
        registers: [registry],
        collect() {
          for (const state of states()) this.set({ consumer: state.group }, value(state))
        },
      })
    gauge('kafka_consumer_lag_messages', 'Messages that wait in the partitions of a consumer', ({ lag }) => lag)
    gauge('kafka_consumer_blocked_seconds', 'For how long the batch in hand makes no progress', ({ blockedSince }) =>
      blockedSince === null ? 0 : (Date.now() - blockedSince) / 1000,
    )
  }

  override async stop(): Promise<void> {
    await super.stop()
    await this.#control.platform((queries) => forgetConsumers(queries, this.#instance)).catch(() => {}) // it is soon stale
  }

  protected async work(): Promise<void> {
    const states = this.#states().map(({ group: consumer, ...state }) => ({ consumer, ...state }))
    if (states.length === 0) return
    await this.#control
      .platform((queries) => reportConsumers(queries, this.#instance, states))
      .catch((error) => this.#log.warn({ err: error }, 'progress of the consumers was not reported'))
  }
}
