// Metrics of the relays: whether one is active, and what waits to be published.
import { Counter, Gauge, type Registry } from 'prom-client'
import { type Static, Type } from 'typebox'
import { type Database, sharedFor, sql } from '../domain/kernel/index.ts'
import { SHARED_MS } from './operations-metrics.ts'
import type { Relay } from './relay.ts'

/** A count of more than this is told as this: counting a long outbox would hold up what empties it. */
const MAX_COUNTED = 100_000

const Waiting = Type.Object({ events: Type.Integer(), seconds: Type.Integer(), failed: Type.Integer() }, { additionalProperties: false })

/**
 * `outbox_relay_active` is 1 in the one process that publishes a database's events: over all workers its sum must be 1.
 * `outbox_relay_takeovers_total` counts relays that hung and were ended. `outbox_pending_events` and
 * `outbox_oldest_seconds` `outbox_failed_events` are asked of each database
 * when they are read.
 */
export function relayMetrics(registry: Registry, relays: readonly Relay[], databases: ReadonlyMap<string, Database>): void {
  const registers = [registry]
  new Gauge({
    name: 'outbox_relay_active',
    help: 'Whether the relay of this process publishes the events of a database',
    labelNames: ['outbox'],
    registers,
    collect() {
      for (const relay of relays) this.set({ outbox: relay.name }, relay.active ? 1 : 0)
    },
  })
  new Counter({
    name: 'outbox_relay_takeovers_total',
    help: 'Relays that showed no sign and were ended by this process',
    labelNames: ['outbox'],
    registers,
    collect() {
      this.reset()
      for (const relay of relays) this.inc({ outbox: relay.name }, relay.takeovers)
    },
  })
  const waiting = sharedFor(SHARED_MS, () =>
    Promise.all(
      [...databases].map(async ([outbox, database]) => {
        const found = await database
          .platform((queries) =>
            queries.one(sql.type(Waiting)`
              select count(*) as events, coalesce(extract(epoch from clock_timestamp() - min(occurred_at)), 0)::int as seconds,
                (select count(*) from (select tenant_id from plane.event_outbox where status = 'failed' limit ${MAX_COUNTED}) as f) as failed
              from (select tenant_id, occurred_at from plane.event_outbox where status = 'pending' order by position limit ${MAX_COUNTED}) as waiting`),
          )
          .catch(() => null)
        return [outbox, found] as const
      }),
    ),
  )
  const gauge = (name: string, help: string, of: keyof Static<typeof Waiting>) =>
    new Gauge({
      name,
      help,
      labelNames: ['outbox'],
      registers,
      async collect() {
        for (const [outbox, found] of await waiting()) {
          // A database that is away tells nothing rather than what it told before.
          if (found === null) this.remove({ outbox })
          else this.set({ outbox }, found[of])
        }
      },
    })
  gauge('outbox_pending_events', 'Events that wait to be published, as far as 100,000', 'events')
  gauge('outbox_oldest_seconds', 'Age of the oldest event that waits', 'seconds')
  gauge('outbox_failed_events', 'Events that could not be published and wait for staff, as far as 100,000', 'failed')
  new Gauge({
    name: 'outbox_unreachable_databases',
    help: 'Databases that the active relay could not read in its last try; of tenants’ own databases as many as there are',
    labelNames: ['outbox'],
    registers,
    collect() {
      for (const relay of relays) this.set({ outbox: relay.name }, relay.unreachable)
    },
  })
}
