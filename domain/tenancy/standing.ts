// Whether a tenant is let in: suspended, taken up again, closed, and until when it may try.
import { Type } from 'typebox'
import { failure, oneOf, sql, type Tx } from '../kernel/index.ts'

const Locked = Type.Object(
  { status: oneOf(['pending', 'active', 'suspended', 'closed']), version: Type.Integer() },
  { additionalProperties: false },
)

const STANDINGS = {
  suspend: { from: ['active'], to: 'suspended', event: 'platform.tenant.suspended' },
  resume: { from: ['suspended'], to: 'active', event: 'platform.tenant.resumed' },
  close: { from: ['active', 'suspended'], to: 'closed', event: 'platform.tenant.closed' },
} as const
export type StandingChange = keyof typeof STANDINGS

/**
 * Suspends, takes up again or closes the tenant of the unit of work; nobody of it gets in from the next request on. A
 * closed one stays closed. The platform's own tenant is no customer: shutting it would shut out whoever could open it again.
 * Throws `not_found`, `invalid_transition`.
 */
export async function changeStanding(tx: Tx, change: StandingChange, reason: string): Promise<void> {
  const { from, to, event } = STANDINGS[change]
  const found = await tx.maybeOne(
    sql.prepared(Locked)`select status, version from tenants where id = ${tx.tenantId} and kind = 'customer' for no key update`,
  )
  if (!found) throw failure('not_found')
  if (!(from as readonly string[]).includes(found.status)) throw failure('invalid_transition', { status: found.status, transition: change })
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    update tenants set status = ${to}, version = version + 1, updated_at = ${now},
      suspended_at = case when ${to} = 'suspended' then ${now}::timestamptz end, closed_at = case when ${to} = 'closed' then ${now}::timestamptz end
    where id = ${tx.tenantId}`)
  tx.emit({ type: event, entity_id: tx.tenantId, version: found.version + 1, data: { reason } })
}

/** Lets a tenant try until another moment, also one whose trial has ended. Throws `not_found`, `invalid_value` for a moment that has passed. */
export async function extendTrial(tx: Tx, until: string): Promise<void> {
  if (Date.parse(until) <= tx.now.getTime())
    throw failure('invalid_value', { path: '/trial_ends_at', rule: 'future', message: 'has passed' })
  const { rowCount } = await tx.query(sql.run`
    update tenants set trial_ends_at = ${until}, version = version + 1, updated_at = ${tx.now.toISOString()} where id = ${tx.tenantId} and status in ('active', 'suspended')`)
  if (rowCount === 0) throw failure('not_found')
  tx.emit({ type: 'platform.tenant.trial_extended', entity_id: tx.tenantId, version: 1, data: { trial_ends_at: until } })
}
