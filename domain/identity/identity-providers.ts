// OpenID Connect providers of a tenant, and what they say of people.
import { type Static, Type } from 'typebox'
import { assignRole } from '../access/index.ts'
import { failure, Name, newId, nullable, resource, row, sql, type Tx, Uuid } from '../kernel/index.ts'
import { type Account, accountByEmail, lockAccount } from './account.ts'
import { canonicalEmail } from './email.ts'
import { record } from './trail.ts'
import { requireRoomForUser } from './users.ts'

const Domain = Type.String({
  pattern: '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9-]{2,63}$',
  maxLength: 253,
  examples: ['acme.example'],
})
const RoleCode = Type.String({ minLength: 1, maxLength: 64, examples: ['operator'] })

export const IdentityProvider = row(
  'res_identity_providers',
  {
    name: Name,
    issuer: Type.String({
      pattern: '^https?://[^\\s?#]+$',
      maxLength: 500,
      examples: ['https://login.example.com'],
      description: 'Its discovery document lies below it',
    }),
    client_id: Type.String({ minLength: 1, maxLength: 300 }),
    domains: Type.Array(Domain, { minItems: 1, maxItems: 50, uniqueItems: true, description: 'Email domains that it vouches for' }),
    enforced: Type.Boolean({ default: false, description: 'People of these domains sign in in no other way' }),
    enabled: Type.Boolean({ default: true }),
    groups_claim: Type.String({
      default: 'groups',
      minLength: 1,
      maxLength: 100,
      description: 'Claim of the ID token that holds the groups',
    }),
    role_map: Type.Record(Type.String(), RoleCode, {
      default: {},
      description: 'Group → role code, for the whole tenant',
      examples: [{ growers: 'operator' }],
    }),
    default_role: nullable(RoleCode),
  },
  { scope: 'tenant' },
)

export const identityProviders = resource(IdentityProvider, {
  module: null,
  permission: 'tenant.identity_provider',
  filter: ['name', 'created_at'],
  sort: ['name', 'created_at'],
})

const Secret = Type.Object({ sealed: nullable(Type.String()) }, { additionalProperties: false })
/** What a client secret is sealed for. */
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

/** Where people of this tenant may sign in. */
export const offeredProviders = (tx: Tx): Promise<readonly Static<typeof Offer>[]> =>
  tx.any(sql.prepared(Offer)`
    select id, name from res_identity_providers where tenant_id = ${tx.tenantId} and enabled and deleted_at is null order by name limit 50`)

/** Refuses with `sso_required` somebody whose domain signs in through its company alone. Tells nothing of the account. */
export async function requireNoSso(tx: Tx, email: string): Promise<void> {
  const domain = canonicalEmail(email)?.split('@')[1] ?? ''
  const provider = await tx.maybeOne(sql.prepared(Offer)`
    select id, name from res_identity_providers
    where tenant_id = ${tx.tenantId} and enabled and enforced and deleted_at is null and ${domain} = any(domains) order by created_at limit 1`)
  if (provider) throw failure('sso_required', { provider: provider.name, start: `/api/v1/auth/sso/${provider.id}/start` })
}

/** What an ID token says, as far as we ask. */
export interface Vouched {
  subject: string
  email: string
  emailVerified: boolean
  name: string
  groups: readonly string[]
}

const Known = Type.Object({ user_id: Uuid }, { additionalProperties: false })
const refuse = (reason: string) => failure('sso_failed', { reason })

/**
 * Who somebody is here whom his provider vouches for: the user that this subject was before, or the one with his address,
 * or a new one. The provider speaks for its own domains only. His roles from groups become what the groups say now.
 * Of two first sign-ins at once the unique email and subject let one create; the other is refused and may try again.
 */
export async function admitVouched(
  tx: Tx,
  provider: { id: string; domains: readonly string[]; role_map: Record<string, string>; default_role: string | null },
  vouched: Vouched,
): Promise<Account> {
  const email = canonicalEmail(vouched.email)
  if (!email || !vouched.emailVerified) throw refuse('email_not_verified')
  if (!provider.domains.includes(email.split('@')[1]!)) throw refuse('foreign_domain')
  const known = await tx.maybeOne(sql.prepared(Known)`
    select user_id from res_user_identities where tenant_id = ${tx.tenantId} and provider_id = ${provider.id} and subject = ${vouched.subject}`)
  const userId = known?.user_id ?? (await accountByEmail(tx, email))?.id ?? (await createVouched(tx, email, vouched.name))
  const account = await lockAccount(tx, userId)
  if (!account || !['active', 'invited'].includes(account.status)) throw refuse('account_closed')
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    insert into res_user_identities as i (id, tenant_id, user_id, provider_id, subject, last_login_at)
    values (${newId()}, ${tx.tenantId}, ${userId}, ${provider.id}, ${vouched.subject}, ${now})
    on conflict (tenant_id, provider_id, subject) do update set last_login_at = excluded.last_login_at`)
  if (account.status === 'invited' || !account.verified_at) {
    await tx.query(sql.run`
      update res_users set status = 'active', verified_at = coalesce(verified_at, ${now}), version = version + 1, updated_at = ${now}
      where tenant_id = ${tx.tenantId} and id = ${userId}`)
  }
  await followGroups(tx, provider, userId, vouched.groups)
  return (await lockAccount(tx, userId))!
}

async function createVouched(tx: Tx, email: string, name: string): Promise<string> {
  await requireRoomForUser(tx)
  const id = newId()
  await tx.query(sql.run`
    insert into res_users (id, tenant_id, email, name, kind, status, verified_at)
    values (${id}, ${tx.tenantId}, ${email}, ${name.slice(0, 200) || email}, 'worker', 'active', ${tx.now.toISOString()})`)
  await record(tx, 'res_users', id, 'user.provisioned')
  tx.emit({ type: 'identity.user.provisioned', entity_id: id, version: 1, data: { id } })
  return id
}

const RoleRow = Type.Object({ id: Uuid, held: Type.Boolean(), wanted: Type.Boolean() }, { additionalProperties: false })

/** Gives and takes the roles that come from the provider's groups; those given by hand are left alone. */
async function followGroups(
  tx: Tx,
  provider: { id: string; role_map: Record<string, string>; default_role: string | null },
  userId: string,
  groups: readonly string[],
): Promise<void> {
  const mapped = groups.flatMap((group) => (Object.hasOwn(provider.role_map, group) ? [provider.role_map[group]!] : []))
  const codes = mapped.length > 0 || !provider.default_role ? mapped : [provider.default_role]
  const roles = await tx.any(sql.type(RoleRow)`
    select r.id, a.id is not null as held, r.code = any(${sql.array(codes, 'text')}) as wanted
    from res_roles r
    left join res_user_roles a on a.tenant_id = r.tenant_id and a.role_id = r.id and a.user_id = ${userId} and a.organization_id is null
    where r.tenant_id = ${tx.tenantId} and r.deleted_at is null`)
  const lost = roles.filter((role) => role.held && !role.wanted).map((role) => role.id)
  if (lost.length > 0) {
    await tx.query(sql.run`
      delete from res_user_roles where tenant_id = ${tx.tenantId} and user_id = ${userId} and provider_id = ${provider.id} and role_id = any(${sql.array(lost, 'uuid')})`)
  }
  for (const role of roles) if (role.wanted && !role.held) await assignRole(tx, userId, role.id, { providerId: provider.id })
}
