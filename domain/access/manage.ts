// Changes to who may do what. The epoch is raised by trigger.
import { type Static, Type } from 'typebox'
import { type Context, type Fragment, failure, inReach, jsonTime, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
import { keepAnAdministrator } from './administrators.ts'
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

export const RoleHolder = Type.Object(
  { user_id: Uuid, name: Type.String(), email: Type.String(), status: Type.String(), ...AssignmentInfo.properties },
  { additionalProperties: false },
)

/** Assignments of a role in the scopes that the unit of work reaches, in the order of their ids; a page of them. */
export const holdersOf = (tx: Tx, roleId: string, after: string | null, limit: number): Promise<readonly Static<typeof RoleHolder>[]> =>
  tx.any(sql.prepared(RoleHolder)`
    select u.id as user_id, u.name, u.email, u.status, a.id, r.code as role, a.organization_id, a.workspace_id, a.expires_at, a.provider_id
    from res_user_roles a
    join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id
    join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id
    where a.tenant_id = ${tx.tenantId} and a.role_id = ${roleId} and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)}
      and (${after}::uuid is null or a.id > ${after}::uuid)
    order by a.id limit ${limit}`)

/** The condition that a user holds a role, named by code, now and in a scope that the unit of work reaches. */
export const holdsRole = (tx: Tx, code: string): Fragment => sql.fragment`exists (
  select from res_user_roles a join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id and r.deleted_at is null
  where a.tenant_id = ${tx.tenantId} and a.user_id = res_users.id and r.code = ${code} and (a.expires_at is null or a.expires_at > ${tx.now.toISOString()})
    and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)})`

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

const UserId = Type.Object({ id: Uuid }, { additionalProperties: false })

/**
 * Returns which of these users exist, and keeps them from being erased until the transaction ends: erasing locks the user's
 * row, so it comes before, and the user is not found, or after, and takes what was given. Users are locked before the tenant,
 * as a change of an account does.
 */
export async function lockUsers(tx: Tx, userIds: readonly string[]): Promise<Set<string>> {
  const found = await tx.any(sql.prepared(UserId)`
    select id from res_users where tenant_id = ${tx.tenantId} and id = any(${sql.array([...userIds], 'uuid')}) and deleted_at is null
    order by id for key share`)
  return new Set(found.map(({ id }) => id))
}

/** Whether an end (null is without end) is later than another one. */
const endsLater = (end: Fragment, than: Fragment) => sql.fragment`coalesce(${end}, 'infinity') > coalesce(${than}, 'infinity')`

/**
 * Gives one role to many users at once. A user who has it there keeps it; one whose assignment ends sooner, or has ended, gets
 * the later end. Returns how many received something. Throws `permission_denied`, `grant_exceeds`, `invalid_reference`.
 */
export async function grantRoleToMany(tx: Tx, granter: Granter, userIds: readonly string[], assignment: RoleAssignment): Promise<number> {
  const existing = await lockUsers(tx, userIds)
  await lockTenant(tx)
  const missing = userIds.filter((id) => !existing.has(id))
  if (missing.length > 0) throw failure('invalid_reference', { path: '/user_ids', missing: missing.slice(0, 20) })
  const { roleId, scope, expiresAt } = await grantableRole(tx, granter, assignment, '')
  const { rowCount } = await tx.query(sql.run`
    insert into res_user_roles as a (id, tenant_id, user_id, role_id, organization_id, workspace_id, expires_at, granted_by)
    select u.id, ${tx.tenantId}, u.user_id, ${roleId}, ${scope.organizationId}::uuid, ${scope.workspaceId}::uuid, ${expiresAt}::timestamptz, ${tx.actor.userId}
    from ${sql.unnest(
      userIds.map((userId) => [newId(), userId]),
      ['uuid', 'uuid'],
    )} as u (id, user_id)
    on conflict (tenant_id, user_id, role_id, organization_id, workspace_id) do update
      set expires_at = excluded.expires_at, granted_by = excluded.granted_by, provider_id = null, version = a.version + 1, updated_at = ${tx.now.toISOString()}
      where ${endsLater(sql.fragment`excluded.expires_at`, sql.fragment`a.expires_at`)}`)
  return rowCount
}

const Moved = Type.Object({ role_id: Uuid, until: nullable(Timestamp) }, { additionalProperties: false })

/**
 * Moves users' live assignments from one scope to another: a withdrawal there and a grant here, so the actor must be allowed
 * both and hold each role in both scopes. A user who has a role in the target already keeps there the later end of the
 * two. Returns how many assignments moved or were extended. Throws `permission_denied`, `grant_exceeds`.
 */
export async function moveUsers(tx: Tx, granter: Granter, userIds: readonly string[], from: Context, to: Context): Promise<number> {
  const now = tx.now.getTime()
  assertMay(granter, 'rbac.assignment.delete', from, now)
  assertMay(granter, 'rbac.assignment.create', to, now)
  if (from.organizationId === to.organizationId && from.workspaceId === to.workspaceId) return 0
  await lockTenant(tx)
  const users = sql.array([...userIds], 'uuid')
  const here = sql.fragment`
    a.tenant_id = ${tx.tenantId} and a.user_id = any(${users}) and a.organization_id = ${from.organizationId} and a.workspace_id is not distinct from ${from.workspaceId}::uuid
    and (a.expires_at is null or a.expires_at > ${tx.now.toISOString()})`
  const sameInTarget = sql.fragment`
    b.tenant_id = a.tenant_id and b.user_id = a.user_id and b.role_id = a.role_id
    and b.organization_id = ${to.organizationId} and b.workspace_id is not distinct from ${to.workspaceId}::uuid`
  await assertScopeExists(tx, to)
  const roles = await tx.any(sql.type(Moved)`
    select role_id, ${jsonTime('e.last')} as until from (
      select a.role_id, nullif(max(coalesce(a.expires_at, 'infinity')), 'infinity') as last from res_user_roles a where ${here} group by 1) as e`)
  for (const { role_id, until } of roles) {
    await assertCanWithdraw(tx, granter, role_id, from, '/from')
    await assertCanGrant(tx, granter, role_id, to, '/to', until)
  }
  const extended = await tx.query(sql.run`
    update res_user_roles b set expires_at = a.expires_at, provider_id = a.provider_id, version = b.version + 1, updated_at = ${tx.now.toISOString()}
    from res_user_roles a where ${here} and ${sameInTarget} and ${endsLater(sql.fragment`a.expires_at`, sql.fragment`b.expires_at`)}`)
  await tx.query(sql.run`delete from res_user_roles a where ${here} and exists (select from res_user_roles b where ${sameInTarget})`)
  const moved = await tx.query(sql.run`
    update res_user_roles a set organization_id = ${to.organizationId}, workspace_id = ${to.workspaceId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where ${here}`)
  return extended.rowCount + moved.rowCount
}

const Ending = Type.Object(
  { role_id: Uuid, organization_id: nullable(Uuid), workspace_id: nullable(Uuid), expires_at: nullable(Timestamp) },
  { additionalProperties: false },
)

/**
 * Changes the end of an assignment; null is without end. A later end is a grant, an earlier one a withdrawal. An assignment
 * that a provider's groups gave belongs to whoever changes it from then on. Throws `not_found`, `permission_denied`,
 * `grant_exceeds`, `invalid_value`, `last_administrator`.
 */
export async function changeEnd(tx: Tx, granter: Granter, userId: string, assignmentId: string, expiresAt: string | null): Promise<void> {
  await lockTenant(tx)
  if (expiresAt !== null) await keepAnAdministrator(tx, userId, assignmentId)
  const held = await tx.maybeOne(sql.prepared(Ending)`
    select role_id, organization_id, workspace_id, expires_at from res_user_roles a
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${assignmentId}
      and ${inReach(tx, sql.fragment`a.organization_id`, sql.fragment`a.workspace_id`)} for update`)
  if (!held) throw failure('not_found')
  assertFuture(tx, expiresAt, '/expires_at')
  const scope = placeOf(held)
  const end = (at: string | null) => (at === null ? Number.POSITIVE_INFINITY : Date.parse(at))
  // Nothing is changed, least of all who gave it.
  if (end(expiresAt) === end(held.expires_at)) return
  if (end(expiresAt) < end(held.expires_at)) {
    assertMay(granter, 'rbac.assignment.delete', scope, tx.now.getTime())
    await assertCanWithdraw(tx, granter, held.role_id, scope, '/assignment')
  } else {
    assertMay(granter, 'rbac.assignment.create', scope, tx.now.getTime())
    await assertScopeExists(tx, scope)
    await assertCanGrant(tx, granter, held.role_id, scope, '/assignment', expiresAt)
  }
  await tx.query(sql.run`
    update res_user_roles set expires_at = ${expiresAt}, provider_id = null, granted_by = ${tx.actor.userId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${assignmentId}`)
}

/**
 * Gives roles to a user on behalf of an actor who may do so in each scope and holds the roles there; an assignment that has
 * ended is given again. Throws `not_found` for a user who does not exist, `permission_denied`, `grant_exceeds`,
 * `invalid_reference`, `invalid_value`, `already_exists`.
 * @param path where the roles stand in the request; the star is their index
 */
export async function grantRoles(
  tx: Tx,
  granter: Granter,
  userId: string,
  roles: readonly RoleAssignment[],
  path = '/roles/*',
): Promise<void> {
  if (!(await lockUsers(tx, [userId])).has(userId)) throw failure('not_found')
  await lockTenant(tx)
  for (const [index, assignment] of roles.entries()) {
    const { roleId, scope, expiresAt } = await grantableRole(tx, granter, assignment, path.replace('*', String(index)))
    await tx.query(sql.run`
      delete from res_user_roles
      where tenant_id = ${tx.tenantId} and user_id = ${userId} and role_id = ${roleId} and organization_id is not distinct from ${scope.organizationId}::uuid
        and workspace_id is not distinct from ${scope.workspaceId}::uuid and expires_at <= ${tx.now.toISOString()}`)
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
