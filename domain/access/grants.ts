// What a user was given, read whole: a decision never asks the database twice.
import { type Static, Type } from 'typebox'
import { type Database, jsonTime, Numbering, nullable, oneOf, sql, systemScope, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

const Scope = { organization_id: nullable(Uuid), workspace_id: nullable(Uuid), expires_at: nullable(Timestamp) }
const Assignment = Type.Object(
  { id: Uuid, role_id: Uuid, role: Type.String(), permissions: Type.Array(Type.String()), mfa_required: Type.Boolean(), ...Scope },
  { additionalProperties: false },
)
const Override = Type.Object(
  { id: Uuid, permission: Type.String(), effect: oneOf(['allow', 'deny']), reason: Type.String(), ...Scope },
  { additionalProperties: false },
)
const Organization = Type.Object(
  {
    id: Uuid,
    currency: Type.String(),
    workspace_required: Type.Boolean(),
    mfa_required: Type.Boolean(),
    /** Role id → the largest amount, in the organization's currency; null is without limit. */
    approval_limits: Type.Record(Type.String(), nullable(Type.String())),
    over_receipt_tolerance: Type.String(),
    numbering: Numbering,
    fiscal_year_start_month: Type.Integer(),
    workspaces: Type.Array(Uuid),
  },
  { additionalProperties: false },
)

/**
 * The part of a user's grants that a program or staff in the user's place uses: these permissions, in these scopes, each until
 * its end (RFC 3339; null is without end).
 */
export interface Restriction {
  permissions: readonly string[]
  scopes: readonly { organization_id: string | null; workspace_id: string | null; expires_at: string | null }[]
}

const Given = Type.Object(
  {
    user_id: Uuid,
    email: Type.String(),
    name: Type.String(),
    kind: oneOf(['worker', 'client', 'service']),
    status: Type.String(),
    verified: Type.Boolean(),
    locale: nullable(Type.String()),
    timezone: nullable(Type.String()),
    /** Has a second factor. */
    mfa: Type.Boolean(),
    last_organization_id: nullable(Uuid),
    last_workspace_id: nullable(Uuid),
    assignments: Type.Array(Assignment),
    overrides: Type.Array(Override),
    organizations: Type.Array(Organization),
  },
  { additionalProperties: false },
)
export type Grants = Static<typeof Given> & { restriction?: Restriction }
export type Assignment = Static<typeof Assignment>
export type Override = Static<typeof Override>

/** Reads users' grants whole; the caller adds the condition. */
const selectGrants = sql.fragment`
    select u.id as user_id, u.email, u.name, u.kind, u.status, u.verified_at is not null as verified, u.locale, u.timezone,
      exists (select from res_user_mfa f where f.tenant_id = u.tenant_id and f.user_id = u.id and f.kind <> 'recovery' and f.confirmed_at is not null) as mfa,
      u.last_organization_id, u.last_workspace_id,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', a.id, 'role_id', r.id, 'role', r.code, 'organization_id', a.organization_id, 'workspace_id', a.workspace_id,
          'expires_at', ${jsonTime('a.expires_at')}, 'mfa_required', r.mfa_required,
          'permissions', coalesce((select jsonb_agg(p.permission order by p.permission) from res_role_permissions p where p.tenant_id = a.tenant_id and p.role_id = a.role_id), '[]')) order by a.id)
        from res_user_roles a join res_roles r on r.tenant_id = a.tenant_id and r.id = a.role_id and r.deleted_at is null
        where a.tenant_id = u.tenant_id and a.user_id = u.id), '[]') as assignments,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', o.id, 'permission', o.permission, 'effect', o.effect, 'reason', o.reason,
          'organization_id', o.organization_id, 'workspace_id', o.workspace_id, 'expires_at', ${jsonTime('o.expires_at')}) order by o.id)
        from res_user_permission_overrides o where o.tenant_id = u.tenant_id and o.user_id = u.id), '[]') as overrides,
      coalesce((
        select jsonb_agg(jsonb_build_object('id', g.id, 'currency', g.currency, 'workspace_required', coalesce(s.workspace_required, false), 'mfa_required', coalesce(s.mfa_required, false),
          'approval_limits', coalesce(s.approval_limits, '{}'), 'over_receipt_tolerance', coalesce(s.over_receipt_tolerance, 0)::text,
          'numbering', coalesce(s.numbering, '{}'), 'fiscal_year_start_month', coalesce(s.fiscal_year_start_month, 1),
          'workspaces', coalesce((select jsonb_agg(w.id order by w.code) from res_workspaces w where w.tenant_id = g.tenant_id and w.organization_id = g.id and w.deleted_at is null), '[]')) order by g.code)
        from res_organizations g left join res_organization_settings s on s.tenant_id = g.tenant_id and s.organization_id = g.id
        where g.tenant_id = u.tenant_id and g.deleted_at is null), '[]') as organizations
    from res_users u`

/** Everything that decides about a user, in one statement; null for a user that does not exist in this tenant. */
export async function loadGrants(control: Database, tenantId: string, userId: string): Promise<Grants | null> {
  return control.read(systemScope(tenantId, 'access', ''), (tx) =>
    tx.maybeOne(sql.prepared(Given)`${selectGrants} where u.tenant_id = ${tenantId} and u.id = ${userId} and u.deleted_at is null`),
  )
}

/** Those of all users, or of some, in the order of their names. */
export const allGrants = (tx: Tx, userIds: readonly string[] | null = null): Promise<readonly Grants[]> =>
  tx.any(sql.type(Given)`
    ${selectGrants} where u.tenant_id = ${tx.tenantId} and u.deleted_at is null
      and ${userIds ? sql.fragment`u.id = any(${sql.array([...userIds], 'uuid')})` : sql.fragment`true`} order by u.name, u.id limit 10000`)
