import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { changeSecurityPolicy, SecurityPolicy, securityPolicy } from '../../domain/identity/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'

const Patch = Type.Partial(SecurityPolicy, { additionalProperties: false, minProperties: 1 })

/** How long sessions live, and who needs a second factor. */
export default async function policy(app: FastifyInstance) {
  const tags = ['tenant']
  const current = async (request: FastifyRequest) => {
    const tenant = (await app.services.tenants.byId(request.tenant.id)) ?? request.tenant
    return request.read((tx) => securityPolicy(tx, tenant.security))
  }
  app.get(
    '/tenant/security',
    {
      level: 'tenant',
      permission: 'tenant.security.read',
      plane: 'control',
      schema: {
        tags,
        summary: 'How long sessions live, and who needs a second factor',
        response: { 200: ok(SecurityPolicy), ...guarded() },
      },
    },
    async (request) => ({ data: await current(request) }),
  )
  app.patch<{ Body: Static<typeof Patch> }>(
    '/tenant/security',
    {
      level: 'tenant',
      permission: 'tenant.security.update',
      stepUp: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'Change them; effective at the next request',
        body: Patch,
        response: { 200: ok(SecurityPolicy), ...mutation('invalid_reference', 'grant_exceeds', 'session_required') },
      },
    },
    async (request) => {
      await request.write((tx) => changeSecurityPolicy(tx, request.granter, request.body))
      return { data: await current(request) }
    },
  )
}
