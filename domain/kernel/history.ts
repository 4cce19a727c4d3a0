import { type Static, Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import type { Uuid } from './ids.ts'
import { type Row, scopeOf, tableOf } from './row.ts'
import { sql } from './sql.ts'
import { nullable, Timestamp } from './types.ts'

/** One change of one record: `diff` is `{column: [before, after]}`, sensitive columns masked. */
export const Change = Type.Object(
  {
    id: Type.String({ format: 'uuid' }),
    action: Type.String({ description: 'insert, update or delete' }),
    actor_id: nullable(Type.String({ format: 'uuid' })),
    actor_name: nullable(Type.String()),
    diff: Type.Record(Type.String(), Type.Unknown()),
    correlation_id: nullable(Type.String()),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)

/**
 * The last 200 changes of a record and of its lines, newest first; also of a deleted one. The audit trail is the source;
 * nothing is stored twice. Throws `not_found` for what is not there, or not in the context's organization.
 * @param parts further tables whose changes are recorded under the record's id
 */
export async function historyOf(tx: Tx, row: Row, id: Uuid, parts: readonly string[] = []): Promise<readonly Static<typeof Change>[]> {
  const there = await tx.exists(sql.run`select 1 from ${tableOf(row)} where ${sql.and(scopeOf(tx, row))} and id = ${id}`)
  if (!there) throw failure('not_found')
  return tx.any(sql.prepared(Change)`
    select id, action, actor_id, actor_name, diff, correlation_id, created_at
    from plane.audit_events
    where tenant_id = ${tx.tenantId} and entity_id = ${id} and entity = any(${sql.array([row.table, `${row.table}_line`, ...parts], 'text')})
    order by created_at desc, id desc limit 200`)
}
