// Low stock: a rule a product and location, at most one open alert a rule.
import { Type } from 'typebox'
import { nullable, oneOf, Quantity, resource, row, SignedQuantity, sql, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'
import { Product } from '../products/index.ts'
import { Location } from './location.ts'

/** Below the minimum, in the place and all places below it, an alert is raised; the target is what to fill up to. */
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

const Held = Type.Object({ id: Uuid }, { additionalProperties: false })
const Change = Type.Object(
  {
    id: Uuid,
    verb: oneOf(['raised', 'cleared']),
    version: Type.Integer(),
    organization_id: Uuid,
    location_id: Uuid,
    on_hand: SignedQuantity,
    minimum: Quantity,
  },
  { additionalProperties: false },
)

/**
 * Raises and clears the alerts of a product after its stock or a rule changed, by what there is in the place of each rule and
 * in the places below it. It looks at what is there now, not at what the event said, so it may come late, twice or out of
 * order. A rule that is gone clears its alert.
 */
export async function reviewReorderRules(tx: Tx, productId: string): Promise<void> {
  // Held before anything is counted: who waits here counts afterwards, in a statement of his own, and so has the last word
  // with the latest stock. One open alert a rule: a unique index.
  const held = await tx.any(sql.prepared(Held)`
    select r.id from erp_reorder_rule r where r.tenant_id = ${tx.tenantId} and r.id in (
      select n.id from erp_reorder_rule n join erp_product p on p.tenant_id = n.tenant_id and p.organization_id = n.organization_id and p.id = n.product_id
      where n.tenant_id = ${tx.tenantId} and p.id = ${productId} and n.deleted_at is null
      union all
      select a.rule_id from erp_stock_alert a where a.tenant_id = ${tx.tenantId} and a.product_id = ${productId} and a.status = 'raised' and a.deleted_at is null)
    order by r.id for update`)
  if (held.length === 0) return
  const ids = sql.array(
    held.map(({ id }) => id),
    'uuid',
  )
  const now = tx.now.toISOString()
  const changes = await tx.any(sql.prepared(Change)`
    with recursive place as (
      select r.id as rule_id, r.location_id from erp_reorder_rule r where r.tenant_id = ${tx.tenantId} and r.id = any(${ids})
      union
      select p.rule_id, l.id from place p join erp_location l on l.parent_id = p.location_id where l.tenant_id = ${tx.tenantId} and l.deleted_at is null),
    level as (
      select p.rule_id, coalesce(sum(q.quantity), 0) as on_hand
      from place p left join erp_stock_quant q on q.tenant_id = ${tx.tenantId} and q.product_id = ${productId} and q.location_id = p.location_id
      group by p.rule_id),
    rule as (
      select r.id, r.organization_id, r.location_id, r.minimum, l.on_hand, r.deleted_at is null and l.on_hand < r.minimum as low
      from level l join erp_reorder_rule r on r.tenant_id = ${tx.tenantId} and r.id = l.rule_id),
    raised as (
      insert into erp_stock_alert (id, tenant_id, organization_id, rule_id, product_id, location_id, on_hand, minimum, created_at)
      select gen_random_uuid(), ${tx.tenantId}, organization_id, id, ${productId}, location_id, on_hand, minimum, ${now} from rule where low
      on conflict (tenant_id, rule_id) where status = 'raised' do nothing
      returning id, 'raised' as verb, version, organization_id, location_id, on_hand, minimum),
    cleared as (
      update erp_stock_alert a set status = 'cleared', cleared_at = ${now}, version = a.version + 1, updated_at = ${now}
      from rule where a.tenant_id = ${tx.tenantId} and a.rule_id = rule.id and a.status = 'raised' and not rule.low
      returning a.id, 'cleared' as verb, a.version, a.organization_id, a.location_id, rule.on_hand::numeric(19, 6), rule.minimum)
    select id, verb, version, organization_id, location_id, on_hand, minimum from raised
    union all select id, verb, version, organization_id, location_id, on_hand, minimum from cleared`)
  for (const { id, verb, version, ...data } of changes)
    tx.emit({ type: `erp.stock_alert.${verb}`, entity_id: id, version, data: { ...data, product_id: productId } })
}
