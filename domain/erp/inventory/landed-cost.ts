// What goods cost beside their price: freight, duty, insurance. IAS 2.10-11 makes it a part of what they cost.
import { type Static, Type } from 'typebox'
import {
  checkReferences,
  columns,
  decimal,
  failure,
  inReach,
  type ListSpec,
  lifecycle,
  Money,
  many,
  money,
  newId,
  nextNumber,
  nullable,
  oneOf,
  Price,
  Reasoned,
  type RowOf,
  row,
  sql,
  Text,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { Party } from '../parties/index.ts'

export const LandedCost = row(
  'erp_landed_cost',
  {
    code: Type.String(),
    status: oneOf(['posted', 'reversed']),
    description: Type.String({ minLength: 1, maxLength: 200, examples: ['Sea freight, container MSCU 123'] }),
    amount: Price,
    currency: Type.String(),
    split_by: oneOf(['value', 'quantity'], { default: 'value' }),
    supplier_id: nullable(Uuid),
    posted_by: nullable(Uuid),
    reason: nullable(Text),
  },
  { scope: 'workspace', derived: ['code', 'status', 'currency', 'posted_by', 'reason'] },
)
export type LandedCost = RowOf<typeof LandedCost>

const CostLine = Type.Object({ id: Uuid, move_id: Uuid, product_id: Uuid, amount: Money }, { additionalProperties: false })
export const LandedCostDocument = Type.Object(
  { ...LandedCost.schema.properties, lines: Type.Array(CostLine), allowed_transitions: Type.Array(Type.String()) },
  { additionalProperties: false },
)
const lines = many('erp_landed_cost_line', CostLine, 'landed_cost_id')

export const landedCostList: ListSpec = {
  row: LandedCost,
  filter: ['code', 'status', 'created_at'],
  sort: ['created_at', 'code'],
  expand: { lines },
}

export const NewLandedCost = Type.Object(
  {
    description: LandedCost.properties.description,
    amount: Type.String({
      ...Price,
      pattern: '^(?=.*[1-9])\\d{1,15}(\\.\\d{1,4})?$',
      description: 'In the organization’s currency, above zero',
    }),
    split_by: Type.Optional(oneOf(['value', 'quantity'], { default: 'value' })),
    supplier_id: Type.Optional(nullable(Uuid)),
    receipt_ids: Type.Array(Uuid, { minItems: 1, maxItems: 100, uniqueItems: true, description: 'The goods receipts that it was for' }),
  },
  { additionalProperties: false },
)
const Goods = Type.Object(
  { id: Uuid, source_id: Uuid, product_id: Uuid, weight: Type.String({ 'x-pg': 'numeric' }) },
  { additionalProperties: false },
)

/**
 * Puts a cost on the goods of receipts, by their value or their quantity; the shares are rounded so that they make the
 * whole. They cost it from the moment they came, so what has left since is valued anew. Throws `invalid_reference`,
 * `invalid_value` where there is nothing to split by, `period_closed`, `too_far_back`.
 */
export async function postLandedCost(tx: Tx, input: Static<typeof NewLandedCost>) {
  const { description, amount, split_by = 'value', supplier_id = null, receipt_ids } = input
  await checkReferences(tx, { supplier_id: () => Party }, [{ supplier_id }])
  const goods = await tx.any(sql.prepared(Goods)`
    select m.id, m.source_id, m.product_id, (case when ${split_by} = 'value' then coalesce(m.cost, 0) else m.quantity end)::text as weight
    from erp_stock_move m join erp_stock_layer l on l.tenant_id = m.tenant_id and l.id = m.id and l.quantity > 0
    where m.tenant_id = ${tx.tenantId} and m.organization_id = ${tx.context.organizationId} and m.source_type = 'goods_receipt' and m.source_id = any(${sql.array(receipt_ids, 'uuid')})
      and exists (select from erp_goods_receipt r where r.tenant_id = m.tenant_id and r.id = m.source_id and ${inReach(tx, sql.fragment`r.organization_id`, sql.fragment`r.workspace_id`)})
    order by m.product_id, m.id`)
  const missing = receipt_ids.filter((id) => !goods.some(({ source_id }) => source_id === id))
  if (missing.length > 0) throw failure('invalid_reference', { path: 'receipt_ids', ids: missing })
  const total = goods.reduce((sum, { weight }) => sum.plus(weight), decimal(0))
  if (total.isZero()) throw failure('invalid_value', { path: 'split_by', rule: 'weight' }, 'These goods cost nothing: split by quantity.')
  let so_far = decimal(0)
  const rows = goods.map(({ id, product_id, weight }) => {
    const before = money(decimal(amount).mul(so_far).div(total))
    so_far = so_far.plus(weight)
    return [newId(), id, product_id, money(decimal(money(decimal(amount).mul(so_far).div(total))).minus(before))]
  })
  const id = newId()
  const now = tx.now.toISOString()
  const made = await tx.one(sql.prepared(LandedCost.schema)`
    insert into erp_landed_cost (id, tenant_id, organization_id, workspace_id, code, description, amount, currency, split_by, supplier_id, posted_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${await nextNumber(tx, 'LC')}, ${description}, ${amount}, ${tx.currency}, ${split_by}, ${supplier_id}, ${tx.actor.userId}, ${now}, ${now})
    returning ${columns(LandedCost)}`)
  await tx.query(sql.run`
    insert into erp_landed_cost_line (id, tenant_id, organization_id, landed_cost_id, move_id, product_id, amount, created_at)
    select l.id, ${tx.tenantId}, ${tx.context.organizationId}, ${id}, l.move_id, l.product_id, l.amount, ${now}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'uuid', 'numeric'])} as l (id, move_id, product_id, amount)`)
  const document = await whole(tx, made as LandedCost)
  await addToGoods(tx, document.lines)
  tx.emit({ type: 'erp.landed_cost.posted', entity_id: id, version: 1, data: document })
  return document
}

const whole = async (tx: Tx, cost: LandedCost) => ({
  ...cost,
  lines: await lines.of(tx, cost.id),
  allowed_transitions: landedCostLifecycle.allowed(cost.status),
})

/** `erp_add_landed_cost` locks the products, in their order, and values them anew. */
const addToGoods = (tx: Tx, shares: readonly { move_id: string; amount: string }[]) =>
  tx.query(sql.run`
    select erp_add_landed_cost(${tx.tenantId}::uuid, ${sql.array(
      shares.map((s) => s.move_id),
      'uuid',
    )}, ${sql.array(
      shares.map((s) => s.amount),
      'numeric',
    )})`)

export const landedCostLifecycle = lifecycle(LandedCost, {
  initial: 'posted',
  permission: 'erp.landed_cost',
  transitions: {
    reverse: {
      from: 'posted',
      to: 'reversed',
      input: Reasoned,
      summary: 'It was no cost of these goods: they are valued without it',
      effect: async (tx, cost, { reason }: Reasoned) => {
        const shares = await lines.of(tx, cost.id)
        await addToGoods(
          tx,
          shares.map(({ move_id, amount }) => ({ move_id, amount: money(decimal(amount).neg()) })),
        )
        return { reason }
      },
    },
  },
})

/** A landed cost with what each of the goods bears. Throws `not_found`. */
export const getLandedCost = async (tx: Tx, id: string) => whole(tx, await landedCostLifecycle.get(tx, id))

export const moveLandedCost = async (tx: Tx, name: string, id: string, version: number | null, input: object = {}) =>
  whole(tx, await landedCostLifecycle.move(tx, name, id, version, input))
