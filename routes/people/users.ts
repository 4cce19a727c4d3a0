// The people of a tenant, for its administrators.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { assertCanAdminister, grantRoles, holdsRole } from '../../domain/access/index.ts'
import {
  eraseUser,
  inviteAgain,
  inviteUser,
  KINDS,
  LOCALES,
  mfaChanged,
  resetFactors,
  revokeAll,
  revokeOf,
  SessionInfo,
  sessionsOf,
  User,
  updateUser,
  userLifecycle,
  userList,
} from '../../domain/identity/index.ts'
import { failure, Name, nullable, oneOf, TimeZone, type Tx, Uuid, Version } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { lifecycleRoutes } from '../http/lifecycle-routes.ts'
import { Id, readingRoutes } from '../http/reading-routes.ts'
import { lifetimesOf } from '../http/session-reply.ts'
import { tagged, versionOf } from '../http/version.ts'
import { Assignment } from '../rights/roles.ts'

const Invite = Type.Object(
  {
    email: Type.String({ minLength: 3, maxLength: 254, examples: ['ana@example.com'] }),
    name: Name,
    kind: Type.Optional(oneOf(KINDS)),
    locale: Type.Optional(nullable(oneOf(LOCALES))),
    roles: Type.Optional(Type.Array(Assignment, { maxItems: 50 })),
  },
  { additionalProperties: false },
)
const Patch = Type.Object(
  {
    name: Type.Optional(Name),
    kind: Type.Optional(oneOf(KINDS)),
    locale: Type.Optional(nullable(oneOf(LOCALES))),
    timezone: Type.Optional(nullable(TimeZone)),
    version: Type.Optional(Version),
  },
  { additionalProperties: false },
)

const get = async (tx: Tx, id: string) => userLifecycle.get(tx, id)

export default async function users(app: FastifyInstance) {
  const tags = ['users']
  const plane = 'control' as const
  /** Sessions and factors are managed by persons. */
  const inPerson = { level: 'tenant', sessionOnly: true, plane } as const

  await app.register(
    readingRoutes({
      module: null,
      permission: 'identity.user',
      plane,
      list: userList,
      schema: User.schema,
      get,
      narrowing: { role: { permission: 'rbac.assignment.read', where: holdsRole } },
    }),
  )
  await app.register(
    lifecycleRoutes(userLifecycle, {
      module: null,
      plane,
      document: User.schema,
      move: userLifecycle.move,
      input: Object.fromEntries(Object.keys(userLifecycle.transitions).map((name) => [name, ({ granter }) => ({ granter })])),
      refusals: ['own_account', 'last_administrator', 'grant_exceeds'],
      level: 'tenant',
    }),
  )

  app.post<{ Body: Static<typeof Invite> }>(
    '/users',
    {
      level: 'tenant',
      permission: 'identity.user.invite',
      plane,
      schema: {
        tags,
        summary: 'Invite a user, with their roles',
        body: Invite,
        response: { 201: ok(User.schema), ...mutation('already_exists', 'invalid_reference', 'grant_exceeds') },
      },
    },
    async (request, reply) => {
      const { roles = [], ...invitation } = request.body
      const user = await request.write(async (tx) => {
        const invited = await inviteUser(tx, invitation)
        await grantRoles(tx, request.granter, invited.id, roles)
        return invited
      })
      reply.status(201).header('location', `/api/v1/users/${user.id}`)
      return tagged(reply, user)
    },
  )
  app.post<{ Params: { id: string } }>(
    '/users/:id/invite',
    {
      level: 'tenant',
      permission: 'identity.user.invite',
      plane,
      schema: {
        tags,
        summary: 'Send the invitation again; links sent before end',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'invalid_transition', 'grant_exceeds') },
      },
    },
    async (request, reply) => {
      await request.write(async (tx) => {
        await assertCanAdminister(tx, request.granter, request.params.id)
        await inviteAgain(tx, request.params.id, app.services.settings.mailIntervalSeconds)
      })
      return reply.status(204).send()
    },
  )
  app.patch<{ Params: { id: string }; Body: Static<typeof Patch> }>(
    '/users/:id',
    {
      level: 'tenant',
      permission: 'identity.user.update',
      plane,
      schema: {
        tags,
        summary: 'Change a user',
        params: Id,
        body: Patch,
        response: {
          200: ok(User.schema),
          ...mutation('not_found', 'version_required', 'version_conflict', 'own_account', 'last_administrator', 'grant_exceeds'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const { version: _, ...patch } = request.body
      return tagged(
        reply,
        await request.write(async (tx) => {
          if (patch.kind && request.params.id === request.actor.userId) throw failure('own_account')
          await assertCanAdminister(tx, request.granter, request.params.id)
          return updateUser(tx, request.params.id, version, patch as object)
        }),
      )
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/users/:id',
    {
      level: 'tenant',
      permission: 'identity.user.delete',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Erase a user for good; the trail keeps the fact',
        params: Id,
        response: {
          204: Type.Null(),
          ...mutation(
            'not_found',
            'version_required',
            'version_conflict',
            'own_account',
            'last_administrator',
            'grant_exceeds',
            'session_required',
          ),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      await request.write((tx) => eraseUser(tx, request.granter, request.params.id, version))
      return reply.status(204).send()
    },
  )

  app.get<{ Params: { id: string } }>(
    '/users/:id/sessions',
    {
      level: 'object',
      permission: 'identity.session.read',
      sessionOnly: true,
      plane,
      schema: {
        tags,
        summary: 'Where a user is signed in',
        params: Id,
        response: { 200: ok(Type.Array(SessionInfo)), ...guarded('not_found', 'session_required') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await get(tx, request.params.id)
        return sessionsOf(tx, request.params.id, lifetimesOf(request))
      }),
    }),
  )
  app.delete<{ Params: { id: string } }>(
    '/users/:id/sessions',
    {
      ...inPerson,
      permission: 'identity.session.revoke',
      schema: {
        tags,
        summary: 'End all sessions of a user',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'grant_exceeds', 'session_required') },
      },
    },
    async (request, reply) => {
      await request.write(async (tx) => {
        await assertCanAdminister(tx, request.granter, request.params.id)
        await revokeAll(tx, request.params.id, 'revoked_by_administrator')
      })
      return reply.status(204).send()
    },
  )
  app.delete<{ Params: { id: string; session: string } }>(
    '/users/:id/sessions/:session',
    {
      ...inPerson,
      permission: 'identity.session.revoke',
      schema: {
        tags,
        summary: 'End one session of a user',
        params: Type.Object({ id: Uuid, session: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found', 'grant_exceeds', 'session_required') },
      },
    },
    async (request, reply) => {
      const { id, session } = request.params
      await request.write(async (tx) => {
        await assertCanAdminister(tx, request.granter, id)
        await revokeOf(tx, id, session, 'revoked_by_administrator')
      })
      return reply.status(204).send()
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/users/:id/mfa',
    {
      level: 'tenant',
      permission: 'identity.user.update',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Remove the second factors of a user who lost them; their sessions end',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'last_administrator', 'grant_exceeds', 'session_required') },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      await request.write(async (tx) => {
        await assertCanAdminister(tx, request.granter, id)
        await resetFactors(tx, id)
        await revokeAll(tx, id, 'mfa_reset')
        await mfaChanged(tx, id, 'reset_by_administrator')
      })
      return reply.status(204).send()
    },
  )
}
