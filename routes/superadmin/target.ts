// The platform's staff at work on one tenant.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type TProperties, type TSchema, Type } from 'typebox'
import { type Detail, type Scope, STAFF_NAME, type Tx, Uuid } from '../../domain/kernel/index.ts'
import { TenantSheet, tenantSheet } from '../../domain/platform/index.ts'
import { lockTenant } from '../../domain/tenancy/index.ts'
import { mutation, ok } from '../http/envelope.ts'
import { withNames } from '../http/names.ts'

/** Staff changes things in person, after a recent authentication; never by API key. */
export const STAFF_CHANGE = { sessionOnly: true, stepUp: true } as const

/** What staff does to a tenant is in that tenant's trail, by the platform and without a name that is none of its business. */
export const scopeIn = (request: FastifyRequest, tenantId: string): Scope => ({
  tenantId,
  actor: { ...request.actor, tenantId, name: STAFF_NAME },
  context: { organizationId: null, workspaceId: null },
  correlationId: request.id,
})

/** Entries of a tenant's trail with the names of the staff members who made them. */
export const withStaffNames = <T extends { actor_id: string | null; actor_name: string | null }>(
  request: FastifyRequest,
  entries: readonly T[],
) =>
  withNames(
    request,
    entries.map((entry) => (entry.actor_name === STAFF_NAME ? { ...entry, actor_name: null } : entry)),
  ).then((named) => named.map((entry, at) => ({ ...entry, actor_name: entry.actor_name ?? entries[at]!.actor_name })))

/** What a change is answered with: how the tenant is after it. */
interface Answer {
  schema: TSchema
  read: (tx: Tx) => Promise<unknown>
}
const SHEET: Answer = { schema: TenantSheet, read: tenantSheet }

export interface TenantChange<B> {
  summary: string
  permission: string
  /** Of the path, beside the tenant's id. */
  params?: TProperties
  body?: TSchema
  /** What it may refuse with. */
  details?: Detail[]
  answer?: Answer
  work: (tx: Tx, body: B, params: Record<string, string>, staffId: string | null) => Promise<void>
}

/** Declares changes of one tenant. Each is one transaction, and known to every process when it is answered. */
export const tenantChanges =
  (app: FastifyInstance) =>
  <B = undefined>(
    method: 'POST' | 'PUT' | 'DELETE',
    path: string,
    { summary, permission, params = {}, body, details = [], answer = SHEET, work }: TenantChange<B>,
  ): void => {
    const { control } = app.services.planes
    app.route<{ Params: Record<string, string>; Body: B }>({
      method,
      url: `/superadmin/tenants/:id${path}`,
      platform: true,
      plane: 'control',
      level: 'tenant',
      permission,
      ...STAFF_CHANGE,
      schema: {
        tags: ['superadmin'],
        summary,
        params: Type.Object({ id: Uuid, ...params }),
        ...(body ? { body } : {}),
        response: { 200: ok(answer.schema), ...mutation('not_found', ...details) },
      },
      handler: async (request) => ({
        data: await control.write(
          scopeIn(request, request.params.id!),
          async (tx) => {
            await lockTenant(tx) // one that is not there says so, before anything is written
            await work(tx, request.body as B, request.params, request.actor.userId)
            return answer.read(tx)
          },
          request.once,
        ),
      }),
    })
  }
