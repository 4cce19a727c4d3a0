// Whether an administrator may act on an account. Stands in for `assertCanAdminister` of domain/access.
import { allGrants, requireHolding } from '../access/index.ts'
import { failure, type Tx } from '../kernel/index.ts'
import type { Grantor } from './identity-providers.ts'

/**
 * The actor holds, in each scope of the target's assignments and allowing overrides, everything that the target account holds
 * there. Throws `not_found`, `grant_exceeds`.
 */
export async function assertHoldsAllOf(tx: Tx, { grants, registry }: Grantor, userId: string): Promise<void> {
  const [target] = await allGrants(tx, [userId])
  if (!target) throw failure('not_found')
  const codes = [...registry]
  const now = tx.now.getTime()
  const held = [
    ...target.assignments.map(({ permissions, role, ...scope }) => ({ permissions, role, ...scope })),
    ...target.overrides
      .filter(({ effect }) => effect === 'allow')
      .map(({ permission, ...scope }) => ({ permissions: [permission], role: null, ...scope })),
  ]
  for (const { permissions, role, organization_id, workspace_id, expires_at } of held) {
    if (expires_at && Date.parse(expires_at) <= now) continue
    const scope = { organizationId: organization_id, workspaceId: workspace_id }
    requireHolding(grants, permissions, scope, codes, now, role ? { role } : {})
  }
}
