// Who can do what, what would change if …, and which rights deserve a second look.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { Effect, Finding, findings, MatrixRow, matrix, Proposal, placeExists, simulate } from '../../domain/access/index.ts'
import { csvLine } from '../../domain/files/index.ts'
import { failure, Uuid } from '../../domain/kernel/index.ts'
import { wantsCsv } from '../http/csv.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'

const Where = Type.Object({ organization_id: Type.Optional(Uuid), workspace_id: Type.Optional(Uuid) }, { additionalProperties: false })

export default async function report(app: FastifyInstance) {
  const tags = ['rights']
  const plane = 'control' as const

  app.get<{ Querystring: Static<typeof Where> }>(
    '/rbac/matrix',
    {
      level: 'object',
      permission: 'rbac.matrix.read',
      plane,
      schema: {
        tags,
        summary: 'Who can do what here, or in another place; as CSV with `Accept: text/csv`',
        querystring: Where,
        response: { 200: ok(Type.Array(MatrixRow)), ...guarded('not_found') },
      },
    },
    async (request, reply) => {
      const { organization_id, workspace_id } = request.query
      if (workspace_id && !organization_id)
        throw failure('invalid_query', { errors: [{ path: '/workspace_id', rule: 'with', message: 'is named with organization_id' }] })
      const context = organization_id ? { organizationId: organization_id, workspaceId: workspace_id ?? null } : request.context
      request.requireIn('rbac.matrix.read', context)
      if (organization_id && !placeExists(request.grants, context)) throw failure('not_found')
      const registry = app.permissionsOf(request.tenant)
      const codes = [...registry.keys()].sort()
      const { tenant } = request
      const exhausted = app.services.apiCalls.exhausted(tenant.id, tenant.limits.api_calls, new Date())
      const rows = await request.read((tx) => matrix(tx, tenant, registry, context, exhausted))
      if (!wantsCsv(request)) return { data: rows }
      const lines = rows.map(({ user_id, name, email, kind, status, permissions }) => {
        const held = new Set(permissions)
        return csvLine([user_id, name, email, kind, status, ...codes.map((code) => (held.has(code) ? 'yes' : ''))])
      })
      return reply
        .type('text/csv; charset=utf-8')
        .header('content-disposition', 'attachment; filename="matrix.csv"')
        .send(csvLine(['user_id', 'name', 'email', 'kind', 'status', ...codes]) + lines.join(''))
    },
  )

  app.post<{ Body: Proposal }>(
    '/rbac/simulate',
    {
      level: 'tenant',
      permission: 'rbac.role.simulate',
      allowReadOnly: true,
      plane,
      schema: {
        tags,
        summary: 'What would change if …: who would gain and lose what, where; nothing is changed',
        body: Proposal,
        response: { 200: ok(Type.Array(Effect)), ...mutation('not_found', 'invalid_reference') },
      },
    },
    async (request) => ({ data: await request.read((tx) => simulate(tx, app.permissionsOf(request.tenant), request.body)) }),
  )

  app.get(
    '/rbac/findings',
    {
      level: 'tenant',
      permission: 'rbac.finding.read',
      plane,
      schema: { tags, summary: 'Dangerous and unused rights', response: { 200: ok(Type.Array(Finding)), ...guarded() } },
    },
    async (request) => ({ data: await request.read(findings) }),
  )
}
