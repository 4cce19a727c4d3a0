// Who can do what, and which rights deserve a second look.
import { setImmediate } from 'node:timers/promises'
import { type Static, Type } from 'typebox'
import { type Context, type Fragment, nullable, oneOf, sql, type Tx, Uuid } from '../kernel/index.ts'
import type { Tenant } from '../tenancy/index.ts'
import { accessOf, mustEnroll } from './explain.ts'
import { allGrants } from './grants.ts'
import type { PermissionEntry, Registry } from './level.ts'

/** An account that nobody used for so long, and still has rights. */
const DORMANT_DAYS = 90

export const MatrixRow = Type.Object({
  user_id: Uuid,
  name: Type.String(),
  email: Type.String(),
  kind: Type.String(),
  status: Type.String(),
  permissions: Type.Array(Type.String(), { description: 'What the user passes the gate of here now; none while they are locked, say' }),
})

/** Users that are read and evaluated at once: some milliseconds. */
const USERS_AT_ONCE = 50
const MAX_USERS = 10_000
const UserId = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Users of a place, for a reader who does not reach the tenant: those with an assignment or override that holds in it or in a part of it. */
function belongsTo({ reach, tenantId }: Tx, { organizationId, workspaceId }: Context): Fragment {
  if (reach === null || reach.tenant) return sql.fragment`true`
  const there = sql.fragment`tenant_id = ${tenantId} and user_id = u.id and (organization_id is null or (organization_id = ${organizationId}
    and (workspace_id is null or ${workspaceId}::uuid is null or workspace_id = ${workspaceId}::uuid)))`
  return sql.fragment`(exists (select from res_user_roles where ${there}) or exists (select from res_user_permission_overrides where ${there}))`
}

/**
 * The permissions whose gate every user passes in a place, in the order of the users' names. Users are read and evaluated in
 * small groups, so that neither memory nor the event loop depends on how many there are.
 */
export async function matrix(
  tx: Tx,
  tenant: Tenant,
  registry: Registry,
  context: Context,
  exhausted: boolean,
): Promise<Static<typeof MatrixRow>[]> {
  const entries = [...registry].sort(([a], [b]) => (a < b ? -1 : 1))
  const now = tx.now.getTime()
  const users = await tx.any(sql.prepared(UserId)`
    select id from res_users u where tenant_id = ${tx.tenantId} and deleted_at is null and ${belongsTo(tx, context)} order by name, id limit ${MAX_USERS}`)
  const rows: Static<typeof MatrixRow>[] = []
  for (let first = 0; first < users.length; first += USERS_AT_ONCE) {
    const ids = users.slice(first, first + USERS_AT_ONCE).map(({ id }) => id)
    for (const grants of await allGrants(tx, ids)) {
      const circumstances = { exhausted, lacksFactor: mustEnroll(tenant, grants, now), byKey: false }
      const passes = ([code, entry]: [string, PermissionEntry]) =>
        accessOf(tenant, grants, code, entry, circumstances, context, now).allowed
      rows.push({
        user_id: grants.user_id,
        name: grants.name,
        email: grants.email,
        kind: grants.kind,
        status: grants.status,
        permissions: entries.filter(passes).map(([code]) => code),
      })
    }
    await setImmediate()
  }
  return rows
}

export const Finding = Type.Object(
  {
    kind: oneOf([
      'everything_everywhere',
      'client_beyond_reading',
      'allow_without_end',
      'dormant_account',
      'expired_assignment',
      'expired_override',
      'unused_role',
    ]),
    user_id: nullable(Uuid),
    user: nullable(Type.String()),
    role: nullable(Type.String()),
    detail: Type.String(),
  },
  { additionalProperties: false },
)

/** What a security officer would ask about: dangerous rights first, unused ones after. */
export const findings = (tx: Tx): Promise<readonly Static<typeof Finding>[]> =>
  tx.any(sql.type(Finding)`
    with assigned as (
      select a.*, u.name as user_name, u.kind as user_kind, u.status, u.last_login_at, r.code,
        array(select p.permission from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id) as permissions
      from res_user_roles a
      join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.deleted_at is null
      join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id
      where a.tenant_id = ${tx.tenantId}),
    overridden as (
      select o.*, u.name as user_name, u.kind as user_kind from res_user_permission_overrides o
      join res_users u on u.tenant_id = o.tenant_id and u.id = o.user_id and u.deleted_at is null
      where o.tenant_id = ${tx.tenantId})
    select kind, user_id, "user", role, detail from (
      select 1 as rank, 'everything_everywhere' as kind, user_id, user_name as "user", code as role, 'holds * in the whole tenant' as detail
        from assigned where organization_id is null and status in ('active', 'invited') and '*' = any(permissions) and (expires_at is null or expires_at > now())
      union all
      select 2, 'client_beyond_reading', user_id, user_name, code, 'a client whose role does more than read'
        from assigned where user_kind = 'client' and (expires_at is null or expires_at > now()) and exists (select from unnest(permissions) as p where p not like '%.read')
      union all
      select 2, 'client_beyond_reading', user_id, user_name, null, permission || ' is allowed to a client'
        from overridden where effect = 'allow' and user_kind = 'client' and (expires_at is null or expires_at > now()) and permission not like '%.read'
      union all
      select 3, 'allow_without_end', user_id, user_name, null, permission || ' is allowed without end: ' || reason
        from overridden where effect = 'allow' and expires_at is null
      union all
      select distinct 4, 'dormant_account', user_id, user_name, null::text, 'not signed in for ' || ${DORMANT_DAYS}::int || ' days or ever'
        from assigned a where status = 'active' and (expires_at is null or expires_at > now())
          and greatest(coalesce(last_login_at, created_at), (
            select max(k.last_used_at) from res_api_keys k where k.tenant_id = a.tenant_id and k.user_id = a.user_id)) < now() - make_interval(days => ${DORMANT_DAYS})
      union all
      select 5, 'expired_assignment', user_id, user_name, code, 'ended ' || expires_at::date from assigned where expires_at <= now()
      union all
      select 6, 'expired_override', user_id, user_name, null, permission || ' ended ' || expires_at::date from overridden where expires_at <= now()
      union all
      select 7, 'unused_role', null, null, code, 'nobody has it' from res_roles r
        where r.tenant_id = ${tx.tenantId} and r.deleted_at is null
          and not exists (select from res_user_roles a where a.tenant_id = r.tenant_id and a.role_id = r.id)
    ) as f order by rank, "user", role, detail limit 5000`)
