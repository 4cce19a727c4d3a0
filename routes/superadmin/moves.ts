// A tenant goes to another server, or gets a schema or database of its own, while it works.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { confirmMove, Destination, lastMove, Move, movesOf, requestMove, rollBackMove, tenantOf } from '../../domain/tenancy/index.ts'
import { guarded, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { scopeIn, tenantChanges } from './target.ts'

export default async function moves(app: FastifyInstance) {
  const { control, data } = app.services.planes
  const change = tenantChanges(app)
  const catalog = new Set(data.keys())
  const answer = { schema: Move, read: lastMove }

  app.get<{ Params: { id: string } }>(
    '/superadmin/tenants/:id/moves',
    {
      platform: true,
      plane: 'control',
      level: 'tenant',
      permission: 'platform.tenant.read',
      schema: {
        tags: ['superadmin'],
        summary: 'Where a tenant was moved, and how far it is; the last first',
        params: Id,
        response: { 200: ok(Type.Array(Move)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await control.read(scopeIn(request, request.params.id), async (tx) => {
        await tenantOf(tx)
        return movesOf(tx)
      }),
    }),
  )
  change<Static<typeof Destination>>('POST', '/move', {
    summary: 'Move a tenant while it works. Again: begin once more where it was',
    permission: 'platform.tenant.move',
    body: Destination,
    details: ['invalid_transition', 'invalid_reference'],
    answer,
    work: (tx, destination, _params, staffId) => requestMove(tx, destination, catalog, staffId),
  })
  change('POST', '/move/confirm', {
    summary: 'Give up the old copy of a tenant that was moved',
    permission: 'platform.tenant.move',
    details: ['invalid_transition'],
    answer,
    work: (tx) => confirmMove(tx),
  })
  change('POST', '/move/roll-back', {
    summary: 'Take a move back; after the switch the tenant returns with all that it wrote since',
    permission: 'platform.tenant.move',
    details: ['invalid_transition'],
    answer,
    work: (tx) => rollBackMove(tx),
  })
}
