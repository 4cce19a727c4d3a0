import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { explain, mustEnroll, placeExists, reachOf, TENANT, withinReach } from '../../domain/access/index.ts'
import { failure, nullable, Uuid } from '../../domain/kernel/index.ts'
import { lacksFactor } from '../../plugins/assurance.ts'
import { guarded, ok } from '../http/envelope.ts'

const Question = Type.Object(
  {
    permission: Type.String({ minLength: 3, maxLength: 100 }),
    user: Type.Optional(Uuid),
    organization_id: Type.Optional(Uuid),
    workspace_id: Type.Optional(Uuid),
  },
  { additionalProperties: false },
)

const Scope = { organization_id: nullable(Uuid), workspace_id: nullable(Uuid) }
const Limits = { ...Scope, expires_at: nullable(Type.String()), covers_context: Type.Boolean(), expired: Type.Boolean() }
const Answer = Type.Object({
  user_id: Uuid,
  permission: Type.String(),
  context: Type.Object(Scope),
  level: Type.String({ description: 'tenant, organization, workspace, object or shared: docs/guides/give-the-right-access.md' }),
  decided_in: Type.Object(Scope, { description: 'The scope that the level names for someone who works in this context' }),
  allowed: Type.Boolean(),
  decided_by: Type.String({
    description:
      'The first check of a request that refuses: user_status, session (not by API key), second_factor, access_mode, context, plan_limit, module; else restriction (of an API key), override, role or none',
  }),
  user_status: Type.String(),
  second_factor_missing: Type.Boolean({ description: 'The user must add a second factor before they work' }),
  access_mode: Type.Object({ mode: Type.String(), reason: Type.String() }),
  context_check: Type.String(),
  module: Type.Object({ code: nullable(Type.String()), availability: Type.String() }),
  plan: Type.Object({
    code: nullable(Type.String()),
    limits: Type.Record(Type.String(), nullable(Type.Integer())),
    api_calls_used_up: Type.Boolean(),
  }),
  approval_limit: nullable(
    Type.String({ description: 'For permissions to approve: up to which amount, in the organization’s currency; null is without limit' }),
  ),
  roles: Type.Array(Type.Object({ role: Type.String(), ...Limits, grants_by: Type.Array(Type.String()) })),
  overrides: Type.Array(
    Type.Object({ effect: Type.String(), permission: Type.String(), reason: Type.String(), ...Limits, decided: Type.Boolean() }),
  ),
})

export default async function explainRoutes(app: FastifyInstance) {
  const { access } = app.services
  app.get<{ Querystring: Static<typeof Question> }>(
    '/rbac/explain',
    {
      authenticated: true,
      level: 'object',
      widens: ['rbac.explain.read'],
      schema: {
        tags: ['rbac'],
        summary: 'Why may, or may not, a user do something here',
        querystring: Question,
        response: { 200: ok(Answer), ...guarded('not_found') },
      },
    },
    async (request) => {
      const { permission, user, organization_id, workspace_id } = request.query
      const now = Date.now()
      const { tenantId, userId } = request.actor
      if (workspace_id && !organization_id)
        throw failure('invalid_query', { errors: [{ path: '/workspace_id', rule: 'with', message: 'is named with organization_id' }] })
      // About oneself anyone may ask; about others it takes a permission.
      const about = user !== undefined && user !== userId
      if (about) request.require('rbac.explain.read')
      const known = app.permissionsOf(request.tenant).get(permission)
      if (!known)
        throw failure('invalid_query', {
          errors: [{ path: '/permission', rule: 'registry', message: 'is not a permission of any endpoint' }],
        })
      const context = organization_id ? { organizationId: organization_id, workspaceId: workspace_id ?? null } : request.context
      if (organization_id && !placeExists(request.grants, context)) throw failure('not_found')
      const grants = about ? await access.grants(tenantId, user) : request.grants
      if (about) request.requireIn('rbac.explain.read', known.level === 'tenant' ? TENANT : context)
      const shown = grants && about ? withinReach(grants, reachOf(request.grants, 'rbac.explain.read', now)) : grants
      if (!shown) throw failure('not_found')
      const { tenant } = request
      const circumstances = {
        exhausted: app.services.apiCalls.exhausted(tenant.id, tenant.limits.api_calls, new Date(now)),
        lacksFactor: about ? mustEnroll(tenant, grants!, now) : lacksFactor(request),
        byKey: !about && request.apiKey !== null,
      }
      return { data: explain(tenant, shown, permission, known, circumstances, context, now) }
    },
  )
}
