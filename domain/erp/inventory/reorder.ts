// Low stock: a rule a product and location, at most one open alert a rule.
import { Type } from 'typebox'
import {
  decimal,
  newId,
  nullable,
  oneOf,
  Quantity,
  resource,
  row,
  SignedQuantity,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { Product } from '../products/index.ts'
import { Location } from './location.ts'

/** Below the minimum an alert is raised; the target is what to fill up to. */
export const ReorderRule = row(
  'erp_reorder_rule',
  { product_id: Uuid, location_id: Uuid, minimum: Quantity, target: Quantity },
  { custom: true },
)

export const reorderRules = resource(ReorderRule, {
  module: 'erp.inventory',
  permission: 'erp.reorder_rule',
  filter: ['product_id', 'location_id', 'created_at'],
  sort: ['created_at'],
  references: { product_id: () => Product, location_id: () => Location },
})

export const StockAlert = row('erp_stock_alert', {
  rule_id: Uuid,
  product_id: Uuid,
  location_id: Uuid,
  on_hand: SignedQuantity,
  minimum: Quantity,
  status: oneOf(['raised', 'cleared']),
  cleared_at: nullable(Timestamp),
})

export const stockAlerts = resource(StockAlert, {
  module: 'erp.inventory',
  permission: 'erp.stock_alert',
  filter: ['status', 'product_id', 'created_at'],
  sort: ['created_at'],
})

const Level = Type.Object(
  { rule_id: Uuid, organization_id: Uuid, location_id: Uuid, minimum: Quantity, on_hand: SignedQuantity, alert_id: nullable(Uuid) },
  { additionalProperties: false },
)

/**
 * Raises and clears the alerts of a product after its stock changed. It looks at what is there now, not at what the event
 * said, so it may come late, twice or out of order. One open alert a rule: a unique index.
 */
export async function reviewReorderRules(tx: Tx, productId: string): Promise<void> {
  const levels = await tx.any(sql.prepared(Level)`
    select r.id as rule_id, r.organization_id, r.location_id, r.minimum, a.id as alert_id,
      coalesce((select sum(q.quantity) from erp_stock_quant q where q.tenant_id = r.tenant_id and q.product_id = r.product_id and q.location_id = r.location_id), 0)::numeric(19, 6) as on_hand
    from erp_reorder_rule r left join erp_stock_alert a on a.tenant_id = r.tenant_id and a.rule_id = r.id and a.status = 'raised'
    where r.tenant_id = ${tx.tenantId} and r.product_id = ${productId} and r.deleted_at is null
    order by r.id for update of r`)
  for (const level of levels) {
    const low = decimal(level.on_hand).lt(level.minimum)
    const data = {
      organization_id: level.organization_id,
      product_id: productId,
      location_id: level.location_id,
      on_hand: level.on_hand,
      minimum: level.minimum,
    }
    if (low && !level.alert_id) {
      const id = newId()
      await tx.query(sql.run`
        insert into erp_stock_alert (id, tenant_id, organization_id, rule_id, product_id, location_id, on_hand, minimum, created_at)
        values (${id}, ${tx.tenantId}, ${level.organization_id}, ${level.rule_id}, ${productId}, ${level.location_id}, ${level.on_hand}, ${level.minimum}, ${tx.now.toISOString()})`)
      tx.emit({ type: 'erp.stock_alert.raised', entity_id: id, version: 1, data })
    } else if (!low && level.alert_id) {
      await tx.query(sql.run`
        update erp_stock_alert set status = 'cleared', cleared_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
        where tenant_id = ${tx.tenantId} and id = ${level.alert_id}`)
      tx.emit({ type: 'erp.stock_alert.cleared', entity_id: level.alert_id, version: 2, data })
    }
  }
}
