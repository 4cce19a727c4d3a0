// Rules that many tables share: what a row names is there, no row is above itself, what is needed stays.
import { Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { type Row, scopeOf, tableOf } from './row.ts'
import { type Fragment, sql } from './sql.ts'

const Found = Type.Object({ id: Type.String() }, { additionalProperties: false })

/**
 * Refuses with `invalid_reference` where a value names no live row of the context's organization. One query a column.
 *
 * The rows are locked against deletion until the transaction ends: who deletes one holds it alone (`lockAlone`), so
 * either he waits and finds the new reference, or this waits and finds the row gone.
 */
export async function checkReferences(
  tx: Tx,
  references: Readonly<Record<string, () => Row>>,
  rows: readonly Record<string, unknown>[],
): Promise<void> {
  for (const [column, target] of Object.entries(references)) {
    const wanted = [...new Set(rows.map((r) => r[column]).filter((v) => v != null))] as string[]
    if (wanted.length === 0) continue
    const row = target()
    const found = await tx.any(sql.prepared(Found)`
      select id from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = any(${sql.array(wanted, 'uuid')}) and deleted_at is null
      order by id for key share`)
    const known = new Set(found.map((r) => r.id))
    const missing = wanted.filter((id) => !known.has(id))
    if (missing.length > 0) throw failure('invalid_reference', { path: column, ids: missing })
  }
}

/** Makes whoever else says this wait until the transaction ends. */
export const oneAtATime = (tx: Tx, what: string): Promise<unknown> =>
  tx.query(sql.run`select pg_advisory_xact_lock(hashtextextended(${what}, 0))`)

const Above = Type.Object({ above: Type.Boolean() }, { additionalProperties: false })

/**
 * Refuses with `invalid_value` a parent that is the row itself or below it. Changes of one tenant's tree are made one after
 * the other, by an advisory lock: two that are right alone could close a ring together.
 */
export async function checkTree(tx: Tx, row: Row, column: string, id: string, parent: string): Promise<void> {
  await oneAtATime(tx, `tree ${row.table} ${tx.tenantId}`)
  const parentOf = sql.identifier([column])
  const { above } = await tx.one(sql.prepared(Above)`
    with recursive up as (
      select id, ${parentOf} as parent from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = ${parent}
      union
      select t.id, t.${parentOf} from ${tableOf(row)} t join up on t.id = up.parent where ${sql.and(scopeOf(tx, row, 't'))}
    )
    select exists (select from up where id = ${id}) as above`)
  if (above) throw failure('invalid_value', { path: column, rule: 'acyclic', message: 'would be above itself' })
}

/** Where a row of another table needs one of these. */
export interface Use {
  table: string
  column: string
  /** Which of its rows count; those that are not deleted when nothing is said. */
  while?: Fragment
}
const Used = Type.Object({ entity: Type.String(), ids: Type.Array(Type.String()) }, { additionalProperties: false })
/** So many of what needs it are named. */
const NAMED = 5

/** Refuses with `in_use` and what needs it. Call it when nobody can begin to need it: after `lockAlone`. */
export async function checkUnused(tx: Tx, row: Row, id: string, uses: readonly Use[]): Promise<void> {
  const each = uses.map(
    ({ table, column, while: counts = sql.fragment`deleted_at is null` }) => sql.fragment`
      select ${table}::text as entity, array(select id from ${sql.identifier([table])}
        where ${sql.and(scopeOf(tx, row))} and ${sql.identifier([column])} = ${id} and ${counts} limit ${NAMED}) as ids`,
  )
  const found = await tx.any(
    sql.prepared(Used)`select entity, ids from (${sql.join(each, sql.fragment` union all `)}) as uses where cardinality(ids) > 0`,
  )
  if (found.length > 0) throw failure('in_use', { by: found })
}

/** Holds a row alone: nobody begins to refer to it until the transaction ends. */
export const lockAlone = (tx: Tx, row: Row, id: string): Promise<unknown> =>
  tx.query(sql.run`select 1 from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = ${id} for update`)
