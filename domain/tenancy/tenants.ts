// All tenants, for the platform's staff.
import { Type } from 'typebox'
import { type Fragment, type ListSpec, Name, nullable, oneOf, row, sql, Timestamp } from '../kernel/index.ts'

const properties = {
  slug: Type.String(),
  name: Name,
  kind: oneOf(['customer', 'platform']),
  status: oneOf(['pending', 'active', 'suspended', 'closed']),
  stage: oneOf(['waiting', 'provisioning', 'failed', 'rejected', 'active', 'suspended', 'closed'], {
    description: 'The status, with what a pending or closed one is: waiting for a decision, being made, failed to be made, rejected',
  }),
  plan: nullable(Type.String()),
  mode: oneOf(['shared', 'schema', 'database']),
  catalog_key: Type.String({ description: 'Which server of the data plane' }),
  applicant_email: nullable(Type.String()),
  applicant_name: nullable(Type.String()),
  requested_plan: nullable(Type.String()),
  trial_ends_at: nullable(Timestamp),
  locale: Type.String(),
  timezone: Type.String(),
  currency: Type.String(),
  approved_at: nullable(Timestamp),
  suspended_at: nullable(Timestamp),
  closed_at: nullable(Timestamp),
}

type Column = (name: string) => Fragment
/** A column of the row's registration, connection profile … */
const of = (table: string, value: string) => (column: Column) =>
  sql.fragment`(select ${sql.identifier(['x', value])} from ${sql.identifier([table])} x where x.tenant_id = ${column('id')} limit 1)`

const stage = (column: Column) => sql.fragment`case
    when ${column('status')} not in ('pending', 'closed') then ${column('status')}
    when exists (select from tenant_registrations r where r.tenant_id = ${column('id')} and r.decision = 'rejected') then 'rejected'
    when ${column('status')} = 'closed' then 'closed'
    when not exists (select from tenant_registrations r where r.tenant_id = ${column('id')} and r.decision = 'approved') then 'waiting'
    when exists (select from tenant_provisioning_steps p where p.tenant_id = ${column('id')} and p.state = 'failed') then 'failed'
    else 'provisioning' end`
const plan = (column: Column) => sql.fragment`coalesce(
    (select b.plan from billing_subscriptions b where b.tenant_id = ${column('id')} and b.status <> 'cancelled'),
    (select p.plan from tenant_platform_products p where p.tenant_id = ${column('id')} and p.plan is not null limit 1),
    (select r.plan from tenant_registrations r where r.tenant_id = ${column('id')}))`

/** A tenant as it stands in the list. */
export const TenantLine = row('tenants', properties, {
  scope: 'platform',
  softDelete: false,
  derived: Object.keys(properties),
  computed: {
    stage,
    plan,
    mode: of('tenant_connection_profiles', 'mode'),
    catalog_key: of('tenant_connection_profiles', 'catalog_key'),
    applicant_email: of('tenant_registrations', 'email'),
    applicant_name: of('tenant_registrations', 'person'),
    requested_plan: of('tenant_registrations', 'requested_plan'),
  },
})

export const tenantList: ListSpec = {
  row: TenantLine,
  filter: ['slug', 'name', 'kind', 'status', 'stage', 'plan', 'mode', 'catalog_key', 'requested_plan', 'trial_ends_at', 'created_at'],
  sort: ['slug', 'name', 'created_at'],
  search: ['slug', 'name'],
}

/** Whether a tenant is found by a text: by its host name, its name, or its applicant. */
export const matchesTenant = (text: string): Fragment => {
  const has = (column: Fragment) => sql.fragment`strpos(lower(${column}), lower(${text}::text)) > 0`
  return sql.fragment`(${has(sql.fragment`tenants.slug`)} or ${has(sql.fragment`tenants.name`)} or exists (
    select from tenant_registrations r where r.tenant_id = tenants.id and (${has(sql.fragment`r.email`)} or ${has(sql.fragment`r.person`)})))`
}
