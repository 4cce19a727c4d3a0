// Overrides: one permission allowed or denied to one user, with precedence over their roles.
import { type Static, Type } from 'typebox'
import { type Context, failure, inReach, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
import { isNeeded, keepAnAdministrator } from './administrators.ts'
import { assertCanAdminister, assertHolds, assertHoldsUntil, assertMay, assertScopeExists, type Granter } from './authority.ts'
import { assertFuture, lockUsers, override } from './manage.ts'
import { matches } from './pattern.ts'
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

/** A user's overrides in the scopes that the unit of work reaches. */
export const overridesOf = (tx: Tx, userId: string): Promise<readonly Static<typeof OverrideInfo>[]> =>
  tx.any(sql.prepared(OverrideInfo)`
    select id, permission, effect, reason, organization_id, workspace_id, expires_at, granted_by, created_at
    from res_user_permission_overrides o where tenant_id = ${tx.tenantId} and user_id = ${userId}
      and ${inReach(tx, sql.fragment`o.organization_id`, sql.fragment`o.workspace_id`)} order by id limit 500`)

/**
 * Adds an override on behalf of an actor. What it allows, and what it denies, the actor must hold in its scope; to deny, they
 * must also hold what the user holds there. Throws `not_found`, `permission_denied`, `grant_exceeds`, `last_administrator`,
 * `invalid_value`, `invalid_reference`, `already_exists`.
 */
export async function addOverride(tx: Tx, granter: Granter, userId: string, input: NewOverride): Promise<void> {
  const { permission, effect, reason, organization_id, workspace_id, expires_at } = input
  if (![...granter.registry.keys()].some((code) => matches(permission, code))) {
    throw failure('invalid_value', { path: '/permission', rule: 'registry', message: 'covers no endpoint' })
  }
  assertFuture(tx, expires_at, '/expires_at')
  const scope = { organizationId: organization_id ?? null, workspaceId: workspace_id ?? null }
  const now = tx.now.getTime()
  assertMay(granter, 'rbac.override.create', scope, now)
  if (!(await lockUsers(tx, [userId])).has(userId)) throw failure('not_found')
  await lockTenant(tx)
  await assertScopeExists(tx, scope)
  if (effect === 'allow') assertHoldsUntil(granter, [permission], scope, now, expires_at ?? null)
  else await assertMayDeny(tx, granter, userId, permission, scope)
  await replaceEnded(tx, userId, permission, scope)
  await override(tx, userId, permission, effect, reason, { ...scope, expiresAt: expires_at ?? null })
}

/** Refuses a deny of what the actor does not hold, of a user whom they may not administer, or of the last administrator. */
async function assertMayDeny(tx: Tx, granter: Granter, userId: string, permission: string, scope: Context): Promise<void> {
  assertHolds(granter, [permission], scope, tx.now.getTime())
  await assertCanAdminister(tx, granter, userId, scope)
  if (isNeeded((code) => matches(permission, code))) await keepAnAdministrator(tx, userId)
}

/**
 * One override of a permission and user in a scope: an ended one is replaced, a live one refused with `already_exists`. The
 * tenant's lock, which the caller holds, lets one of two requests at once look after the other has committed.
 */
async function replaceEnded(tx: Tx, userId: string, permission: string, { organizationId, workspaceId }: Context): Promise<void> {
  const same = sql.fragment`
    tenant_id = ${tx.tenantId} and user_id = ${userId} and permission = ${permission} and organization_id is not distinct from ${organizationId}::uuid
    and workspace_id is not distinct from ${workspaceId}::uuid`
  await tx.query(sql.run`delete from res_user_permission_overrides where ${same} and expires_at <= ${tx.now.toISOString()}`)
  if (await tx.exists(sql.run`select 1 from res_user_permission_overrides where ${same}`))
    throw failure('already_exists', { fields: ['permission', 'organization_id', 'workspace_id'] })
}

const Existing = Type.Object(
  { permission: Type.String(), organization_id: nullable(Uuid), workspace_id: nullable(Uuid) },
  { additionalProperties: false },
)

/**
 * Ends an override on behalf of an actor. Ending a deny is granting and ending an allow is withdrawing: both need the
 * permission in the override's scope. Throws `not_found` for an override of another user, `permission_denied`,
 * `grant_exceeds`.
 */
export async function removeOverride(tx: Tx, granter: Granter, userId: string, overrideId: string): Promise<void> {
  const existing = await tx.maybeOne(sql.prepared(Existing)`
    select permission, organization_id, workspace_id from res_user_permission_overrides o
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${overrideId}
      and ${inReach(tx, sql.fragment`o.organization_id`, sql.fragment`o.workspace_id`)} for update`)
  if (!existing) throw failure('not_found')
  const scope = { organizationId: existing.organization_id, workspaceId: existing.workspace_id }
  assertMay(granter, 'rbac.override.delete', scope, tx.now.getTime())
  assertHolds(granter, [existing.permission], scope, tx.now.getTime())
  await tx.query(sql.run`
    delete from res_user_permission_overrides where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${overrideId}`)
}

const Ending = Type.Object(
  { effect: oneOf(['allow', 'deny']), ...Existing.properties, expires_at: nullable(Timestamp) },
  { additionalProperties: false },
)

/**
 * Changes the end of an override; null is without end. The actor must hold what it allows until the new end; a deny in either
 * direction takes what making one takes. Throws `not_found` for an override of another user, `permission_denied`,
 * `grant_exceeds`, `invalid_value`, `last_administrator`.
 */
export async function changeOverrideEnd(
  tx: Tx,
  granter: Granter,
  userId: string,
  overrideId: string,
  expiresAt: string | null,
): Promise<void> {
  await lockTenant(tx)
  const existing = await tx.maybeOne(sql.prepared(Ending)`
    select effect, permission, organization_id, workspace_id, expires_at from res_user_permission_overrides o
    where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${overrideId}
      and ${inReach(tx, sql.fragment`o.organization_id`, sql.fragment`o.workspace_id`)} for update`)
  if (!existing) throw failure('not_found')
  assertFuture(tx, expiresAt, '/expires_at')
  const scope = { organizationId: existing.organization_id, workspaceId: existing.workspace_id }
  const now = tx.now.getTime()
  assertMay(granter, 'rbac.override.create', scope, now)
  // An earlier end withdraws it.
  const end = (at: string | null) => (at === null ? Number.POSITIVE_INFINITY : Date.parse(at))
  if (end(expiresAt) < end(existing.expires_at)) assertMay(granter, 'rbac.override.delete', scope, now)
  await assertScopeExists(tx, scope)
  if (existing.effect === 'allow') assertHoldsUntil(granter, [existing.permission], scope, now, expiresAt)
  else await assertMayDeny(tx, granter, userId, existing.permission, scope)
  await tx.query(sql.run`
    update res_user_permission_overrides set expires_at = ${expiresAt}, granted_by = ${tx.actor.userId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${overrideId}`)
}
