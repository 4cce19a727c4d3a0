// Exceptions: one permission for one person, the last word over his roles.
import { type Static, Type } from 'typebox'
import { failure, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { matches, requireHolding } from './evaluate.ts'
import type { Grants } from './grants.ts'
import { keepAnAdministrator, override } from './manage.ts'
import { Pattern } from './roles.ts'

export const NewOverride = Type.Object(
  {
    permission: Pattern,
    effect: oneOf(['allow', 'deny']),
    reason: Type.String({ minLength: 1, maxLength: 500, examples: ['Stands in for Ana in August'] }),
    organization_id: Type.Optional(nullable(Uuid)),
    workspace_id: Type.Optional(nullable(Uuid)),
    expires_at: Type.Optional(nullable(Timestamp)),
  },
  { additionalProperties: false },
)
export type NewOverride = Static<typeof NewOverride>

export const OverrideInfo = Type.Object(
  {
    id: Uuid,
    permission: Type.String(),
    effect: Type.String(),
    reason: Type.String(),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    expires_at: nullable(Timestamp),
    granted_by: nullable(Uuid),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)

export const overridesOf = (tx: Tx, userId: string): Promise<readonly Static<typeof OverrideInfo>[]> =>
  tx.any(sql.prepared(OverrideInfo)`
    select id, permission, effect, reason, organization_id, workspace_id, expires_at, granted_by, created_at
    from res_user_permission_overrides where tenant_id = ${tx.tenantId} and user_id = ${userId} order by id limit 500`)

/**
 * Adds an exception on behalf of somebody. What it allows he must hold there; what it denies may not be the last
 * administrator's hold. Throws `grant_exceeds`, `last_administrator`, `invalid_value`, `invalid_reference`.
 */
export async function addOverride(tx: Tx, grantor: Grants, registry: Iterable<string>, userId: string, input: NewOverride): Promise<void> {
  const codes = [...registry]
  const { permission, effect, reason, organization_id, workspace_id, expires_at } = input
  if (!codes.some((code) => matches(permission, code))) {
    throw failure('invalid_value', { path: '/permission', rule: 'registry', message: 'covers no endpoint' })
  }
  if (expires_at && Date.parse(expires_at) <= tx.now.getTime()) {
    throw failure('invalid_value', { path: '/expires_at', rule: 'future', message: 'lies in the future' })
  }
  const scope = { organizationId: organization_id ?? null, workspaceId: workspace_id ?? null }
  if (effect === 'allow') {
    requireHolding(grantor, [permission], scope, codes, tx.now.getTime())
  } else if (matches(permission, 'rbac.assignment.create')) {
    await keepAnAdministrator(tx, userId)
  }
  await override(tx, userId, permission, effect, reason, { ...scope, expiresAt: expires_at ?? null })
}

/** Throws `not_found` for one that is not this user's. */
export async function removeOverride(tx: Tx, userId: string, overrideId: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    delete from res_user_permission_overrides where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${overrideId}`)
  if (rowCount === 0) throw failure('not_found')
}
