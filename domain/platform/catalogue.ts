// What the platform sells and shows, in memory: the same for every tenant, and changed while it is sold.
import { type Static, Type } from 'typebox'
import { type Database, type Listener, nullable, sql } from '../kernel/index.ts'

const cheapestPlan = (module: 'm.code' | 'i.module') => sql.fragment`(
  select p.code from platform_plans p join platform_plan_modules pm on pm.plan = p.code
  where p.listed and pm.module = ${sql.identifier(module.split('.'))} order by p.price, p.sort, p.code limit 1)`

export const Module = Type.Object(
  {
    code: Type.String(),
    name: Type.String(),
    product: Type.String(),
    requires: Type.Array(Type.String(), { description: 'Modules that it cannot do without' }),
    unlocked_by: nullable(Type.String({ description: 'The cheapest plan that has it' })),
  },
  { additionalProperties: false },
)
export type Module = Static<typeof Module>

const MenuItem = Type.Object(
  {
    code: Type.String(),
    parent: nullable(Type.String()),
    labels: Type.Record(Type.String(), Type.String()),
    path: nullable(Type.String()),
    icon: nullable(Type.String()),
    sort: Type.Integer(),
    module: nullable(Type.String()),
    permission: nullable(Type.String()),
    unlocked_by: nullable(Type.String()),
  },
  { additionalProperties: false },
)
export type MenuItem = Static<typeof MenuItem>

interface Loaded {
  readonly modules: readonly Module[]
  readonly items: readonly MenuItem[]
}

/** Modules and menu, read once and again whenever the database announces that they changed, under the rule of the listener. */
export class Catalogue {
  readonly #control: Database
  readonly #listener: Listener
  #loaded: Promise<Loaded> | undefined

  constructor(control: Database, listener: Listener) {
    this.#control = control
    this.#listener = listener
    const forget = () => {
      this.#loaded = undefined
    }
    listener.on('tenantry_catalogue', forget)
    listener.onReconnect(forget)
  }

  async modules(): Promise<readonly Module[]> {
    return (await this.#load()).modules
  }

  async menu(): Promise<readonly MenuItem[]> {
    return (await this.#load()).items
  }

  #load(): Promise<Loaded> {
    if (this.#loaded && this.#listener.up) return this.#loaded
    const loading = this.#control.platform(async (queries) => ({
      modules: await queries.any(sql.type(Module)`
        select m.code, m.name, m.product, m.requires, ${cheapestPlan('m.code')} as unlocked_by
        from platform_product_modules m join platform_products o on o.code = m.product order by o.sort, m.sort, m.code`),
      items: await queries.any(sql.type(MenuItem)`
        select i.code, i.parent, i.labels, i.path, i.icon, i.sort, i.module, i.permission, ${cheapestPlan('i.module')} as unlocked_by
        from platform_menu_items i order by i.sort, i.code`),
    }))
    this.#loaded = loading
    loading.catch(() => {
      if (this.#loaded === loading) this.#loaded = undefined
    })
    return loading
  }
}
