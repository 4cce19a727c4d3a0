// What something costs a client on a day, and which rule says so.
import { type Static, Type } from 'typebox'
import {
  Currency,
  DateOnly,
  type Decimal,
  decimal,
  type Fragment,
  failure,
  quantity as formatQuantity,
  Money,
  money,
  nullable,
  oneOf,
  PositiveQuantity,
  Quantity,
  sql,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { toBase, unitsOf } from '../products/index.ts'

const MAX_LINES = 100

export const PriceQuestion = Type.Object(
  {
    client_id: Type.Optional(Uuid),
    currency: Currency,
    on: Type.Optional({ ...DateOnly, description: 'The day of the sale; today in UTC when nothing is said' }),
    lines: Type.Array(
      Type.Object({ product_id: Uuid, quantity: PositiveQuantity, uom_id: Type.Optional(Uuid) }, { additionalProperties: false }),
      { minItems: 1, maxItems: MAX_LINES },
    ),
  },
  { additionalProperties: false },
)

export const PriceRule = Type.Object(
  {
    kind: oneOf(['contract', 'client', 'list', 'product'], { description: 'Where the price stands; product: its own list price' }),
    price_list_id: nullable(Uuid),
    price_list_code: nullable(Type.String()),
    item_id: nullable(Uuid),
    client_id: nullable({ ...Uuid, description: 'Whose price it is: the client, or the company that he belongs to' }),
    minimum_quantity: Quantity,
  },
  { additionalProperties: false },
)

export const PricedLine = Type.Object(
  {
    product_id: Uuid,
    uom_id: Uuid,
    quantity: PositiveQuantity,
    base_quantity: Quantity,
    unit_price: nullable({ ...Money, description: 'For one of the unit that was asked in; null when nothing says what it costs' }),
    tax_included: Type.Boolean(),
    tax_rate: nullable(Type.String({ description: 'Per cent' })),
    net: nullable(Money),
    tax: nullable(Money),
    gross: nullable(Money),
    rule: nullable(PriceRule),
  },
  { additionalProperties: false },
)
export const PriceAnswer = Type.Object(
  { currency: Currency, on: DateOnly, lines: Type.Array(PricedLine), net: Money, tax: Money, gross: Money },
  { additionalProperties: false },
)

interface Asked extends Omit<Static<typeof PriceQuestion>, 'client_id'> {
  client_id?: string | null
}

const Found = Type.Object(
  {
    position: Type.Integer(),
    price: nullable(Money),
    tax_included: Type.Boolean(),
    tax_rate: nullable(Type.String()),
    rule: nullable(PriceRule),
  },
  { additionalProperties: false },
)

/** A rule as it is answered, from its values in this order. */
const rule = (values: Fragment): Fragment => sql.fragment`
  (select to_jsonb(r) from (values (${values})) as r (kind, price_list_id, price_list_code, item_id, client_id, minimum_quantity))`

/**
 * Prices of up to 100 lines, in one query. Of all prices that hold on the day, in the currency and from no more than the
 * quantity on, the first wins in this order: a contract's, a client's own, a list's; of two of a kind the nearer company
 * in the client's hierarchy, the higher quantity break, the one that began last, then the list's code. Where there is
 * none, the product's own list price. Throws `invalid_reference` for a client, product or unit that is not there.
 */
export async function resolvePrices(
  tx: Tx,
  { client_id: client = null, currency, on = tx.now.toISOString().slice(0, 10), lines }: Asked,
): Promise<Static<typeof PriceAnswer>> {
  const { tenantId: tenant } = tx
  const { organizationId: organization } = tx.context
  if (client) {
    const there = await tx.exists(sql.run`
      select 1 from erp_party where tenant_id = ${tenant} and organization_id = ${organization} and id = ${client} and deleted_at is null`)
    if (!there) throw failure('invalid_reference', { path: 'client_id', ids: [client] })
  }
  const units = await unitsOf(tx, lines)
  const wanted = lines.map(({ quantity }, position) => ({ quantity, unit: units[position]!, base: toBase(quantity, units[position]!) }))
  const rows = wanted.map(({ unit, base }, position) => [position, unit.product_id, formatQuantity(base)])
  const found = await tx.any(sql.prepared(Found)`
    with recursive companies as (
      select id, parent_id, 0 as distance from erp_party where tenant_id = ${tenant} and organization_id = ${organization} and id = ${client}::uuid
      union all
      select p.id, p.parent_id, c.distance + 1 from companies c
      join erp_party p on p.tenant_id = ${tenant} and p.organization_id = ${organization} and p.id = c.parent_id and p.deleted_at is null
    )
    select w.position, coalesce(best.price, own.price) as price, coalesce(best.tax_included, false) as tax_included, t.rate as tax_rate,
      coalesce(best.rule, own.rule) as rule
    from ${sql.unnest(rows, ['int4', 'uuid', 'numeric'])} as w (position, product_id, base_quantity)
    join erp_product p on p.tenant_id = ${tenant} and p.id = w.product_id
    left join erp_tax t on t.tenant_id = ${tenant} and t.id = p.tax_id and t.deleted_at is null
    left join lateral (
      select p.list_price as price, ${rule(sql.fragment`'product', null, null, null, null, '0.000000'`)} as rule
      where p.list_price is not null and p.currency = ${currency}
    ) as own on true
    left join lateral (
      select i.price, l.tax_included, ${rule(sql.fragment`l.kind, l.id, l.code, i.id, l.client_id, i.minimum_quantity::text`)} as rule
      from erp_price_list_item i
      join erp_price_list l on l.tenant_id = ${tenant} and l.organization_id = ${organization} and l.id = i.price_list_id
      left join companies c on c.id = l.client_id
      where i.tenant_id = ${tenant} and i.organization_id = ${organization} and i.product_id = w.product_id and i.deleted_at is null
        and i.minimum_quantity <= w.base_quantity and l.deleted_at is null and l.active and l.currency = ${currency}
        and (l.client_id is null or c.id is not null)
        and ${on}::date between coalesce(l.valid_from, '-infinity') and coalesce(l.valid_to, 'infinity')
        and ${on}::date between coalesce(i.valid_from, '-infinity') and coalesce(i.valid_to, 'infinity')
      order by array_position(array['contract', 'client', 'list'], l.kind), c.distance, i.minimum_quantity desc,
        greatest(i.valid_from, l.valid_from) desc nulls last, l.code, i.id
      limit 1
    ) as best on true`)
  const answers = new Map(found.map((line) => [line.position, line]))
  const digits = new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits!
  const priced = wanted.map(({ quantity, unit, base }, position) => {
    const { price, tax_included, tax_rate, rule } = answers.get(position)!
    const amounts = price === null ? null : amountsOf(base.mul(price), decimal(tax_rate ?? 0), tax_included, digits)
    return {
      product_id: unit.product_id,
      uom_id: unit.uom_id,
      quantity,
      base_quantity: formatQuantity(base),
      unit_price: price === null ? null : money(decimal(price).mul(unit.numerator).div(unit.denominator)),
      tax_included,
      tax_rate,
      net: amounts && money(amounts.net),
      tax: amounts && money(amounts.gross.minus(amounts.net)),
      gross: amounts && money(amounts.gross),
      rule,
    }
  })
  const sum = (part: 'net' | 'tax' | 'gross') => money(priced.reduce((total, line) => total.plus(line[part] ?? 0), decimal(0)))
  return { currency, on, lines: priced, net: sum('net'), tax: sum('tax'), gross: sum('gross') }
}

/**
 * A line's amount without and with tax, rounded half up to the currency's smallest coin, line by line: what the list says
 * is rounded first, the other follows from it, and the tax is the difference, so that the three always agree.
 */
function amountsOf(listed: Decimal, rate: Decimal, included: boolean, digits: number): { net: Decimal; gross: Decimal } {
  const factor = rate.div(100).plus(1)
  const rounded = listed.toDecimalPlaces(digits)
  return included
    ? { gross: rounded, net: rounded.div(factor).toDecimalPlaces(digits) }
    : { net: rounded, gross: rounded.mul(factor).toDecimalPlaces(digits) }
}
