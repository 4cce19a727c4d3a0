import { type Static, Type } from 'typebox'
import type { Tx } from './context.ts'
import type { Uuid } from './ids.ts'
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

/** The last 200 changes of a record and of its lines, newest first. The audit trail is the source; nothing is stored twice. */
export async function historyOf(tx: Tx, table: string, id: Uuid): Promise<readonly Static<typeof Change>[]> {
  return tx.any(sql.prepared(Change)`
    select id, action, actor_id, actor_name, diff, correlation_id, created_at
    from plane.audit_events
    where tenant_id = ${tx.tenantId} and entity_id = ${id} and entity in (${table}, ${`${table}_line`})
    order by created_at desc, id desc limit 200`)
}
