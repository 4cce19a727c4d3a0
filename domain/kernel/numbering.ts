import { Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { type Fragment, sql } from './sql.ts'

const Next = Type.Object({ code: Type.String() })

/**
 * The statement that takes the next number of a series in the context's organization and this year, and returns it as
 * `code`: `PO-2026-00001`. Refuses with `context_required`.
 *
 * Gapless: the series' row stays locked until the transaction ends, and a rollback takes the number back. Run it last, or
 * as a part of the statement that needs the number, so that the lock is held shortly.
 */
export function takeNumber(tx: Tx, prefix: string): Fragment {
  if (!tx.context.organizationId) throw failure('context_required')
  const year = tx.now.getUTCFullYear()
  return sql.fragment`
    insert into plane.erp_number_sequence as s (tenant_id, organization_id, series, year, value)
    values (${tx.tenantId}, ${tx.context.organizationId}, ${prefix}, ${year}, 1)
    on conflict (tenant_id, organization_id, series, year) do update set value = s.value + 1
    returning ${`${prefix}-${year}-`} || lpad(value::text, greatest(5, length(value::text)), '0') as code`
}

/** The next number, in a statement of its own. */
export const nextNumber = async (tx: Tx, prefix: string): Promise<string> =>
  (await tx.one(sql.prepared(Next)`${takeNumber(tx, prefix)}`)).code
