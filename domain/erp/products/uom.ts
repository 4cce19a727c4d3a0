import { type Static, Type } from 'typebox'
import { Code, type Decimal, decimal, failure, Name, nullable, oneOf, resource, row, sql, type Tx, Uuid } from '../../kernel/index.ts'
import { Product } from './product.ts'

/** A unit of measure. */
export const Uom = row('erp_uom', {
  code: Code,
  name: Name,
  dimension: oneOf(['count', 'mass', 'volume', 'length', 'area', 'time']),
})

export const uoms = resource(Uom, {
  module: 'erp.products',
  permission: 'erp.uom',
  filter: ['code', 'dimension', 'created_at'],
  sort: ['code', 'created_at'],
  usedBy: [
    { table: 'erp_product', column: 'uom_id' },
    { table: 'erp_uom_conversion', column: 'from_uom_id' },
    { table: 'erp_uom_conversion', column: 'to_uom_id' },
  ],
})

/** One `from` unit is numerator / denominator `to` units; without a product it holds for all products. */
export const UomConversion = row('erp_uom_conversion', {
  product_id: nullable(Uuid),
  from_uom_id: Uuid,
  to_uom_id: Uuid,
  numerator: Type.Integer({ minimum: 1, maximum: 1e12 }),
  denominator: Type.Integer({ minimum: 1, maximum: 1e12 }),
})

export const uomConversions = resource(UomConversion, {
  module: 'erp.products',
  permission: 'erp.uom_conversion',
  filter: ['from_uom_id', 'to_uom_id', 'created_at'],
  sort: ['created_at'],
  references: { product_id: () => Product, from_uom_id: () => Uom, to_uom_id: () => Uom },
  check: sameDimension,
})

/** A kilogram is no number of litres but of one product: a conversion for all stays within a dimension. Throws `invalid_value`. */
async function sameDimension(tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  const forAll = rows.filter((row) => row.product_id == null).map((row) => [row.from_uom_id, row.to_uom_id] as string[])
  const crossing = await tx.exists(sql.run`
    select 1 from ${sql.unnest(forAll, ['uuid', 'uuid'])} as w (from_uom, to_uom)
    join erp_uom f on f.tenant_id = ${tx.tenantId} and f.id = w.from_uom
    join erp_uom t on t.tenant_id = ${tx.tenantId} and t.id = w.to_uom
    where f.dimension <> t.dimension`)
  if (crossing)
    throw failure(
      'invalid_value',
      { path: '/to_uom_id', rule: 'dimension' },
      'Units of two dimensions convert only for one product: name it in product_id.',
    )
}

const Ratio = Type.Object(
  {
    product_id: Uuid,
    uom_id: Uuid,
    numerator: Type.Integer(),
    denominator: Type.Integer(),
    lot_tracked: Type.Boolean(),
    kind: Type.String(),
  },
  { additionalProperties: false },
)
export type ProductUnit = Static<typeof Ratio>
const Found = Type.Object({ position: Type.Integer(), ...Ratio.properties }, { additionalProperties: false })

/**
 * For each (product, unit) how to reach the product's base unit, in one query: itself, a conversion of the product, a
 * conversion for all, or one of these turned round. Refuses with `invalid_reference` for an unknown product or a unit
 * that cannot be converted; `path` says which pair. The products are shared until the transaction ends: their base units
 * do not change meanwhile (`keepsWhatCounts`).
 */
export async function unitsOf(tx: Tx, pairs: readonly { product_id: string; uom_id?: string | undefined }[]): Promise<ProductUnit[]> {
  const rows = pairs.map((pair, position) => [position, pair.product_id, pair.uom_id ?? null])
  const found = await tx.any(sql.prepared(Found)`
    select w.position, p.id as product_id, coalesce(w.uom_id, p.uom_id) as uom_id, p.lot_tracked, p.kind, c.numerator, c.denominator
    from ${sql.unnest(rows, ['int4', 'uuid', 'uuid'])} as w (position, product_id, uom_id)
    join erp_product p on p.tenant_id = ${tx.tenantId} and p.organization_id = ${tx.context.organizationId} and p.id = w.product_id and p.deleted_at is null
    join lateral (
      select 1::bigint as numerator, 1::bigint as denominator, 0 as rank where w.uom_id is null or w.uom_id = p.uom_id
      union all
      select case when k.from_uom_id = w.uom_id then k.numerator else k.denominator end,
             case when k.from_uom_id = w.uom_id then k.denominator else k.numerator end,
             case when k.product_id is null then 2 else 1 end
      from erp_uom_conversion k
      where k.tenant_id = ${tx.tenantId} and k.organization_id = ${tx.context.organizationId} and k.deleted_at is null
        and (k.product_id = p.id or k.product_id is null)
        and ((k.from_uom_id = w.uom_id and k.to_uom_id = p.uom_id) or (k.from_uom_id = p.uom_id and k.to_uom_id = w.uom_id))
      order by rank limit 1
    ) as c on true
    for key share of p`)
  const byPosition = new Map(found.map(({ position, ...unit }) => [position, unit]))
  return pairs.map((pair, position) => {
    const unit = byPosition.get(position)
    if (!unit)
      throw failure(
        'invalid_reference',
        { path: `lines/${position}`, product_id: pair.product_id, uom_id: pair.uom_id ?? null },
        'There is no such product, or its unit cannot be converted to the product’s base unit.',
      )
    return unit
  })
}

/** A quantity in the base unit; refuses with `invalid_value` where it does not come out exact to six decimals. */
export function toBase(quantity: string, unit: Pick<ProductUnit, 'numerator' | 'denominator'>): Decimal {
  const base = decimal(quantity).mul(unit.numerator).div(unit.denominator)
  if (base.decimalPlaces() > 6)
    throw failure(
      'invalid_value',
      { rule: 'exact_conversion', quantity, numerator: unit.numerator, denominator: unit.denominator },
      'This quantity does not convert to the base unit exactly: choose another quantity or unit.',
    )
  return base
}
