// What a tenant's security officer decides: how long sessions live, and who needs a second factor.
import { type Static, Type } from 'typebox'
import { assertHoldsRoles, type Granter } from '../access/index.ts'
import { failure, newId, sql, type Tx, Uuid } from '../kernel/index.ts'

export const SecurityPolicy = Type.Object(
  {
    session_idle_minutes: Type.Integer({ minimum: 30, maximum: 43_200, description: 'A session ends when it is not used for so long' }),
    session_absolute_hours: Type.Integer({
      minimum: 1,
      maximum: 2160,
      description:
        'A session ends after so long in any case. Shortened, it shortens open sessions, too; lengthened, it counts for sessions opened from now on',
    }),
    sso_counts_as_mfa: Type.Boolean({
      description:
        'Single sign-on alone satisfies the need for a second factor, and a local factor is not asked after it. Set it where the provider itself asks for two factors; by default a local factor is asked',
    }),
    mfa_roles: Type.Array(Type.String({ maxLength: 64 }), {
      uniqueItems: true,
      maxItems: 200,
      description: 'Codes of the roles that need a second factor',
    }),
    mfa_organizations: Type.Array(Uuid, {
      uniqueItems: true,
      maxItems: 200,
      description: 'Organizations that ask for a second factor of all who work there',
    }),
  },
  { additionalProperties: false },
)
export type SecurityPolicy = Static<typeof SecurityPolicy>

const Required = Type.Object(
  { roles: Type.Array(Type.String()), organizations: Type.Array(Type.String()) },
  { additionalProperties: false },
)

export async function securityPolicy(
  tx: Tx,
  settings: Pick<SecurityPolicy, 'session_idle_minutes' | 'session_absolute_hours' | 'sso_counts_as_mfa'>,
): Promise<SecurityPolicy> {
  const { roles, organizations } = await tx.one(sql.prepared(Required)`
    select array(select code from res_roles where tenant_id = ${tx.tenantId} and mfa_required and deleted_at is null order by code) as roles,
      array(select organization_id::text from res_organization_settings where tenant_id = ${tx.tenantId} and mfa_required order by 1) as organizations`)
  const { session_idle_minutes, session_absolute_hours, sso_counts_as_mfa } = settings
  return { session_idle_minutes, session_absolute_hours, sso_counts_as_mfa, mfa_roles: roles, mfa_organizations: organizations }
}

const RoleId = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Changes what is named and leaves the rest. Effective at the next request. Throws `invalid_reference`, `grant_exceeds`. */
export async function changeSecurityPolicy(
  tx: Tx,
  granter: Granter,
  { mfa_roles, mfa_organizations, ...settings }: Partial<SecurityPolicy>,
): Promise<void> {
  const now = tx.now.toISOString()
  if (mfa_roles) {
    const named = sql.array(mfa_roles, 'text')
    const { n } = await tx.one(sql.type(Type.Object({ n: Type.Integer() }))`
      select count(*) as n from res_roles where tenant_id = ${tx.tenantId} and code = any(${named}) and deleted_at is null`)
    if (n !== mfa_roles.length) throw failure('invalid_reference', { path: '/mfa_roles' })
    const changed = await tx.any(sql.type(RoleId)`
      update res_roles set mfa_required = not mfa_required, version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId} and deleted_at is null and mfa_required <> (code = any(${named})) returning id`)
    // Lifting the second factor of a role is changing the role.
    await assertHoldsRoles(
      tx,
      granter,
      changed.map(({ id }) => id),
    )
  }
  if (mfa_organizations) {
    const named = sql.array(mfa_organizations, 'uuid')
    const { n } = await tx.one(sql.type(Type.Object({ n: Type.Integer() }))`
      select count(*) as n from res_organizations where tenant_id = ${tx.tenantId} and id = any(${named}) and deleted_at is null`)
    if (n !== mfa_organizations.length) throw failure('invalid_reference', { path: '/mfa_organizations' })
    await tx.query(sql.run`
      update res_organization_settings set mfa_required = not mfa_required, version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId} and mfa_required <> (organization_id = any(${named}))`)
  }
  if (settings.session_absolute_hours !== undefined)
    await tx.query(sql.run`
      update res_sessions set expires_at = created_at + make_interval(hours => ${settings.session_absolute_hours}::int)
      where tenant_id = ${tx.tenantId} and revoked_at is null and expires_at > created_at + make_interval(hours => ${settings.session_absolute_hours}::int)`)
  if (Object.keys(settings).length > 0) {
    await tx.query(sql.run`
      insert into tenant_settings as s (id, tenant_id, name, value, set_by) values (${newId()}, ${tx.tenantId}, 'security', ${sql.jsonb(settings)}, ${tx.actor.userId})
      on conflict (tenant_id, name) do update set value = s.value || excluded.value, set_by = excluded.set_by, version = s.version + 1, updated_at = ${now}`)
  }
}
