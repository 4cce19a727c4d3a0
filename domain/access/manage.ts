// Changes to who may do what. The epoch is raised by trigger.
import { newId, sql, type Tx } from '../kernel/index.ts'

export interface AssignmentScope {
  organizationId?: string | null
  workspaceId?: string | null
  expiresAt?: string | null
}

/** Gives a role to a user in a scope. */
export async function assignRole(tx: Tx, userId: string, roleId: string, scope: AssignmentScope = {}): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    insert into res_user_roles (id, tenant_id, user_id, role_id, organization_id, workspace_id, expires_at, granted_by)
    values (${id}, ${tx.tenantId}, ${userId}, ${roleId}, ${scope.organizationId ?? null}, ${scope.workspaceId ?? null}, ${scope.expiresAt ?? null}, ${tx.actor.userId})`)
  return id
}

export async function withdrawRole(tx: Tx, assignmentId: string): Promise<void> {
  await tx.query(sql.run`delete from res_user_roles where tenant_id = ${tx.tenantId} and id = ${assignmentId}`)
}

/** Allows or denies one permission to one user, last word over the roles. */
export async function override(
  tx: Tx,
  userId: string,
  permission: string,
  effect: 'allow' | 'deny',
  reason: string,
  scope: AssignmentScope = {},
): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    insert into res_user_permission_overrides (id, tenant_id, user_id, permission, effect, reason, organization_id, workspace_id, expires_at, granted_by)
    values (${id}, ${tx.tenantId}, ${userId}, ${permission}, ${effect}, ${reason}, ${scope.organizationId ?? null}, ${scope.workspaceId ?? null}, ${scope.expiresAt ?? null}, ${tx.actor.userId})`)
  return id
}
