// "Why can't I see this?", answered exactly.
import type { Context } from '../kernel/index.ts'
import { accessMode, type Tenant } from '../tenancy/index.ts'
import { checkContext, covers, evaluate, live, matches } from './evaluate.ts'
import type { Grants } from './grants.ts'

/** Everything that took part in a decision, and which of it decided. */
export function explain(tenant: Tenant, grants: Grants, permission: string, module: string | null, context: Context, now: number) {
  const { mode, reason } = accessMode(tenant, grants.kind, now)
  const contextVerdict = checkContext(grants, context, now)
  const availability = module ? (tenant.modules[module] ?? 'disabled') : 'enabled'
  const decision = evaluate(grants, permission, context, now)
  const decidedBy =
    mode === 'blocked'
      ? 'access_mode'
      : contextVerdict !== 'ok'
        ? 'context'
        : availability !== 'enabled'
          ? 'module'
          : decision.decided_by.kind
  return {
    user_id: grants.user_id,
    permission,
    context: { organization_id: context.organizationId, workspace_id: context.workspaceId },
    allowed: mode !== 'blocked' && contextVerdict === 'ok' && availability === 'enabled' && decision.allowed,
    decided_by: decidedBy,
    access_mode: { mode, reason },
    context_check: contextVerdict,
    module: { code: module, availability },
    roles: grants.assignments.map((a) => ({
      role: a.role,
      organization_id: a.organization_id,
      workspace_id: a.workspace_id,
      expires_at: a.expires_at,
      covers_context: covers(a, context),
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
        covers_context: covers(o, context),
        expired: !live(o, now),
        decided: decision.decided_by.kind === 'override' && decision.decided_by.override.id === o.id,
      })),
  }
}
