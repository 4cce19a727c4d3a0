import type { FastifyRequest } from 'fastify'
import type { Scope } from '../../domain/kernel/index.ts'

/** What staff does to a tenant is in that tenant's trail, by the platform and without a name that is none of its business. */
export const scopeIn = (request: FastifyRequest, tenantId: string): Scope => ({
  tenantId,
  actor: { ...request.actor, tenantId, name: 'platform staff' },
  context: { organizationId: null, workspaceId: null },
  correlationId: request.id,
})
