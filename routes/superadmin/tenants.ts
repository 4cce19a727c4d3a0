// Tenants as the platform's staff sees them, and what each has of what is sold.
import type { FastifyInstance } from 'fastify'
import { type Static, type TProperties, type TSchema, Type } from 'typebox'
import { type Detail, listRows, Timestamp, type Tx, Uuid } from '../../domain/kernel/index.ts'
import {
  assignPlan,
  convert,
  Offer,
  offerModule,
  offerProduct,
  removeFlag,
  setFlag,
  TenantSheet,
  tenantSheet,
  withdrawModule,
} from '../../domain/platform/index.ts'
import {
  approve,
  Decision,
  extendTrial,
  Flag,
  type Move,
  moveTenant,
  Progress,
  progressOf,
  reject,
  TenantLine,
  tenantList,
} from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { replyList } from '../http/list-reply.ts'
import { Id, ListQuerystring } from '../http/reading-routes.ts'
import { scopeIn } from './target.ts'

const Code = Type.String({ pattern: '^[a-z][a-z0-9._-]{0,63}$', examples: ['erp.procurement'] })
const PlanChoice = Type.Object({ plan: Code }, { additionalProperties: false, examples: [{ plan: 'professional' }] })
const Trial = Type.Object({ trial_ends_at: Timestamp }, { additionalProperties: false })
const Reason = Type.Object({ reason: Type.String({ minLength: 3, maxLength: 500 }) }, { additionalProperties: false })
const FlagBody = Type.Object(
  {
    value: Flag.properties.value,
    percentage: Type.Optional(Flag.properties.percentage),
    user_ids: Type.Optional(Flag.properties.user_ids),
    expires_at: Type.Optional(Flag.properties.expires_at),
  },
  { additionalProperties: false, examples: [{ value: true, percentage: 10 }] },
)

export default async function tenants(app: FastifyInstance) {
  const { control } = app.services.planes
  const tags = ['superadmin']
  const staff = { platform: true, plane: 'control' } as const

  app.get(
    '/superadmin/tenants',
    {
      ...staff,
      across: true,
      permission: 'platform.tenant.read',
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
      permission: 'platform.tenant.read',
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
      permission: 'platform.tenant.read',
      schema: {
        tags,
        summary: 'How far its making is, and what failed',
        params: Id,
        response: { 200: ok(Progress), ...guarded('not_found') },
      },
    },
    async (request) => ({ data: await control.read(scopeIn(request, request.params.id), progressOf) }),
  )

  /** A decision about a request for a tenant, answered with how far it is. */
  function decide<B>(
    verb: string,
    summary: string,
    body: TSchema,
    details: Detail[],
    work: (tx: Tx, body: B, staffId: string | null) => Promise<void>,
  ) {
    app.post<{ Params: { id: string }; Body: B }>(
      `/superadmin/tenants/:id/${verb}`,
      {
        ...staff,
        permission: `platform.tenant.${verb}`,
        schema: {
          tags,
          summary,
          params: Id,
          body,
          response: { 200: ok(Progress), ...mutation('not_found', 'invalid_transition', ...details) },
        },
      },
      async (request) => ({
        data: await control.write(
          scopeIn(request, request.params.id),
          async (tx) => {
            await work(tx, request.body as B, request.actor.userId)
            return progressOf(tx)
          },
          request.once,
        ),
      }),
    )
  }
  const catalog = new Set(app.services.planes.data.keys())
  decide<Static<typeof Decision>>(
    'approve',
    'Approve a request; the tenant is made by itself and its administrator invited. Again: begin once more what failed',
    Decision,
    ['invalid_reference'],
    (tx, decision, staffId) => approve(tx, decision, catalog, staffId),
  )
  decide<Static<typeof Reason>>('reject', 'Refuse a request; its name is free again', Reason, [], (tx, { reason }, staffId) =>
    reject(tx, reason, staffId),
  )

  /** Lets a tenant in, or not. */
  const standing = (move: Move, summary: string) =>
    app.post<{ Params: { id: string }; Body: Static<typeof Reason> }>(
      `/superadmin/tenants/:id/${move}`,
      {
        ...staff,
        permission: `platform.tenant.${move}`,
        schema: {
          tags,
          summary,
          params: Id,
          body: Reason,
          response: { 200: ok(TenantSheet), ...mutation('not_found', 'invalid_transition') },
        },
      },
      async (request) => ({
        data: await control.write(
          scopeIn(request, request.params.id),
          async (tx) => {
            await moveTenant(tx, move, request.body.reason)
            return tenantSheet(tx)
          },
          request.once,
        ),
      }),
    )
  standing('suspend', 'Let nobody of a tenant in, from the next request on; nothing is lost')
  standing('resume', 'Let a suspended tenant in again')
  standing('close', 'Close a tenant for good; its data stays until it is deleted')

  /** A change of one tenant, answered with how it is after it; known to every process when it is answered. */
  function change<B>(
    method: 'PUT' | 'DELETE',
    path: string,
    {
      summary,
      permission,
      params = {},
      body,
      details = [],
    }: { summary: string; permission: string; params?: TProperties; body?: TSchema; details?: Detail[] },
    work: (tx: Tx, body: B, params: Record<string, string>) => Promise<void>,
  ) {
    app.route<{ Params: Record<string, string>; Body: B }>({
      method,
      url: `/superadmin/tenants/:id${path}`,
      ...staff,
      permission,
      schema: {
        tags,
        summary,
        params: Type.Object({ id: Uuid, ...params }),
        ...(body ? { body } : {}),
        response: { 200: ok(TenantSheet), ...mutation('not_found', ...details) },
      },
      handler: async (request) => ({
        data: await control.write(scopeIn(request, request.params.id!), async (tx) => {
          await tenantSheet(tx) // one that is not there says so, before anything is written
          await work(tx, request.body as B, request.params)
          return tenantSheet(tx)
        }),
      }),
    })
  }

  change<Static<typeof PlanChoice>>(
    'PUT',
    '/plan',
    {
      summary: 'Put the tenant on a plan; what it loses by that it can read still',
      permission: 'platform.tenant.change_plan',
      body: PlanChoice,
      details: ['invalid_reference'],
    },
    (tx, { plan }) => assignPlan(tx, plan),
  )
  app.post<{ Params: { id: string }; Body: Static<typeof PlanChoice> }>(
    '/superadmin/tenants/:id/convert',
    {
      ...staff,
      permission: 'platform.tenant.convert',
      schema: {
        tags,
        summary: 'Make a customer of a tenant on trial: a current subscription on a plan',
        params: Id,
        body: PlanChoice,
        response: { 200: ok(TenantSheet), ...mutation('not_found', 'invalid_reference', 'already_exists') },
      },
    },
    async (request) => ({
      data: await control.write(
        scopeIn(request, request.params.id),
        async (tx) => {
          await convert(tx, request.body.plan)
          return tenantSheet(tx)
        },
        request.once,
      ),
    }),
  )
  change<Static<typeof Trial>>(
    'PUT',
    '/trial',
    {
      summary: 'Let a tenant try until another moment, also one whose trial has ended',
      permission: 'platform.tenant.extend_trial',
      body: Trial,
    },
    (tx, { trial_ends_at }) => extendTrial(tx, trial_ends_at),
  )
  change<Offer>(
    'PUT',
    '/products/:product',
    {
      summary: 'Give, block or hide a product',
      permission: 'platform.tenant.offer',
      params: { product: Code },
      body: Offer,
      details: ['invalid_reference'],
    },
    (tx, offer, { product }) => offerProduct(tx, product!, offer),
  )
  change<Offer>(
    'PUT',
    '/modules/:module',
    {
      summary: 'Give a module beyond the plan, for good or for a trial; or take or hide one that the plan has',
      permission: 'platform.tenant.offer',
      params: { module: Code },
      body: Offer,
      details: ['invalid_reference', 'module_requires'],
    },
    (tx, offer, { module }) => offerModule(tx, module!, offer),
  )
  change(
    'DELETE',
    '/modules/:module',
    {
      summary: 'Let the plan decide again; what was written with the module stays readable',
      permission: 'platform.tenant.offer',
      params: { module: Code },
    },
    (tx, _body, { module }) => withdrawModule(tx, module!),
  )
  change<Static<typeof FlagBody>>(
    'PUT',
    '/flags/:flag',
    {
      summary: 'Switch a feature on: for all, for a share of the users (always the same ones), for some, until a moment',
      permission: 'platform.tenant.flag',
      params: { flag: Code },
      body: FlagBody,
    },
    (tx, { value, percentage = null, user_ids = [], expires_at = null }, { flag }) =>
      setFlag(tx, flag!, { value, percentage, user_ids, expires_at }),
  )
  change(
    'DELETE',
    '/flags/:flag',
    { summary: 'Switch a feature off', permission: 'platform.tenant.flag', params: { flag: Code } },
    (tx, _body, { flag }) => removeFlag(tx, flag!),
  )
}
