// Whether a tenant is let in: suspended, resumed, closed, and until when its trial runs.
import { failure, sql, type Tx } from '../kernel/index.ts'
import { mailAdministrators, recordDecision } from './decisions.ts'
import { lockCustomer } from './tenant.ts'

const STANDINGS = {
  suspend: { from: ['active'], to: 'suspended', event: 'platform.tenant.suspended' },
  resume: { from: ['suspended'], to: 'active', event: 'platform.tenant.resumed' },
  close: { from: ['active', 'suspended'], to: 'closed', event: 'platform.tenant.closed' },
} as const
export type StandingChange = keyof typeof STANDINGS

/**
 * Suspends, resumes or closes the tenant of the unit of work; nobody of it gets in from the next request on. A closed one
 * stays closed. The platform's own tenant is no customer: shutting it would shut out whoever could open it again. Throws
 * `not_found`, `invalid_transition`.
 */
export async function changeStanding(tx: Tx, change: StandingChange, reason: string): Promise<void> {
  const { from, to, event } = STANDINGS[change]
  const { version } = await lockCustomer(tx, change, from)
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenants set status = ${to}, version = version + 1, updated_at = ${now},
      suspended_at = case when ${to} = 'suspended' then ${now}::timestamptz end, closed_at = case when ${to} = 'closed' then ${now}::timestamptz end
    where id = ${tx.tenantId}`)
  await recordDecision(tx, event, { reason })
  if (change !== 'resume') await mailAdministrators(tx, change === 'suspend' ? 'tenant_suspended' : 'tenant_closed', { reason, time: now })
  tx.emit({ type: event, entity_id: tx.tenantId, version: version + 1, data: { reason } })
}

/** Lets a trial run until another moment, also one that has ended. Throws `not_found`, `invalid_transition`, `invalid_value` for a moment that has passed. */
export async function extendTrial(tx: Tx, until: string): Promise<void> {
  if (Date.parse(until) <= tx.now.getTime())
    throw failure('invalid_value', { path: '/trial_ends_at', rule: 'future', message: 'has passed' })
  await lockCustomer(tx, 'extend_trial')
  await tx.query(sql.run`
    update tenants set trial_ends_at = ${until}, version = version + 1, updated_at = ${tx.now.toISOString()} where id = ${tx.tenantId}`)
  await recordDecision(tx, 'platform.tenant.trial_extended', { trial_ends_at: until })
  tx.emit({ type: 'platform.tenant.trial_extended', entity_id: tx.tenantId, version: 1, data: { trial_ends_at: until } })
}
