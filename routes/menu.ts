import type { FastifyInstance } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { nullable } from '../domain/kernel/index.ts'
import { MENU_TTL_SECONDS, RegisteredModule } from '../domain/platform/index.ts'
import { guarded, ok } from './http/envelope.ts'

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
// The tree is two deep; a recursive schema would keep generated clients from compiling in half of the languages.
const Tree = Type.Array(node(Type.Array(node(Type.Array(Type.Unknown())))))

export default async function menu(app: FastifyInstance) {
  app.get(
    '/menu',
    {
      authenticated: true,
      schema: {
        tags: ['menu'],
        summary: 'What this user may open here; blocked entries say which plan unlocks them',
        response: { 200: ok(Tree, { ttl_seconds: Type.Integer() }), 304: Type.Null(), ...guarded() },
      },
    },
    async (request, reply) => {
      const { grants, tenant } = request
      const { items, etag } = await app.services.menu.tree(tenant.modules, (p) => request.may(p), grants.locale ?? tenant.locale)
      reply.headers({ etag, 'cache-control': `private, max-age=${MENU_TTL_SECONDS}`, vary: 'cookie, authorization' })
      if (request.headers['if-none-match'] === etag) return reply.status(304).send()
      return { data: items, ttl_seconds: MENU_TTL_SECONDS }
    },
  )

  app.get(
    '/module-registry',
    {
      authenticated: true,
      schema: {
        tags: ['menu'],
        summary: 'The modules of the platform, what they need, and which of them this tenant has',
        response: { 200: ok(Type.Array(RegisteredModule)), ...guarded() },
      },
    },
    async (request) => ({ data: await app.services.modules.of(request.tenant.modules) }),
  )
}
