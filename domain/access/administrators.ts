// The administrators of a tenant: who they are, and the invariant that one of them can always sign in.
import { type Static, Type } from 'typebox'
import { failure, sql, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'

/** Permissions without which an administrator cannot put rights and users in order. */
const NEEDED = [
  'rbac.assignment.create',
  'rbac.assignment.delete',
  'rbac.override.create',
  'rbac.override.delete',
  'rbac.role.update',
  'identity.user.invite',
  'identity.user.enable',
  'identity.user.unlock',
]

/** Whether a pattern covers a permission that an administrator needs. */
export const isNeeded = (covers: (code: string) => boolean): boolean => NEEDED.some(covers)

const Administrator = Type.Object(
  {
    user_id: Uuid,
    assignment_id: Uuid,
    /** Signs in without an identity provider: by password or passkey, which no provider bars. */
    own: Type.Boolean(),
  },
  { additionalProperties: false },
)
type Administrator = Static<typeof Administrator>

/**
 * Assignments of everything, everywhere, without end, to workers who can sign in and to whom nothing that they need is denied.
 * Locks the tenant's row first, in a statement of its own: of two changes that remove each other's administrator, the second
 * looks only when the first has committed.
 */
async function administrators(tx: Tx): Promise<readonly Administrator[]> {
  await lockTenant(tx)
  return tx.any(sql.prepared(Administrator)`
    select a.user_id, a.id as assignment_id, w.own
    from res_user_roles a
    join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.kind = 'worker' and u.status = 'active' and u.verified_at is not null and u.deleted_at is null
    cross join lateral (
      select (u.password_hash is not null or exists (
          select from res_user_mfa f where f.tenant_id = u.tenant_id and f.user_id = u.id and f.kind = 'webauthn' and f.confirmed_at is not null))
        and not exists (
          select from res_identity_provider_domains d
          join res_identity_providers p on p.tenant_id = d.tenant_id and p.id = d.provider_id and p.enabled and p.enforced and p.deleted_at is null
          where d.tenant_id = u.tenant_id and d.verified_at is not null and d.domain = split_part(lower(u.email), '@', 2)) as own) as w
    where a.tenant_id = ${tx.tenantId} and a.organization_id is null and a.expires_at is null
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')
      and not exists (
        select from res_user_permission_overrides o cross join unnest(${sql.array(NEEDED, 'text')}) as needed
        where o.tenant_id = a.tenant_id and o.user_id = a.user_id and o.effect = 'deny' and (o.expires_at is null or o.expires_at > ${tx.now.toISOString()})
          and needed like replace(replace(o.permission, '_', '\\_'), '*', '%'))
      and (w.own or exists (
        select from res_user_identities i
        join res_identity_providers p on p.tenant_id = i.tenant_id and p.id = i.provider_id and p.enabled and p.deleted_at is null
        where i.tenant_id = u.tenant_id and i.user_id = u.id and i.status = 'active'
          and (i.email is null or exists (
            select from res_identity_provider_domains d
            where d.tenant_id = i.tenant_id and d.provider_id = i.provider_id and d.domain = split_part(i.email, '@', 2) and d.verified_at is not null))))`)
}

/**
 * Refuses with `last_administrator` a change that leaves no administrator, or none who signs in without an identity provider
 * (the break-glass account: a provider that fails or is changed must not lock the tenant out). What was missing before the
 * change is not asked of it.
 */
function assertKept(before: readonly Administrator[], after: readonly Administrator[]): void {
  if (before.length > 0 && after.length === 0) throw failure('last_administrator')
  if (before.some(({ own }) => own) && !after.some(({ own }) => own))
    throw failure(
      'last_administrator',
      { signs_in_by: ['password', 'passkey'] },
      'Keep one administrator who signs in by password or passkey, outside of the enforced domains.',
    )
}

/** Refuses with `last_administrator` when without this user, or this one assignment of theirs, no administrator is left. */
export async function keepAnAdministrator(tx: Tx, userId: string, assignmentId: string | null = null): Promise<void> {
  const before = await administrators(tx)
  assertKept(
    before,
    before.filter((a) => a.user_id !== userId || (assignmentId !== null && a.assignment_id !== assignmentId)),
  )
}

/** Makes a change, and refuses it with `last_administrator` where it took the last one's rights or way to sign in. */
export async function keepingAnAdministrator<T>(tx: Tx, change: () => Promise<T>): Promise<T> {
  const before = await administrators(tx)
  const result = await change()
  assertKept(before, await administrators(tx))
  return result
}

const ToTell = Type.Object({ id: Uuid }, { additionalProperties: false })

/** The users who are told what concerns the whole tenant: those who may do everything in it now, twenty at most. */
export async function administratorIds(tx: Tx): Promise<string[]> {
  const found = await tx.any(sql.prepared(ToTell)`
    select distinct u.id from res_user_roles a join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.status = 'active' and u.deleted_at is null
    where a.tenant_id = ${tx.tenantId} and a.organization_id is null and (a.expires_at is null or a.expires_at > ${tx.now.toISOString()})
      and exists (select from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id and p.permission = '*')
    order by u.id limit 20`)
  return found.map(({ id }) => id)
}
