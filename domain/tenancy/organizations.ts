// The places where a tenant works.
import { type Static, Type } from 'typebox'
import {
  Code,
  decimal,
  failure,
  inReach,
  Name,
  Numbering,
  newId,
  nullable,
  Price,
  type Resource,
  resource,
  row,
  SERIES,
  sql,
  type Tx,
  Uuid,
  Version,
} from '../kernel/index.ts'
import { lockTenant } from './tenant.ts'

export const Organization = row(
  'res_organizations',
  {
    code: Code,
    name: Name,
    currency: Type.String({ pattern: '^[A-Z]{3}$', default: 'EUR', description: 'ISO 4217 code', examples: ['EUR'] }),
  },
  {
    scope: 'tenant',
    // Those that are reached, and those in which a workspace is.
    within: (
      { reach, tenantId },
      column,
    ) => sql.fragment`(${column('id')} = any(${sql.array([...reach!.organizations], 'uuid')}) or exists (
      select from res_workspaces w where w.tenant_id = ${tenantId} and w.organization_id = ${column('id')}
        and w.id = any(${sql.array([...reach!.workspaces], 'uuid')})))`,
  },
)

const organizationRows = resource(Organization, {
  module: null,
  permission: 'tenant.organization',
  search: ['code', 'name'],
  filter: ['code', 'name', 'created_at'],
  sort: ['code', 'name', 'created_at'],
})

const CURRENCIES = new Set(Intl.supportedValuesOf('currency'))

/** Refuses with `invalid_value` a currency that ISO 4217 does not know. */
function assertCurrency(inputs: readonly object[]): void {
  for (const { currency } of inputs as { currency?: string }[]) {
    if (currency !== undefined && !CURRENCIES.has(currency))
      throw failure('invalid_value', { path: '/currency', rule: 'currency', message: 'is a currency of ISO 4217' })
  }
}

/** Seeded approval limits by role template: administrators without limit, managers up to ten thousand in the organization's currency. */
const APPROVAL_LIMITS = { admin: null, manager: '10000' }

async function createMany(tx: Tx, inputs: readonly object[]) {
  await lockTenant(tx)
  await assertCodesFree(tx, 'res_organizations', inputs)
  assertCurrency(inputs)
  const made = await organizationRows.createMany(tx, inputs)
  await tx.query(sql.run`
    insert into res_organization_settings (id, tenant_id, organization_id, approval_limits)
    select s.id, ${tx.tenantId}, s.organization_id, coalesce((
      select jsonb_object_agg(r.id, l.value) from jsonb_each(${sql.jsonb(APPROVAL_LIMITS)}) as l
      join res_roles r on r.tenant_id = ${tx.tenantId} and r.template = l.key and r.deleted_at is null), '{}')
    from ${sql.unnest(
      made.map((organization) => [newId(), organization.id]),
      ['uuid', 'uuid'],
    )} as s (id, organization_id)`)
  return made
}

const OrganizationUses = Type.Object(
  { workspaces: Type.Integer(), assignments: Type.Integer(), overrides: Type.Integer(), keys: Type.Integer() },
  { additionalProperties: false },
)

/** Refuses with `in_use` to delete an organization with workspaces, or in which users or keys have rights of their own. */
async function assertOrganizationUnused(tx: Tx, id: string): Promise<void> {
  const now = tx.now.toISOString()
  const here = sql.fragment`tenant_id = ${tx.tenantId} and organization_id = ${id}`
  const live = sql.fragment`(expires_at is null or expires_at > ${now})`
  const uses = await tx.one(sql.prepared(OrganizationUses)`
    select (select count(*) from res_workspaces where ${here} and deleted_at is null) as workspaces,
      (select count(*) from res_user_roles where ${here} and ${live}) as assignments,
      (select count(*) from res_user_permission_overrides where ${here} and ${live}) as overrides,
      (select count(*) from res_api_keys where ${here} and revoked_at is null and ${live}) as keys`)
  if (Object.values(uses).some((n) => n > 0)) throw failure('in_use', uses)
}

/**
 * Organizations; each is made with its settings, one in use stays, and so does the last one. Whoever gives rights in one holds
 * the tenant's lock from before they look whether it exists, so it is given before the deletion counts, or refused after.
 */
export const organizations: typeof organizationRows = {
  ...organizationRows,
  createMany,
  create: async (tx, input) => (await createMany(tx, [input]))[0]!,
  update: async (tx, id, version, patch) => {
    await lockTenant(tx)
    await assertCodesFree(tx, 'res_organizations', [patch], id)
    assertCurrency([patch])
    return organizationRows.update(tx, id, version, patch)
  },
  softDelete: async (tx, id, version) => {
    // The tenant's row serializes two who delete the last two at once.
    await lockTenant(tx)
    await organizationRows.softDelete(tx, id, version)
    const left = await tx.exists(sql.run`select 1 from res_organizations where tenant_id = ${tx.tenantId} and deleted_at is null`)
    if (!left) throw failure('in_use', { reason: 'a tenant has one organization at least' })
    await assertOrganizationUnused(tx, id)
  },
}

export const Workspace = row(
  'res_workspaces',
  { organization_id: Uuid, code: Code, name: Name },
  {
    scope: 'tenant',
    // Those of the organizations that are reached, deleted ones included, and single ones.
    within: (tx, column) =>
      sql.fragment`(${inReach(tx, column('organization_id'))} or ${column('id')} = any(${sql.array([...tx.reach!.workspaces], 'uuid')}))`,
  },
)

const workspaceRows = resource(Workspace, {
  module: null,
  permission: 'tenant.workspace',
  filter: ['organization_id', 'code', 'name', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { organization_id: () => Organization },
})

const Taken = Type.Object({ code: Type.String() }, { additionalProperties: false })

/**
 * Refuses with `already_exists` codes that differ from an existing one in case alone; those of before stay. The caller holds the
 * tenant's lock, so of two at once the second sees the first.
 */
async function assertCodesFree(
  tx: Tx,
  table: 'res_organizations' | 'res_workspaces',
  inputs: readonly object[],
  self: string | null = null,
): Promise<void> {
  const codes = (inputs as { code?: string; organization_id?: string }[]).filter(({ code }) => code !== undefined)
  const owner = table === 'res_workspaces' ? sql.fragment`t.organization_id::text` : sql.fragment`''`
  const taken = await tx.maybeOne(sql.type(Taken)`
    select n.code from ${sql.unnest(
      codes.map(({ code, organization_id }) => [code!, table === 'res_workspaces' ? (organization_id ?? '') : '']),
      ['text', 'text'],
    )} as n (code, owner)
    join ${sql.identifier([table])} t on t.tenant_id = ${tx.tenantId} and lower(t.code) = lower(n.code) and ${owner} = n.owner and t.deleted_at is null
      and t.id is distinct from ${self}::uuid and t.code <> n.code
    limit 1`)
  const folded = codes.map(({ code, organization_id }) => `${organization_id ?? ''} ${code!.toLowerCase()}`)
  if (taken || new Set(folded).size < folded.length) throw failure('already_exists', { fields: ['code'] })
}

/** Creates workspaces in organizations that the unit of work reaches as such. Throws `permission_denied`. */
async function createWorkspaces(tx: Tx, inputs: readonly object[]) {
  const foreign = (inputs as { organization_id: string }[]).find((w) => tx.reach && !tx.reach.organizations.includes(w.organization_id))
  if (foreign) throw failure('permission_denied', { permission: 'tenant.workspace.create', organization_id: foreign.organization_id })
  await lockTenant(tx)
  await assertCodesFree(tx, 'res_workspaces', inputs)
  return workspaceRows.createMany(tx, inputs)
}

const Uses = Type.Object({ assignments: Type.Integer(), keys: Type.Integer() }, { additionalProperties: false })

/** Refuses with `in_use` to delete a workspace in which users or keys work. */
async function assertWorkspaceUnused(tx: Tx, id: string): Promise<void> {
  const now = tx.now.toISOString()
  const { assignments, keys } = await tx.one(sql.prepared(Uses)`
    select (select count(*) from res_user_roles where tenant_id = ${tx.tenantId} and workspace_id = ${id} and (expires_at is null or expires_at > ${now})) as assignments,
      (select count(*) from res_api_keys where tenant_id = ${tx.tenantId} and workspace_id = ${id} and revoked_at is null and (expires_at is null or expires_at > ${now})) as keys`)
  if (assignments + keys > 0) throw failure('in_use', { assignments, keys })
}

/** Refuses with `in_use` to delete the last workspace of an organization whose work takes one: no user could work there. */
async function assertWorkspaceLeft(tx: Tx, organizationId: string): Promise<void> {
  const required = await tx.exists(sql.run`
    select 1 from res_organization_settings where tenant_id = ${tx.tenantId} and organization_id = ${organizationId} and workspace_required`)
  if (required && !(await hasWorkspace(tx, organizationId))) throw failure('in_use', { reason: 'workspace_required' })
}

const hasWorkspace = (tx: Tx, organizationId: string): Promise<boolean> =>
  tx.exists(sql.run`
    select 1 from res_workspaces where tenant_id = ${tx.tenantId} and organization_id = ${organizationId} and deleted_at is null limit 1`)

/** Workspaces; one does not move to another organization, because roles and records name both. */
export const workspaces: Resource<typeof Workspace.properties> = {
  ...workspaceRows,
  createMany: createWorkspaces,
  create: async (tx, input) => (await createWorkspaces(tx, [input]))[0]!,
  softDelete: async (tx, id, version) => {
    // The tenant's lock: a role is given, or a workspace made necessary, before it is counted, or finds it gone.
    await lockTenant(tx)
    const { organization_id } = await workspaceRows.get(tx, id)
    await workspaceRows.softDelete(tx, id, version)
    await assertWorkspaceUnused(tx, id)
    await assertWorkspaceLeft(tx, organization_id)
  },
  update: async (tx, id, version, patch) => {
    const { organization_id: to } = patch as { organization_id?: string }
    if (to && (await workspaceRows.get(tx, id)).organization_id !== to) {
      throw failure('invalid_value', {
        path: '/organization_id',
        rule: 'fixed',
        message: 'stays what it was: make a workspace there instead',
      })
    }
    await lockTenant(tx)
    const { organization_id } = await workspaceRows.get(tx, id)
    await assertCodesFree(tx, 'res_workspaces', [{ ...patch, organization_id }], id)
    return workspaceRows.update(tx, id, version, patch)
  },
}

export const OrganizationSettings = Type.Object(
  {
    workspace_required: Type.Boolean({ description: 'Nobody works here without choosing a workspace' }),
    approval_limits: Type.Record(Type.String(), nullable(Price), {
      description:
        'Role code → the largest amount that it may approve; null is without limit. Kept by role: a renamed role keeps its limit',
      examples: [{ admin: null, manager: '10000' }],
    }),
    over_receipt_tolerance: Type.String({
      pattern: '^(0(\\.\\d{1,6})?|1(\\.0{1,6})?)$',
      description: 'Share of the ordered quantity that may come on top: 0.1 is ten per cent',
      examples: ['0.1'],
    }),
    mfa_required: Type.Boolean({ description: 'Whoever works here needs a second factor' }),
    numbering: Numbering,
    fiscal_year_start_month: Type.Integer({
      minimum: 1,
      maximum: 12,
      description: 'Numbers begin anew with the fiscal year, which is named after the calendar year in which it begins',
    }),
    version: Version,
  },
  { additionalProperties: false },
)
export type OrganizationSettings = Static<typeof OrganizationSettings>

/** Throws `not_found`. */
export async function organizationSettings(tx: Tx, organizationId: string): Promise<OrganizationSettings> {
  await organizations.get(tx, organizationId)
  return tx.one(sql.prepared(OrganizationSettings)`
    select workspace_required, coalesce((
        select jsonb_object_agg(r.code, l.value order by r.code) from jsonb_each(s.approval_limits) as l
        join res_roles r on r.tenant_id = s.tenant_id and r.id::text = l.key and r.deleted_at is null), '{}') as approval_limits, trim_scale(over_receipt_tolerance)::text as over_receipt_tolerance, mfa_required, numbering, fiscal_year_start_month, version
    from res_organization_settings s where tenant_id = ${tx.tenantId} and organization_id = ${organizationId}`)
}

const RoleId = Type.Object({ id: Uuid, code: Type.String() }, { additionalProperties: false })

/** Approval limits by role id, from limits by role code. Throws `invalid_reference`. */
async function limitsByRole(tx: Tx, limits: OrganizationSettings['approval_limits']): Promise<Record<string, string | null>> {
  const codes = Object.keys(limits)
  const roles = await tx.any(sql.prepared(RoleId)`
    select id, code from res_roles where tenant_id = ${tx.tenantId} and code = any(${sql.array(codes, 'text')}) and deleted_at is null`)
  if (roles.length !== codes.length) throw failure('invalid_reference', { path: '/approval_limits' })
  return Object.fromEntries(roles.map(({ id, code }) => [id, limits[code]!]))
}

/** Refuses with `grant_exceeds` an approval limit that is raised above the actor's own; null is without limit. */
function assertRaisedWithin(ownLimit: string | null, before: OrganizationSettings['approval_limits'], after: typeof before): void {
  if (ownLimit === null) return
  for (const [role, limit] of Object.entries(after)) {
    const former = before[role]
    const raised = former === undefined || (former !== null && (limit === null || decimal(limit).gt(former)))
    if (raised && (limit === null || decimal(limit).gt(ownLimit)))
      throw failure('grant_exceeds', { role, approval_limit: limit, own_limit: ownLimit })
  }
}

/** Refuses with `invalid_value` two series with one prefix, the seeded ones included: their documents would share numbers. */
function assertPrefixesDiffer(numbering: OrganizationSettings['numbering']): void {
  const prefixes = SERIES.map((series) => numbering[series]?.prefix ?? series)
  const twice = SERIES.find((_, index) => prefixes.indexOf(prefixes[index]!) !== index)
  if (twice)
    throw failure('invalid_value', { path: `/numbering/${twice}/prefix`, rule: 'unique', message: 'is not the prefix of another series' })
}

/**
 * Changes what is named. Effective at the next request. Throws `not_found`, `version_conflict`, `invalid_reference`,
 * `invalid_value`, `grant_exceeds`.
 * @param ownLimit the largest amount that the actor may approve in the organization; null is without limit
 */
export async function changeOrganizationSettings(
  tx: Tx,
  organizationId: string,
  version: number,
  patch: Partial<OrganizationSettings>,
  ownLimit: string | null,
): Promise<OrganizationSettings> {
  await lockTenant(tx) // against the deletion of the last workspace
  const current = await organizationSettings(tx, organizationId)
  const next = { ...current, ...patch }
  if (next.workspace_required && !current.workspace_required && !(await hasWorkspace(tx, organizationId)))
    throw failure('invalid_value', { path: '/workspace_required', rule: 'workspace', message: 'takes a workspace: make one first' })
  if (patch.numbering) assertPrefixesDiffer(patch.numbering)
  assertRaisedWithin(ownLimit, current.approval_limits, next.approval_limits)
  const limits = await limitsByRole(tx, next.approval_limits)
  const { rowCount } = await tx.query(sql.run`
    update res_organization_settings set workspace_required = ${next.workspace_required}, approval_limits = ${sql.jsonb(limits)},
      over_receipt_tolerance = ${next.over_receipt_tolerance}::numeric, mfa_required = ${next.mfa_required},
      numbering = ${sql.jsonb(next.numbering)}, fiscal_year_start_month = ${next.fiscal_year_start_month}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and organization_id = ${organizationId} and version = ${version}`)
  if (rowCount === 0) throw failure('version_conflict', { current: await organizationSettings(tx, organizationId) })
  return organizationSettings(tx, organizationId)
}
