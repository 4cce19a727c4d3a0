// Keys for programs. Everyone manages his own; whoever may, sees and ends those of others.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { assertCanAdminister, Pattern, TENANT } from '../../domain/access/index.ts'
import {
  ApiKeyInfo,
  apiKey,
  apiKeysOf,
  changeApiKey,
  type KeyChange,
  makeApiKey,
  revokeApiKey,
  rotateApiKey,
} from '../../domain/identity/index.ts'
import { type Context, failure, Name, nullable, Timestamp, Uuid, Version } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const Create = Type.Object(
  {
    name: Name,
    permissions: Type.Array(Pattern, {
      minItems: 1,
      maxItems: 200,
      uniqueItems: true,
      description: 'Codes or patterns; no more than its maker holds',
      examples: [['erp.product.read', 'erp.party.read']],
    }),
    organization_id: Type.Optional(nullable(Uuid)),
    workspace_id: Type.Optional(nullable(Uuid)),
    allowed_addresses: Type.Optional(Type.Array(Type.String({ maxLength: 50 }), { maxItems: 50, examples: [['203.0.113.0/24']] })),
    expires_at: Type.Optional(nullable(Timestamp)),
    user_id: Type.Optional(Type.String({ format: 'uuid', description: 'A service account that the key is for; yourself when omitted' })),
  },
  { additionalProperties: false },
)
const Change = Type.Object(
  {
    name: Type.Optional(Name),
    allowed_addresses: Type.Optional(Create.properties.allowed_addresses),
    expires_at: Type.Optional(nullable(Timestamp)),
    version: Type.Optional(Version),
  },
  { additionalProperties: false },
)
const Rotate = Type.Optional(
  Type.Object(
    {
      overlap_hours: Type.Optional(Type.Integer({ minimum: 0, maximum: 720, default: 24, description: 'The old key works so long' })),
      expires_at: Type.Optional(nullable(Timestamp)),
    },
    { additionalProperties: false },
  ),
)
const Made = Type.Object({
  ...ApiKeyInfo.properties,
  key: nullable(Type.String({ description: 'The key itself, shown this once; null on a replay' })),
})

/**
 * The scope of a new key: the organization that is named, else the one that its maker works in; in an organization whose
 * work takes a workspace, the maker's own where none is named.
 */
function scopeOfKey({ context, grants }: FastifyRequest, organizationId = context.organizationId, workspaceId: string | null): Context {
  const workspaceRequired = grants.organizations.find(({ id }) => id === organizationId)?.workspace_required
  const own = workspaceRequired && organizationId === context.organizationId ? context.workspaceId : null
  return { organizationId, workspaceId: workspaceId ?? own }
}

export default async function apiKeys(app: FastifyInstance) {
  const tags = ['api keys']
  /** Keys are managed by persons: a key neither sees nor ends another. */
  const base = { plane: 'control', sessionOnly: true, level: 'tenant' } as const
  /** Whose keys the caller reaches: his own, or, with the permission, anybody's (null). */
  const reach = (request: FastifyRequest, permission: string) => (request.may(permission) ? null : request.actor.userId)

  app.get(
    '/api-keys',
    {
      ...base,
      authenticated: true,
      widens: ['identity.api_key.read'],
      schema: {
        tags,
        summary: 'My API keys, or with `identity.api_key.read` everybody’s',
        response: { 200: ok(Type.Array(ApiKeyInfo)), ...guarded('session_required') },
      },
    },
    async (request) => ({ data: await request.read((tx) => apiKeysOf(tx, reach(request, 'identity.api_key.read'))) }),
  )
  app.get<{ Params: { id: string } }>(
    '/api-keys/:id',
    {
      ...base,
      authenticated: true,
      widens: ['identity.api_key.read'],
      schema: {
        tags,
        summary: 'Get an API key',
        params: Id,
        response: { 200: ok(ApiKeyInfo), ...guarded('not_found', 'session_required') },
      },
    },
    async (request) => ({ data: await request.read((tx) => apiKey(tx, request.params.id, reach(request, 'identity.api_key.read'))) }),
  )
  app.post<{ Body: Static<typeof Create> }>(
    '/api-keys',
    {
      ...base,
      level: 'object',
      permission: 'identity.api_key.create',
      stepUp: true,
      schema: {
        tags,
        summary: 'Create an API key; it is shown this once',
        description:
          'Without `organization_id` the key works in the organization where you work now; with null in the whole tenant, for what is decided there. `workspace_id` narrows it to a workspace.',
        body: Create,
        response: {
          201: ok(Made),
          ...mutation('not_found', 'invalid_reference', 'grant_exceeds', 'context_forbidden', 'context_required', 'session_required'),
        },
      },
    },
    async (request, reply) => {
      const { name, permissions, organization_id, workspace_id, allowed_addresses = [], expires_at = null, user_id } = request.body
      if (organization_id === null && workspace_id)
        throw failure('invalid_value', { path: '/workspace_id', rule: 'with', message: 'is named with its organization' })
      const scope = organization_id === null ? TENANT : scopeOfKey(request, organization_id, workspace_id ?? null)
      if (organization_id === undefined && scope.organizationId === null) throw failure('context_required')
      let key: string | null = null
      const info = await request.write(async (tx) => {
        const wanted = { name, permissions, ...scope, allowedAddresses: allowed_addresses, expiresAt: expires_at }
        const made = await makeApiKey(tx, request.granter, user_id ?? request.actor.userId!, wanted)
        key = made.key
        return made.info
      })
      reply.status(201).headers({ location: `/api/v1/api-keys/${info.id}`, 'cache-control': 'no-store' })
      return { data: { ...info, key } }
    },
  )
  app.post<{ Params: { id: string }; Body: Static<typeof Rotate> }>(
    '/api-keys/:id/rotate',
    {
      ...base,
      level: 'object',
      permission: 'identity.api_key.create',
      stepUp: true,
      schema: {
        tags,
        summary: 'Rotate a key of mine or of a service account; both keys work for the overlap',
        description: 'The new key ends when the old one would have, or at `expires_at`; null is without end.',
        params: Id,
        body: Rotate,
        response: {
          201: ok(Made),
          ...mutation(
            'not_found',
            'invalid_transition',
            'grant_exceeds',
            'context_forbidden',
            'context_required',
            'invalid_reference',
            'session_required',
          ),
        },
      },
    },
    async (request, reply) => {
      let key: string | null = null
      const info = await request.write(async (tx) => {
        const made = await rotateApiKey(tx, request.granter, request.params.id, request.body?.overlap_hours ?? 24, request.body?.expires_at)
        key = made.key
        return made.info
      })
      reply.status(201).header('cache-control', 'no-store')
      return { data: { ...info, key } }
    },
  )
  app.patch<{ Params: { id: string }; Body: Static<typeof Change> }>(
    '/api-keys/:id',
    {
      ...base,
      level: 'object',
      permission: 'identity.api_key.create',
      stepUp: true,
      schema: {
        tags,
        summary: 'Change the name, networks or end of a key of mine or of a service account, at its next request',
        params: Id,
        body: Change,
        response: {
          200: ok(ApiKeyInfo),
          ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_transition', 'grant_exceeds', 'session_required'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const { version: _, ...change } = request.body
      return tagged(reply, await request.write((tx) => changeApiKey(tx, request.granter, request.params.id, version, change as KeyChange)))
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/api-keys/:id',
    {
      ...base,
      authenticated: true,
      widens: ['identity.api_key.revoke'],
      schema: {
        tags,
        summary: 'End one of my keys, or with `identity.api_key.revoke` anybody’s',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'grant_exceeds', 'session_required') },
      },
    },
    async (request, reply) => {
      const whose = reach(request, 'identity.api_key.revoke')
      await request.write(async (tx) => {
        const { user_id } = await apiKey(tx, request.params.id, whose)
        if (user_id !== request.actor.userId) await assertCanAdminister(tx, request.granter, user_id)
        await revokeApiKey(tx, request.params.id)
      })
      return reply.status(204).send()
    },
  )
}
