// How a party is reached. What says where and how is kept under the tenant's key.
import { Type } from 'typebox'
import { Name, nullable, oneOf, resource, row, Uuid } from '../../kernel/index.ts'
import { Party } from './party.ts'

/** As it is found: case and surrounding space mean nothing. */
export const canonicalMail = (typed: string): string => typed.trim().toLowerCase()
/** As it is found: digits, and the plus of an international number, which `00` stands for too. */
export const canonicalPhone = (typed: string): string => typed.replace(/[^\d+]/g, '').replace(/^00/, '+')

/** Where a party is, for one purpose. */
export const PartyAddress = row(
  'erp_party_address',
  {
    party_id: Uuid,
    kind: oneOf(['billing', 'shipping', 'office']),
    lines: Type.String({
      minLength: 1,
      maxLength: 1000,
      description: 'Street and what else stands above the town',
      examples: ['Calle Mayor 1'],
    }),
    city: nullable(Type.String({ maxLength: 200 })),
    postal_code: nullable(Type.String({ maxLength: 20 })),
    country: Type.String({ pattern: '^[A-Z]{2}$', description: 'ISO 3166-1 alpha-2', examples: ['ES'] }),
  },
  { sealed: { lines: null } },
)

export const partyAddresses = resource(PartyAddress, {
  module: 'erp.parties',
  permission: 'erp.party_address',
  filter: ['party_id', 'created_at'],
  sort: ['created_at'],
  references: { party_id: () => Party },
})

/** Somebody at a party. */
export const PartyContact = row(
  'erp_party_contact',
  {
    party_id: Uuid,
    name: Name,
    role: nullable(Type.String({ maxLength: 200 })),
    email: nullable(Type.String({ maxLength: 254, pattern: '^\\s*[^\\s@]+@[^\\s@]+\\s*$', examples: ['ana@flora.example'] })),
    phone: nullable(Type.String({ maxLength: 40, pattern: '^[+()\\d][\\d ()./-]{4,}$', examples: ['+34 600 000 000'] })),
  },
  { sealed: { email: canonicalMail, phone: canonicalPhone } },
)

export const partyContacts = resource(PartyContact, {
  module: 'erp.parties',
  permission: 'erp.party_contact',
  filter: ['party_id', 'email', 'phone', 'created_at'],
  sort: ['created_at'],
  references: { party_id: () => Party },
})
