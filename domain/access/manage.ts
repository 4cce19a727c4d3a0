// Changes to who may do what. The epoch is raised by trigger.
import { type Static, Type } from 'typebox'
import { type Context, failure, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lacking } from './evaluate.ts'
import type { Grants } from './grants.ts'

export interface AssignmentScope {
  organizationId?: string | null
  workspaceId?: string | null
  expiresAt?: string | null
  /** The identity provider whose groups gave it, and take it away. */
  providerId?: string | null
}

/** Gives a role to a user in a scope. */
export async function assignRole(tx: Tx, userId: string, roleId: string, scope: AssignmentScope = {}): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    insert into res_user_roles (id, tenant_id, user_id, role_id, organization_id, workspace_id, expires_at, provider_id, granted_by)
    values (${id}, ${tx.tenantId}, ${userId}, ${roleId}, ${scope.organizationId ?? null}, ${scope.workspaceId ?? null}, ${scope.expiresAt ?? null}, ${scope.providerId ?? null}, ${tx.actor.userId})`)
  return id
}

/**
 * Refuses with `last_administrator` when without this user, or this one assignment of his, nobody who may enter would
 * hold everything, everywhere, without end. The tenant's row is locked first, in a statement of its own: of two
 * administrators who remove each other at once, the second looks only when the first has committed.
 */
export async function keepAnAdministrator(tx: Tx, userId: string, assignmentId: string | null = null): Promise<void> {
  await tx.query(sql.run`select 1 from tenants where id = ${tx.tenantId} for no key update`)
  const Administrator = Type.Object({ goes: Type.Boolean() })
  const administrators = await tx.any(sql.prepared(Administrator)`
    select a.user_id = ${userId} and (${assignmentId}::uuid is null or a.id = ${assignmentId}::uuid) as goes from res_user_roles a
    join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.status = 'active' and u.verified_at is not null and u.deleted_at is null
    where a.tenant_id = ${tx.tenantId} and a.organization_id is null and a.expires_at is null
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')`)
  if (administrators.some((a) => a.goes) && administrators.every((a) => a.goes)) throw failure('last_administrator')
}

/** Takes an assignment back. Throws `not_found` for one that is not this user's, `last_administrator`. */
export async function withdrawRole(tx: Tx, userId: string, assignmentId: string): Promise<void> {
  await keepAnAdministrator(tx, userId, assignmentId)
  const { rowCount } = await tx.query(sql.run`
    delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${assignmentId}`)
  if (rowCount === 0) throw failure('not_found')
}

export const AssignmentInfo = Type.Object(
  {
    id: Uuid,
    role: Type.String(),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    expires_at: nullable(Timestamp),
    provider_id: nullable(Uuid),
  },
  { additionalProperties: false },
)

export const assignmentsOf = (tx: Tx, userId: string): Promise<readonly Static<typeof AssignmentInfo>[]> =>
  tx.any(sql.prepared(AssignmentInfo)`
    select a.id, r.code as role, a.organization_id, a.workspace_id, a.expires_at, a.provider_id
    from res_user_roles a join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id
    where a.tenant_id = ${tx.tenantId} and a.user_id = ${userId} order by a.id limit 500`)

export interface RoleAssignment {
  role: string
  organization_id?: string | null
  workspace_id?: string | null
  expires_at?: string | null
}

const RoleRow = Type.Object({ id: Uuid, permissions: Type.Array(Type.String()) }, { additionalProperties: false })

/**
 * The id of a role that somebody may give in a scope: he holds everything in it there. Throws `invalid_reference`,
 * `grant_exceeds`.
 */
export async function requireHeld(
  tx: Tx,
  grantor: Grants,
  registry: Iterable<string>,
  role: string,
  scope: Context,
  path: string,
): Promise<string> {
  const found = await tx.maybeOne(sql.prepared(RoleRow)`
    select r.id, array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions
    from res_roles r where r.tenant_id = ${tx.tenantId} and r.code = ${role} and r.deleted_at is null`)
  if (!found) throw failure('invalid_reference', { path, role })
  const missing = lacking(grantor, found.permissions, scope, registry, tx.now.getTime())
  if (missing.length > 0) throw failure('grant_exceeds', { role, permissions: missing.slice(0, 20) })
  return found.id
}

/** Gives roles, by code, on behalf of somebody who must hold them where they are given. Throws as `requireHeld`, and `already_exists`. */
export async function grantRoles(
  tx: Tx,
  grantor: Grants,
  registry: Iterable<string>,
  userId: string,
  roles: readonly RoleAssignment[],
): Promise<void> {
  const codes = [...registry]
  for (const [at, { role, organization_id, workspace_id, expires_at }] of roles.entries()) {
    const scope = { organizationId: organization_id ?? null, workspaceId: workspace_id ?? null }
    const roleId = await requireHeld(tx, grantor, codes, role, scope, `/roles/${at}/role`)
    await assignRole(tx, userId, roleId, { ...scope, expiresAt: expires_at ?? null })
  }
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
