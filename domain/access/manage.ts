// Changes to who may do what. The epoch is raised by trigger.
import { type Static, Type } from 'typebox'
import { type Context, failure, inReach, jsonTime, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
import { assertCanGrant, assertCanWithdraw, assertMay, assertScopeExists, type Granter } from './authority.ts'

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

/** Assignments of everything, everywhere, without end, to users who may enter and to whom managing rights is not denied; `goes` marks those that are about to end. */
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
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')
      and not exists (
        select from res_user_permission_overrides o where o.tenant_id = a.tenant_id and o.user_id = a.user_id and o.organization_id is null and o.effect = 'deny'
          and (o.expires_at is null or o.expires_at > ${tx.now.toISOString()})
          and 'rbac.assignment.create' like replace(replace(o.permission, '_', '\\_'), '*', '%'))`)
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

const placeOf = ({ organization_id, workspace_id }: { organization_id?: string | null; workspace_id?: string | null }): Context => ({
  organizationId: organization_id ?? null,
  workspaceId: workspace_id ?? null,
})

const Held = Type.Object({ role_id: Uuid, organization_id: nullable(Uuid), workspace_id: nullable(Uuid) }, { additionalProperties: false })

/**
 * Withdraws an assignment on behalf of an actor who may do so in its scope and holds the role there. Throws `not_found` for
 * an assignment of another user, `permission_denied`, `grant_exceeds`, `last_administrator`.
 */
export async function withdrawRole(tx: Tx, granter: Granter, userId: string, assignmentId: string): Promise<void> {
  await keepAnAdministrator(tx, userId, assignmentId)
  const held = await tx.maybeOne(sql.prepared(Held)`
    select role_id, organization_id, workspace_id from res_user_roles a
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${assignmentId}
      and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)} for update`)
  if (!held) throw failure('not_found')
  assertMay(granter, 'rbac.assignment.delete', placeOf(held), tx.now.getTime())
  await assertCanWithdraw(tx, granter, held.role_id, placeOf(held), '/assignment')
  await tx.query(sql.run`delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${assignmentId}`)
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

/** A user's assignments in the scopes that the unit of work reaches. */
export const assignmentsOf = (tx: Tx, userId: string): Promise<readonly Static<typeof AssignmentInfo>[]> =>
  tx.any(sql.prepared(AssignmentInfo)`
    select a.id, r.code as role, a.organization_id, a.workspace_id, a.expires_at, a.provider_id
    from res_user_roles a join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id
    where a.tenant_id = ${tx.tenantId} and a.user_id = ${userId} and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)}
    order by a.id limit 500`)

export interface RoleAssignment {
  role: string
  organization_id?: string | null
  workspace_id?: string | null
  expires_at?: string | null
}

/** Refuses with `invalid_value` an end that lies in the past. */
export function assertFuture(tx: Tx, expiresAt: string | null | undefined, path: string): void {
  if (expiresAt && Date.parse(expiresAt) <= tx.now.getTime())
    throw failure('invalid_value', { path, rule: 'future', message: 'lies in the future' })
}

/**
 * Refuses what the actor may not give in a scope, and returns the role's id. Throws `invalid_value`, and as `assertMay`,
 * `assertScopeExists` and `assertCanGrant`.
 */
async function grantableRole(
  tx: Tx,
  granter: Granter,
  { role, expires_at, ...place }: RoleAssignment,
  path: string,
): Promise<{ roleId: string; scope: Context; expiresAt: string | null }> {
  const scope = placeOf(place)
  const expiresAt = expires_at ?? null
  assertFuture(tx, expiresAt, `${path}/expires_at`)
  assertMay(granter, 'rbac.assignment.create', scope, tx.now.getTime())
  await assertScopeExists(tx, scope)
  return { roleId: await assertCanGrant(tx, granter, role, scope, `${path}/role`, expiresAt), scope, expiresAt }
}

/**
 * Gives one role to many users at once; a user who has it there already keeps it. Returns how many received it. Throws
 * `permission_denied`, `grant_exceeds`, `invalid_reference`.
 */
export async function grantRoleToMany(tx: Tx, granter: Granter, userIds: readonly string[], assignment: RoleAssignment): Promise<number> {
  const { roleId, scope, expiresAt } = await grantableRole(tx, granter, assignment, '')
  const { rowCount } = await tx.query(sql.run`
    insert into res_user_roles (id, tenant_id, user_id, role_id, organization_id, workspace_id, expires_at, granted_by)
    select u.id, ${tx.tenantId}, u.user_id, ${roleId}, ${scope.organizationId}::uuid, ${scope.workspaceId}::uuid, ${expiresAt}::timestamptz, ${tx.actor.userId}
    from ${sql.unnest(
      userIds.map((userId) => [newId(), userId]),
      ['uuid', 'uuid'],
    )} as u (id, user_id)
    on conflict (tenant_id, user_id, role_id, organization_id, workspace_id) do nothing`)
  return rowCount
}

const Moved = Type.Object({ role_id: Uuid, until: nullable(Timestamp) }, { additionalProperties: false })

/**
 * Moves users' assignments from one scope to another: a withdrawal there and a grant here, so the actor must be allowed both
 * and hold each role in both scopes. A user who has a role in the target already loses the old assignment only. Returns
 * how many assignments moved. Throws `permission_denied`, `grant_exceeds`.
 */
export async function moveUsers(tx: Tx, granter: Granter, userIds: readonly string[], from: Context, to: Context): Promise<number> {
  const now = tx.now.getTime()
  assertMay(granter, 'rbac.assignment.delete', from, now)
  assertMay(granter, 'rbac.assignment.create', to, now)
  if (from.organizationId === to.organizationId && from.workspaceId === to.workspaceId) return 0
  const users = sql.array([...userIds], 'uuid')
  const here = sql.fragment`
    a.tenant_id = ${tx.tenantId} and a.user_id = any(${users}) and a.organization_id = ${from.organizationId} and a.workspace_id is not distinct from ${from.workspaceId}::uuid`
  await assertScopeExists(tx, to)
  const roles = await tx.any(sql.type(Moved)`
    select role_id, ${jsonTime('e.last')} as until from (
      select a.role_id, nullif(max(coalesce(a.expires_at, 'infinity')), 'infinity') as last from res_user_roles a where ${here} group by 1) as e`)
  for (const { role_id, until } of roles) {
    await assertCanWithdraw(tx, granter, role_id, from, '/from')
    await assertCanGrant(tx, granter, role_id, to, '/to', until)
  }
  await tx.query(sql.run`
    delete from res_user_roles a where ${here} and exists (
      select from res_user_roles b where b.tenant_id = a.tenant_id and b.user_id = a.user_id and b.role_id = a.role_id
        and b.organization_id = ${to.organizationId} and b.workspace_id is not distinct from ${to.workspaceId}::uuid)`)
  const { rowCount } = await tx.query(sql.run`
    update res_user_roles a set organization_id = ${to.organizationId}, workspace_id = ${to.workspaceId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where ${here}`)
  return rowCount
}

/**
 * Gives roles to a user on behalf of an actor who may do so in each scope and holds the roles there. Throws
 * `permission_denied`, `grant_exceeds`, `invalid_reference`, `invalid_value`, `already_exists`.
 * @param path where the roles stand in the request; the star is their index
 */
export async function grantRoles(
  tx: Tx,
  granter: Granter,
  userId: string,
  roles: readonly RoleAssignment[],
  path = '/roles/*',
): Promise<void> {
  for (const [index, assignment] of roles.entries()) {
    const { roleId, scope, expiresAt } = await grantableRole(tx, granter, assignment, path.replace('*', String(index)))
    await assignRole(tx, userId, roleId, { ...scope, expiresAt })
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
