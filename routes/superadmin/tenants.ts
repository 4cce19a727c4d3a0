// Tenants as the platform's staff sees them: asked for, decided, let in, let try, closed.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { listRows, Timestamp } from '../../domain/kernel/index.ts'
import { convert, TenantSheet, tenantSheet } from '../../domain/platform/index.ts'
import {
  approve,
  changeStanding,
  Decision,
  extendTrial,
  Progress,
  progressOf,
  reject,
  type StandingChange,
  TenantLine,
  tenantList,
} from '../../domain/tenancy/index.ts'
import { guarded, ok, Pagination } from '../http/envelope.ts'
import { replyList } from '../http/list-reply.ts'
import { Id, ListQuerystring } from '../http/reading-routes.ts'
import { PlanChoice } from './offers.ts'
import { scopeIn, tenantChanges } from './target.ts'

const Trial = Type.Object({ trial_ends_at: Timestamp }, { additionalProperties: false })
const Reason = Type.Object({ reason: Type.String({ minLength: 3, maxLength: 500 }) }, { additionalProperties: false })
type Reason = Static<typeof Reason>

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
    (request, reply) => replyList(request, reply, tenantList, (tx, query) => listRows(tx, tenantList, query)),
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
    async (request) => ({ data: await control.read(scopeIn(request, request.params.id), tenantSheet) }),
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

  // Decisions about a request are answered with how far it is.
  const answer = { schema: Progress, read: progressOf }
  const catalog = new Set(data.keys())
  change<Static<typeof Decision>>('POST', '/approve', {
    summary: 'Approve a request; the tenant is made by itself and its administrator invited. Again: begin once more what failed',
    permission: 'platform.tenant.approve',
    body: Decision,
    details: ['invalid_transition', 'invalid_reference'],
    answer,
    work: (tx, decision, _params, staffId) => approve(tx, decision, catalog, staffId),
  })
  change<Reason>('POST', '/reject', {
    summary: 'Refuse a request; its name is free again',
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
    work: (tx, { trial_ends_at }) => extendTrial(tx, trial_ends_at),
  })
  change<Static<typeof PlanChoice>>('POST', '/convert', {
    summary: 'Make a customer of a tenant on trial: a current subscription on a plan',
    permission: 'platform.tenant.convert',
    body: PlanChoice,
    details: ['invalid_reference', 'already_exists'],
    work: (tx, { plan }) => convert(tx, plan),
  })
}
