// Plans: what is sold, for how much, with which modules, up to which limits.
import { type Static, Type } from 'typebox'
import { Currency, failure, Name, nullable, oneOf, Price, sql, type Tx, Version } from '../kernel/index.ts'
import { requireComplete } from './registry.ts'

const Amount = nullable(Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 }))
const limits = {
  users: Type.Optional(Amount),
  records: Type.Optional(Amount),
  devices: Type.Optional(Amount),
  storage: Type.Optional(Amount),
  api_calls: Type.Optional(Amount),
  readings: Type.Optional(Amount),
  device_metrics: Type.Optional(Amount),
  metrics: Type.Optional(Amount),
  series: Type.Optional(Amount),
}

export const NewPlan = Type.Object(
  {
    name: Name,
    price: Price,
    currency: Currency,
    interval: oneOf(['month', 'year']),
    trial_days: Type.Integer({ minimum: 0, maximum: 365 }),
    sort: Type.Integer({ minimum: 0, maximum: 10_000 }),
    listed: Type.Optional(
      Type.Boolean({ default: true, description: 'False: staff alone gives it; it is not requested, nor named as what unlocks a module' }),
    ),
    modules: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 200, uniqueItems: true, examples: [['erp.parties', 'erp.products']] }),
    limits: Type.Object(limits, {
      additionalProperties: false,
      description:
        'How many at most; storage in bytes, api_calls a month, readings a minute, device_metrics of each device. Null is without ' +
        'limit, and so is what is not named, except device_metrics (200), metrics (5,000) and series (50,000)',
    }),
  },
  { additionalProperties: false },
)
export type NewPlan = Static<typeof NewPlan>
export const Plan = Type.Object({ code: Type.String(), ...NewPlan.properties, version: Version }, { additionalProperties: false })
export type Plan = Static<typeof Plan>

const selectPlans = sql.fragment`
  select p.code, p.name, p.price, p.currency, p.interval, p.trial_days, p.sort, p.listed, p.version,
    array(select m.module from platform_plan_modules m where m.plan = p.code order by m.module) as modules,
    coalesce((select jsonb_object_agg(l.metric, l.amount) from platform_plan_limits l where l.plan = p.code), '{}') as limits
  from platform_plans p`

export const plans = (tx: Tx): Promise<readonly Plan[]> => tx.any(sql.prepared(Plan)`${selectPlans} order by p.price, p.sort, p.code`)

/** Throws `not_found`. */
export async function plan(tx: Tx, code: string): Promise<Plan> {
  const found = await tx.maybeOne(sql.prepared(Plan)`${selectPlans} where p.code = ${code}`)
  if (!found) throw failure('not_found')
  return found
}

const Locked = Type.Object({ version: Version }, { additionalProperties: false })

/**
 * Makes a plan, or replaces it whole. All tenants that have it follow at their next request: what it loses they can read
 * still, and where they use more than a limit allows nothing is taken from them. Throws `version_required` and
 * `version_conflict` for a plan that is there, `not_found` for a version of one that is not, `invalid_reference` for a
 * module that is not there, `module_requires`.
 * @param version null for a new one
 */
export async function putPlan(tx: Tx, code: string, version: number | null, wanted: NewPlan): Promise<Plan> {
  // Against a change of what modules need; two writers of one plan wait for its row.
  await tx.query(sql.run`lock table platform_product_modules in share mode`)
  const locked = await tx.maybeOne(sql.prepared(Locked)`select version from platform_plans where code = ${code} for update`)
  if (locked && version === null) throw failure('version_required')
  if (locked && locked.version !== version) throw failure('version_conflict', { current: await plan(tx, code) })
  if (!locked && version !== null) throw failure('not_found')
  const { name, price, currency, interval, trial_days, sort, listed = true, modules } = wanted
  if (locked) {
    await tx.query(sql.run`
      update platform_plans set name = ${name}, price = ${price}::numeric, currency = ${currency}, interval = ${interval}, trial_days = ${trial_days}, sort = ${sort},
        listed = ${listed}, version = version + 1 where code = ${code}`)
  } else {
    await tx.query(sql.run`
      insert into platform_plans (code, name, price, currency, interval, trial_days, sort, listed)
      values (${code}, ${name}, ${price}::numeric, ${currency}, ${interval}, ${trial_days}, ${sort}, ${listed})`)
  }
  const amounts = Object.entries(wanted.limits).map(([metric, amount]) => [code, metric, amount ?? null])
  const metrics = sql.array(Object.keys(wanted.limits), 'text')
  const named = sql.array(modules, 'text')
  await tx.query(sql.run`delete from platform_plan_modules where plan = ${code} and module <> all(${named})`)
  await tx.query(
    sql.run`insert into platform_plan_modules (plan, module) select ${code}, m from unnest(${named}) as m on conflict do nothing`,
  )
  await tx.query(sql.run`delete from platform_plan_limits where plan = ${code} and metric <> all(${metrics})`)
  await tx.query(sql.run`
    insert into platform_plan_limits (plan, metric, amount) select * from ${sql.unnest(amounts, ['text', 'text', 'int8'])} as l (plan, metric, amount)
    on conflict (plan, metric) do update set amount = excluded.amount where platform_plan_limits.amount is distinct from excluded.amount`)
  await requireComplete(tx)
  return plan(tx, code)
}

/** Throws `not_found`, `version_conflict`, and `in_use` while a tenant has it. */
export async function removePlan(tx: Tx, code: string, version: number): Promise<void> {
  const locked = await tx.maybeOne(sql.prepared(Locked)`select version from platform_plans where code = ${code} for update`)
  if (!locked) throw failure('not_found')
  if (locked.version !== version) throw failure('version_conflict', { current: await plan(tx, code) })
  await tx.query(sql.run`delete from platform_plan_modules where plan = ${code}`)
  await tx.query(sql.run`delete from platform_plan_limits where plan = ${code}`)
  await tx.query(sql.run`delete from platform_plans where code = ${code}`)
}
