// The RBAC rule itself: pure functions over grants.
import { type Context, decimal } from '../kernel/index.ts'
import type { Grants, Override, Restriction } from './grants.ts'
import { matches } from './pattern.ts'

interface Place {
  organization_id: string | null
  workspace_id: string | null
}
interface Scoped extends Place {
  expires_at: string | null
}

/** Scope covers downwards: tenant ⊃ organization ⊃ workspace. */
export const covers = (scope: Place, context: Context): boolean =>
  (scope.organization_id === null || scope.organization_id === context.organizationId) &&
  (scope.workspace_id === null || scope.workspace_id === context.workspaceId)

export const live = (scope: Scoped, now: number): boolean => scope.expires_at === null || Date.parse(scope.expires_at) > now

/** 0 for the tenant, 1 for an organization, 2 for a workspace: the narrower wins. */
const depth = (scope: Scoped): number => (scope.workspace_id ? 2 : scope.organization_id ? 1 : 0)

export interface Decision {
  allowed: boolean
  /** What settled it. */
  decided_by:
    | { kind: 'override'; override: Override }
    | { kind: 'role'; role: string; pattern: string; assignment_id: string }
    | { kind: 'restriction' }
    | { kind: 'none' }
}

const permits = (restriction: Restriction, permission: string, context: Context, now: number): boolean =>
  restriction.scopes.some((scope) => live(scope, now) && covers(scope, context)) &&
  restriction.permissions.some((pattern) => matches(pattern, permission))

/**
 * Union of the covering assignments, then overrides: the narrowest covering one wins, at equal width deny beats allow. A
 * restriction takes away whatever it does not name.
 */
export function evaluate(grants: Grants, permission: string, context: Context, now: number): Decision {
  if (grants.restriction && !permits(grants.restriction, permission, context, now)) {
    return { allowed: false, decided_by: { kind: 'restriction' } }
  }
  const [override] = grants.overrides
    .filter((o) => matches(o.permission, permission) && live(o, now) && covers(o, context))
    .sort((a, b) => depth(b) - depth(a) || (a.effect === 'deny' ? -1 : 1) - (b.effect === 'deny' ? -1 : 1))
  if (override) return { allowed: override.effect === 'allow', decided_by: { kind: 'override', override } }
  for (const assignment of grants.assignments) {
    if (!live(assignment, now) || !covers(assignment, context)) continue
    const pattern = assignment.permissions.find((p) => matches(p, permission))
    if (pattern) return { allowed: true, decided_by: { kind: 'role', role: assignment.role, pattern, assignment_id: assignment.id } }
  }
  return { allowed: false, decided_by: { kind: 'none' } }
}

/** Whether an organization, and a workspace in it, exists in the tenant; the grants of any user know. */
export const placeExists = ({ organizations }: Grants, { organizationId, workspaceId }: Context): boolean =>
  organizations.some(({ id, workspaces }) => id === organizationId && (workspaceId === null || workspaces.includes(workspaceId)))

export type ContextVerdict = 'ok' | 'context_required' | 'context_forbidden'

/** May this user work in this context: it exists, a live assignment reaches into it, and a workspace is chosen where one must be. */
export function checkContext(grants: Grants, context: Context, now: number): ContextVerdict {
  if (context.organizationId === null) return 'context_required'
  const organization = grants.organizations.find((o) => o.id === context.organizationId)
  if (!organization) return 'context_forbidden'
  if (context.workspaceId !== null && !organization.workspaces.includes(context.workspaceId)) return 'context_forbidden'
  const reaches = grants.assignments.some(
    (a) =>
      live(a, now) &&
      (a.organization_id === null ||
        (a.organization_id === context.organizationId &&
          (a.workspace_id === null || context.workspaceId === null || a.workspace_id === context.workspaceId))),
  )
  if (!reaches) return 'context_forbidden'
  return organization.workspace_required && context.workspaceId === null ? 'context_required' : 'ok'
}

/** Must this user have a second factor: one of his roles asks for it, or an organization that one of them reaches into. */
export const needsMfa = (grants: Grants, now: number): boolean =>
  grants.assignments.some(
    (a) =>
      live(a, now) &&
      (a.mfa_required || grants.organizations.some((o) => o.mfa_required && (a.organization_id === null || a.organization_id === o.id))),
  )

/** Where a user lands at sign-in: where he was last, or the first place that he may work in. */
export function defaultContext(grants: Grants, now: number): Context {
  const last = { organizationId: grants.last_organization_id, workspaceId: grants.last_workspace_id }
  if (checkContext(grants, last, now) === 'ok') return last
  for (const { id, workspaces } of grants.organizations) {
    for (const workspaceId of [...workspaces, null]) {
      const context = { organizationId: id, workspaceId }
      if (checkContext(grants, context, now) === 'ok') return context
    }
  }
  return { organizationId: null, workspaceId: null }
}

/**
 * The largest amount that a user may approve in a context, as a decimal string; null is without limit. The highest of the
 * covering roles counts; a role that the organization's settings do not name approves nothing.
 */
export function approvalLimit(grants: Grants, context: Context, now: number): string | null {
  const limits = grants.organizations.find((o) => o.id === context.organizationId)?.approval_limits ?? {}
  let highest = decimal(0)
  for (const { role_id, ...scope } of grants.assignments) {
    const limit = limits[role_id]
    if (limit === undefined || !live(scope, now) || !covers(scope, context)) continue
    if (limit === null) return null
    if (highest.lt(limit)) highest = decimal(limit)
  }
  return highest.toString()
}
