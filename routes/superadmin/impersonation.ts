// The platform's staff in the place of a tenant's user.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { defaultContext } from '../../domain/access/index.ts'
import { accessToken, endImpersonation, impersonate } from '../../domain/identity/index.ts'
import { failure, Timestamp, Uuid } from '../../domain/kernel/index.ts'
import { mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { scopeIn } from './target.ts'

const Wanted = Type.Object(
  {
    user_id: Uuid,
    reason: Type.String({
      minLength: 10,
      maxLength: 500,
      description: 'The tenant is told it',
      examples: ['Ticket 4711: totals of an order'],
    }),
    minutes: Type.Optional(Type.Integer({ minimum: 1, maximum: 60, default: 15 })),
  },
  { additionalProperties: false },
)
const Given = Type.Object({ session_id: Uuid, access_token: Type.String(), expires_at: Timestamp })

export default async function impersonation(app: FastifyInstance) {
  const { planes, access, keys, tenants } = app.services
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control', sessionOnly: true, stepUp: true } as const

  app.post<{ Params: { id: string }; Body: Static<typeof Wanted> }>(
    '/superadmin/tenants/:id/impersonations',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.tenant.impersonate',
      schema: {
        tags,
        summary: 'Act in a user’s place for a while',
        description:
          'Reads only, unless the tenant consented to changes (`/tenant/support-consents`). The user and the administrators get a mail; every change is in the tenant’s trail with both ids.',
        params: Id,
        body: Wanted,
        response: { 201: ok(Given), ...mutation('not_found', 'session_required') },
      },
    },
    async (request: FastifyRequest, reply) => {
      const { id: tenantId } = request.params as { id: string }
      const { user_id: userId, reason, minutes = 15 } = request.body as Static<typeof Wanted>
      // Not of the platform's own people: that would be a way to rights that one was not given.
      const target = await tenants.byId(tenantId)
      const grants = target?.kind === 'customer' ? await access.grants(tenantId, userId) : null
      if (!grants) throw failure('not_found')
      const opened = await planes.control.write(scopeIn(request, tenantId), (tx) =>
        impersonate(tx, defaultContext(grants, Date.now()), {
          userId,
          reason,
          minutes,
          staffId: request.actor.userId!,
          address: request.ip,
        }),
      )
      const token = await accessToken(keys, tenantId, opened, minutes * 60, request.actor.userId!)
      reply.status(201).header('cache-control', 'no-store')
      return { data: { session_id: opened.sessionId, access_token: token, expires_at: opened.expiresAt } }
    },
  )
  app.delete<{ Params: { id: string; session: string } }>(
    '/superadmin/tenants/:id/impersonations/:session',
    {
      platform: true,
      plane: 'control',
      sessionOnly: true,
      level: 'tenant',
      permission: 'platform.tenant.impersonate',
      schema: {
        tags,
        summary: 'End it before its time',
        params: Type.Object({ id: Uuid, session: Uuid }),
        response: { 204: Type.Null(), ...mutation('not_found') },
      },
    },
    async (request, reply) => {
      const { id, session } = request.params
      await planes.control.write(scopeIn(request, id), (tx) => endImpersonation(tx, session))
      return reply.status(204).send()
    },
  )
}
