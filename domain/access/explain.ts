// "Why can't I see this?", answered exactly.
import type { Context, Reach } from '../kernel/index.ts'
import { accessMode, type Tenant } from '../tenancy/index.ts'
import { decideOnLevel, reachOf } from './decide.ts'
import { approvalLimit, checkContext, covers, evaluate, live, needsMfa } from './evaluate.ts'
import type { Grants } from './grants.ts'
import { type PermissionEntry, scopeOfLevel, TENANT } from './level.ts'
import { matches } from './pattern.ts'

/** What decides beside the user's rights and the tenant's state. */
export interface Circumstances {
  /** Whether the plan's calls of this month are used up. */
  exhausted: boolean
  /** Whether the session lacks a second factor that its user needs. */
  lacksFactor: boolean
  /** Whether an API key asks, and not a signed-in user. */
  byKey: boolean
}

/** Whether a user, of whose session nothing is known, must add a second factor before they work. */
export const mustEnroll = (tenant: Tenant, grants: Grants, now: number): boolean =>
  needsMfa(grants, now) && !grants.mfa && !tenant.security.sso_counts_as_mfa

/**
 * What a request of a user who works in `context` is answered at the gate of a permission: every check of the plugins, in their
 * order. Without a user's session, a session with every factor that they have.
 */
export function accessOf(
  tenant: Tenant,
  grants: Grants,
  permission: string,
  entry: PermissionEntry,
  { exhausted, lacksFactor, byKey }: Circumstances,
  context: Context,
  now: number,
) {
  const { module, mutates, level } = entry
  const inPath = level === 'organization' && entry.organizationInPath
  const ofPath = { organizationId: context.organizationId, workspaceId: null }
  const scope = level === 'shared' ? heldScope(grants, permission, context, now) : inPath ? ofPath : scopeOfLevel(entry, context)
  const { mode, reason } = grants.verified
    ? accessMode(tenant, grants.kind, now)
    : ({ mode: 'blocked', reason: 'user_not_verified' } as const)
  const contextCheck = level === 'workspace' || (level === 'organization' && !inPath) ? checkContext(grants, context, now) : 'ok'
  const availability = module ? (tenant.modules[module] ?? 'disabled') : 'enabled'
  const decision =
    level === 'shared' || inPath ? evaluate(grants, permission, scope, now) : decideOnLevel(grants, permission, entry, context, now)
  const refusals: [boolean, string][] = [
    [grants.status !== 'active', 'user_status'],
    [byKey && entry.sessionOnly, 'session'],
    [!byKey && lacksFactor, 'second_factor'],
    [mode === 'blocked' || (mode === 'read_only' && mutates && !entry.allowReadOnly), 'access_mode'],
    [contextCheck !== 'ok', 'context'],
    [exhausted, 'plan_limit'],
    [availability !== 'enabled' && (availability !== 'read_only' || mutates), 'module'],
  ]
  const refusal = refusals.find(([refused]) => refused)?.[1]
  return {
    allowed: refusal === undefined && decision.allowed,
    decidedBy: refusal ?? decision.decided_by.kind,
    scope,
    decision,
    contextCheck,
    mode: { mode, reason },
    availability,
  }
}

/** Everything that took part in a decision, and which of it decided. */
export function explain(
  tenant: Tenant,
  grants: Grants,
  permission: string,
  entry: PermissionEntry,
  circumstances: Circumstances,
  context: Context,
  now: number,
) {
  const { module, level } = entry
  const answer = accessOf(tenant, grants, permission, entry, circumstances, context, now)
  const { scope, decision } = answer
  return {
    user_id: grants.user_id,
    permission,
    context: { organization_id: context.organizationId, workspace_id: context.workspaceId },
    level,
    decided_in: { organization_id: scope.organizationId, workspace_id: scope.workspaceId },
    allowed: answer.allowed,
    decided_by: answer.decidedBy,
    user_status: grants.status,
    access_mode: answer.mode,
    context_check: answer.contextCheck,
    second_factor_missing: circumstances.lacksFactor,
    module: { code: module, availability: answer.availability },
    plan: { code: tenant.plan, limits: tenant.limits, api_calls_used_up: circumstances.exhausted },
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
  if (evaluate(grants, permission, context, now).allowed) return context
  if (tenant) return TENANT
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
