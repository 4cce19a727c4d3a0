// The menu: what this user may open here, and what the plan would unlock.
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { failure, newId, rememberBy, sql, type Tx } from '../kernel/index.ts'
import type { MenuOverrides, Tenant } from '../tenancy/index.ts'
import type { Catalogue, MenuItem } from './catalogue.ts'

export interface MenuNode {
  code: string
  label: string
  path: string | null
  icon: string | null
  blocked: boolean
  /** The cheapest listed plan that has the module, where it is blocked or only read any more. */
  unlocked_by: string | null
  children: MenuNode[]
}

export interface Menu {
  items: MenuNode[]
  etag: string
}

export const MENU_TTL_SECONDS = 300

/** By the tenant as it was read: any change of rights, modules or settings makes it read anew. */
const remembered = rememberBy<Tenant>()

/**
 * The tree for one user: entries without permission are absent, those without module are there but blocked, groups with
 * nothing in them are left out. Labels in the first of the languages that has one.
 * @param reader whom and where it is for: the same reader gets the same tree for a second
 */
export async function menuFor(
  catalogue: Catalogue,
  tenant: Tenant,
  reader: string,
  allowed: (permission: string) => boolean,
  languages: readonly string[],
): Promise<Menu> {
  const all = await catalogue.menu()
  return remembered(tenant, reader, Date.now(), () => {
    const items = treeOf(all, tenant, allowed, languages)
    return { items, etag: `"${createHash('sha256').update(JSON.stringify(items)).digest('base64url').slice(0, 22)}"` }
  })
}

function treeOf(
  items: readonly MenuItem[],
  { modules, menu: overrides }: Tenant,
  allowed: (permission: string) => boolean,
  languages: readonly string[],
): MenuNode[] {
  const children = Map.groupBy(
    items.filter(({ code }) => !overrides[code]?.hidden),
    ({ parent }) => parent,
  )
  const sortOf = (item: MenuItem) => overrides[item.code]?.sort ?? item.sort
  const branch = (parent: string | null): MenuNode[] =>
    (children.get(parent) ?? [])
      .toSorted((a, b) => sortOf(a) - sortOf(b) || (a.code < b.code ? -1 : 1))
      .flatMap((item) => {
        const availability = item.module ? (modules[item.module] ?? 'disabled') : 'enabled'
        if (availability === 'disabled' || (item.permission && !allowed(item.permission))) return []
        const blocked = availability === 'blocked'
        const node: MenuNode = {
          code: item.code,
          label: labelOf(item, overrides[item.code]?.labels, languages),
          path: blocked ? null : item.path,
          icon: item.icon,
          blocked,
          unlocked_by: blocked || availability === 'read_only' ? item.unlocked_by : null,
          children: branch(item.code),
        }
        return item.path === null && node.children.length === 0 ? [] : [node]
      })
  return branch(null)
}

/** The tenant's own word in the reader's language, else the platform's in it; then the same in the next language. */
function labelOf(item: MenuItem, own: Record<string, string | undefined> | undefined, languages: readonly string[]): string {
  for (const language of [...languages, 'en']) {
    const label = own?.[language] ?? item.labels[language]
    if (label) return label
  }
  return item.code
}

const Unknown = Type.Object({ unknown: Type.Array(Type.String()) }, { additionalProperties: false })

/** Sets how the tenant's menu differs, all of it at once. Effective at the next request. Throws `invalid_reference` for an entry that is not there. */
export async function changeMenu(tx: Tx, overrides: MenuOverrides): Promise<void> {
  const { unknown } = await tx.one(sql.prepared(Unknown)`
    select array(select code from unnest(${sql.array(Object.keys(overrides), 'text')}) as code where code not in (select code from platform_menu_items)) as unknown`)
  if (unknown.length > 0) throw failure('invalid_reference', { entries: unknown })
  await tx.query(sql.run`
    insert into tenant_settings as s (id, tenant_id, name, value, set_by) values (${newId()}, ${tx.tenantId}, 'menu', ${sql.jsonb(overrides)}, ${tx.actor.userId})
    on conflict (tenant_id, name) do update set value = excluded.value, set_by = excluded.set_by, version = s.version + 1, updated_at = ${tx.now.toISOString()}`)
}
