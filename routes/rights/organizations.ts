// Organizations and workspaces: where one may work, and, for those who may, all of them.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { approvalLimit, checkContext } from '../../domain/access/index.ts'
import { recordsOf } from '../../domain/erp/organizations/index.ts'
import { isCurrencyUsed } from '../../domain/erp/pricing/index.ts'
import { failure, sql, Uuid } from '../../domain/kernel/index.ts'
import { countDevices } from '../../domain/telemetry/index.ts'
import {
  changeOrganizationSettings,
  OrganizationSettings,
  organizationSettings,
  organizations,
  workspaces,
} from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const Workspace = Type.Object({ id: Uuid, code: Type.String(), name: Type.String() })
const Place = Type.Object(
  { id: Uuid, code: Type.String(), name: Type.String(), workspaces: Type.Array(Workspace) },
  { additionalProperties: false },
)
const Patch = Type.Partial(OrganizationSettings, { additionalProperties: false })

/** Refuses with `in_use` another currency for an organization in which orders, rates or stock are kept in the present one. */
async function assertCurrencyUnused(request: FastifyRequest): Promise<void> {
  const { id } = request.params as { id: string }
  const { currency } = request.body as { currency?: string }
  const organization = request.grants.organizations.find((o) => o.id === id)
  if (!currency || !organization || organization.currency === currency) return
  if (await request.read((tx) => isCurrencyUsed(tx, id), 'data')) throw failure('in_use', { currency: organization.currency })
}

/**
 * Refuses with `in_use` to delete an organization that holds records. They lie in other databases, so one that is made in the
 * same moment can be missed: it is there again once the organization is recovered.
 */
async function assertHoldsNoRecords(request: FastifyRequest): Promise<void> {
  if (request.method !== 'DELETE') return
  const { id } = request.params as { id: string }
  const [records, devices] = await Promise.all([
    request.read((tx) => recordsOf(tx, id), 'data'),
    request.read((tx) => countDevices(tx, id), 'telemetry'),
  ])
  const uses = { ...records, devices }
  if (Object.values(uses).some((n) => n > 0)) throw failure('in_use', uses)
}

export default async function organizationRoutes(app: FastifyInstance) {
  const tags = ['organizations']
  app.get(
    '/context',
    {
      authenticated: true,
      plane: 'control',
      schema: { tags, summary: 'Where this user may work', response: { 200: ok(Type.Array(Place)), ...guarded() } },
    },
    async (request) => {
      const all = await request.read((tx) =>
        tx.any(sql.type(Place)`
      select o.id, o.code, o.name, coalesce((
        select jsonb_agg(jsonb_build_object('id', w.id, 'code', w.code, 'name', w.name) order by w.code)
        from res_workspaces w where w.tenant_id = o.tenant_id and w.organization_id = o.id and w.deleted_at is null), '[]') as workspaces
      from res_organizations o where o.tenant_id = ${tx.tenantId} and o.deleted_at is null order by o.code limit 1000`),
      )
      const now = Date.now()
      const mayWork = (organizationId: string, workspaceId: string | null) =>
        checkContext(request.grants, { organizationId, workspaceId }, now) !== 'context_forbidden'
      return {
        data: all.filter((o) => mayWork(o.id, null)).map((o) => ({ ...o, workspaces: o.workspaces.filter((w) => mayWork(o.id, w.id)) })),
      }
    },
  )

  const named = { level: 'organization', organizationFrom: 'id' } as const
  await app.register(async (changes) => {
    changes.addHook('preHandler', assertHoldsNoRecords)
    await changes.register(resourceRoutes(organizations, { plane: 'control', only: ['create', 'delete'], level: 'tenant' }))
  })
  await app.register(resourceRoutes(organizations, { plane: 'control', only: ['list'] }))
  await app.register(resourceRoutes(organizations, { plane: 'control', only: ['get', 'history'], ...named }))
  await app.register(async (changes) => {
    changes.addHook('preHandler', assertCurrencyUnused)
    await changes.register(resourceRoutes(organizations, { plane: 'control', only: ['update'], ...named }))
  })
  await app.register(resourceRoutes(workspaces, { plane: 'control' }))

  app.get<{ Params: { id: string } }>(
    '/organizations/:id/settings',
    {
      ...named,
      permission: 'tenant.organization.read',
      plane: 'control',
      schema: {
        tags,
        summary: 'How an organization works',
        params: Id,
        response: { 200: ok(OrganizationSettings), ...guarded('not_found') },
      },
    },
    async (request, reply) => tagged(reply, await request.read((tx) => organizationSettings(tx, request.params.id))),
  )
  app.patch<{ Params: { id: string }; Body: Static<typeof Patch> }>(
    '/organizations/:id/settings',
    {
      ...named,
      permission: 'tenant.organization.update',
      plane: 'control',
      schema: {
        tags,
        summary: 'Change how an organization works; effective at the next request',
        params: Id,
        body: Patch,
        response: {
          200: ok(OrganizationSettings),
          ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_reference', 'grant_exceeds'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const place = { organizationId: request.params.id, workspaceId: null }
      const ownLimit = approvalLimit(request.grants, place, Date.now())
      return tagged(reply, await request.write((tx) => changeOrganizationSettings(tx, request.params.id, version, request.body, ownLimit)))
    },
  )
}
