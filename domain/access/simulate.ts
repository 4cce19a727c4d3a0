// What would change if …, answered without changing anything.
import { type Static, Type } from 'typebox'
import { type Context, failure, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { assertScopeExists } from './authority.ts'
import { holdsIn } from './decide.ts'
import { checkContext } from './evaluate.ts'
import { allGrants, type Grants } from './grants.ts'
import type { Registry } from './level.ts'
import { assertFuture } from './manage.ts'
import { matches } from './pattern.ts'
import { Pattern } from './roles.ts'

const Scope = {
  organization_id: Type.Optional(nullable(Uuid)),
  workspace_id: Type.Optional(nullable(Uuid)),
  expires_at: Type.Optional(nullable(Timestamp)),
}
const RoleCode = Type.String({ minLength: 1, maxLength: 64, examples: ['operator'] })

export const Proposal = Type.Object(
  {
    assign: Type.Optional(Type.Object({ user_id: Uuid, role: RoleCode, ...Scope }, { additionalProperties: false })),
    withdraw: Type.Optional(Type.Object({ user_id: Uuid, assignment_id: Uuid }, { additionalProperties: false })),
    override: Type.Optional(
      Type.Object({ user_id: Uuid, permission: Pattern, effect: oneOf(['allow', 'deny']), ...Scope }, { additionalProperties: false }),
    ),
    remove_override: Type.Optional(Type.Object({ user_id: Uuid, override_id: Uuid }, { additionalProperties: false })),
    role: Type.Optional(
      Type.Object(
        {
          role: RoleCode,
          permissions: Type.Array(Pattern, { maxItems: 500, uniqueItems: true, description: 'What it would hold instead' }),
        },
        { additionalProperties: false },
      ),
    ),
  },
  {
    additionalProperties: false,
    minProperties: 1,
    maxProperties: 1,
    examples: [{ role: { role: 'operator', permissions: ['*.read'] } }],
  },
)
export type Proposal = Static<typeof Proposal>

const Place = { permission: Type.String(), organization_id: nullable(Uuid), workspace_id: nullable(Uuid) }
export const Effect = Type.Object({
  user_id: Uuid,
  name: Type.String(),
  gained: Type.Array(Type.Object(Place)),
  lost: Type.Array(Type.Object(Place)),
})

const RoleRow = Type.Object(
  { role_id: Uuid, code: Type.String(), permissions: Type.Array(Type.String()), mfa_required: Type.Boolean() },
  { additionalProperties: false },
)

async function roleByCode(tx: Tx, code: string): Promise<Static<typeof RoleRow>> {
  const found = await tx.maybeOne(sql.prepared(RoleRow)`
    select r.id as role_id, r.code, r.mfa_required, array(select p.permission from res_role_permissions p where p.tenant_id = r.tenant_id and p.role_id = r.id) as permissions
    from res_roles r where r.tenant_id = ${tx.tenantId} and r.code = ${code} and r.deleted_at is null`)
  if (!found) throw failure('invalid_reference', { path: '/role', role: code })
  return found
}

/** The grants as they would be. */
type Change = (grants: Grants) => Grants

const NOT_YET = '00000000-0000-0000-0000-000000000000'
const scopeOf = (given: { organization_id?: string | null; workspace_id?: string | null; expires_at?: string | null }) => ({
  organization_id: given.organization_id ?? null,
  workspace_id: given.workspace_id ?? null,
  expires_at: given.expires_at ?? null,
})

/** Refuses what the real change would refuse: a scope that does not exist, an end in the past, patterns that cover nothing. */
async function assertPossible(tx: Tx, registry: Registry, { assign, override, role }: Proposal): Promise<void> {
  const path = assign ? '/assign' : '/override'
  const scoped = assign ?? override
  if (scoped?.workspace_id && !scoped.organization_id)
    throw failure('invalid_value', { path: `${path}/workspace_id`, rule: 'with', message: 'is named with its organization' })
  assertFuture(tx, scoped?.expires_at, `${path}/expires_at`)
  await assertScopeExists(tx, { organizationId: scoped?.organization_id ?? null, workspaceId: scoped?.workspace_id ?? null })
  const patterns = override ? [override.permission] : (role?.permissions ?? [])
  const idle = patterns.filter((pattern) => ![...registry.keys()].some((code) => matches(pattern, code)))
  if (idle.length > 0)
    throw failure('invalid_value', {
      path: override ? `${path}/permission` : '/role/permissions',
      rule: 'registry',
      message: 'covers no endpoint',
      permissions: idle,
    })
}

/** Refuses with `not_found` to take away what the user does not have. */
function assertHeld({ withdraw, remove_override: removed }: Proposal, [user]: readonly Grants[]): void {
  if (withdraw && !user?.assignments.some(({ id }) => id === withdraw.assignment_id)) throw failure('not_found')
  if (removed && !user?.overrides.some(({ id }) => id === removed.override_id)) throw failure('not_found')
}

async function changeOf(tx: Tx, proposal: Proposal): Promise<{ userIds: string[] | null; change: Change }> {
  const { assign, withdraw, override, remove_override: removed, role } = proposal
  if (assign) {
    const { code, ...held } = await roleByCode(tx, assign.role)
    const added = { id: NOT_YET, role: code, ...held, ...scopeOf(assign) }
    return { userIds: [assign.user_id], change: (g) => ({ ...g, assignments: [...g.assignments, added] }) }
  }
  if (withdraw) {
    return {
      userIds: [withdraw.user_id],
      change: (g) => ({ ...g, assignments: g.assignments.filter((a) => a.id !== withdraw.assignment_id) }),
    }
  }
  if (override) {
    const added = { id: NOT_YET, permission: override.permission, effect: override.effect, reason: 'simulated', ...scopeOf(override) }
    return { userIds: [override.user_id], change: (g) => ({ ...g, overrides: [...g.overrides, added] }) }
  }
  if (removed) {
    return { userIds: [removed.user_id], change: (g) => ({ ...g, overrides: g.overrides.filter((o) => o.id !== removed.override_id) }) }
  }
  const { code } = await roleByCode(tx, role!.role)
  const change: Change = (g) => ({
    ...g,
    assignments: g.assignments.map((a) => (a.role === code ? { ...a, permissions: role!.permissions } : a)),
  })
  return { userIds: null, change }
}

/** Every place of a tenant that a user could work in. */
const placesOf = (grants: Grants): Context[] =>
  grants.organizations.flatMap(({ id, workspaces }) => [null, ...workspaces].map((workspaceId) => ({ organizationId: id, workspaceId })))

/** The permissions that are held where each is decided for someone who works in a place. */
const allowedIn = (grants: Grants, place: Context, registry: Registry, now: number): Set<string> =>
  checkContext(grants, place, now) === 'ok'
    ? new Set([...registry].flatMap(([code, entry]) => (holdsIn(grants, code, entry, place, now) ? [code] : [])))
    : new Set()

/**
 * Whom a change would give or take what, in every place where he may or could then work. Throws `invalid_reference` for
 * a role or scope, `invalid_value`, `not_found` for a user, assignment or override that does not exist.
 */
export async function simulate(tx: Tx, registry: Registry, proposal: Proposal): Promise<Static<typeof Effect>[]> {
  await assertPossible(tx, registry, proposal)
  const { userIds, change } = await changeOf(tx, proposal)
  const now = tx.now.getTime()
  const concerned = await allGrants(tx, userIds)
  if (userIds && concerned.length === 0) throw failure('not_found')
  assertHeld(proposal, concerned)
  return concerned.flatMap((before) => {
    const after = change(before)
    const differences = placesOf(before).map((place) => {
      const [had, has] = [allowedIn(before, place, registry, now), allowedIn(after, place, registry, now)]
      const at = (permission: string) => ({ permission, organization_id: place.organizationId, workspace_id: place.workspaceId })
      return { gained: [...has.difference(had)].map(at), lost: [...had.difference(has)].map(at) }
    })
    const gained = differences.flatMap((d) => d.gained)
    const lost = differences.flatMap((d) => d.lost)
    return gained.length + lost.length > 0 ? [{ user_id: before.user_id, name: before.name, gained, lost }] : []
  })
}
