// Consent to changes by platform staff: given, listed and withdrawn by the tenant's administrators.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  giveSupportConsent,
  NewSupportConsent,
  SupportConsent,
  supportConsents,
  withdrawSupportConsent,
} from '../../domain/access/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'

export default async function supportConsentRoutes(app: FastifyInstance) {
  const tags = ['tenant']
  const base = { level: 'object', plane: 'control', sessionOnly: true } as const

  app.get(
    '/tenant/support-consents',
    {
      ...base,
      permission: 'tenant.support_consent.read',
      schema: {
        tags,
        summary: 'List consents to changes by platform staff',
        response: { 200: ok(Type.Array(SupportConsent)), ...guarded('session_required') },
      },
    },
    async (request) => ({ data: await request.read(supportConsents) }),
  )
  app.post<{ Body: Static<typeof NewSupportConsent> }>(
    '/tenant/support-consents',
    {
      ...base,
      permission: 'tenant.support_consent.create',
      stepUp: true,
      schema: {
        tags,
        summary: 'Consent to changes by platform staff, in a scope and until a time',
        description: 'Staff in a user’s place never changes rights, users, keys, factors or settings, and never exports data.',
        body: NewSupportConsent,
        response: { 201: ok(SupportConsent), ...mutation('grant_exceeds', 'invalid_reference', 'session_required') },
      },
    },
    async (request, reply) => {
      const data = await request.write((tx) => giveSupportConsent(tx, request.granter, request.body))
      reply.status(201).header('location', '/api/v1/tenant/support-consents')
      return { data }
    },
  )
  app.delete<{ Params: { id: string } }>(
    '/tenant/support-consents/:id',
    {
      ...base,
      permission: 'tenant.support_consent.delete',
      schema: {
        tags,
        summary: 'Withdraw a consent, effective at the next request',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => withdrawSupportConsent(tx, request.params.id))
      return reply.status(204).send()
    },
  )
}
