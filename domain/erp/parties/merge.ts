// One party that was written down twice: found, and made one.
import { type Static, Type } from 'typebox'
import { failure, type RowOf, sql, type Tx, Uuid } from '../../kernel/index.ts'
import { Party, parties } from './party.ts'
import { canonicalMail, canonicalPhone, PartyContact } from './reach.ts'

export const Description = Type.Object(
  {
    name: Type.Optional(Party.properties.name),
    tax_id: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    email: Type.Optional(Type.String({ maxLength: 254 })),
    phone: Type.Optional(Type.String({ maxLength: 40 })),
  },
  { additionalProperties: false, minProperties: 1 },
)

export const Duplicate = Type.Object(
  {
    id: Uuid,
    code: Type.String(),
    name: Type.String(),
    reasons: Type.Array(Type.String({ description: 'tax_id, email, phone or name' })),
    likeness: Type.Number({ description: 'Of the names, 0 to 1: the share of trigrams in common' }),
  },
  { additionalProperties: false },
)
type Duplicates = Promise<readonly Static<typeof Duplicate>[]>
const MAX_FOUND = 20

/** What one may be known by; mail addresses and telephones as the hashes that stand in the table, in hexadecimal. */
interface Marks {
  name: string | null
  tax_id: string | null
  mails: string[]
  phones: string[]
}

/** Parties with one of these marks but for one, surest first. Nothing sealed need be opened for it. */
const alike = (tx: Tx, { name, tax_id, mails, phones }: Marks, except: string | null): Duplicates => {
  const { tenantId: tenant } = tx
  const { organizationId: organization } = tx.context
  const reached = (reason: string, column: string, hashes: string[]) => sql.fragment`
    select party_id, ${reason}::text, 0::real from erp_party_contact
    where tenant_id = ${tenant} and organization_id = ${organization} and deleted_at is null
      and ${sql.identifier([column])} = any(array(select decode(hash, 'hex') from unnest(${sql.array(hashes, 'text')}) as hash))`
  return tx.any(sql.prepared(Duplicate)`
    with found (id, reason, likeness) as (
      select id, 'tax_id', 0::real from erp_party
      where tenant_id = ${tenant} and organization_id = ${organization} and deleted_at is null
        and upper(regexp_replace(tax_id, '[^A-Za-z0-9]', '', 'g')) = upper(regexp_replace(${tax_id}::text, '[^A-Za-z0-9]', '', 'g'))
      union all ${reached('email', 'email_index', mails)}
      union all ${reached('phone', 'phone_index', phones)}
      union all
      select id, 'name', likeness
      from plane.similar_ids('erp_party'::regclass, 'name', ${tenant}::uuid, ${organization}::uuid, ${name}::text, ${MAX_FOUND + 1})
    )
    select p.id, p.code, p.name, array_agg(distinct f.reason) as reasons, max(f.likeness)::float8 as likeness
    from found f join erp_party p on p.tenant_id = ${tenant} and p.organization_id = ${organization} and p.id = f.id and p.deleted_at is null
    where p.id is distinct from ${except}::uuid
    group by p.id, p.code, p.name
    order by count(distinct f.reason) filter (where f.reason <> 'name') desc, max(f.likeness) desc, p.id limit ${MAX_FOUND}`)
}

/** Properties of a description that are compared with contacts: they tell whom the tenant knows. */
export const asksForContacts = ({ email, phone }: Static<typeof Description>): boolean => email !== undefined || phone !== undefined

/** Parties that may be the one described: by tax number, mail address, telephone or a name that is like it. */
export async function duplicatesOf(tx: Tx, { name, tax_id, email, phone }: Static<typeof Description>): Duplicates {
  const hashes = async (column: string, value: string | undefined) =>
    value === undefined ? [] : [(await tx.secrets.blind(`${PartyContact.table}.${column}`, value)).toString('hex')]
  const [mails, phones] = await Promise.all([
    hashes('email', email && canonicalMail(email)),
    hashes('phone', phone && canonicalPhone(phone)),
  ])
  return alike(tx, { name: name ?? null, tax_id: tax_id ?? null, mails, phones }, null)
}

const Known = Type.Object({ mails: Type.Array(Type.String()), phones: Type.Array(Type.String()) }, { additionalProperties: false })

/**
 * Parties that may be the same as this one. Throws `not_found`.
 * @param withContacts whether mail addresses and telephones are compared, too
 */
export async function duplicatesOfParty(tx: Tx, id: string, withContacts: boolean): Duplicates {
  const { name, tax_id } = await parties.get(tx, id)
  if (!withContacts) return alike(tx, { name, tax_id, mails: [], phones: [] }, id)
  const known = await tx.one(sql.prepared(Known)`
    select coalesce(array_agg(encode(email_index, 'hex')) filter (where email_index is not null), '{}') as mails,
      coalesce(array_agg(encode(phone_index, 'hex')) filter (where phone_index is not null), '{}') as phones
    from erp_party_contact where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and party_id = ${id} and deleted_at is null`)
  return alike(tx, { name, tax_id, ...known }, id)
}

/** Every column that names a party. A test compares them with the database's references. */
export const PARTY_REFERENCES = [
  ['erp_party', 'parent_id'],
  ['erp_party_address', 'party_id'],
  ['erp_party_contact', 'party_id'],
  ['erp_supplier_product', 'supplier_id'],
  ['erp_client_product', 'client_id'],
  ['erp_price_list', 'client_id'],
  ['erp_purchase_order', 'supplier_id'],
  ['erp_supplier_return', 'supplier_id'],
  ['erp_landed_cost', 'supplier_id'],
] as const

/** Where a party has at most one row for a product: what the one that stays has already is not moved to it. */
const ONE_A_PRODUCT = { erp_supplier_product: 'supplier_id', erp_client_product: 'client_id' } as const

/**
 * Makes one party of two: everything that refers to `id` refers to `into` from now on, `id` is deleted and says what it
 * became; its history stays its own. `into` gets its roles, and what it did not have itself. Throws `not_found`,
 * `version_conflict`, `invalid_reference`, `invalid_value`.
 *
 * Both rows are held alone, in the order of their ids: an order that is just being written for one of them has either
 * committed, and is moved, or waits and finds the party gone (`checkReferences`).
 */
export async function mergeParty(tx: Tx, id: string, into: string, version: number): Promise<RowOf<typeof Party>> {
  if (id === into) throw failure('invalid_value', { path: '/into', rule: 'another_party', message: 'is the party itself' })
  const { tenantId: tenant, context } = tx
  await tx.query(sql.run`
    select 1 from erp_party where tenant_id = ${tenant} and organization_id = ${context.organizationId} and id in (${id}, ${into}) order by id for update`)
  const gone = await parties.get(tx, id)
  if (gone.version !== version) throw failure('version_conflict', { current: gone })
  const stays = await parties.get(tx, into).catch(() => {
    throw failure('invalid_reference', { path: 'into', ids: [into] })
  })
  const now = tx.now.toISOString()
  for (const [table, column] of Object.entries(ONE_A_PRODUCT)) {
    const [rows, party] = [sql.identifier([table]), sql.identifier([column])]
    await tx.query(sql.run`
      update ${rows} set deleted_at = ${now}, version = version + 1, updated_at = ${now}
      where tenant_id = ${tenant} and ${party} = ${id} and deleted_at is null
        and product_id in (select product_id from ${rows} where tenant_id = ${tenant} and ${party} = ${into} and deleted_at is null)`)
  }
  // A child that it was itself: it goes up to where the one that goes away stood.
  await tx.query(sql.run`
    update erp_party set parent_id = ${gone.parent_id === into ? null : gone.parent_id}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tenant} and id = ${into} and parent_id = ${id}`)
  for (const [table, column] of PARTY_REFERENCES) {
    await tx.query(sql.run`
      update ${sql.identifier([table])} set ${sql.identifier([column])} = ${into}, version = version + 1, updated_at = ${now}
      where tenant_id = ${tenant} and ${sql.identifier([column])} = ${id}`)
  }
  await tx.query(sql.run`
    update erp_party set merged_into = ${into}, deleted_at = ${now}, version = version + 1, updated_at = ${now} where tenant_id = ${tenant} and id = ${id}`)
  tx.emit({ type: 'erp.party.merged', entity_id: id, version: gone.version + 1, data: { into } })
  const { version: current } = await parties.get(tx, into)
  return parties.update(tx, into, current, {
    roles: [...new Set([...stays.roles, ...gone.roles])],
    tax_id: stays.tax_id ?? gone.tax_id,
    currency: stays.currency ?? gone.currency,
    credit_limit: stays.credit_limit ?? gone.credit_limit,
    credit_hold: stays.credit_hold || gone.credit_hold,
  })
}
