// Authority over rights: no actor grants, withdraws, resets or disables what they do not hold in the same scope.
import { type Static, Type } from 'typebox'
import { type Context, decimal, failure, isUuid, sql, type Tx, Uuid } from '../kernel/index.ts'
import { approvalLimit, covers, evaluate, live } from './evaluate.ts'
import { allGrants, type Grants } from './grants.ts'
import { type Registry, TENANT } from './level.ts'
import { includes, matches } from './pattern.ts'

/** The actor on whose behalf rights are changed. A key's grants are narrowed to its own permissions and scope. */
export interface Granter {
  grants: Grants
  registry: Registry
}

/** Whether every permission that a pattern covers, those of later versions included, is held in a scope by roles. */
const holdsPattern = ({ assignments, restriction }: Grants, pattern: string, scope: Context, now: number): boolean =>
  assignments.some((a) => live(a, now) && covers(a, scope) && a.permissions.some((held) => includes(held, pattern))) &&
  (!restriction || restriction.permissions.some((held) => includes(held, pattern)))

/** The scope itself, and each narrower one in which an override takes something from the actor. */
const scopesWithin = (grants: Grants, scope: Context, now: number): Context[] => [
  scope,
  ...grants.overrides
    .filter((o) => o.effect === 'deny' && live(o, now))
    .map((o) => ({ organizationId: o.organization_id, workspaceId: o.workspace_id }))
    .filter((narrower) => covers({ organization_id: scope.organizationId, workspace_id: scope.workspaceId }, narrower)),
]

/** Permissions and patterns of a list that the actor does not hold everywhere in a scope at a moment (ms since 1970). */
export function missingPermissions({ grants, registry }: Granter, patterns: readonly string[], scope: Context, now: number): string[] {
  const codes = [...registry.keys()].filter((code) => patterns.some((pattern) => matches(pattern, code)))
  const scopes = scopesWithin(grants, scope, now)
  const denied = codes.filter((code) => scopes.some((place) => !evaluate(grants, code, place, now).allowed))
  const open = patterns.filter((pattern) => pattern.includes('*') && !holdsPattern(grants, pattern, scope, now))
  return [...new Set([...open, ...denied])]
}

/**
 * Refuses with `grant_exceeds` what the actor does not hold everywhere in a scope.
 * @param details what the permissions belong to, such as a role
 */
export function assertHolds(
  granter: Granter,
  patterns: readonly string[],
  scope: Context,
  now: number,
  details: Record<string, unknown> = {},
): void {
  const missing = missingPermissions(granter, patterns, scope, now)
  if (missing.length > 0) throw failure('grant_exceeds', { ...details, permissions: missing.slice(0, 20) })
}

/**
 * As `assertHolds`, for something that lasts until a moment; null is without end. The actor must hold it for as long: rights
 * that end do not become rights that stay.
 */
export function assertHoldsUntil(
  granter: Granter,
  patterns: readonly string[],
  scope: Context,
  now: number,
  until: string | null,
  details: Record<string, unknown> = {},
): void {
  assertHolds(granter, patterns, scope, now, details)
  assertHolds(granter, patterns, scope, until === null ? Number.POSITIVE_INFINITY : Date.parse(until) - 1, { ...details, until })
}

/** Refuses with `permission_denied` an actor who lacks a permission in a scope, and every actor where it does not exist. */
export function assertMay({ grants, registry }: Granter, permission: string, scope: Context, now: number): void {
  if (!registry.has(permission) || !evaluate(grants, permission, scope, now).allowed) {
    const { organizationId: organization_id, workspaceId: workspace_id } = scope
    throw failure('permission_denied', { permission, scope: { organization_id, workspace_id } })
  }
}

const RoleRow = Type.Object({ id: Uuid, code: Type.String(), permissions: Type.Array(Type.String()) }, { additionalProperties: false })

/**
 * Returns the id of a role, named by code or id, that the actor may give until a moment (null is without end) in a scope:
 * everything in it is held there for as long. The role is locked against deletion until the transaction ends. Throws
 * `invalid_reference`, `grant_exceeds`.
 */
export async function assertCanGrant(
  tx: Tx,
  granter: Granter,
  role: string,
  scope: Context,
  path: string,
  until: string | null = null,
): Promise<string> {
  const found = await lockRole(tx, role, path)
  assertHoldsUntil(granter, found.permissions, scope, tx.now.getTime(), until, { role: found.code })
  assertWithinOwnLimits(granter, found, scope, tx.now.getTime())
  return found.id
}

/** Refuses with `grant_exceeds` a role with a higher approval limit than the actor's own in an organization of the scope. */
function assertWithinOwnLimits({ grants }: Granter, { id, code }: Static<typeof RoleRow>, scope: Context, now: number): void {
  for (const { id: organizationId, approval_limits } of grants.organizations) {
    const limit = approval_limits[id]
    if (limit === undefined || (scope.organizationId !== null && scope.organizationId !== organizationId)) continue
    const own = approvalLimit(grants, { organizationId, workspaceId: scope.workspaceId }, now)
    if (own !== null && (limit === null || decimal(limit).gt(own)))
      throw failure('grant_exceeds', { role: code, organization_id: organizationId, approval_limit: limit, own_limit: own })
  }
}

/** Refuses a role that the actor may not withdraw in a scope: everything in it is held there now. Throws as `assertCanGrant`. */
export async function assertCanWithdraw(tx: Tx, granter: Granter, role: string, scope: Context, path: string): Promise<void> {
  const { code, permissions } = await lockRole(tx, role, path)
  assertHolds(granter, permissions, scope, tx.now.getTime(), { role: code })
}

async function lockRole(tx: Tx, role: string, path: string): Promise<Static<typeof RoleRow>> {
  const found = await tx.maybeOne(sql.prepared(RoleRow)`
    select r.id, r.code, array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions
    from res_roles r where r.tenant_id = ${tx.tenantId} and ${isUuid(role) ? sql.fragment`r.id = ${role}` : sql.fragment`r.code = ${role}`} and r.deleted_at is null for share of r`)
  if (!found) throw failure('invalid_reference', { path, role })
  return found
}

const Place = Type.Object({ exists: Type.Boolean() }, { additionalProperties: false })

/**
 * Refuses with `invalid_reference` an organization or workspace that does not exist or was deleted. Whoever holds the tenant's
 * lock is sure of it until the transaction ends: deleting one takes that lock.
 */
export async function assertScopeExists(tx: Tx, { organizationId, workspaceId }: Context): Promise<void> {
  if (organizationId === null) return
  const { exists } = await tx.one(sql.prepared(Place)`
    select exists (select from res_organizations where tenant_id = ${tx.tenantId} and id = ${organizationId} and deleted_at is null)
      and (${workspaceId}::uuid is null or exists (
        select from res_workspaces where tenant_id = ${tx.tenantId} and organization_id = ${organizationId} and id = ${workspaceId}::uuid and deleted_at is null)) as exists`)
  if (!exists) throw failure('invalid_reference', { path: workspaceId ? '/workspace_id' : '/organization_id' })
}

const overlaps = (a: Context, b: Context): boolean =>
  (a.organizationId === null || b.organizationId === null || a.organizationId === b.organizationId) &&
  (a.workspaceId === null || b.workspaceId === null || a.workspaceId === b.workspaceId)

/**
 * Refuses with `grant_exceeds` an actor who does not hold everything that an account holds, in the account's scopes. An
 * actor administers their own account with what they have. Throws `not_found` for an account that does not exist.
 * @param within only what the account holds in, above or below this scope
 */
export async function assertCanAdminister(tx: Tx, granter: Granter, userId: string, within: Context = TENANT): Promise<void> {
  if (userId === granter.grants.user_id && !granter.grants.restriction) return
  const [target] = await allGrants(tx, [userId])
  if (!target) throw failure('not_found')
  const now = tx.now.getTime()
  const held = [
    ...target.assignments.map((a) => ({ ...a, details: { role: a.role } })),
    ...target.overrides.filter((o) => o.effect === 'allow').map((o) => ({ ...o, permissions: [o.permission], details: {} })),
  ]
  for (const { permissions, details, ...place } of held) {
    const scope = { organizationId: place.organization_id, workspaceId: place.workspace_id }
    if (live(place, now) && overlaps(scope, within)) assertHolds(granter, permissions, scope, now, { user_id: userId, ...details })
  }
}
