// All tenants, for the platform's staff.
import { Type } from 'typebox'
import { type ListSpec, Name, nullable, oneOf, row, Timestamp } from '../kernel/index.ts'

const properties = {
  slug: Type.String(),
  name: Name,
  kind: oneOf(['customer', 'platform']),
  status: oneOf(['pending', 'active', 'suspended', 'closed']),
  trial_ends_at: nullable(Timestamp),
  locale: Type.String(),
  timezone: Type.String(),
  currency: Type.String(),
  approved_at: nullable(Timestamp),
  suspended_at: nullable(Timestamp),
  closed_at: nullable(Timestamp),
}

/** A tenant as it stands in the list. */
export const TenantLine = row('tenants', properties, { scope: 'platform', softDelete: false, derived: Object.keys(properties) })

export const tenantList: ListSpec = {
  row: TenantLine,
  filter: ['slug', 'name', 'kind', 'status', 'trial_ends_at', 'created_at'],
  sort: ['slug', 'name', 'created_at'],
}
