import { prepared, sql, type Tx } from '../kernel/index.ts'

/** Writes what the tables' own triggers cannot see into the trail: who signed in, who failed to, what was refused. */
export async function record(
  tx: Tx,
  entity: 'res_sessions' | 'res_users' | 'res_api_keys' | 'res_user_mfa',
  entityId: string | null,
  action: string,
  diff: Record<string, string | string[] | null> = {},
): Promise<void> {
  const { address = null, ...rest } = diff
  await tx.query(
    prepared(sql.run`
    insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, impersonator_id, actor_name, diff, correlation_id, address, created_at)
    values (${tx.tenantId}, ${entity}, ${entityId}, ${action}, ${tx.actor.userId}, ${tx.actor.impersonatorId ?? null}, nullif(${tx.actor.name}, ''), ${sql.jsonb(rest)}, ${tx.correlationId},
      ${address as string | null}, now())`),
  )
}
