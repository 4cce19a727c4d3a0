// Tenants as the platform's staff sees them: asked for, decided, let in, let try, closed.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { AuditEvent, auditPage } from '../../domain/audit/index.ts'
import { listRows, Timestamp, Uuid } from '../../domain/kernel/index.ts'
import { convert, TenantSheet, tenantSheet } from '../../domain/platform/index.ts'
import {
  approve,
  changeStanding,
  Decision,
  extendTrial,
  forStaff,
  matchesTenant,
  Progress,
  progressOf,
  reject,
  type StandingChange,
  TenantLine,
  tenantList,
  tenantOf,
} from '../../domain/tenancy/index.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'
import { replyList } from '../http/list-reply.ts'
import { nextPlace, PAGING, placeIn } from '../http/pages.ts'
import { Id, ListQuerystring } from '../http/reading-routes.ts'
import { PlanChoice } from './offers.ts'
import { scopeIn, tenantChanges, withStaffNames } from './target.ts'

const Trial = Type.Object({ trial_ends_at: Timestamp }, { additionalProperties: false })
const Reason = Type.Object({ reason: Type.String({ minLength: 3, maxLength: 500 }) }, { additionalProperties: false })
type Reason = Static<typeof Reason>
const AuditQuery = Type.Object(
  {
    entity: Type.Optional(Type.String({ maxLength: 100 })),
    actor_id: Type.Optional(Uuid),
    action: Type.Optional(Type.String({ maxLength: 100, examples: ['platform.tenant.suspended'] })),
    from: Type.Optional(Timestamp),
    to: Type.Optional(Timestamp),
    ...PAGING,
  },
  { additionalProperties: false },
)

export default async function tenants(app: FastifyInstance) {
  const { control, data } = app.services.planes
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control', level: 'tenant', permission: 'platform.tenant.read' } as const
  const change = tenantChanges(app)

  app.get(
    '/superadmin/tenants',
    {
      ...staff,
      across: true,
      schema: {
        tags,
        summary: 'All tenants',
        querystring: ListQuerystring,
        response: { 200: ok(Type.Array(Type.Partial(TenantLine.schema)), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    (request, reply) =>
      replyList(request, reply, tenantList, (tx, { q, ...query }) => listRows(tx, tenantList, query, q ? [matchesTenant(q)] : [])),
  )
  app.get<{ Params: { id: string } }>(
    '/superadmin/tenants/:id',
    {
      ...staff,
      schema: {
        tags,
        summary: 'One tenant: what it has, and from where',
        params: Id,
        response: { 200: ok(TenantSheet), ...guarded('not_found') },
      },
    },
    async (request) => {
      const sheet = await control.read(scopeIn(request, request.params.id), tenantSheet)
      return { data: { ...sheet, decisions: await withStaffNames(request, sheet.decisions) } }
    },
  )
  app.get<{ Params: { id: string } }>(
    '/superadmin/tenants/:id/provisioning',
    {
      ...staff,
      schema: {
        tags,
        summary: 'How far its making is, and what failed',
        params: Id,
        response: { 200: ok(Progress), ...guarded('not_found') },
      },
    },
    async (request) => ({ data: await control.read(scopeIn(request, request.params.id), progressOf) }),
  )

  app.get<{ Params: { id: string }; Querystring: Static<typeof AuditQuery> }>(
    '/superadmin/tenants/:id/audit',
    {
      ...staff,
      permission: 'platform.tenant_audit.read',
      schema: {
        tags,
        summary: 'What staff did to a tenant, when and why, and what happened to it as such; newest first',
        params: Id,
        querystring: AuditQuery,
        response: { 200: ok(Type.Array(AuditEvent), { pagination: Pagination }), ...guarded('not_found', 'invalid_cursor') },
      },
    },
    async (request) => {
      const { id } = request.params
      const { limit = 50, cursor, ...filter } = request.query
      const list = `audit of ${id} ${JSON.stringify(filter)}`
      const { rows, next } = await control.read(scopeIn(request, id), async (tx) => {
        await tenantOf(tx)
        return auditPage(tx, filter, limit, placeIn(request, list, cursor), [forStaff])
      })
      const next_cursor = next ? nextPlace(request, list, next) : null
      return { data: await withStaffNames(request, rows), pagination: { limit, next_cursor } }
    },
  )

  // Decisions about a request are answered with how far it is.
  const answer = { schema: Progress, read: progressOf }
  const catalog = new Set(data.keys())
  change<Static<typeof Decision>>('POST', '/approve', {
    summary: 'Approve a request: the tenant is made and its administrator invited. Again: retry what failed, or correct the decision',
    permission: 'platform.tenant.approve',
    body: Decision,
    details: ['invalid_transition', 'invalid_reference'],
    answer,
    work: (tx, decision, _params, staffId) => approve(tx, decision, catalog, staffId),
  })
  change<Reason>('POST', '/reject', {
    summary: 'Refuse a request, or give up one that cannot be made; its name is free again and the applicant gets a mail',
    permission: 'platform.tenant.reject',
    body: Reason,
    details: ['invalid_transition'],
    answer,
    work: (tx, { reason }, _params, staffId) => reject(tx, reason, staffId),
  })

  const standings: [StandingChange, string][] = [
    ['suspend', 'Let nobody of a tenant in, from the next request on; nothing is lost'],
    ['resume', 'Let a suspended tenant in again'],
    ['close', 'Close a tenant for good; its data stays until it is deleted'],
  ]
  for (const [standing, summary] of standings) {
    change<Reason>('POST', `/${standing}`, {
      summary,
      permission: `platform.tenant.${standing}`,
      body: Reason,
      details: ['invalid_transition'],
      work: (tx, { reason }) => changeStanding(tx, standing, reason),
    })
  }
  change<Static<typeof Trial>>('PUT', '/trial', {
    summary: 'Let a tenant try until another moment, also one whose trial has ended',
    permission: 'platform.tenant.extend_trial',
    body: Trial,
    details: ['invalid_transition'],
    work: (tx, { trial_ends_at }) => extendTrial(tx, trial_ends_at),
  })
  change<Static<typeof PlanChoice>>('POST', '/convert', {
    summary: 'Make a customer of a tenant on trial: a current subscription on a plan',
    permission: 'platform.tenant.convert',
    body: PlanChoice,
    details: ['invalid_reference', 'already_exists', 'invalid_transition'],
    work: (tx, { plan }) => convert(tx, plan),
  })
}
