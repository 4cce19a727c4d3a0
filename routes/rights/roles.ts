// Roles, who has them, and the exceptions.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  AssignmentInfo,
  addOverride,
  assignmentsOf,
  changeEnd,
  changeOverrideEnd,
  createRole,
  deleteRole,
  grantRoles,
  grantRoleToMany,
  holdersOf,
  moveUsers,
  NewOverride,
  NewRole,
  OverrideInfo,
  overridesOf,
  Role,
  RoleHolder,
  RolePatch,
  removeOverride,
  role,
  roleList,
  updateRole,
  withdrawRole,
} from '../../domain/access/index.ts'
import { assertUserExists } from '../../domain/identity/index.ts'
import { nullable, Timestamp, Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { PAGING, pageOf, placeIn } from '../http/pages.ts'
import { Id, readingRoutes } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

export const Assignment = Type.Object(
  {
    role: Type.String({ minLength: 1, maxLength: 64, description: 'Code of the role', examples: ['operator'] }),
    organization_id: Type.Optional(nullable(Uuid)),
    workspace_id: Type.Optional(nullable(Uuid)),
    expires_at: Type.Optional(nullable(Timestamp)),
  },
  { additionalProperties: false, description: 'Without an organization it holds in all of them' },
)
const UserIds = Type.Array(Uuid, { minItems: 1, maxItems: 1000, uniqueItems: true })
const Many = Type.Object({ user_ids: UserIds, ...Assignment.properties }, { additionalProperties: false })
const Place = Type.Object({ organization_id: Uuid, workspace_id: Type.Optional(nullable(Uuid)) }, { additionalProperties: false })
const Move = Type.Object({ user_ids: UserIds, from: Place, to: Place }, { additionalProperties: false })
const End = Type.Object({ expires_at: nullable(Timestamp) }, { additionalProperties: false, description: 'Null is without end' })
const Page = Type.Object(
  {
    ...PAGING,
  },
  { additionalProperties: false },
)
const OfUser = Type.Object({ id: Uuid, assignment: Uuid })

const contextOf = ({ organization_id, workspace_id }: Static<typeof Place>) => ({
  organizationId: organization_id,
  workspaceId: workspace_id ?? null,
})

export default async function roles(app: FastifyInstance) {
  const tags = ['rights']
  const plane = 'control' as const
  const refusals = ['already_exists', 'grant_exceeds', 'invalid_reference'] as const

  await app.register(
    readingRoutes({
      module: null,
      permission: 'rbac.role',
      plane,
      level: 'shared',
      list: roleList,
      schema: Role,
      get: role,
      parts: ['res_role_permissions'],
    }),
    {
      prefix: '/rbac',
    },
  )
  app.post<{ Body: Static<typeof NewRole> }>(
    '/rbac/roles',
    {
      level: 'tenant',
      permission: 'rbac.role.create',
      plane,
      schema: {
        tags,
        summary: 'Make a role of what one holds oneself',
        body: NewRole,
        response: { 201: ok(Role), ...mutation(...refusals) },
      },
    },
    async (request, reply) => {
      const made = await request.write((tx) => createRole(tx, request.granter, request.body))
      reply.status(201).header('location', `/api/v1/rbac/roles/${made.id}`)
      return tagged(reply, made)
    },
  )
  app.patch<{ Params: { id: string }; Body: Static<typeof RolePatch> }>(
    '/rbac/roles/:id',
    {
      level: 'tenant',
      permission: 'rbac.role.update',
      plane,
      schema: {
        tags,
        summary: 'Change a role, for everybody who has it, at the next request',
        params: Id,
        body: RolePatch,
        response: { 200: ok(Role), ...mutation('not_found', 'version_required', 'version_conflict', 'last_administrator', ...refusals) },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(reply, await request.write((tx) => updateRole(tx, request.granter, request.params.id, version, request.body)))
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/rbac/roles/:id',
    {
      level: 'tenant',
      permission: 'rbac.role.delete',
      plane,
      schema: {
        tags,
        summary: 'Delete a role that nobody has',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'version_required', 'version_conflict', 'in_use', 'grant_exceeds') },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      await request.write((tx) => deleteRole(tx, request.granter, request.params.id, version))
      return reply.status(204).send()
    },
  )

  app.get<{ Params: { id: string }; Querystring: Static<typeof Page> }>(
    '/rbac/roles/:id/users',
    {
      level: 'object',
      permission: 'rbac.assignment.read',
      plane,
      schema: {
        tags,
        summary: 'List the users who hold a role, with where and until when; ended assignments included',
        params: Id,
        querystring: Page,
        response: { 200: ok(Type.Array(RoleHolder), { pagination: Pagination }), ...guarded('not_found', 'invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor } = request.query
      const list = `holders ${request.params.id}`
      const [after = null] = placeIn(request, list, cursor) ?? []
      const found = await request.read(async (tx) => {
        await role(tx, request.params.id)
        return holdersOf(tx, request.params.id, after as string | null, limit + 1)
      })
      return pageOf(request, list, limit, found, ({ id }) => [id])
    },
  )
  app.get<{ Params: { id: string } }>(
    '/users/:id/roles',
    {
      level: 'object',
      permission: 'rbac.assignment.read',
      plane,
      schema: {
        tags,
        summary: 'The roles of a user, and where they hold',
        params: Id,
        response: { 200: ok(Type.Array(AssignmentInfo)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await assertUserExists(tx, request.params.id)
        return assignmentsOf(tx, request.params.id)
      }),
    }),
  )
  app.post<{ Params: { id: string }; Body: Static<typeof Assignment> }>(
    '/users/:id/roles',
    {
      level: 'object',
      permission: 'rbac.assignment.create',
      plane,
      schema: {
        tags,
        summary: 'Give a role; only what one holds oneself',
        params: Id,
        body: Assignment,
        response: { 201: ok(Type.Array(AssignmentInfo)), ...mutation('not_found', ...refusals) },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const data = await request.write(async (tx) => {
        await assertUserExists(tx, id)
        await grantRoles(tx, request.granter, id, [request.body], '')
        return assignmentsOf(tx, id)
      })
      reply.status(201)
      return { data }
    },
  )
  app.patch<{ Params: Static<typeof OfUser>; Body: Static<typeof End> }>(
    '/users/:id/roles/:assignment',
    {
      level: 'object',
      permission: 'rbac.assignment.create',
      plane,
      schema: {
        tags,
        summary: 'Change the end of an assignment',
        description:
          'A later end takes `rbac.assignment.create`, an earlier one `rbac.assignment.delete` as well, in the scope of the assignment.',
        params: OfUser,
        body: End,
        response: {
          200: ok(Type.Array(AssignmentInfo)),
          ...mutation('not_found', 'last_administrator', 'grant_exceeds', 'invalid_reference'),
        },
      },
    },
    async (request) => {
      const { id, assignment } = request.params
      return {
        data: await request.write(async (tx) => {
          await changeEnd(tx, request.granter, id, assignment, request.body.expires_at)
          return assignmentsOf(tx, id)
        }),
      }
    },
  )
  app.delete<{ Params: Static<typeof OfUser> }>(
    '/users/:id/roles/:assignment',
    {
      level: 'object',
      permission: 'rbac.assignment.delete',
      plane,
      schema: {
        tags,
        summary: 'Take a role back; it is gone at the next request',
        params: OfUser,
        response: { 204: Type.Null(), ...mutation('not_found', 'last_administrator', 'grant_exceeds', 'invalid_reference') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => withdrawRole(tx, request.granter, request.params.id, request.params.assignment))
      return reply.status(204).send()
    },
  )
  app.post<{ Body: Static<typeof Many> }>(
    '/rbac/assignments/bulk',
    {
      level: 'object',
      permission: 'rbac.assignment.create',
      plane,
      schema: {
        tags,
        summary: 'Give one role to up to a thousand users, all or nothing; a user whose assignment there ends sooner gets the later end',
        body: Many,
        response: { 200: ok(Type.Object({ given: Type.Integer() })), ...mutation('grant_exceeds', 'invalid_reference') },
      },
    },
    async (request) => {
      const { user_ids, ...assignment } = request.body
      return { data: { given: await request.write((tx) => grantRoleToMany(tx, request.granter, user_ids, assignment)) } }
    },
  )
  app.post<{ Body: Static<typeof Move> }>(
    '/rbac/assignments/move',
    {
      level: 'object',
      permission: 'rbac.assignment.create',
      plane,
      schema: {
        tags,
        summary: 'Move people, with their roles, from one organization or workspace to another',
        body: Move,
        response: { 200: ok(Type.Object({ moved: Type.Integer() })), ...mutation('grant_exceeds', 'invalid_reference') },
      },
    },
    async (request) => {
      const { user_ids, from, to } = request.body
      return {
        data: {
          moved: await request.write((tx) => moveUsers(tx, request.granter, user_ids, contextOf(from), contextOf(to))),
        },
      }
    },
  )

  app.get<{ Params: { id: string } }>(
    '/users/:id/overrides',
    {
      level: 'object',
      permission: 'rbac.override.read',
      plane,
      schema: {
        tags,
        summary: 'The exceptions of a user',
        params: Id,
        response: { 200: ok(Type.Array(OverrideInfo)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await assertUserExists(tx, request.params.id)
        return overridesOf(tx, request.params.id)
      }),
    }),
  )
  app.post<{ Params: { id: string }; Body: NewOverride }>(
    '/users/:id/overrides',
    {
      level: 'object',
      permission: 'rbac.override.create',
      plane,
      schema: {
        tags,
        summary: 'Allow or deny one permission to one user: the last word over his roles',
        params: Id,
        body: NewOverride,
        response: {
          201: ok(Type.Array(OverrideInfo)),
          ...mutation('not_found', 'already_exists', 'grant_exceeds', 'invalid_reference', 'last_administrator'),
        },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      const data = await request.write(async (tx) => {
        await assertUserExists(tx, id)
        await addOverride(tx, request.granter, id, request.body)
        return overridesOf(tx, id)
      })
      reply.status(201)
      return { data }
    },
  )
  app.patch<{ Params: { id: string; override: string }; Body: Static<typeof End> }>(
    '/users/:id/overrides/:override',
    {
      level: 'object',
      permission: 'rbac.override.create',
      plane,
      schema: {
        tags,
        summary: 'Change the end of an override',
        params: Type.Object({ id: Uuid, override: Uuid }),
        body: End,
        response: {
          200: ok(Type.Array(OverrideInfo)),
          ...mutation('not_found', 'last_administrator', 'grant_exceeds', 'invalid_reference'),
        },
      },
    },
    async (request) => {
      const { id, override } = request.params
      return {
        data: await request.write(async (tx) => {
          await changeOverrideEnd(tx, request.granter, id, override, request.body.expires_at)
          return overridesOf(tx, id)
        }),
      }
    },
  )
  app.delete<{ Params: { id: string; override: string } }>(
    '/users/:id/overrides/:override',
    {
      level: 'object',
      permission: 'rbac.override.delete',
      plane,
      schema: {
        tags,
        summary: 'End an exception',
        params: Type.Object({ id: Uuid, override: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found', 'grant_exceeds') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => removeOverride(tx, request.granter, request.params.id, request.params.override))
      return reply.status(204).send()
    },
  )
}
