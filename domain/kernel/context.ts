import type { CommonQueryMethods } from 'slonik'
import type { Uuid } from './ids.ts'
import type { Secrets } from './sealed.ts'

export type ActorKind = 'worker' | 'client' | 'service'

/** What a tenant sees instead of the name of a staff member of the platform. */
export const STAFF_NAME = 'platform staff'

/** Who acts: a signed-in user, an API key of his, or a part of the system (`userId` null). */
export interface Actor {
  tenantId: Uuid
  userId: Uuid | null
  kind: ActorKind
  sessionId: Uuid | null
  /** Of a part of the system, or of an API key. Empty for people: their names stay out of the trail and are looked up when it is read. */
  name: string
  /** The platform's staff member who acts in the user's place. */
  impersonatorId?: Uuid
}

/**
 * The scopes in which an actor holds the permission that a unit of work runs under. A row of another scope does not exist
 * for it.
 */
export interface Reach {
  /** The tenant as such: what belongs to no organization. */
  readonly tenant: boolean
  /** Organizations as such: their own rows, which belong to no workspace. */
  readonly organizations: readonly Uuid[]
  /** Single workspaces, of organizations that are not reached whole. */
  readonly workspaces: readonly Uuid[]
  /** Organizations that are reached with all of their workspaces, deleted ones included. */
  readonly whole: ReadonlySet<Uuid>
}

/** The scope of an actor or of a decision: no organization is the whole tenant, no workspace the whole organization. */
export interface Context {
  organizationId: Uuid | null
  workspaceId: Uuid | null
}

/** Metrics that a plan limits. `device_metrics` are those of each device, `metrics` and `series` those of the tenant. */
export type Metric = 'users' | 'records' | 'devices' | 'storage' | 'api_calls' | 'readings' | 'device_metrics' | 'metrics' | 'series'
/** Metric → how many; null is without limit, and what is not named is as `limitOf` says. */
export type Limits = Readonly<Partial<Record<Metric, number | null>>>

/** How an organization numbers its documents, by series, and the month in which its fiscal year begins, 1 to 12. */
export interface NumberFormats {
  numbering: Readonly<Partial<Record<string, { prefix: string; digits: number }>>>
  fiscal_year_start_month: number
}

/** A fact to publish once the transaction that made it true has committed. */
export interface DomainEvent {
  /** `context.entity.past_tense` */
  type: string
  entity_id: Uuid
  version: number
  data: Record<string, unknown>
  /** Whose it is: when nothing is said that of its data, or the context's; null for what is the whole tenant's. */
  organization_id?: Uuid | null
}

/** Work for a timed job, done once the transaction that wanted it has committed. */
export interface Job {
  queue: string
  data: Record<string, unknown>
}

/** How statements are run: many rows, one row or none, exactly one, whether there is one, or for the effect alone. */
export type Queries = Pick<CommonQueryMethods, 'any' | 'maybeOne' | 'one' | 'exists' | 'query'>

/** The unit of work: what every domain function receives first. */
export interface Tx extends Queries {
  readonly tenantId: Uuid
  readonly actor: Actor
  readonly context: Context
  /** One clock reading a unit of work. */
  readonly now: Date
  readonly correlationId: string
  /** The scopes whose rows it may touch; null is all. */
  readonly reach: Reach | null
  /** What the tenant's plan allows. */
  readonly limits: Limits
  /** How the context's organization numbers its documents. */
  readonly numberFormats: NumberFormats | undefined
  /** What the context's organization keeps its books in. Throws `context_required` where none was chosen. */
  readonly currency: string
  /** The tenant's key at work, for sealed columns. */
  readonly secrets: Secrets
  /** Written to `event_outbox` in this transaction. */
  emit(event: DomainEvent): void
  /** Put into the job queue in this transaction; only the control plane has one. */
  enqueue(job: Job): void
}

/** Who and where a unit of work is for, before there is a connection. */
export interface Scope {
  tenantId: Uuid
  actor: Actor
  context: Context
  correlationId: string
  /** The scopes whose rows it may touch; all of them where none are named, as for the system's own work. */
  reach?: Reach | null
  /** Those of the tenant's plan, where somebody of the tenant acts; the system's own work has none. */
  limits?: Limits
  /** Those of the context's organization; without them numbers have the usual form. */
  numberFormats?: NumberFormats | undefined
  /** The same's currency, ISO 4217. */
  currency?: string | undefined
  secrets?: Secrets | undefined
  /** How long it may take, in ms; as long as the database's own when nothing is said. */
  deadlineMs?: number
}

export const systemActor = (tenantId: Uuid, name: string): Actor => ({ tenantId, userId: null, kind: 'service', sessionId: null, name })
export const systemScope = (tenantId: Uuid, name: string, correlationId: string): Scope => ({
  tenantId,
  actor: systemActor(tenantId, name),
  context: { organizationId: null, workspaceId: null },
  correlationId,
})
