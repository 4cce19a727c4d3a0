// Metrics of failed and unfinished work of the platform, asked of the control plane when they are read.
import { Gauge, type Registry } from 'prom-client'
import { Type } from 'typebox'
import { type Database, sharedFor, sql } from '../domain/kernel/index.ts'

/** Metrics that are read together are asked for once, in ms. */
export const SHARED_MS = 1_000

/** More of a kind are told as this: counting must not become work of its own. */
const MAX_COUNTED = 10_000

const GAUGES = {
  event_retries_waiting: 'Events that a consumer could not handle and that wait for another try, as far as 10,000',
  jobs_failed: 'Jobs that failed for good, as far as 10,000',
  dead_letters_open: 'Dead letters that were neither replayed nor dismissed, as far as 10,000',
  registrations_waiting: 'Registrations that wait for a decision',
  provisioning_failed: 'Approved tenants with a failed step',
  moves_under_way: 'Moves that copy, switch, confirm or return',
  moves_waiting_for_staff: 'Moves that were switched and wait to be confirmed or rolled back',
  trials_running: 'Tenants on a trial that has not ended',
  trials_active: 'Of these, tenants whose users changed something in the last seven days',
  moves_with_errors: 'Moves that have not ended and met an error',
} as const

type Name = keyof typeof GAUGES

const onTrial = sql.fragment`t.kind = 'customer' and t.status = 'active' and t.trial_ends_at > now()
  and not exists (select from billing_subscriptions b where b.tenant_id = t.id and b.status <> 'cancelled')`
const Counts = Type.Record(Type.String(), Type.Integer())

/** Registers a gauge for each; while the control plane is away they say nothing. */
export function operationsMetrics(registry: Registry, control: Database): void {
  const ask = () =>
    control
      .platform((queries) =>
        queries.one(sql.type(Counts)`
          select
            (select count(*) from (select from pgboss.job where name = 'event-retry' and state in ('created', 'retry', 'active') limit ${MAX_COUNTED}) as j) as event_retries_waiting,
            (select count(*) from (select from pgboss.job where state = 'failed' limit ${MAX_COUNTED}) as j) as jobs_failed,
            (select count(*) from (select from platform_dead_letters where replayed_at is null and dismissed_at is null limit ${MAX_COUNTED}) as d) as dead_letters_open,
            (select count(*) from tenant_registrations where decision is null) as registrations_waiting,
            (select count(distinct s.tenant_id) from tenant_provisioning_steps s join tenants t on t.id = s.tenant_id
              where s.state = 'failed' and t.status = 'pending') as provisioning_failed,
            (select count(*) from tenant_moves where state in ('copying', 'confirming', 'returning', 'cancelling')) as moves_under_way,
            (select count(*) from tenants t where ${onTrial}) as trials_running,
            (select count(*) from tenants t where ${onTrial} and exists (select from tenant_user_activity a
              where a.tenant_id = t.id and a.changes > 0 and a.day >= now()::date - 7)) as trials_active,
            (select count(*) from tenant_moves where state = 'switched') as moves_waiting_for_staff,
            (select count(*) from tenant_moves where state not in ('confirmed', 'rolled_back') and error is not null) as moves_with_errors`),
      )
      .catch(() => null)
  const counts = sharedFor(SHARED_MS, ask)
  for (const name of Object.keys(GAUGES) as Name[])
    new Gauge({
      name,
      help: GAUGES[name],
      registers: [registry],
      async collect() {
        const found = await counts()
        // A database that is away tells nothing rather than what it told before.
        if (found === null) this.remove()
        else this.set(found[name]!)
      },
    })
}
