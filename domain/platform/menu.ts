// The menu: what this user may open here, and what the plan would unlock.
import { createHash } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { type Database, nullable, sql } from '../kernel/index.ts'

const Item = Type.Object(
  {
    code: Type.String(),
    parent: nullable(Type.String()),
    labels: Type.Record(Type.String(), Type.String()),
    path: nullable(Type.String()),
    icon: nullable(Type.String()),
    module: nullable(Type.String()),
    permission: nullable(Type.String()),
    plan: nullable(Type.String()),
  },
  { additionalProperties: false },
)

export interface MenuNode {
  code: string
  label: string
  path: string | null
  icon: string | null
  blocked: boolean
  /** The cheapest plan that has the module, where it is blocked. */
  unlocked_by: string | null
  children: MenuNode[]
}

export const MENU_TTL_SECONDS = 300

/** The catalogue is the same for every tenant and changes only by migration: read once a process. */
export class MenuCatalogue {
  readonly #control: Database
  #items: Promise<readonly Static<typeof Item>[]> | undefined

  constructor(control: Database) {
    this.#control = control
  }

  #load() {
    this.#items ??= this.#control.platform((connection) =>
      connection.any(sql.type(Item)`
      select i.code, i.parent, i.labels, i.path, i.icon, i.module, i.permission,
        (select p.code from platform_plans p join platform_plan_modules m on m.plan = p.code where m.module = i.module order by p.sort limit 1) as plan
      from platform_menu_items i order by i.parent nulls first, i.sort, i.code`),
    )
    this.#items.catch(() => {
      this.#items = undefined
    })
    return this.#items
  }

  /** The tree for one user: entries without permission are absent, those without module are there but blocked. */
  async tree(
    modules: Record<string, string>,
    allowed: (permission: string) => boolean,
    locale: string,
  ): Promise<{ items: MenuNode[]; etag: string }> {
    const nodes = new Map<string, MenuNode>()
    const roots: MenuNode[] = []
    for (const item of await this.#load()) {
      const availability = item.module ? (modules[item.module] ?? 'disabled') : 'enabled'
      if (availability === 'disabled' || (item.permission && !allowed(item.permission))) continue
      const blocked = availability === 'blocked'
      const node: MenuNode = {
        code: item.code,
        label: item.labels[locale] ?? item.labels.en ?? item.code,
        path: blocked ? null : item.path,
        icon: item.icon,
        blocked,
        unlocked_by: blocked ? item.plan : null,
        children: [],
      }
      nodes.set(item.code, node)
      if (item.parent) nodes.get(item.parent)?.children.push(node)
      else roots.push(node)
    }
    const items = roots.filter((root) => root.path !== null || root.children.length > 0)
    return { items, etag: `"${createHash('sha256').update(JSON.stringify(items)).digest('base64url').slice(0, 22)}"` }
  }
}
