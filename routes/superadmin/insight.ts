// What staff may see of how tenants use the platform: activity, trials, performance, users, usage.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { FoundUser, findUsers, RunningImpersonation, runningImpersonations } from '../../domain/identity/index.ts'
import { failure, oneOf } from '../../domain/kernel/index.ts'
import {
  activityOf,
  PERFORMANCE_ORDERS,
  TenantActivity,
  TenantPerformance,
  TrialReport,
  tenantPerformance,
  trialReport,
  Usage,
  usageOf,
} from '../../domain/platform/index.ts'
import { databaseOf, tenantOf } from '../../domain/tenancy/index.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'
import { PAGING, pageOf, placeIn } from '../http/pages.ts'
import { Id } from '../http/reading-routes.ts'
import { scopeIn } from './target.ts'

const Days = Type.Object({ days: Type.Optional(Type.Integer({ minimum: 1, maximum: 90, default: 30 })) }, { additionalProperties: false })
const Search = Type.Object(
  { q: Type.String({ minLength: 1, maxLength: 200, description: 'In the address or the name', examples: ['ana@flora.example'] }) },
  { additionalProperties: false },
)
const Paged = Type.Object(PAGING, { additionalProperties: false })
const Hours = Type.Object(
  {
    hours: Type.Optional(Type.Integer({ minimum: 1, maximum: 720, default: 24 })),
    sort: Type.Optional(oneOf(PERFORMANCE_ORDERS, { default: 'requests' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
  },
  { additionalProperties: false },
)

export default async function insight(app: FastifyInstance) {
  const { control } = app.services.planes
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control', level: 'tenant' } as const

  app.get<{ Params: { id: string }; Querystring: Static<typeof Days> }>(
    '/superadmin/tenants/:id/activity',
    {
      ...staff,
      permission: 'platform.tenant_activity.read',
      schema: {
        tags,
        summary: 'What a tenant used lately, by whom, and when last',
        params: Id,
        querystring: Days,
        response: { 200: ok(TenantActivity), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await control.read(scopeIn(request, request.params.id), async (tx) => {
        await tenantOf(tx)
        return activityOf(tx, request.query.days ?? 30)
      }),
    }),
  )
  app.get<{ Params: { id: string } }>(
    '/superadmin/tenants/:id/usage',
    {
      ...staff,
      permission: 'platform.tenant_activity.read',
      schema: {
        tags,
        summary: 'Get how much of its plan a tenant uses: storage, records, users, devices, readings',
        params: Id,
        response: { 200: ok(Type.Array(Usage)), ...guarded('not_found') },
      },
    },
    async (request) => {
      const tenant = await app.services.tenants.byId(request.params.id)
      if (!tenant) throw failure('not_found')
      const scope = scopeIn(request, tenant.id)
      return { data: await usageOf(tenant.limits, (work, plane) => databaseOf(app.services.planes, plane, tenant).read(scope, work)) }
    },
  )
  app.get<{ Querystring: Static<typeof Paged> }>(
    '/superadmin/trials',
    {
      ...staff,
      across: true,
      permission: 'platform.tenant_activity.read',
      schema: {
        tags,
        summary: 'List tenants on trial with what they used in the last 30 days; the next to end first',
        querystring: Paged,
        response: { 200: ok(Type.Array(TrialReport), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request) => {
      const { limit = 50, cursor } = request.query
      const found = await request.read((tx) => trialReport(tx, limit + 1, placeIn(request, 'trials', cursor)))
      return pageOf(request, 'trials', limit, found, ({ trial_ends_at, tenant_id }) => [trial_ends_at, tenant_id])
    },
  )
  app.get<{ Querystring: Static<typeof Hours> }>(
    '/superadmin/performance',
    {
      ...staff,
      across: true,
      permission: 'platform.tenant_activity.read',
      schema: {
        tags,
        summary: 'List tenants by requests, errors, time or database time of the last hours',
        querystring: Hours,
        response: { 200: ok(Type.Array(TenantPerformance)), ...guarded() },
      },
    },
    async (request) => {
      const { hours = 24, sort = 'requests', limit = 50 } = request.query
      return { data: await request.read((tx) => tenantPerformance(tx, hours, sort, limit)) }
    },
  )
  app.get<{ Params: { id: string }; Querystring: Static<typeof Search> }>(
    '/superadmin/tenants/:id/users',
    {
      ...staff,
      permission: 'platform.tenant.impersonate',
      schema: {
        tags,
        summary: 'Find users of a tenant by address or name, administrators first',
        params: Id,
        querystring: Search,
        response: { 200: ok(Type.Array(FoundUser)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await control.read(scopeIn(request, request.params.id), async (tx) => {
        await tenantOf(tx)
        return findUsers(tx, request.query.q)
      }),
    }),
  )
  app.get<{ Params: { id: string } }>(
    '/superadmin/tenants/:id/impersonations',
    {
      ...staff,
      permission: 'platform.tenant.impersonate',
      schema: {
        tags,
        summary: 'List impersonations that run now',
        params: Id,
        response: { 200: ok(Type.Array(RunningImpersonation)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await control.read(scopeIn(request, request.params.id), async (tx) => {
        await tenantOf(tx)
        return runningImpersonations(tx)
      }),
    }),
  )
}
