// What staff decided about a tenant: who, when and why. Written in its trail, beside what the tables' triggers write.
import { type Static, Type } from 'typebox'
import { administratorIds } from '../access/index.ts'
import type { MailKind } from '../identity/index.ts'
import { nullable, type Queries, STAFF_NAME, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

export const TenantDecision = Type.Object(
  {
    action: Type.String({ examples: ['platform.tenant.suspended'] }),
    details: Type.Record(Type.String(), Type.Unknown(), { description: 'What was decided, with the reason where one is asked for' }),
    actor_id: nullable(Uuid),
    actor_name: nullable(Type.String()),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type TenantDecision = Static<typeof TenantDecision>

/** Writes a decision about the tenant of the unit of work. Its action is the type of the event that tells of it. */
export async function recordDecision(tx: Tx, action: `platform.tenant.${string}`, details: Record<string, unknown>): Promise<void> {
  await tx.query(sql.run`
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    values (${tx.tenantId}, 'tenants', ${tx.tenantId}, ${action}, ${tx.actor.userId}, nullif(${tx.actor.name}, ''), ${sql.jsonb(details as never)},
      ${tx.correlationId}, ${tx.now.toISOString()})`)
}

/** The last fifty decisions about a tenant, the newest first. */
export const decisionsOf = (tx: Tx): Promise<readonly TenantDecision[]> =>
  tx.any(sql.prepared(TenantDecision)`
    select action, diff as details, actor_id, actor_name, created_at from plane.audit_events
    where tenant_id = ${tx.tenantId} and entity_id = ${tx.tenantId} and entity = 'tenants' and action like 'platform.tenant.%'
    order by created_at desc, id desc limit 50`)

/** Sends a mail to the administrators of the tenant of the unit of work, once it has committed. */
export async function mailAdministrators(tx: Tx, kind: MailKind, facts: Record<string, string>): Promise<void> {
  for (const user_id of await administratorIds(tx)) tx.enqueue({ queue: 'mail', data: { kind, tenant_id: tx.tenantId, user_id, facts } })
}

/** Something that staff did beside the tables of tenants: events sent again, jobs given up. */
export interface StaffAction {
  staffId: string | null
  /** The platform's own tenant, in whose trail it is written with its actor. */
  platformId: string
  /** Tenants whose trail has it, too. */
  tenantIds: readonly string[]
  entity: string
  entityId: string | null
  /** `dead_letter.replayed` */
  action: string
  details: Record<string, unknown>
  correlationId: string
}

/** Writes what staff did into the trails of the platform and of the tenants that it is about. Runs on the control plane, across tenants. */
export async function recordStaffAction(queries: Queries, { staffId, platformId, tenantIds, ...did }: StaffAction): Promise<void> {
  await queries.query(sql.run`
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, actor_name, diff, correlation_id, created_at)
    select t.id, ${did.entity}, ${did.entityId}::uuid, ${did.action}, ${staffId}::uuid, case when t.id <> ${platformId} then ${STAFF_NAME} end,
      ${sql.jsonb(did.details as never)}, ${did.correlationId}, now()
    from tenants t where t.id = any(${sql.array([platformId, ...tenantIds], 'uuid')})`)
}

/**
 * Whether an entry of a tenant's trail on the control plane is for staff: what staff did, also in a user's place, and what
 * happened to the tenant as such. What its people do among themselves is theirs.
 */
export const forStaff = sql.fragment`(actor_name = ${STAFF_NAME} or impersonator_id is not null or entity like 'tenant%' or entity = 'billing_subscriptions')`
