import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { checkContext } from '../domain/access/index.ts'
import { sql, Uuid } from '../domain/kernel/index.ts'
import { guarded, ok } from './http/envelope.ts'

const Workspace = Type.Object({ id: Uuid, code: Type.String(), name: Type.String() })
const Organization = Type.Object(
  { id: Uuid, code: Type.String(), name: Type.String(), workspaces: Type.Array(Workspace) },
  { additionalProperties: false },
)

export default async function organizations(app: FastifyInstance) {
  app.get(
    '/organizations',
    {
      authenticated: true,
      plane: 'control',
      schema: {
        tags: ['organizations'],
        summary: 'Where this user may work',
        response: { 200: ok(Type.Array(Organization)), ...guarded() },
      },
    },
    async (request) => {
      const all = await request.read((tx) =>
        tx.any(sql.type(Organization)`
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
}
