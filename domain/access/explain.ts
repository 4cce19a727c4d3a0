// "Why can't I see this?", answered exactly.
import type { Context, Reach } from '../kernel/index.ts'
import { accessMode, type Tenant } from '../tenancy/index.ts'
import { decideOnLevel, reachOf } from './decide.ts'
import { approvalLimit, checkContext, covers, evaluate, live } from './evaluate.ts'
import type { Grants } from './grants.ts'
import { type PermissionEntry, scopeOfLevel } from './level.ts'
import { matches } from './pattern.ts'

/** What is asked of, beside the permission itself. */
export interface Asked {
  entry: Pick<PermissionEntry, 'module' | 'mutates' | 'level'>
  /** Whether the plan's calls of this month are used up. */
  exhausted: boolean
}

/** Everything that took part in a decision, and which of it decided. */
export function explain(tenant: Tenant, grants: Grants, permission: string, { entry, exhausted }: Asked, context: Context, now: number) {
  const { module, mutates, level } = entry
  const scope = level === 'shared' ? heldScope(grants, permission, context, now) : scopeOfLevel(entry, context)
  const { mode, reason } = accessMode(tenant, grants.kind, now)
  const contextVerdict = level === 'tenant' || level === 'object' ? 'ok' : checkContext(grants, context, now)
  const availability = module ? (tenant.modules[module] ?? 'disabled') : 'enabled'
  const open = availability === 'enabled' || (availability === 'read_only' && !mutates)
  const decision = level === 'shared' ? evaluate(grants, permission, scope, now) : decideOnLevel(grants, permission, entry, context, now)
  const decidedBy =
    mode === 'blocked'
      ? 'access_mode'
      : contextVerdict !== 'ok'
        ? 'context'
        : exhausted
          ? 'plan_limit'
          : !open
            ? 'module'
            : decision.decided_by.kind
  return {
    user_id: grants.user_id,
    permission,
    context: { organization_id: context.organizationId, workspace_id: context.workspaceId },
    level,
    decided_in: { organization_id: scope.organizationId, workspace_id: scope.workspaceId },
    allowed: mode !== 'blocked' && contextVerdict === 'ok' && !exhausted && open && decision.allowed,
    decided_by: decidedBy,
    access_mode: { mode, reason },
    context_check: contextVerdict,
    module: { code: module, availability },
    plan: { code: tenant.plan, limits: tenant.limits, api_calls_used_up: exhausted },
    approval_limit: permission.endsWith('.approve') ? approvalLimit(grants, context, now) : null,
    roles: grants.assignments.map((a) => ({
      role: a.role,
      organization_id: a.organization_id,
      workspace_id: a.workspace_id,
      expires_at: a.expires_at,
      covers_context: covers(a, scope),
      expired: !live(a, now),
      grants_by: a.permissions.filter((p) => matches(p, permission)),
    })),
    overrides: grants.overrides
      .filter((o) => matches(o.permission, permission))
      .map((o) => ({
        effect: o.effect,
        permission: o.permission,
        reason: o.reason,
        organization_id: o.organization_id,
        workspace_id: o.workspace_id,
        expires_at: o.expires_at,
        covers_context: covers(o, scope),
        expired: !live(o, now),
        decided: decision.decided_by.kind === 'override' && decision.decided_by.override.id === o.id,
      })),
  }
}

/** Shared data is read with the permission in any scope: the context where it is held there, else one where it is. */
function heldScope(grants: Grants, permission: string, context: Context, now: number): Context {
  const { tenant, organizations, workspaces } = reachOf(grants, permission, now)
  if (tenant || evaluate(grants, permission, context, now).allowed) return context
  const [workspaceId = null] = workspaces
  const owner = grants.organizations.find((o) => organizations.includes(o.id) || (workspaceId && o.workspaces.includes(workspaceId)))
  return owner ? { organizationId: owner.id, workspaceId: organizations.includes(owner.id) ? null : workspaceId } : context
}

/**
 * The grants of a user as far as an asker's reach: assignments and overrides of the whole tenant, which hold everywhere, and
 * those of scopes that are reached. Null for a user who has nothing there and belongs to other scopes.
 */
export function withinReach(grants: Grants, { tenant, organizations, workspaces, whole }: Reach): Grants | null {
  if (tenant) return grants
  const isReached = ({ organization_id, workspace_id }: { organization_id: string | null; workspace_id: string | null }) =>
    organization_id === null ||
    whole.has(organization_id) ||
    (workspace_id === null ? organizations.includes(organization_id) : workspaces.includes(workspace_id))
  const [assignments, overrides] = [grants.assignments.filter(isReached), grants.overrides.filter(isReached)]
  const isElsewhere = assignments.length + overrides.length === 0 && grants.assignments.length + grants.overrides.length > 0
  return isElsewhere ? null : { ...grants, assignments, overrides }
}
