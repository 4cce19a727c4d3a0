// A company asks for a tenant, and looks how far it is.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { requireEmail } from '../domain/identity/index.ts'
import { systemScope, Uuid } from '../domain/kernel/index.ts'
import { Progress, progressOf, Registration, register } from '../domain/tenancy/index.ts'
import { errors, ok, open } from './http/envelope.ts'
import { Id } from './http/reading-routes.ts'

/** What the applicant sees: how far it is, and nothing of why a step failed, which is ours to mend. */
const Seen = Type.Object({ ...Progress.properties, steps: Type.Array(Type.Omit(Progress.properties.steps.items, ['error'])) })

export default async function registrations(app: FastifyInstance) {
  const { control } = app.services.planes
  const anyone = { public: true, tenantless: true } as const
  const tags = ['registrations']

  app.post<{ Body: Static<typeof Registration> }>(
    '/registrations',
    {
      ...anyone,
      authLimit: true,
      schema: {
        tags,
        summary: 'Ask for a tenant; the platform’s staff decides, then an invitation comes by mail',
        body: Registration,
        response: {
          202: ok(Type.Object({ id: Uuid, status: Type.String() })),
          ...open('invalid_value', 'invalid_reference', 'already_exists'),
        },
      },
    },
    async (request, reply) => {
      const asked = { ...request.body, email: requireEmail(request.body.email) }
      const id = await register(control, asked, request.ip, request.id)
      reply.status(202).header('location', `/api/v1/registrations/${id}`)
      return { data: { id, status: 'pending' } }
    },
  )
  app.get<{ Params: { id: string } }>(
    '/registrations/:id',
    {
      ...anyone,
      schema: {
        tags,
        summary: 'How far a registration is, by the id that asking for it answered',
        params: Id,
        response: {
          200: ok(Seen),
          ...errors('not_found', 'invalid_params', 'rate_limited', 'internal', 'database_unavailable', 'overloaded'),
        },
      },
    },
    async (request) => ({ data: await control.read(systemScope(request.params.id, 'registration', request.id), progressOf) }),
  )
}
