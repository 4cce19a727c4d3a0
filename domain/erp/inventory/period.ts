// Until when stock is closed.
import { type Static, Type } from 'typebox'
import { failure, newId, nullable, sql, Timestamp, type Tx, Version } from '../../kernel/index.ts'

export const StockPeriod = Type.Object(
  {
    closed_through: nullable({ ...Timestamp, description: 'No move is effective then or before; null: nothing is closed' }),
    version: Version,
  },
  { additionalProperties: false },
)
export type StockPeriod = Static<typeof StockPeriod>

/** Version 1 with nothing closed is what an organization has that has never closed anything. */
export async function stockPeriod(tx: Tx): Promise<StockPeriod> {
  const found = await tx.maybeOne(sql.prepared(StockPeriod)`
    select closed_through, version from erp_stock_period where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}`)
  return found ?? { closed_through: null, version: 1 }
}

/**
 * Closes the organization's stock through a moment, or opens it again from an earlier one. Waits for the moves that are
 * just being written; those that come later find it closed. Throws `version_conflict`, `invalid_value` for a moment that
 * has not come.
 */
export async function closeStock(tx: Tx, closed_through: string | null, version: number): Promise<StockPeriod> {
  if (closed_through && Date.parse(closed_through) > tx.now.getTime())
    throw failure('invalid_value', { path: '/closed_through', rule: 'not_in_future', message: 'has not come yet' })
  const { tenantId: tenant } = tx
  const { organizationId: organization } = tx.context
  await tx.query(sql.run`select pg_advisory_xact_lock(erp_stock_lock(${tenant}::uuid, ${organization}::uuid))`)
  const current = await stockPeriod(tx)
  if (current.version !== version) throw failure('version_conflict', { current })
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    insert into erp_stock_period (id, tenant_id, organization_id, closed_through, version) values (${newId()}, ${tenant}, ${organization}, ${closed_through}, 2)
    on conflict (tenant_id, organization_id) do update set closed_through = excluded.closed_through, version = erp_stock_period.version + 1, updated_at = ${now}`)
  const period = await stockPeriod(tx)
  tx.emit({ type: 'erp.stock.closed', entity_id: organization!, version: period.version, data: { closed_through } })
  return period
}
