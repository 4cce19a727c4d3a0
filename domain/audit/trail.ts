// The trail of one plane, as a security officer reads it.
import { type Static, Type } from 'typebox'
import { type Fragment, inReach, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

export const AuditEvent = Type.Object(
  {
    id: Uuid,
    entity: Type.String({ description: 'Table' }),
    entity_id: nullable(Uuid),
    action: Type.String({ description: 'insert, update, delete, or what the table cannot say: session.opened, sign_in.failed …' }),
    organization_id: nullable(Uuid),
    actor_id: nullable(Uuid),
    impersonator_id: nullable(Uuid),
    actor_name: nullable(Type.String()),
    diff: Type.Record(Type.String(), Type.Unknown(), { description: 'column → [before, after]; sensitive columns masked' }),
    correlation_id: nullable(Type.String()),
    address: nullable(Type.String()),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type AuditEvent = Static<typeof AuditEvent>

export interface AuditFilter {
  entity?: string
  entity_id?: string
  organization_id?: string
  actor_id?: string
  action?: string
  correlation_id?: string
  /** A user or role: changes of them, and of what names them (assignments, overrides, keys, factors, sessions). */
  about?: string
  /** From this moment on. */
  from?: string
  /** Until before this moment. */
  to?: string
}

/**
 * Entries of the user or role and of every record that names them: an entry of an update names neither, the record's other
 * entries do. The ids are collected first, once, so that the entries are found by the index of the entity.
 */
function isAbout({ tenantId }: Tx, id: string): Fragment {
  const names = sql.fragment`((diff ? 'user_id' and diff ->> 'user_id' = ${id}) or (diff ? 'role_id' and diff ->> 'role_id' = ${id}))`
  return sql.fragment`(entity_id = any(array(
      select ${id}::uuid union select entity_id from plane.audit_events where tenant_id = ${tenantId} and entity_id is not null and ${names}))
    or (entity_id is null and ${names}))`
}

/** A page of the trail in the scopes that the unit of work reaches, newest first; `after` is the time and id of the last entry before it, `also` what else is true of its entries. */
export async function auditPage(
  tx: Tx,
  filter: AuditFilter,
  limit: number,
  after: readonly unknown[] | null,
  also: readonly Fragment[] = [],
): Promise<{ rows: AuditEvent[]; next: unknown[] | null }> {
  const equal = (['entity', 'entity_id', 'organization_id', 'actor_id', 'action', 'correlation_id'] as const).flatMap((name) =>
    filter[name] === undefined ? [] : [sql.fragment`${sql.identifier([name])} = ${filter[name]}`],
  )
  const conditions: Fragment[] = [
    sql.fragment`tenant_id = ${tx.tenantId}`,
    inReach(tx, sql.fragment`organization_id`),
    ...equal,
    ...(filter.about ? [isAbout(tx, filter.about)] : []),
    ...also,
    ...(filter.from ? [sql.fragment`created_at >= ${filter.from}`] : []),
    ...(filter.to ? [sql.fragment`created_at < ${filter.to}`] : []),
    ...(after ? [sql.fragment`(created_at, id) < (${String(after[0])}::timestamptz, ${String(after[1])}::uuid)`] : []),
  ]
  const found = await tx.any(sql.prepared(AuditEvent)`
    select id, organization_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, address, created_at
    from plane.audit_events where ${sql.and(conditions)} order by created_at desc, id desc limit ${limit + 1}`)
  const rows = found.slice(0, limit)
  const last = rows.at(-1)
  return { rows, next: found.length > limit && last ? [last.created_at, last.id] : null }
}
