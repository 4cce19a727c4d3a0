// Proof that the email domains of a provider belong to the tenant, by a TXT record in the DNS.
//
// Each claim has a random value of its own, so a published record is the consent of the domain's owner to this tenant and this
// provider. Two tenants of one company may prove the same domain, each by its own record: accounts belong to a tenant, and a
// proof at one gives nothing at the other. Within a tenant a domain belongs to one provider, by unique index.
import { randomBytes } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { failure, newId, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

export const ProviderDomain = Type.Object(
  {
    id: Uuid,
    domain: Type.String(),
    record: Type.String({ description: 'Name of the TXT record to publish' }),
    value: Type.String({ description: 'Content of the TXT record' }),
    verified_at: nullable(Timestamp),
    proven_by: nullable(
      oneOf(['dns', 'tenant_domain', 'grandfathered'], {
        description:
          '`dns`: by this record; `tenant_domain`: the same name is a proven host name of the tenant; `grandfathered`: in use before proofs existed',
      }),
    ),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type ProviderDomain = Static<typeof ProviderDomain>

const selectDomains = sql.fragment`
  select id, domain, '_tenantry.' || domain as record, 'tenantry-sso-verification=' || verification_token as value, verified_at, proven_by, created_at
  from res_identity_provider_domains`

/** The domains of a provider with their proofs, by name. */
export const providerDomains = (tx: Tx, providerId: string): Promise<readonly ProviderDomain[]> =>
  tx.any(sql.prepared(ProviderDomain)`
    ${selectDomains} where tenant_id = ${tx.tenantId} and provider_id = ${providerId} order by domain limit 50`)

/** Throws `not_found`. */
export async function providerDomain(tx: Tx, providerId: string, id: string): Promise<ProviderDomain> {
  const found = await tx.maybeOne(sql.prepared(ProviderDomain)`
    ${selectDomains} where tenant_id = ${tx.tenantId} and provider_id = ${providerId} and id = ${id}`)
  if (!found) throw failure('not_found')
  return found
}

const HostName = Type.Object({ proven: Type.Boolean() }, { additionalProperties: false })

/**
 * Whether the tenant has proven exactly this name as a host name of its own: the same control of the same DNS name. A proven
 * `erp.flora.example` says nothing about `flora.example`, nor the other way round.
 */
async function isProvenHostName(tx: Tx, domain: string): Promise<boolean> {
  const { proven } = await tx.one(sql.prepared(HostName)`
    select exists (select from tenant_domains t where t.tenant_id = ${tx.tenantId} and t.domain = ${domain} and t.verified_at is not null)
      and not exists (select from res_identity_provider_domains d where d.tenant_id = ${tx.tenantId} and d.domain = ${domain} and d.verified_at is not null)
      as proven`)
  return proven
}

/** Makes the claims of a provider equal to its listed domains. A new claim is proven at once by a proven host name of that name. */
export async function syncDomains(tx: Tx, providerId: string, listed: readonly string[]): Promise<void> {
  await tx.query(sql.run`
    delete from res_identity_provider_domains
    where tenant_id = ${tx.tenantId} and provider_id = ${providerId} and domain <> all(${sql.array([...listed], 'text')})`)
  for (const domain of listed) {
    const proven = await isProvenHostName(tx, domain)
    const verifiedAt = proven ? tx.now.toISOString() : null
    await tx.query(sql.run`
      insert into res_identity_provider_domains (id, tenant_id, provider_id, domain, verification_token, verified_at, proven_by)
      values (${newId()}, ${tx.tenantId}, ${providerId}, ${domain}, ${randomBytes(20).toString('hex')}, ${verifiedAt}, ${proven ? 'tenant_domain' : null})
      on conflict (tenant_id, provider_id, domain) do nothing`)
  }
}

/** Takes the proofs of a provider back, so that another provider can prove its domains. */
export async function unproveDomains(tx: Tx, providerId: string): Promise<void> {
  await tx.query(sql.run`
    update res_identity_provider_domains set verified_at = null, proven_by = null, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and provider_id = ${providerId} and verified_at is not null`)
}

/**
 * Records the proof of a domain. `shown`: whether the DNS shows the record, looked up before the transaction. A grandfathered
 * domain becomes a proven one. Throws `not_found`, `already_exists` where another provider of the tenant proved it first,
 * `invalid_value` where there is no proof.
 */
export async function verifyProviderDomain(tx: Tx, providerId: string, id: string, shown: boolean): Promise<ProviderDomain> {
  const { domain, record, value, proven_by } = await providerDomain(tx, providerId, id)
  if (proven_by === 'dns' || (proven_by === 'tenant_domain' && !shown)) return providerDomain(tx, providerId, id)
  if (!shown && !(await isProvenHostName(tx, domain)))
    throw failure('invalid_value', {
      rule: 'dns',
      record,
      value,
      message: 'the DNS does not show this TXT record yet: publish it and try again',
    })
  await tx.query(sql.run`
    update res_identity_provider_domains set verified_at = ${tx.now.toISOString()}, proven_by = ${shown ? 'dns' : 'tenant_domain'}, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  return providerDomain(tx, providerId, id)
}

const Proof = Type.Object({ proven_by: nullable(Type.String()) }, { additionalProperties: false })

/** How a domain is proven for a provider: `foreign` where it is not listed, null where it is listed without proof. */
export async function proofOf(tx: Tx, providerId: string, domain: string): Promise<string | null> {
  const claim = await tx.maybeOne(sql.prepared(Proof)`
    select proven_by from res_identity_provider_domains where tenant_id = ${tx.tenantId} and provider_id = ${providerId} and domain = ${domain}`)
  return claim ? claim.proven_by : 'foreign'
}
