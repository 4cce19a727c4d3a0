// Changes to who may do what. The epoch is raised by trigger.
import { type Static, Type } from 'typebox'
import { type Context, failure, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
import { requireHolding } from './evaluate.ts'
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

const Administrator = Type.Object({ goes: Type.Boolean() }, { additionalProperties: false })

/** Assignments of everything, everywhere, without end, to somebody who may enter; `goes` marks those that are about to end. */
async function administrators(
  tx: Tx,
  userId: string | null,
  assignmentId: string | null,
): Promise<readonly Static<typeof Administrator>[]> {
  // In a statement of its own: of two administrators who remove each other at once, the second looks only when the first has committed.
  await lockTenant(tx)
  return tx.any(sql.prepared(Administrator)`
    select coalesce(a.user_id = ${userId}::uuid and (${assignmentId}::uuid is null or a.id = ${assignmentId}::uuid), false) as goes from res_user_roles a
    join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.status = 'active' and u.verified_at is not null and u.deleted_at is null
    where a.tenant_id = ${tx.tenantId} and a.organization_id is null and a.expires_at is null
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')`)
}

const ToTell = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Who is told what concerns the whole tenant: those who may do everything in it now, twenty at most. */
export async function administratorIds(tx: Tx): Promise<string[]> {
  const found = await tx.any(sql.prepared(ToTell)`
    select distinct u.id from res_user_roles a join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.status = 'active' and u.deleted_at is null
    where a.tenant_id = ${tx.tenantId} and a.organization_id is null and (a.expires_at is null or a.expires_at > ${tx.now.toISOString()})
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')
    order by u.id limit 20`)
  return found.map(({ id }) => id)
}

/** Refuses with `last_administrator` when without this user, or this one assignment of his, nobody would manage the tenant. */
export async function keepAnAdministrator(tx: Tx, userId: string, assignmentId: string | null = null): Promise<void> {
  const found = await administrators(tx, userId, assignmentId)
  if (found.some((a) => a.goes) && found.every((a) => a.goes)) throw failure('last_administrator')
}

/** The same after a change that may have taken the last one's rights. */
export async function requireAdministrator(tx: Tx): Promise<void> {
  if ((await administrators(tx, null, null)).length === 0) throw failure('last_administrator')
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
 * The id of a role that somebody may give in a scope: he holds everything in it there. The role is locked against being
 * deleted meanwhile. Throws `invalid_reference`, `grant_exceeds`.
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
    from res_roles r where r.tenant_id = ${tx.tenantId} and r.code = ${role} and r.deleted_at is null for share of r`)
  if (!found) throw failure('invalid_reference', { path, role })
  requireHolding(grantor, found.permissions, scope, registry, tx.now.getTime(), { role })
  return found.id
}

/** Gives one role to many at once; who has it there already keeps it. Returns how many got it. Throws as `requireHeld`. */
export async function grantRoleToMany(
  tx: Tx,
  grantor: Grants,
  registry: Iterable<string>,
  userIds: readonly string[],
  { role, organization_id, workspace_id, expires_at }: RoleAssignment,
): Promise<number> {
  const scope = { organizationId: organization_id ?? null, workspaceId: workspace_id ?? null }
  const roleId = await requireHeld(tx, grantor, registry, role, scope, '/role')
  const { rowCount } = await tx.query(sql.run`
    insert into res_user_roles (id, tenant_id, user_id, role_id, organization_id, workspace_id, expires_at, granted_by)
    select u.id, ${tx.tenantId}, u.user_id, ${roleId}, ${scope.organizationId}::uuid, ${scope.workspaceId}::uuid, ${expires_at ?? null}::timestamptz, ${tx.actor.userId}
    from ${sql.unnest(
      userIds.map((userId) => [newId(), userId]),
      ['uuid', 'uuid'],
    )} as u (id, user_id)
    on conflict (tenant_id, user_id, role_id, organization_id, workspace_id) do nothing`)
  return rowCount
}

/**
 * Moves people's assignments from one place to another, on behalf of somebody who must hold there what they have. Who has
 * a role there already loses the old one only. Returns how many assignments moved.
 */
export async function moveUsers(
  tx: Tx,
  grantor: Grants,
  registry: Iterable<string>,
  userIds: readonly string[],
  from: Context,
  to: Context,
): Promise<number> {
  const users = sql.array([...userIds], 'uuid')
  const here = sql.fragment`
    a.tenant_id = ${tx.tenantId} and a.user_id = any(${users}) and a.organization_id = ${from.organizationId} and a.workspace_id is not distinct from ${from.workspaceId}::uuid`
  const codes = await tx.any(sql.type(Type.Object({ code: Type.String() }))`
    select distinct r.code from res_user_roles a join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id where ${here}`)
  const known = [...registry]
  for (const { code } of codes) await requireHeld(tx, grantor, known, code, to, '/to')
  await tx.query(sql.run`
    delete from res_user_roles a where ${here} and exists (
      select from res_user_roles b where b.tenant_id = a.tenant_id and b.user_id = a.user_id and b.role_id = a.role_id
        and b.organization_id = ${to.organizationId} and b.workspace_id is not distinct from ${to.workspaceId}::uuid)`)
  const { rowCount } = await tx.query(sql.run`
    update res_user_roles a set organization_id = ${to.organizationId}, workspace_id = ${to.workspaceId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where ${here}`)
  return rowCount
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
