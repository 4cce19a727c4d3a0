// What belongs to the rows of a list, loaded for the whole page at once: one query an expansion, never one a row.
import { type Static, type TObject, type TProperties, type TSchema, Type } from 'typebox'
import type { Tx } from './context.ts'
import type { ListSpec } from './list.ts'
import { columns, type Row, scopeOf, tableOf } from './row.ts'
import { sql } from './sql.ts'
import { nullable } from './types.ts'

type Rows = readonly Record<string, unknown>[]

export interface Expansion {
  /** What stands under the expansion's name in each row. */
  schema(): TSchema
  /** The permission that the caller needs to see it, beside the list's own. */
  permission?: string
  /** The value for each row, in the rows' order. */
  load(tx: Tx, rows: Rows): Promise<readonly unknown[]>
}

/** The lines of a document, also as an expansion of a list of documents. */
export interface Lines<L> extends Expansion {
  of(tx: Tx, documentId: string): Promise<L[]>
}

/** The row that a column names, deleted or not; null where the column is. */
export const one = <P extends TProperties>(target: () => Row<P>, column: string, permission: string): Expansion => ({
  schema: () => nullable(target().schema),
  permission,
  async load(tx, rows) {
    const row: Row = target()
    const ids = [...new Set(rows.map((r) => r[column]).filter((id) => id !== null))] as string[]
    const found = await tx.any(sql.prepared(row.schema)`
      select ${columns(row)} from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = any(${sql.array(ids, 'uuid')})`)
    const byId = new Map(found.map((r) => [(r as { id: string }).id, r]))
    return rows.map((r) => byId.get(r[column] as string) ?? null)
  },
})

/** The lines of each document: rows of `table` whose `column` names it, in the order of `position` or `id`. */
export function many<L extends TObject>(table: string, line: L, column: string): Lines<Static<L>> {
  const names = Object.keys(line.properties)
  const list = sql.join(
    names.map((name) => sql.identifier([name])),
    sql.fragment`, `,
  )
  const order = names.includes('position') ? 'position' : 'id'
  const schema = Type.Object({ ...line.properties, owner_id: Type.String() }, { additionalProperties: false })
  async function loadAll(tx: Tx, ids: readonly string[]): Promise<Static<L>[][]> {
    const found = await tx.any(sql.prepared(schema)`
        select ${list}, ${sql.identifier([column])} as owner_id from ${sql.identifier([table])}
        where tenant_id = ${tx.tenantId} and ${sql.identifier([column])} = any(${sql.array([...ids], 'uuid')})
        order by ${sql.identifier([column])}, ${sql.identifier([order])}`)
    const byOwner = new Map<string, Static<L>[]>(ids.map((id) => [id, []]))
    for (const { owner_id, ...own } of found as unknown as { owner_id: string }[]) byOwner.get(owner_id)?.push(own as Static<L>)
    return ids.map((id) => byOwner.get(id)!)
  }
  return {
    schema: () => Type.Array(line),
    load: (tx, rows) =>
      loadAll(
        tx,
        rows.map((r) => r.id as string),
      ),
    of: async (tx, id) => (await loadAll(tx, [id]))[0]!,
  }
}

/** The rows with their expansions. */
export async function expanded<T extends Record<string, unknown>>(
  tx: Tx,
  { expand = {} }: ListSpec,
  names: readonly string[],
  rows: readonly T[],
): Promise<T[]> {
  let whole = [...rows]
  for (const name of names) {
    const values = rows.length > 0 ? await expand[name]!.load(tx, rows) : []
    whole = whole.map((row, at) => ({ ...row, [name]: values[at] }))
  }
  return whole
}

/**
 * What a row of a list may look like: any of its columns, and what was expanded. Without defaults, which the serializer
 * would write for a column that was not asked for.
 */
export function listedSchema({ row, expand = {} }: ListSpec): TSchema {
  const own = Object.entries(row.schema.properties as Record<string, object>).map(([name, schema]) => {
    const { default: _, ...bare } = schema as { default?: unknown }
    return [name, bare as TSchema] as const
  })
  const others = Object.entries(expand).map(([name, { schema }]) => [name, schema()] as const)
  return Type.Partial(Type.Object(Object.fromEntries([...own, ...others])))
}
