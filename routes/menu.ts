import type { FastifyInstance } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { nullable } from '../domain/kernel/index.ts'
import { changeMenu, MENU_TTL_SECONDS, menuFor, RegisteredModule, registryOf } from '../domain/platform/index.ts'
import { MenuOverrides } from '../domain/tenancy/index.ts'
import { guarded, mutation, ok } from './http/envelope.ts'

const node = (children: TSchema) =>
  Type.Object({
    code: Type.String(),
    label: Type.String(),
    path: nullable(Type.String()),
    icon: nullable(Type.String()),
    blocked: Type.Boolean(),
    unlocked_by: nullable(Type.String()),
    children,
  })
// The tree is three deep; a recursive schema would keep generated clients from compiling in half of the languages.
const Tree = Type.Array(node(Type.Array(node(Type.Array(node(Type.Array(Type.Unknown())))))))

export default async function menu(app: FastifyInstance) {
  const { catalogue } = app.services
  const tags = ['menu']
  app.get(
    '/menu',
    {
      authenticated: true,
      schema: {
        tags,
        summary: 'What this user may open here; blocked entries say which plan unlocks them',
        response: { 200: ok(Tree, { ttl_seconds: Type.Integer() }), 304: Type.Null(), ...guarded() },
      },
    },
    async (request, reply) => {
      const { actor, apiKey, context, grants, tenant } = request
      const languages = [grants.locale ?? tenant.locale, tenant.locale]
      const reader = [actor.userId, apiKey?.id, context.organizationId, context.workspaceId, ...languages].join(' ')
      const { items, etag } = await menuFor(catalogue, tenant, reader, (p) => request.may(p), languages)
      reply.headers({ etag, 'cache-control': `private, max-age=${MENU_TTL_SECONDS}`, vary: 'cookie, authorization' })
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      return { data: items, ttl_seconds: MENU_TTL_SECONDS }
    },
  )

  app.get(
    '/menu/overrides',
    {
      level: 'tenant',
      permission: 'tenant.menu.read',
      schema: { tags, summary: 'How this tenant’s menu differs from the platform’s', response: { 200: ok(MenuOverrides), ...guarded() } },
    },
    async (request) => ({ data: request.tenant.menu }),
  )
  app.put<{ Body: MenuOverrides }>(
    '/menu/overrides',
    {
      level: 'tenant',
      permission: 'tenant.menu.update',
      plane: 'control',
      schema: {
        tags,
        summary: 'Set all of it: order, words and what is hidden, by entry; effective at the next request',
        body: MenuOverrides,
        response: { 200: ok(MenuOverrides), ...mutation('invalid_reference') },
      },
    },
    async (request) => {
      await request.write((tx) => changeMenu(tx, request.body))
      return { data: request.body }
    },
  )

  app.get(
    '/module-registry',
    {
      authenticated: true,
      schema: {
        tags,
        summary: 'The modules of the platform, what they need, and which of them this tenant has',
        response: { 200: ok(Type.Array(RegisteredModule)), ...guarded() },
      },
    },
    async (request) => ({ data: await registryOf(catalogue, request.tenant) }),
  )
}
