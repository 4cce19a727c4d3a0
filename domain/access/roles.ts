// Roles: names for sets of permissions, the tenant's own.
import { type Static, Type } from 'typebox'
import { Code, type Expansion, failure, Name, newId, nullable, type RowOf, resource, row, sql, type Tx, Uuid } from '../kernel/index.ts'
import { lockTenant } from '../tenancy/index.ts'
import { keepingAnAdministrator } from './administrators.ts'
import { assertHolds, assertHoldsUntil, type Granter } from './authority.ts'
import { TENANT } from './level.ts'
import { matches } from './pattern.ts'

/** A code, or a pattern: `erp.*` is everything under erp, `*.read` every read, `erp.*.read` every read under erp, `*` everything. */
export const Pattern = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: '^(\\*|[a-z_]+(\\.[a-z_]+)*\\.\\*|[a-z_]+(\\.[a-z_]+)+|([a-z_]+(\\.[a-z_]+)*\\.)?\\*(\\.[a-z_]+)+)$',
  examples: ['erp.product.read'],
})
const Patterns = Type.Array(Pattern, { maxItems: 500, uniqueItems: true, examples: [['erp.product.read', 'erp.party.*']] })

const RoleRow = row(
  'res_roles',
  { code: Code, name: Name, template: nullable(Type.String()), mfa_required: Type.Boolean() },
  { scope: 'tenant', derived: ['template', 'mfa_required'] },
)
export const Role = Type.Object({ ...RoleRow.schema.properties, permissions: Type.Array(Type.String()) }, { additionalProperties: false })
export type Role = RowOf<typeof RoleRow> & { permissions: string[] }
export const NewRole = Type.Object({ ...RoleRow.input.properties, permissions: Patterns }, { additionalProperties: false })
export const RolePatch = Type.Partial(Type.Object({ ...RoleRow.patch.properties, permissions: Patterns }), { additionalProperties: false })

const Held = Type.Object({ role_id: Type.String(), permissions: Type.Array(Type.String()) }, { additionalProperties: false })

async function permissionsOf(tx: Tx, ids: readonly string[]): Promise<string[][]> {
  const held = await tx.any(sql.prepared(Held)`
    select role_id, array_agg(permission order by permission) as permissions from res_role_permissions
    where tenant_id = ${tx.tenantId} and role_id = any(${sql.array([...ids], 'uuid')}) group by role_id`)
  const byRole = new Map(held.map((h) => [h.role_id, h.permissions]))
  return ids.map((id) => byRole.get(id) ?? [])
}

const permissions: Expansion = {
  schema: () => Type.Array(Type.String()),
  load: (tx, rows) =>
    permissionsOf(
      tx,
      rows.map((r) => r.id as string),
    ),
}

const rows = resource(RoleRow, {
  module: null,
  permission: 'rbac.role',
  filter: ['code', 'name', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  expand: { permissions },
})
export const roleList = rows.spec

export async function role(tx: Tx, id: string): Promise<Role> {
  const found = await rows.get(tx, id)
  const [held] = await permissionsOf(tx, [id])
  return { ...found, permissions: held! }
}

/** Refuses with `invalid_value` patterns that cover no permission of any endpoint. */
function requireKnown({ registry }: Granter, patterns: readonly string[]): void {
  const codes = [...registry.keys()]
  const idle = patterns.filter((pattern) => !codes.some((code) => matches(pattern, code)))
  if (idle.length > 0)
    throw failure('invalid_value', { path: '/permissions', rule: 'registry', message: 'covers no endpoint', permissions: idle })
}

async function setPermissions(tx: Tx, roleId: string, patterns: readonly string[]): Promise<void> {
  const wanted = sql.array([...patterns], 'text')
  await tx.query(sql.run`
    delete from res_role_permissions where tenant_id = ${tx.tenantId} and role_id = ${roleId} and permission <> all (${wanted})`)
  await tx.query(sql.run`
    insert into res_role_permissions (id, tenant_id, role_id, permission)
    select p.id, ${tx.tenantId}, ${roleId}, p.permission from ${sql.unnest(
      patterns.map((pattern) => [newId(), pattern]),
      ['uuid', 'text'],
    )} as p (id, permission)
    on conflict (tenant_id, role_id, permission) do nothing`)
}

/**
 * Refuses with `already_exists` a code that differs from another role's in case alone; those of before stay. The tenant's lock
 * lets one of two requests at once look after the other.
 */
async function assertCodeFree(tx: Tx, code: string | undefined, self: string | null): Promise<void> {
  await lockTenant(tx)
  if (code === undefined) return
  const taken = await tx.exists(sql.run`
    select 1 from res_roles
    where tenant_id = ${tx.tenantId} and lower(code) = ${code.toLowerCase()} and code <> ${code} and deleted_at is null and id is distinct from ${self}::uuid`)
  if (taken) throw failure('already_exists', { fields: ['code'] })
}

/** Creates a role from what the actor holds in the whole tenant. Throws `already_exists`, `grant_exceeds`, `invalid_value`. */
export async function createRole(tx: Tx, granter: Granter, input: Static<typeof NewRole>): Promise<Role> {
  const { permissions: patterns, ...own } = input as { permissions: string[] }
  requireKnown(granter, patterns)
  assertHoldsUntil(granter, patterns, TENANT, tx.now.getTime(), null)
  await assertCodeFree(tx, (own as { code?: string }).code, null)
  const made = await rows.create(tx, own)
  await setPermissions(tx, made.id, patterns)
  return { ...made, permissions: [...patterns].sort() }
}

/**
 * Changes a role, its code and name included; of two that change one version, one is refused. The actor must hold, in the
 * whole tenant, what the role holds before and after. Throws `version_conflict`, `grant_exceeds`, `last_administrator`.
 */
export async function updateRole(tx: Tx, granter: Granter, id: string, version: number, patch: Static<typeof RolePatch>): Promise<Role> {
  const { permissions: patterns, ...own } = patch as { permissions?: string[] }
  await assertCodeFree(tx, (own as { code?: string }).code, id) // locks the tenant first, as a grant or withdrawal does
  await rows.update(tx, id, version, own) // locks the role: what is read from here on is what is changed
  const [before] = await permissionsOf(tx, [id])
  const added = (patterns ?? []).filter((pattern) => !before!.includes(pattern))
  requireKnown(granter, added)
  assertHoldsUntil(granter, [...before!, ...added], TENANT, tx.now.getTime(), null, { role: id })
  if (patterns) await keepingAnAdministrator(tx, () => setPermissions(tx, id, patterns))
  return role(tx, id)
}

const RoleUses = Type.Object({ assignments: Type.Integer(), providers: Type.Integer() }, { additionalProperties: false })

/**
 * Deletes a role that no user has and no identity provider maps a group to, and that the actor holds. Throws `in_use` with the
 * number of both, `grant_exceeds`.
 */
export async function deleteRole(tx: Tx, granter: Granter, id: string, version: number): Promise<void> {
  await rows.softDelete(tx, id, version) // locks the role: whoever gives it now waits, and finds it gone
  const [held] = await permissionsOf(tx, [id])
  assertHolds(granter, held!, TENANT, tx.now.getTime(), { role: id })
  const { assignments, providers } = await tx.one(sql.prepared(RoleUses)`
    select (select count(*) from res_user_roles where tenant_id = ${tx.tenantId} and role_id = ${id}) as assignments,
      (select count(distinct p.id) from res_identity_provider_roles m
        join res_identity_providers p on p.tenant_id = m.tenant_id and p.id = m.provider_id and p.deleted_at is null
        where m.tenant_id = ${tx.tenantId} and m.role_id = ${id}) as providers`)
  if (assignments + providers > 0) throw failure('in_use', { assignments, providers })
}

/** Refuses with `grant_exceeds` roles, by id, that the actor does not hold in the whole tenant. */
export async function assertHoldsRoles(tx: Tx, granter: Granter, ids: readonly string[]): Promise<void> {
  const held = await permissionsOf(tx, ids)
  for (const [index, id] of ids.entries()) assertHolds(granter, held[index]!, TENANT, tx.now.getTime(), { role: id })
}

const RoleId = Type.Object({ id: Uuid }, { additionalProperties: false })

/** The role of a code. Throws `invalid_reference`. */
export async function roleIdOf(tx: Tx, code: string): Promise<string> {
  const found = await tx.maybeOne(sql.prepared(RoleId)`
    select id from res_roles where tenant_id = ${tx.tenantId} and code = ${code} and deleted_at is null`)
  if (!found) throw failure('invalid_reference', { path: '/role', role: code })
  return found.id
}
