// The people of a tenant, for its administrators.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { grantRoles } from '../../domain/access/index.ts'
import {
  eraseUser,
  inviteAgain,
  inviteUser,
  KINDS,
  LOCALES,
  mfaChanged,
  removeAllFactors,
  revokeAll,
  revokeOf,
  SessionInfo,
  sessionsOf,
  User,
  updateUser,
  userLifecycle,
  userList,
} from '../../domain/identity/index.ts'
import { Name, nullable, oneOf, TimeZone, type Tx, Uuid, Version } from '../../domain/kernel/index.ts'
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
  const registry = (request: FastifyRequest) => app.permissionsOf(request.tenant).keys()

  await app.register(readingRoutes({ module: null, permission: 'identity.user', plane, list: userList, schema: User.schema, get }))
  await app.register(
    lifecycleRoutes(userLifecycle, {
      module: null,
      plane,
      document: User.schema,
      move: userLifecycle.move,
      refusals: ['own_account', 'last_administrator'],
    }),
  )

  app.post<{ Body: Static<typeof Invite> }>(
    '/users',
    {
      permission: 'identity.user.invite',
      plane,
      schema: {
        tags,
        summary: 'Invite somebody, with the roles that he shall have',
        body: Invite,
        response: { 201: ok(User.schema), ...mutation('already_exists', 'invalid_reference', 'grant_exceeds') },
      },
    },
    async (request, reply) => {
      const { roles = [], ...invitation } = request.body
      if (roles.length > 0) request.require('rbac.assignment.create')
      const user = await request.write(async (tx) => {
        const invited = await inviteUser(tx, invitation)
        await grantRoles(tx, request.grants, registry(request), invited.id, roles)
        return invited
      })
      reply.status(201).header('location', `/api/v1/users/${user.id}`)
      return tagged(reply, user)
    },
  )
  app.post<{ Params: { id: string } }>(
    '/users/:id/invite',
    {
      permission: 'identity.user.invite',
      plane,
      schema: {
        tags,
        summary: 'Send the invitation again; links sent before end',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'invalid_transition') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => inviteAgain(tx, request.params.id, app.services.settings.mailIntervalSeconds))
      return reply.status(204).send()
    },
  )
  app.patch<{ Params: { id: string }; Body: Static<typeof Patch> }>(
    '/users/:id',
    {
      permission: 'identity.user.update',
      plane,
      schema: {
        tags,
        summary: 'Change a user',
        params: Id,
        body: Patch,
        response: { 200: ok(User.schema), ...mutation('not_found', 'version_required', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const { version: _, ...patch } = request.body
      return tagged(reply, await request.write((tx) => updateUser(tx, request.params.id, version, patch as object)))
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/users/:id',
    {
      permission: 'identity.user.delete',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Let a person go: his data are erased for good, the trail keeps the fact',
        params: Id,
        response: {
          204: Type.Null(),
          ...mutation('not_found', 'version_required', 'version_conflict', 'own_account', 'last_administrator', 'session_required'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      await request.write((tx) => eraseUser(tx, request.params.id, version))
      return reply.status(204).send()
    },
  )

  app.get<{ Params: { id: string } }>(
    '/users/:id/sessions',
    {
      permission: 'identity.session.read',
      plane,
      schema: {
        tags,
        summary: 'Where a user is signed in',
        params: Id,
        response: { 200: ok(Type.Array(SessionInfo)), ...guarded('not_found') },
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
      permission: 'identity.session.revoke',
      plane,
      schema: { tags, summary: 'End all sessions of a user', params: Id, response: { 204: Type.Null(), ...mutation('not_found') } },
    },
    async (request, reply) => {
      await request.write(async (tx) => {
        await get(tx, request.params.id)
        await revokeAll(tx, request.params.id, 'revoked_by_administrator')
      })
      return reply.status(204).send()
    },
  )
  app.delete<{ Params: { id: string; session: string } }>(
    '/users/:id/sessions/:session',
    {
      permission: 'identity.session.revoke',
      plane,
      schema: {
        tags,
        summary: 'End one session of a user',
        params: Type.Object({ id: Uuid, session: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => revokeOf(tx, request.params.id, request.params.session, 'revoked_by_administrator'))
      return reply.status(204).send()
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/users/:id/mfa',
    {
      permission: 'identity.user.update',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Remove the second factors of somebody who lost them; his sessions end',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      const { id } = request.params
      await request.write(async (tx) => {
        await get(tx, id)
        await removeAllFactors(tx, id)
        await revokeAll(tx, id, 'mfa_reset')
        await mfaChanged(tx, id, 'reset_by_administrator')
      })
      return reply.status(204).send()
    },
  )
}
