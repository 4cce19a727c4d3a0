// OpenID Connect providers of a tenant: setting up, changing, deleting.
import { type Static, Type } from 'typebox'
import { type Granter, keepingAnAdministrator } from '../access/index.ts'
import { failure, Name, nullable, oneOf, type RowOf, resource, row, sql, type Tx, Uuid } from '../kernel/index.ts'
import { mailAdministrators } from '../tenancy/index.ts'
import { accountById } from './account.ts'
import { canonicalEmail } from './email.ts'
import { type ProviderDomain, syncDomains, unproveDomains, verifyProviderDomain } from './provider-domains.ts'
import { type RoleMapping, resolveRoleMapping, setRoleMapping, withdrawRolesOfProvider } from './provider-roles.ts'
import { endSessionsOfProvider, suspendLinks } from './sso-links.ts'

const Domain = Type.String({
  pattern: '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9-]{2,63}$',
  maxLength: 253,
  examples: ['acme.example'],
})
const RoleCode = Type.String({ minLength: 1, maxLength: 64, examples: ['operator'] })

/** Conditions of a provider that its administrators should correct or know. */
const Finding = oneOf(
  ['domain_unproven', 'domain_grandfathered', 'domain_proven_elsewhere', 'role_deleted', 'links_suspended', 'email_trusted_unverified'],
  {
    description:
      '`domain_unproven`: a listed domain has no proof and counts for nothing; `domain_grandfathered`: it was in use before proofs existed, publish its record; `domain_proven_elsewhere`: another provider of this tenant holds it; `role_deleted`: a group maps to a deleted role and gives nothing; `links_suspended`: users wait for a confirmation; `email_trusted_unverified`: `trust_email` is on',
  },
)

export const IdentityProvider = row(
  'res_identity_providers',
  {
    name: Name,
    issuer: Type.String({
      pattern: '^https?://[^\\s?#]+$',
      maxLength: 500,
      examples: ['https://login.example.com'],
      description: 'Base of the discovery document. Changing it clears the client secret, suspends all links and lifts `enforced`',
    }),
    client_id: Type.String({
      minLength: 1,
      maxLength: 300,
      description: 'Changing it clears the client secret, suspends all links and lifts `enforced`',
    }),
    domains: Type.Array(Domain, {
      minItems: 1,
      maxItems: 50,
      uniqueItems: true,
      description: 'Email domains whose users sign in here. A domain counts once it is proven, see `proven_domains`',
    }),
    enforced: Type.Boolean({
      default: false,
      description:
        'Users of the proven domains sign in in no other way. The administrator who sets it has signed in here and has a confirmed link first, and one administrator of another domain keeps their password or passkey',
    }),
    enabled: Type.Boolean({
      default: true,
      description: 'Switching it off ends all sessions that came through it and withdraws the roles that its groups gave',
    }),
    groups_claim: Type.String({
      default: 'groups',
      minLength: 1,
      maxLength: 100,
      description: 'Claim of the ID token that holds the groups',
    }),
    trust_email: Type.Boolean({
      default: false,
      description:
        'Accepts ID tokens without an `email_verified` claim. Risk: at a provider that lets its users type any address, each of them can claim the address of another and be provisioned as that person. Set it only where administrators alone assign addresses. `false` in the claim is refused in any case',
    }),
    scopes: Type.Array(Type.String({ pattern: '^[\\x21\\x23-\\x5b\\x5d-\\x7e]{1,100}$' }), {
      minItems: 1,
      maxItems: 20,
      uniqueItems: true,
      default: ['openid', 'email', 'profile'],
      description: 'Scopes that are asked for, such as `groups`; `openid` always is',
      examples: [['openid', 'email', 'profile', 'groups']],
    }),
    sync_profile: Type.Boolean({
      default: false,
      description:
        'Takes over the name of linked users at each sign-in, and their address where it is verified, of a domain proven for this provider and not taken',
    }),
    proven_domains: Type.Array(Type.String(), { description: 'The listed domains that count' }),
    role_map: Type.Record(Type.String(), RoleCode, {
      description: 'Group → role, shown by code and kept by id, for the whole tenant',
      examples: [{ growers: 'operator' }],
    }),
    default_role: nullable(RoleCode),
    has_client_secret: Type.Boolean(),
    findings: Type.Array(Finding),
  },
  {
    scope: 'tenant',
    computed: {
      proven_domains: (column) => sql.fragment`array(
        select d.domain from res_identity_provider_domains d
        where d.tenant_id = ${column('tenant_id')} and d.provider_id = ${column('id')} and d.verified_at is not null order by d.domain)`,
      role_map: (column) => sql.fragment`coalesce((
        select jsonb_object_agg(m.group_name, r.code) from res_identity_provider_roles m
        join res_roles r on r.tenant_id = m.tenant_id and r.id = m.role_id and r.deleted_at is null
        where m.tenant_id = ${column('tenant_id')} and m.provider_id = ${column('id')} and m.group_name is not null), '{}')`,
      default_role: (column) => sql.fragment`(
        select r.code from res_identity_provider_roles m
        join res_roles r on r.tenant_id = m.tenant_id and r.id = m.role_id and r.deleted_at is null
        where m.tenant_id = ${column('tenant_id')} and m.provider_id = ${column('id')} and m.group_name is null)`,
      has_client_secret: (column) => sql.fragment`${column('client_secret')} is not null`,
      findings: (column) => sql.fragment`array(
        select 'domain_unproven' from res_identity_provider_domains d
        where d.tenant_id = ${column('tenant_id')} and d.provider_id = ${column('id')} and d.verified_at is null
        union select 'domain_grandfathered' from res_identity_provider_domains d
        where d.tenant_id = ${column('tenant_id')} and d.provider_id = ${column('id')} and d.proven_by = 'grandfathered'
        union select 'domain_proven_elsewhere' from res_identity_provider_domains d
        join res_identity_provider_domains o on o.tenant_id = d.tenant_id and o.domain = d.domain and o.verified_at is not null
        where d.tenant_id = ${column('tenant_id')} and d.provider_id = ${column('id')} and d.verified_at is null
        union select 'role_deleted' from res_identity_provider_roles m
        join res_roles r on r.tenant_id = m.tenant_id and r.id = m.role_id and r.deleted_at is not null
        where m.tenant_id = ${column('tenant_id')} and m.provider_id = ${column('id')}
        union select 'links_suspended' from res_user_identities i
        where i.tenant_id = ${column('tenant_id')} and i.provider_id = ${column('id')} and i.status = 'suspended'
        union select 'email_trusted_unverified' where ${column('trust_email')}
        order by 1)`,
    },
  },
)
export type IdentityProvider = RowOf<typeof IdentityProvider>

const mapping = {
  role_map: Type.Optional(
    Type.Record(Type.String({ minLength: 1, maxLength: 300 }), RoleCode, {
      maxProperties: 500,
      description: 'Group → role code, for the whole tenant. Replaces the map as a whole',
      examples: [{ growers: 'operator' }],
    }),
  ),
  default_role: Type.Optional(nullable(RoleCode)),
}
/** Bodies of create and change: the row's own columns and the role map, by codes. */
export const NewIdentityProvider = Type.Object({ ...IdentityProvider.input.properties, ...mapping }, { additionalProperties: false })
export const IdentityProviderPatch = Type.Object({ ...IdentityProvider.patch.properties, ...mapping }, { additionalProperties: false })
type Input = RoleMapping & Partial<Pick<IdentityProvider, 'issuer' | 'client_id' | 'domains' | 'enforced' | 'enabled'>>

export const identityProviders = resource(IdentityProvider, {
  module: null,
  permission: 'tenant.identity_provider',
  filter: ['name', 'created_at'],
  sort: ['name', 'created_at'],
})

const splitMapping = <I extends object>(input: I): { roles: RoleMapping; own: Omit<I, keyof RoleMapping> } => {
  const { role_map, default_role, ...own } = input as RoleMapping
  return {
    roles: { ...(role_map === undefined ? {} : { role_map }), ...(default_role === undefined ? {} : { default_role }) },
    own: own as never,
  }
}

/** Locks the provider's row: admissions read it `for share`, so none of them overlaps a change. Throws `not_found`. */
async function lockForChange(tx: Tx, id: string): Promise<IdentityProvider> {
  const { rowCount } = await tx.query(sql.run`
    select 1 from res_identity_providers where tenant_id = ${tx.tenantId} and id = ${id} for update`)
  if (rowCount === 0) throw failure('not_found')
  return identityProviders.get(tx, id)
}

/**
 * Enforcement must not lock anybody out by a provider that does not work: a user has signed in through it and has an active
 * link, and where it covers the address of the administrator who switches it on, they have. Throws `sso_not_linked`.
 */
async function assertActorSignsInHere(tx: Tx, id: string): Promise<void> {
  const provider = await identityProviders.get(tx, id)
  if (!provider.enforced || !provider.enabled || provider.proven_domains.length === 0) return
  const account = tx.actor.userId ? await accountById(tx, tx.actor.userId) : null
  const covered = account !== null && provider.proven_domains.includes(account.email.split('@')[1]!)
  const linked = await tx.exists(sql.run`
    select 1 from res_user_identities
    where tenant_id = ${tx.tenantId} and provider_id = ${id} and status = 'active' and (${!covered} or user_id = ${account?.id ?? null}) limit 1`)
  if (!linked) throw failure('sso_not_linked', linkDetails(provider))
}

/** Details of a refusal that a confirmed link would lift: where to sign in, and where to confirm. */
export const linkDetails = ({ id, name }: { id: string; name: string }) => ({
  provider: name,
  start: `/api/v1/auth/sso/${id}/start`,
  links: '/api/v1/auth/sso/links',
})

/** Tells the administrators what was changed of a provider, in names of settings. */
const mailProviderChange = (tx: Tx, provider: string, changes: readonly string[]): Promise<void> =>
  mailAdministrators(tx, 'sso_provider_changed', { provider, changes: changes.join(', '), time: tx.now.toISOString() })

/** Sets up a provider. Its domains count once proven. Throws `already_exists`, `invalid_reference`, `grant_exceeds`. */
export async function createIdentityProvider(tx: Tx, granter: Granter, input: object): Promise<IdentityProvider> {
  const { roles, own } = splitMapping(input as Input)
  const resolved = await resolveRoleMapping(tx, granter, roles)
  const created = await keepingAnAdministrator(tx, async () => {
    const made = await identityProviders.create(tx, own)
    await setRoleMapping(tx, made.id, resolved)
    await syncDomains(tx, made.id, made.domains)
    await assertActorSignsInHere(tx, made.id)
    return made
  })
  await mailProviderChange(tx, created.name, ['created'])
  return identityProviders.get(tx, created.id)
}

/**
 * Changes a provider. The actor must hold every role of the resulting map, whichever setting they change: issuer, domains and
 * claim decide who gets them. A new issuer or client id is another provider: the secret, which was for the old one, is
 * cleared, all links are suspended, and enforcement ends, because no user could sign in before confirming their link.
 * Throws `version_conflict`, `already_exists`, `invalid_reference`, `invalid_value`, `grant_exceeds`, `sso_not_linked`,
 * `last_administrator`.
 */
export async function updateIdentityProvider(
  tx: Tx,
  granter: Granter,
  id: string,
  version: number,
  patch: object,
): Promise<IdentityProvider> {
  // The provider before the tenant, as an admission has it.
  const before = await lockForChange(tx, id)
  return keepingAnAdministrator(tx, () => change(tx, granter, before, version, patch))
}

async function change(tx: Tx, granter: Granter, before: IdentityProvider, version: number, patch: object): Promise<IdentityProvider> {
  const { id } = before
  const { roles, own } = splitMapping(patch as Input)
  const resolved = await resolveRoleMapping(tx, granter, { role_map: before.role_map, default_role: before.default_role, ...roles })
  const replaced = (['issuer', 'client_id'] as const).filter((name) => own[name] !== undefined && own[name] !== before[name])
  if (replaced.length > 0 && own.enforced)
    throw failure('invalid_value', {
      path: '/enforced',
      rule: 'links_suspended',
      message: 'can be set again once links of the new provider are confirmed',
    })
  const changed = await identityProviders.update(tx, id, version, { ...own, ...(replaced.length > 0 ? { enforced: false } : {}) })
  if (Object.keys(roles).length > 0) await setRoleMapping(tx, id, resolved)
  if (replaced.length > 0) {
    await tx.query(sql.run`update res_identity_providers set client_secret = null where tenant_id = ${tx.tenantId} and id = ${id}`)
    await suspendLinks(tx, changed, 'provider_changed')
  }
  const otherDomains = own.domains !== undefined && own.domains.toSorted().join() !== before.domains.toSorted().join()
  if (otherDomains) await syncDomains(tx, id, changed.domains)
  if (before.enabled && !changed.enabled) {
    await endSessionsOfProvider(tx, id, 'provider_disabled')
    await withdrawRolesOfProvider(tx, id)
  }
  await assertActorSignsInHere(tx, id)
  const told = [...replaced, ...(otherDomains ? ['domains'] : []), ...(before.enabled === changed.enabled ? [] : ['enabled'])]
  if (told.length > 0) await mailProviderChange(tx, changed.name, told)
  return identityProviders.get(tx, id)
}

/**
 * Deletes a provider: its domains lose their proofs, its links are suspended, sessions through it end, and the roles that its
 * groups gave are withdrawn. Throws `version_conflict`, `not_found`, `last_administrator`.
 */
export async function deleteIdentityProvider(tx: Tx, id: string, version: number): Promise<void> {
  const before = await lockForChange(tx, id)
  await keepingAnAdministrator(tx, async () => {
    await identityProviders.softDelete(tx, id, version)
    await suspendLinks(tx, before, 'provider_deleted')
    await unproveDomains(tx, id)
    await withdrawRolesOfProvider(tx, id)
  })
  await mailProviderChange(tx, before.name, ['deleted'])
}

/** Recovers a deleted provider. Its links stay suspended and its domains unproven. Throws `not_found`, `already_exists`, `grant_exceeds`. */
export async function recoverIdentityProvider(tx: Tx, granter: Granter, id: string): Promise<IdentityProvider> {
  const recovered = await keepingAnAdministrator(tx, async () => {
    const provider = await identityProviders.recover(tx, id)
    await resolveRoleMapping(tx, granter, { role_map: provider.role_map, default_role: provider.default_role })
    await syncDomains(tx, id, provider.domains)
    await assertActorSignsInHere(tx, id)
    return provider
  })
  await mailProviderChange(tx, recovered.name, ['recovered'])
  return identityProviders.get(tx, id)
}

/**
 * Records the proof of a domain, see `verifyProviderDomain`; from then on an enforced provider covers its users. Throws as
 * that, `sso_not_linked`, `last_administrator`.
 */
export const proveDomain = (tx: Tx, id: string, domainId: string, shown: boolean): Promise<ProviderDomain> =>
  keepingAnAdministrator(tx, async () => {
    const proven = await verifyProviderDomain(tx, id, domainId, shown)
    await assertActorSignsInHere(tx, id)
    return proven
  })

const Secret = Type.Object({ sealed: nullable(Type.String()) }, { additionalProperties: false })
/** Purpose under which client secrets are sealed. */
export const CLIENT_SECRET_PURPOSE = 'res_identity_providers.client_secret'

/** Keeps a client secret; null makes it a public client. Throws `not_found`. */
export async function setClientSecret(tx: Tx, id: string, sealed: Buffer | null): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update res_identity_providers set client_secret = decode(${sealed?.toString('hex') ?? null}, 'hex'), version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and deleted_at is null`)
  if (rowCount === 0) throw failure('not_found')
}

export async function sealedClientSecret(tx: Tx, id: string): Promise<Buffer | null> {
  const { sealed } = await tx.one(sql.prepared(Secret)`
    select encode(client_secret, 'hex') as sealed from res_identity_providers where tenant_id = ${tx.tenantId} and id = ${id}`)
  return sealed ? Buffer.from(sealed, 'hex') : null
}

const Offer = Type.Object({ id: Uuid, name: Type.String() }, { additionalProperties: false })

/** The providers that users of this tenant may sign in at. */
export const offeredProviders = (tx: Tx): Promise<readonly Static<typeof Offer>[]> =>
  tx.any(sql.prepared(Offer)`
    select id, name from res_identity_providers where tenant_id = ${tx.tenantId} and enabled and deleted_at is null order by name limit 50`)

/**
 * Refuses an address whose domain signs in through its company alone: the domain is proven, and its provider enabled and
 * enforced. The answer depends on the domain, never on whether the account exists. Throws `sso_required`.
 */
export async function requireNoSso(tx: Tx, email: string): Promise<void> {
  const domain = canonicalEmail(email)?.split('@')[1] ?? ''
  const provider = await tx.maybeOne(sql.prepared(Offer)`
    select p.id, p.name from res_identity_provider_domains d
    join res_identity_providers p on p.tenant_id = d.tenant_id and p.id = d.provider_id and p.enabled and p.enforced and p.deleted_at is null
    where d.tenant_id = ${tx.tenantId} and d.domain = ${domain} and d.verified_at is not null`)
  if (provider) throw failure('sso_required', { provider: provider.name, start: `/api/v1/auth/sso/${provider.id}/start` })
}
