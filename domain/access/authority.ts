// Authority over rights: no actor grants, withdraws, resets or disables what they do not hold in the same scope.
import { Type } from 'typebox'
import { type Context, failure, isUuid, sql, type Tx, Uuid } from '../kernel/index.ts'
import { covers, evaluate, live } from './evaluate.ts'
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

/** Permissions and patterns of a list that the actor does not hold everywhere in a scope. */
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

/** Refuses with `permission_denied` an actor who lacks a permission in the scope of the object that is changed. */
export function assertMay({ grants }: Granter, permission: string, scope: Context, now: number): void {
  if (!evaluate(grants, permission, scope, now).allowed) {
    const { organizationId: organization_id, workspaceId: workspace_id } = scope
    throw failure('permission_denied', { permission, scope: { organization_id, workspace_id } })
  }
}

const RoleRow = Type.Object({ id: Uuid, code: Type.String(), permissions: Type.Array(Type.String()) }, { additionalProperties: false })

/**
 * Returns the id of a role, named by code or id, that the actor may give or take in a scope: everything in it is held
 * there. The role is locked against deletion until the transaction ends. Throws `invalid_reference`, `grant_exceeds`.
 */
export async function assertCanGrant(tx: Tx, granter: Granter, role: string, scope: Context, path: string): Promise<string> {
  const found = await tx.maybeOne(sql.prepared(RoleRow)`
    select r.id, r.code, array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions
    from res_roles r where r.tenant_id = ${tx.tenantId} and ${isUuid(role) ? sql.fragment`r.id = ${role}` : sql.fragment`r.code = ${role}`} and r.deleted_at is null for share of r`)
  if (!found) throw failure('invalid_reference', { path, role })
  assertHolds(granter, found.permissions, scope, tx.now.getTime(), { role: found.code })
  return found.id
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
