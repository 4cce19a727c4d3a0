// Trials that come to their end, and become more.
import { Type } from 'typebox'
import { administratorIds } from '../access/index.ts'
import { type Database, failure, newId, sql, systemScope, type Tx, Uuid } from '../kernel/index.ts'
import { assignPlan } from './offers.ts'

/** Days before the end of a trial at which its administrators are told; 0 is when it has ended. */
const REMINDERS = [7, 3, 1, 0] as const
const SETTING = 'trial_reminder'

const Due = Type.Object({ id: Uuid, trial_ends_at: Type.String(), days: Type.Integer() }, { additionalProperties: false })

/**
 * Tells the administrators of every trial that is about to end, once for each reminder and end: a trial that is extended
 * is told anew. One transaction a tenant; begun twice at once, the setting's row lets one of the two tell. Returns how
 * many tenants were told.
 */
export async function remindOfTrials(control: Database, correlationId: string): Promise<number> {
  const due = await control.platform((queries) =>
    queries.any(sql.prepared(Due)`
    select t.id, t.trial_ends_at, d.days from tenants t
    cross join lateral (select min(days) as days from unnest(${sql.array([...REMINDERS], 'int4')}) as days
      where t.trial_ends_at <= now() + make_interval(days => days)) as d
    where t.status = 'active' and t.kind = 'customer' and t.trial_ends_at between now() - interval '30 days' and now() + interval '7 days' and d.days is not null
      and not exists (select from billing_subscriptions s where s.tenant_id = t.id and s.status <> 'cancelled')
      and not exists (select from tenant_settings s where s.tenant_id = t.id and s.name = ${SETTING}
        and (s.value ->> 'ends_at')::timestamptz = t.trial_ends_at and (s.value ->> 'days')::int <= d.days)
    order by t.id`),
  )
  let told = 0
  for (const { id, trial_ends_at: endsAt, days } of due) {
    told += await control.write(systemScope(id, 'trial reminder', correlationId), async (tx) => {
      const { rowCount } = await tx.query(sql.run`
        insert into tenant_settings as s (id, tenant_id, name, value) values (${newId()}, ${tx.tenantId}, ${SETTING}, ${sql.jsonb({ ends_at: endsAt, days })})
        on conflict (tenant_id, name) do update set value = excluded.value, version = s.version + 1, updated_at = ${tx.now.toISOString()}
        where (s.value ->> 'ends_at')::timestamptz <> ${endsAt}::timestamptz or (s.value ->> 'days')::int > ${days}`)
      if (rowCount === 0) return 0
      for (const user_id of await administratorIds(tx)) {
        tx.enqueue({
          queue: 'mail',
          data: {
            kind: days === 0 ? 'trial_ended' : 'trial_ending',
            tenant_id: tx.tenantId,
            user_id,
            facts: { time: endsAt },
          },
        })
      }
      tx.emit({
        type: days === 0 ? 'platform.tenant.trial_ended' : 'platform.tenant.trial_ending',
        entity_id: tx.tenantId,
        version: 1,
        data: { trial_ends_at: endsAt, days },
      })
      return 1
    })
  }
  return told
}

/**
 * Makes a customer of a tenant on trial: a subscription that is current, on a plan. Whoever takes the money hears
 * `platform.tenant.converted`. Throws `not_found`, `invalid_transition` for a tenant that is pending or
 * closed, `invalid_reference`, `already_exists` for one that has a subscription.
 */
export async function convert(tx: Tx, plan: string): Promise<void> {
  await assignPlan(tx, plan, 'convert')
  const { rowCount } = await tx.query(sql.run`
    insert into billing_subscriptions (id, tenant_id, plan, status)
    select ${newId()}, ${tx.tenantId}, ${plan}, 'active'
    where not exists (select from billing_subscriptions where tenant_id = ${tx.tenantId} and status <> 'cancelled')`)
  if (rowCount === 0) throw failure('already_exists', { fields: ['subscription'] })
  await tx.query(sql.run`
    update tenant_platform_products set source = 'plan', version = version + 1, updated_at = ${tx.now.toISOString()} where tenant_id = ${tx.tenantId} and source = 'trial' and expires_at is null`)
  tx.emit({ type: 'platform.tenant.converted', entity_id: tx.tenantId, version: 1, data: { plan } })
}
