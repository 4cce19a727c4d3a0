// The tenant's consent that platform staff changes data while they act in a user's place.
import { type Static, Type } from 'typebox'
import { failure, inReach, newId, nullable, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { assertHoldsUntil, assertMay, assertScopeExists, type Granter } from './authority.ts'

const MAX_DAYS = 30

export const NewSupportConsent = Type.Object(
  {
    organization_id: Type.Optional(nullable(Uuid)),
    workspace_id: Type.Optional(nullable(Uuid)),
    reason: Type.String({ minLength: 10, maxLength: 500, examples: ['Ticket 4711: correct the totals of order PO-2026-00012'] }),
    expires_at: Timestamp,
  },
  { additionalProperties: false, description: `Without an organization it covers the whole tenant. It ends within ${MAX_DAYS} days.` },
)

export const SupportConsent = Type.Object(
  {
    id: Uuid,
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    reason: Type.String(),
    expires_at: Timestamp,
    granted_by: Uuid,
    revoked_at: nullable(Timestamp),
    revoked_by: nullable(Uuid),
    version: Type.Integer(),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type SupportConsent = Static<typeof SupportConsent>

const shown = sql.fragment`id, organization_id, workspace_id, reason, expires_at, granted_by, revoked_at, revoked_by, version, created_at`

/** The last 200 consents in the scopes that the unit of work reaches, ended ones included, the newest first. */
export const supportConsents = (tx: Tx): Promise<readonly SupportConsent[]> =>
  tx.any(sql.prepared(SupportConsent)`
    select ${shown} from res_support_consents where tenant_id = ${tx.tenantId} and ${inReach(tx, sql.fragment`organization_id`, sql.fragment`workspace_id`)}
    order by created_at desc, id desc limit 200`)

/**
 * Consents to changes in a scope in which the actor holds everything, because staff may act there in any user's place. Throws
 * `permission_denied`, `grant_exceeds`, `invalid_value`.
 */
export async function giveSupportConsent(tx: Tx, granter: Granter, input: Static<typeof NewSupportConsent>): Promise<SupportConsent> {
  const scope = { organizationId: input.organization_id ?? null, workspaceId: input.workspace_id ?? null }
  const now = tx.now.getTime()
  assertMay(granter, 'tenant.support_consent.create', scope, now)
  await assertScopeExists(tx, scope)
  assertHoldsUntil(granter, ['*'], scope, now, input.expires_at)
  const ends = Date.parse(input.expires_at)
  if (ends <= now || ends > now + MAX_DAYS * 86_400_000) {
    throw failure('invalid_value', { path: '/expires_at', rule: 'future', message: `lies in the next ${MAX_DAYS} days` })
  }
  return tx.one(sql.prepared(SupportConsent)`
    insert into res_support_consents (id, tenant_id, organization_id, workspace_id, reason, expires_at, granted_by, created_at, updated_at)
    values (${newId()}, ${tx.tenantId}, ${scope.organizationId}, ${scope.workspaceId}, ${input.reason}, ${input.expires_at}, ${tx.actor.userId},
      ${tx.now.toISOString()}, ${tx.now.toISOString()})
    returning ${shown}`)
}

/** Withdraws a consent; sessions of staff are read-only from the next request on. Throws `not_found` where it has ended. */
export async function withdrawSupportConsent(tx: Tx, id: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update res_support_consents set revoked_at = ${tx.now.toISOString()}, revoked_by = ${tx.actor.userId}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and revoked_at is null and expires_at > ${tx.now.toISOString()}
      and ${inReach(tx, sql.fragment`organization_id`, sql.fragment`workspace_id`)}`)
  if (rowCount === 0) throw failure('not_found')
}
