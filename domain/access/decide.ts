// Decisions, kept for a second: the same question is asked on every request.
import { type Context, type Reach, rememberBy } from '../kernel/index.ts'
import { type Decision, evaluate } from './evaluate.ts'
import type { Grants } from './grants.ts'
import { type PermissionEntry, type Registry, scopeOfLevel, TENANT } from './level.ts'

/** By the grants themselves: when these are read again, the decisions on the old ones are gone. */
const remembered = rememberBy<Grants>()

/** As `evaluate`, cached for a second. */
export const decide = (grants: Grants, permission: string, scope: Context, now: number): Decision =>
  remembered(grants, `${permission} ${scope.organizationId} ${scope.workspaceId}`, now, () => evaluate(grants, permission, scope, now))

/**
 * The decision on a permission of a level for a user who works in `context`. A deny in the workspace where they work holds for
 * changes of the organization's records, too.
 */
export function decideOnLevel(
  grants: Grants,
  permission: string,
  entry: Pick<PermissionEntry, 'level' | 'mutates'>,
  context: Context,
  now: number,
): Decision {
  const scope = scopeOfLevel(entry, context)
  const decision = decide(grants, permission, scope, now)
  return decision.allowed && entry.level === 'organization' && scope !== context ? decide(grants, permission, context, now) : decision
}

/** Whether a permission is held by a user who works in a place, as reports show it: shared data in any scope. */
export const holdsIn = (grants: Grants, permission: string, entry: PermissionEntry, place: Context, now: number): boolean =>
  entry.level === 'shared' ? holdsAnywhere(grants, permission, now) : decideOnLevel(grants, permission, entry, place, now).allowed

/** Every scope in which a user holds a permission; cached for a second. */
export const reachOf = (grants: Grants, permission: string, now: number): Reach =>
  remembered(grants, `reach ${permission}`, now, () => {
    const holds = (organizationId: string | null, workspaceId: string | null) =>
      evaluate(grants, permission, { organizationId, workspaceId }, now).allowed
    const places = grants.organizations.map(({ id, workspaces }) => ({
      id,
      own: holds(id, null),
      workspaces: workspaces.filter((workspace) => holds(id, workspace)),
      all: workspaces.length,
    }))
    const whole = places.filter(({ own, workspaces, all }) => own && workspaces.length === all)
    return {
      tenant: holds(null, null),
      organizations: places.filter(({ own }) => own).map(({ id }) => id),
      workspaces: places.filter((place) => !whole.includes(place)).flatMap(({ workspaces }) => workspaces),
      whole: new Set(whole.map(({ id }) => id)),
    }
  })

/** Whether a reach leaves nothing of the tenant out. */
export const isEverything = (grants: Grants, { tenant, whole }: Reach): boolean => tenant && whole.size === grants.organizations.length

/** Whether a user holds a permission in some scope. */
export const holdsAnywhere = (grants: Grants, permission: string, now: number): boolean => {
  const { tenant, organizations, workspaces } = reachOf(grants, permission, now)
  return tenant || organizations.length > 0 || workspaces.length > 0
}

/** Whether a user who works in `context` passes the gate of a permission: in the scope that its level names. */
export function mayIn(grants: Grants, registry: Registry, permission: string, context: Context, now: number): boolean {
  const entry = registry.get(permission)
  if (!entry) return false
  if (entry.level === 'object' || entry.level === 'shared') return holdsAnywhere(grants, permission, now)
  return decideOnLevel(grants, permission, entry, context, now).allowed
}

/** The permissions whose gate a user passes in a context, sorted; cached for a second. */
export const allowedOf = (grants: Grants, registry: Registry, context: Context, now: number): readonly string[] =>
  remembered(grants, ` ${context.organizationId} ${context.workspaceId}`, now, () =>
    [...registry.keys()].filter((permission) => mayIn(grants, registry, permission, context, now)).sort(),
  )

/** Whether an event, of an organization and workspace or of the tenant, may be shown to a user who works in `context`. */
export function mayHear(
  grants: Grants,
  registry: Registry,
  permission: string,
  of: { organizationId: string | null; workspaceId: string | null },
  context: Context,
  now: number,
): boolean {
  const entry = registry.get(permission)
  if (!entry) return false
  if (of.organizationId === null) {
    return entry.level === 'shared' ? holdsAnywhere(grants, permission, now) : decide(grants, permission, TENANT, now).allowed
  }
  if (of.organizationId !== context.organizationId) return false
  return entry.level === 'organization' ? mayIn(grants, registry, permission, context, now) : decide(grants, permission, of, now).allowed
}
