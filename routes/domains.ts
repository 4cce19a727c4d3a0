// A company's own host names.
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { addDomain, Domain, domainById, domains, isShown, removeDomain, verifyDomain } from '../domain/tenancy/index.ts'
import { guarded, mutation, ok } from './http/envelope.ts'
import { Id } from './http/reading-routes.ts'

const NewDomain = Type.Object(
  { domain: Type.String({ minLength: 4, maxLength: 300, examples: ['erp.flora.example'] }) },
  { additionalProperties: false },
)

export default async function domainRoutes(app: FastifyInstance) {
  const { services } = app
  const tags = ['tenant']
  const plane = 'control' as const

  app.get(
    '/tenant/domains',
    {
      level: 'tenant',
      permission: 'tenant.domain.read',
      plane,
      schema: { tags, summary: 'Host names of one’s own', response: { 200: ok(Type.Array(Domain)), ...guarded() } },
    },
    async (request) => ({ data: await request.read(domains) }),
  )
  app.post<{ Body: { domain: string } }>(
    '/tenant/domains',
    {
      level: 'tenant',
      permission: 'tenant.domain.create',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Claim a host name; the answer says which TXT record shows whose it is',
        body: NewDomain,
        response: { 201: ok(Domain), ...mutation('already_exists', 'in_use', 'session_required') },
      },
    },
    async (request, reply) => {
      const made = await request.write((tx) => addDomain(tx, request.body.domain, services.settings.baseDomain))
      reply.status(201).header('location', '/api/v1/tenant/domains')
      return { data: made }
    },
  )
  app.post<{ Params: { id: string } }>(
    '/tenant/domains/:id/verify',
    {
      level: 'tenant',
      permission: 'tenant.domain.verify',
      plane,
      schema: {
        tags,
        summary: 'Look into the DNS; shown there, the name is used from the next request on',
        params: Id,
        response: { 200: ok(Domain), ...mutation('not_found', 'already_exists') },
      },
    },
    async (request) => {
      const shown = await isShown(await request.read((tx) => domainById(tx, request.params.id)), services.resolveTxt)
      return { data: await request.write((tx) => verifyDomain(tx, request.params.id, shown)) }
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/tenant/domains/:id',
    {
      level: 'tenant',
      permission: 'tenant.domain.delete',
      stepUp: true,
      plane,
      schema: {
        tags,
        summary: 'Give a host name up',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => removeDomain(tx, request.params.id))
      return reply.status(204).send()
    },
  )
}
