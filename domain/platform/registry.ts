// The modules of the platform, and what a tenant has of them.
import { type Static, Type } from 'typebox'
import { failure, Name, sql, type Tx, Version } from '../kernel/index.ts'
import { Availability, type Tenant } from '../tenancy/index.ts'
import { type Catalogue, Module } from './catalogue.ts'

export const RegisteredModule = Type.Object({
  ...Module.properties,
  availability: {
    ...Availability,
    description:
      'enabled; read_only: it was there and what was written with it can be read; blocked: the plan lacks it; disabled: not offered',
  },
})

/** All of them in the order of the platform, each with what this tenant has of it. */
export const registryOf = async (catalogue: Catalogue, { modules }: Tenant): Promise<Static<typeof RegisteredModule>[]> =>
  (await catalogue.modules()).map((module) => ({ ...module, availability: modules[module.code] ?? 'disabled' }))

export const ModuleRecord = Type.Object(
  {
    code: Type.String(),
    product: Type.String(),
    name: Name,
    requires: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 50, uniqueItems: true, examples: [['erp.products']] }),
    sort: Type.Integer({ minimum: 0, maximum: 10_000 }),
    version: Version,
  },
  { additionalProperties: false },
)
export type ModuleRecord = Static<typeof ModuleRecord>

const selectModules = sql.fragment`select code, product, name, requires, sort, version from platform_product_modules`

export const modules = (tx: Tx): Promise<readonly ModuleRecord[]> =>
  tx.any(sql.prepared(ModuleRecord)`${selectModules} order by sort, code`)

const Codes = Type.Object({ codes: Type.Array(Type.String()) }, { additionalProperties: false })

/**
 * Changes what a module is called and what it needs. Throws `not_found`, `version_conflict`, `invalid_reference` for a
 * module that is not there, `dependency_cycle`, and `module_requires` where a plan has it without what it would need.
 *
 * The table's lock makes one such change wait for another: two that close a cycle from both ends cannot both be right.
 */
export async function changeModule(
  tx: Tx,
  code: string,
  version: number,
  patch: Partial<Pick<ModuleRecord, 'name' | 'requires' | 'sort'>>,
): Promise<ModuleRecord> {
  await tx.query(sql.run`lock table platform_product_modules in share row exclusive mode`)
  const before = await tx.maybeOne(sql.prepared(ModuleRecord)`${selectModules} where code = ${code}`)
  if (!before) throw failure('not_found')
  if (before.version !== version) throw failure('version_conflict', { current: before })
  const { name, requires, sort } = { ...before, ...patch }
  const missing = await tx.one(sql.prepared(Codes)`
    select array(select r from unnest(${sql.array(requires, 'text')}) as r where not exists (select from platform_product_modules m where m.code = r)) as codes`)
  if (missing.codes.length > 0) throw failure('invalid_reference', { path: '/requires', modules: missing.codes })
  const changed = await tx.one(sql.prepared(ModuleRecord)`
    update platform_product_modules set name = ${name}, requires = ${sql.array(requires, 'text')}, sort = ${sort}, version = version + 1
    where code = ${code} returning code, product, name, requires, sort, version`)
  const needed = await tx.one(sql.prepared(Codes)`
    with recursive needed as (
      select unnest(requires) as code from platform_product_modules where code = ${code}
      union
      select unnest(m.requires) from platform_product_modules m join needed n on n.code = m.code)
    select array(select code from needed) as codes`)
  if (needed.codes.includes(code)) throw failure('dependency_cycle', { module: code, needs: needed.codes.toSorted() })
  await requireComplete(tx)
  return changed
}

const Gap = Type.Object(
  { plan: Type.String(), module: Type.String(), requires: Type.Array(Type.String()) },
  { additionalProperties: false },
)

/** Refuses with `module_requires` while a plan has a module without all that it needs. Call it under a lock of the modules. */
export async function requireComplete(tx: Tx): Promise<void> {
  const gaps = await tx.any(sql.prepared(Gap)`
    select pm.plan, pm.module, array_agg(r order by r) as requires
    from platform_plan_modules pm join platform_product_modules m on m.code = pm.module cross join unnest(m.requires) as r
    where not exists (select from platform_plan_modules x where x.plan = pm.plan and x.module = r)
    group by pm.plan, pm.module order by pm.plan, pm.module`)
  if (gaps.length > 0) throw failure('module_requires', { plans: gaps })
}
