// What the platform sells: modules and plans. For its staff, on its own host.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { changeModule, ModuleRecord, modules, NewPlan, Plan, plan, plans, putPlan, removePlan } from '../../domain/platform/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { tagged, versionOf } from '../http/version.ts'
import { STAFF_CHANGE } from './target.ts'

const CodeParams = Type.Object({ code: Type.String({ pattern: '^[a-z][a-z0-9._-]{0,63}$', examples: ['professional'] }) })
type CodeParams = Static<typeof CodeParams>
const ModulePatch = Type.Partial(Type.Pick(ModuleRecord, ['name', 'requires', 'sort', 'version']), { additionalProperties: false })

export default async function catalogue(app: FastifyInstance) {
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control' } as const

  app.get(
    '/superadmin/modules',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.module.read',
      schema: { tags, summary: 'All modules and what they need', response: { 200: ok(Type.Array(ModuleRecord)), ...guarded() } },
    },
    async (request) => ({ data: await request.read(modules) }),
  )
  app.patch<{ Params: CodeParams; Body: Static<typeof ModulePatch> }>(
    '/superadmin/modules/:code',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.module.update',
      ...STAFF_CHANGE,
      schema: {
        tags,
        summary: 'Change what a module is called and what it needs; effective at the next request',
        params: CodeParams,
        body: ModulePatch,
        response: {
          200: ok(ModuleRecord),
          ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_reference', 'dependency_cycle', 'module_requires'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(reply, await request.write((tx) => changeModule(tx, request.params.code, version, request.body)))
    },
  )

  app.get(
    '/superadmin/plans',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.plan.read',
      schema: { tags, summary: 'All plans, the cheapest first', response: { 200: ok(Type.Array(Plan)), ...guarded() } },
    },
    async (request) => ({ data: await request.read(plans) }),
  )
  app.get<{ Params: CodeParams }>(
    '/superadmin/plans/:code',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.plan.read',
      schema: { tags, summary: 'One plan', params: CodeParams, response: { 200: ok(Plan), ...guarded('not_found') } },
    },
    async (request, reply) => tagged(reply, await request.read((tx) => plan(tx, request.params.code))),
  )
  app.put<{ Params: CodeParams; Body: NewPlan }>(
    '/superadmin/plans/:code',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.plan.update',
      ...STAFF_CHANGE,
      schema: {
        tags,
        summary: 'Make a plan, or replace one (with If-Match); all tenants that have it follow at their next request',
        params: CodeParams,
        body: NewPlan,
        response: {
          200: ok(Plan),
          201: ok(Plan),
          ...mutation('not_found', 'version_required', 'version_conflict', 'already_exists', 'invalid_reference', 'module_requires'),
        },
      },
    },
    async (request, reply) => {
      const version = request.headers['if-match'] === undefined ? null : versionOf(request)
      const written = await request.write((tx) => putPlan(tx, request.params.code, version, request.body))
      if (version === null) reply.status(201).header('location', `/api/v1/superadmin/plans/${written.code}`)
      return tagged(reply, written)
    },
  )
  app.delete<{ Params: CodeParams }>(
    '/superadmin/plans/:code',
    {
      ...staff,
      level: 'tenant',
      permission: 'platform.plan.delete',
      ...STAFF_CHANGE,
      schema: {
        tags,
        summary: 'Take a plan off the list, once no tenant has it',
        params: CodeParams,
        response: { 204: Type.Null(), ...mutation('not_found', 'version_required', 'version_conflict', 'in_use') },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      await request.write((tx) => removePlan(tx, request.params.code, version))
      return reply.status(204).send()
    },
  )
}
