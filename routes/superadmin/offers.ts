// What one tenant has of what is sold: its plan, and where it differs from it.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  assignPlan,
  Offer,
  offerModule,
  offerProduct,
  removeFlag,
  setFlag,
  withdrawModule,
  withdrawProduct,
} from '../../domain/platform/index.ts'
import { Flag } from '../../domain/tenancy/index.ts'
import { tenantChanges } from './target.ts'

export const Code = Type.String({ pattern: '^[a-z][a-z0-9._-]{0,63}$', examples: ['erp.procurement'] })
export const PlanChoice = Type.Object({ plan: Code }, { additionalProperties: false, examples: [{ plan: 'professional' }] })
const FlagBody = Type.Object(
  {
    value: Flag.properties.value,
    percentage: Type.Optional(Flag.properties.percentage),
    user_ids: Type.Optional(Flag.properties.user_ids),
    expires_at: Type.Optional(Flag.properties.expires_at),
  },
  { additionalProperties: false, examples: [{ value: true, percentage: 10 }] },
)

export default async function offers(app: FastifyInstance) {
  const change = tenantChanges(app)

  change<Static<typeof PlanChoice>>('PUT', '/plan', {
    summary: 'Put the tenant on a plan; what it loses by that it can read still',
    permission: 'platform.tenant.change_plan',
    body: PlanChoice,
    details: ['invalid_reference', 'invalid_transition'],
    work: (tx, { plan }) => assignPlan(tx, plan),
  })
  change<Offer>('PUT', '/products/:product', {
    summary: 'Give, block or hide a product',
    permission: 'platform.tenant.offer',
    params: { product: Code },
    body: Offer,
    details: ['invalid_reference', 'invalid_transition'],
    work: (tx, offer, { product }) => offerProduct(tx, product!, offer),
  })
  change('DELETE', '/products/:product', {
    summary: 'Let the plan decide about a product again: a grant, trial or block ends',
    permission: 'platform.tenant.offer',
    params: { product: Code },
    details: ['invalid_transition'],
    work: (tx, _body, { product }) => withdrawProduct(tx, product!),
  })
  change<Offer>('PUT', '/modules/:module', {
    summary: 'Give a module beyond the plan, for good or for a trial; or take or hide one that the plan has',
    permission: 'platform.tenant.offer',
    params: { module: Code },
    body: Offer,
    details: ['invalid_reference', 'invalid_transition', 'module_requires'],
    work: (tx, offer, { module }) => offerModule(tx, module!, offer),
  })
  change('DELETE', '/modules/:module', {
    summary: 'Let the plan decide again; what was written with the module stays readable',
    permission: 'platform.tenant.offer',
    params: { module: Code },
    details: ['invalid_transition'],
    work: (tx, _body, { module }) => withdrawModule(tx, module!),
  })
  change<Static<typeof FlagBody>>('PUT', '/flags/:flag', {
    summary: 'Switch a feature on: for all, for a share of the users (always the same ones), for some, until a moment',
    permission: 'platform.tenant.flag',
    params: { flag: Code },
    body: FlagBody,
    work: (tx, { value, percentage = null, user_ids = [], expires_at = null }, { flag }) =>
      setFlag(tx, flag!, { value, percentage, user_ids, expires_at }),
  })
  change('DELETE', '/flags/:flag', {
    summary: 'Switch a feature off',
    permission: 'platform.tenant.flag',
    params: { flag: Code },
    work: (tx, _body, { flag }) => removeFlag(tx, flag!),
  })
}
