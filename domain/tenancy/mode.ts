import type { ActorKind } from '../kernel/index.ts'
import type { Tenant } from './tenant.ts'

export type AccessMode = 'active' | 'read_only' | 'blocked'

/** What a kind of actor may do in a tenant now. Derived on every request from the table of security.md, never stored. */
export function accessMode(tenant: Tenant, kind: ActorKind, now: number = Date.now()): { mode: AccessMode; reason: string } {
  if (tenant.status !== 'active') return { mode: 'blocked', reason: `tenant_${tenant.status}` }
  // The staff host stays open: what began a maintenance must be able to end it.
  if (tenant.kind === 'platform') return { mode: 'active', reason: 'subscription_current' }
  if (tenant.maintenance_until && Date.parse(tenant.maintenance_until) > now) return { mode: 'read_only', reason: 'maintenance' }
  const lapsed = (reason: string) => ({ mode: kind === 'client' ? 'blocked' : 'read_only', reason }) as const
  if (tenant.subscription_status === 'active') return { mode: 'active', reason: 'subscription_current' }
  if (tenant.subscription_status === 'past_due') {
    const inGrace = tenant.grace_ends_at !== null && Date.parse(tenant.grace_ends_at) > now
    return inGrace ? { mode: 'active', reason: 'past_due_in_grace' } : lapsed('past_due')
  }
  if (tenant.trial_ends_at && Date.parse(tenant.trial_ends_at) > now) return { mode: 'active', reason: 'trial_active' }
  return lapsed('trial_expired')
}

export interface Notice {
  kind: 'trial_ends' | 'trial_ended' | 'payment_due' | 'payment_overdue' | 'maintenance'
  at: string
}

/** What a tenant's people should know about how long they may work; null when nothing is near. */
export function noticeOf(tenant: Tenant, now: number = Date.now()): Notice | null {
  const { reason } = accessMode(tenant, 'worker', now)
  if (reason === 'maintenance') return { kind: 'maintenance', at: tenant.maintenance_until! }
  if (reason === 'past_due_in_grace') return { kind: 'payment_due', at: tenant.grace_ends_at! }
  if (reason === 'past_due' && tenant.grace_ends_at) return { kind: 'payment_overdue', at: tenant.grace_ends_at }
  if (reason === 'trial_active') return { kind: 'trial_ends', at: tenant.trial_ends_at! }
  if (reason === 'trial_expired' && tenant.trial_ends_at) return { kind: 'trial_ended', at: tenant.trial_ends_at }
  return null
}
