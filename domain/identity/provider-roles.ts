// Roles that the groups of a provider give: the map, kept by role id, and the assignments that follow it.
import { Type } from 'typebox'
import { assertCanGrant, assignRole, type Granter, keepAnAdministrator, TENANT } from '../access/index.ts'
import { Failure, newId, nullable, sql, type Tx, Uuid } from '../kernel/index.ts'
import { record } from './trail.ts'

/** As the API has it: group → role code, and the code of the role for users without a mapped group. */
export interface RoleMapping {
  role_map?: Record<string, string>
  default_role?: string | null
}

/** As it is kept; a null group is the default. */
interface MappedRole {
  group: string | null
  roleId: string
}

/**
 * Resolves codes to role ids. The actor must hold each role in the whole tenant, because the provider gives it in their
 * name. Throws `invalid_reference`, `grant_exceeds`.
 */
export async function resolveRoleMapping(tx: Tx, granter: Granter, mapping: RoleMapping): Promise<MappedRole[]> {
  const { role_map = {}, default_role = null } = mapping
  const entries: [string | null, string, string][] = [
    ...Object.entries(role_map).map(([group, code]) => [group, code, '/role_map'] as [string, string, string]),
    ...(default_role ? [[null, default_role, '/default_role'] as [null, string, string]] : []),
  ]
  const ids = new Map<string, string>()
  for (const [, code, path] of entries) if (!ids.has(code)) ids.set(code, await assertCanGrant(tx, granter, code, TENANT, path))
  return entries.map(([group, code]) => ({ group, roleId: ids.get(code)! }))
}

/** Replaces the map of a provider. */
export async function setRoleMapping(tx: Tx, providerId: string, roles: readonly MappedRole[]): Promise<void> {
  await tx.query(sql.run`delete from res_identity_provider_roles where tenant_id = ${tx.tenantId} and provider_id = ${providerId}`)
  if (roles.length === 0) return
  await tx.query(sql.run`
    insert into res_identity_provider_roles (id, tenant_id, provider_id, group_name, role_id)
    select m.id, ${tx.tenantId}, ${providerId}, m.group_name, m.role_id
    from ${sql.unnest(
      roles.map(({ group, roleId }) => [newId(), group, roleId]),
      ['uuid', 'text', 'uuid'],
    )} as m (id, group_name, role_id)`)
}

/** Withdraws the roles that a provider's groups gave: they end with it. The caller keeps an administrator. */
export async function withdrawRolesOfProvider(tx: Tx, providerId: string): Promise<void> {
  await tx.query(sql.run`delete from res_user_roles where tenant_id = ${tx.tenantId} and provider_id = ${providerId}`)
}

const RoleState = Type.Object(
  {
    id: Uuid,
    assignment_id: nullable(Uuid),
    live: Type.Boolean(),
    given_here: Type.Boolean(),
    granted: Type.Boolean(),
  },
  { additionalProperties: false },
)

/**
 * Makes the roles that come from a provider's groups what the groups say now; roles given by hand are left alone. An expired
 * assignment by hand does not count as held and is renewed by the group. The last administrator keeps the role that makes
 * them one: a change at the provider must not leave the tenant without any.
 */
export async function followGroups(tx: Tx, providerId: string, userId: string, groups: readonly string[]): Promise<void> {
  const roles = await tx.any(sql.type(RoleState)`
    with granted as (
      select m.role_id from res_identity_provider_roles m
      where m.tenant_id = ${tx.tenantId} and m.provider_id = ${providerId} and m.group_name = any(${sql.array([...groups], 'text')})),
    effective as (
      select role_id from granted
      union select m.role_id from res_identity_provider_roles m
      where m.tenant_id = ${tx.tenantId} and m.provider_id = ${providerId} and m.group_name is null and not exists (select from granted))
    select r.id, a.id as assignment_id, a.id is not null and (a.expires_at is null or a.expires_at > ${tx.now.toISOString()}) as live,
      a.provider_id is not distinct from ${providerId}::uuid as given_here, r.id in (select role_id from effective) as granted
    from res_roles r
    left join res_user_roles a on a.tenant_id = r.tenant_id and a.role_id = r.id and a.user_id = ${userId} and a.organization_id is null
    where r.tenant_id = ${tx.tenantId} and r.deleted_at is null`)
  for (const role of roles) {
    if (role.granted && !role.assignment_id) await assignRole(tx, userId, role.id, { providerId })
    else if (role.granted && !role.live)
      await tx.query(sql.run`
        update res_user_roles set expires_at = null, provider_id = ${providerId}, version = version + 1, updated_at = ${tx.now.toISOString()}
        where tenant_id = ${tx.tenantId} and id = ${role.assignment_id}`)
    else if (!role.granted && role.assignment_id && role.given_here) await withdraw(tx, userId, role.assignment_id)
  }
}

async function withdraw(tx: Tx, userId: string, assignmentId: string): Promise<void> {
  try {
    await keepAnAdministrator(tx, userId, assignmentId)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return record(tx, 'res_users', userId, 'sso.last_administrator_kept', { assignment_id: assignmentId })
  }
  await tx.query(sql.run`
    delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${userId} and id = ${assignmentId}`)
}
