import { Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { sql } from './sql.ts'

const Next = Type.Object({ value: Type.Integer() })

/**
 * The next number of a series in the context's organization and this year: `PO-2026-00001`.
 *
 * Gapless: the series' row stays locked until the transaction ends, and a rollback takes the number back. Ask for it
 * last, so that the lock is held shortly.
 */
export async function nextNumber(tx: Tx, prefix: string): Promise<string> {
  if (!tx.context.organizationId) throw failure('context_required')
  const year = tx.now.getUTCFullYear()
  const { value } = await tx.one(sql.prepared(Next)`
    insert into plane.erp_number_sequence as s (tenant_id, organization_id, series, year, value)
    values (${tx.tenantId}, ${tx.context.organizationId}, ${prefix}, ${year}, 1)
    on conflict (tenant_id, organization_id, series, year) do update set value = s.value + 1
    returning value`)
  return `${prefix}-${year}-${String(value).padStart(5, '0')}`
}
