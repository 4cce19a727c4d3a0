// A company's own host names. One is used once its owner has shown in the DNS that it is his.
import { randomBytes } from 'node:crypto'
import { domainToASCII } from 'node:url'
import { type Static, Type } from 'typebox'
import { failure, newId, nullable, sql, Timestamp, type Tx, Uuid, Version } from '../kernel/index.ts'
import { lockTenant } from './tenant.ts'

/** Reads the TXT records of a name; rejects where there are none. */
export type ResolveTxt = (name: string) => Promise<string[][]>

const MAX_DOMAINS = 20

export const Domain = Type.Object(
  {
    id: Uuid,
    domain: Type.String(),
    record: Type.String({ description: 'The name of the TXT record that shows whose it is' }),
    value: Type.String({ description: 'What it says' }),
    verified_at: nullable(Timestamp),
    version: Version,
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type Domain = Static<typeof Domain>

const selectDomains = sql.fragment`
  select id, domain, '_tenantry.' || domain as record, 'tenantry-verification=' || verification_token as value, verified_at, version, created_at from tenant_domains`

export const domains = (tx: Tx): Promise<readonly Domain[]> =>
  tx.any(sql.prepared(Domain)`${selectDomains} where tenant_id = ${tx.tenantId} order by domain`)

/** Throws `not_found`. */
export async function domainById(tx: Tx, id: string): Promise<Domain> {
  const found = await tx.maybeOne(sql.prepared(Domain)`${selectDomains} where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (!found) throw failure('not_found')
  return found
}

/** One spelling a name: small letters, Punycode. Null for what is no name of two parts or more, or is one of ours. */
function canonicalDomain(domain: string, baseDomain: string): string | null {
  const name = domainToASCII(domain.trim().replace(/\.$/, '')).toLowerCase()
  if (name.length > 253 || !/^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$/.test(name)) return null
  return name === baseDomain || name.endsWith(`.${baseDomain}`) ? null : name
}

/** Keeps a name that the tenant says is its own. Throws `invalid_value`, `already_exists`, `in_use` for too many. */
export async function addDomain(tx: Tx, domain: string, baseDomain: string): Promise<Domain> {
  const name = canonicalDomain(domain, baseDomain)
  if (!name)
    throw failure('invalid_value', {
      path: '/domain',
      rule: 'domain',
      message: `is a name such as erp.flora.example, not under ${baseDomain}`,
    })
  // The tenant's row serializes two who add at once.
  await lockTenant(tx)
  const known = await domains(tx)
  if (known.some((one) => one.domain === name)) throw failure('already_exists', { fields: ['domain'] })
  if (known.length >= MAX_DOMAINS) throw failure('in_use', { reason: `a tenant has ${MAX_DOMAINS} domains at most` })
  const id = newId()
  await tx.query(sql.run`
    insert into tenant_domains (id, tenant_id, domain, verification_token) values (${id}, ${tx.tenantId}, ${name}, ${randomBytes(20).toString('hex')})`)
  return domainById(tx, id)
}

/** Whether the DNS says what it should. Asked before the transaction: another's server is not waited for with a lock held. */
export async function isShown({ record, value }: Pick<Domain, 'record' | 'value'>, resolve: ResolveTxt): Promise<boolean> {
  const records = await resolve(record).catch(() => [])
  return records.some((parts) => parts.join('') === value)
}

/**
 * Takes a name into use; it is served from the next request on. Two tenants may claim one name, and the unique index lets
 * the one have it that shows it first. Throws `not_found`, `already_exists`, `invalid_value` where the DNS does not say so.
 */
export async function verifyDomain(tx: Tx, id: string, shown: boolean): Promise<Domain> {
  const domain = await domainById(tx, id)
  if (domain.verified_at) return domain
  const { record, value } = domain
  if (!shown)
    throw failure('invalid_value', {
      rule: 'dns',
      record,
      value,
      message: 'the DNS does not show this TXT record yet: set it and try again',
    })
  await tx.query(sql.run`
    update tenant_domains set verified_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id}`)
  return domainById(tx, id)
}

/** Throws `not_found`. */
export async function removeDomain(tx: Tx, id: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`delete from tenant_domains where tenant_id = ${tx.tenantId} and id = ${id}`)
  if (rowCount === 0) throw failure('not_found')
}
