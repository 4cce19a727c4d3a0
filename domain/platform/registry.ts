// The modules of the platform, and what a tenant has of them.
import { type Static, Type } from 'typebox'
import { type Database, nullable, sql } from '../kernel/index.ts'

const Module = Type.Object(
  {
    code: Type.String(),
    name: Type.String(),
    product: Type.String(),
    requires: Type.Array(Type.String(), { description: 'Modules that it cannot do without' }),
    unlocked_by: nullable(Type.String({ description: 'The cheapest plan that has it' })),
  },
  { additionalProperties: false },
)
export const RegisteredModule = Type.Object({
  ...Module.properties,
  availability: Type.String({ description: 'enabled; blocked: the plan lacks it; disabled: not offered' }),
})

/** The catalogue is the same for every tenant and changes only by migration: read once a process. */
export class ModuleRegistry {
  readonly #control: Database
  #modules: Promise<readonly Static<typeof Module>[]> | undefined

  constructor(control: Database) {
    this.#control = control
  }

  async of(modules: Readonly<Record<string, string>>): Promise<Static<typeof RegisteredModule>[]> {
    this.#modules ??= this.#control
      .platform((queries) =>
        queries.any(sql.type(Module)`
      select m.code, m.name, m.product, m.requires,
        (select p.code from platform_plans p join platform_plan_modules pm on pm.plan = p.code where pm.module = m.code order by p.sort limit 1) as unlocked_by
      from platform_product_modules m join platform_products o on o.code = m.product order by o.sort, m.sort, m.code`),
      )
      .catch((error) => {
        this.#modules = undefined
        throw error
      })
    return (await this.#modules).map((module) => ({ ...module, availability: modules[module.code] ?? 'disabled' }))
  }
}
