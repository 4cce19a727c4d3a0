// The ledger card of a product: every move with what was there after it.
import { type Static, Type } from 'typebox'
import { Money, nullable, SignedQuantity, sql, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'
import { moveColumns, StockMove } from './moves.ts'

export const CardLine = Type.Object(
  { ...StockMove.properties, change: SignedQuantity, balance: SignedQuantity, value: Type.Optional(nullable(Money)) },
  { additionalProperties: false },
)
export type CardLine = Static<typeof CardLine>

export const CardQuery = Type.Object(
  {
    product_id: Uuid,
    location_id: Type.Optional({ ...Uuid, description: 'Of one location; of all that hold stock when nothing is said' }),
    from: Type.Optional(Timestamp),
    to: Type.Optional(Timestamp),
    value: Type.Optional(Type.Boolean({ description: 'With what each changed the value of all stock by; needs erp.stock_value.read' })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 2000 })),
  },
  { additionalProperties: false },
)

interface CardQuestion extends Omit<Static<typeof CardQuery>, 'limit' | 'cursor'> {
  limit: number
  /** Effective time and id of the last line of the page before. */
  after: [effectiveAt: string, id: string] | null
}

/** Before every id. */
const FIRST = '00000000-0000-0000-0000-000000000000'

/**
 * Moves of a product in the order in which they were effective, each with what it changed and what was there after it, in
 * the base unit. What moves between two places that are asked for changes nothing. One more than `limit` may come, which
 * says that there are more. What was there before the page is summed once: a page costs no more the longer the card is after it.
 */
export function stockCard(
  tx: Tx,
  { product_id, location_id, from, to, after, limit, value = false }: CardQuestion,
): Promise<readonly CardLine[]> {
  const place = location_id ?? null
  const [since, id] = after ?? [from ?? '-infinity', FIRST]
  const change = sql.fragment`
    case when m.to_location_id in (select id from places) then m.quantity else 0 end
    - case when m.from_location_id in (select id from places) then m.quantity else 0 end`
  const moves = sql.fragment`
    from erp_stock_move m
    where m.tenant_id = ${tx.tenantId} and m.organization_id = ${tx.context.organizationId} and m.product_id = ${product_id}
      and (m.to_location_id in (select id from places) or m.from_location_id in (select id from places))`
  return tx.any(sql.prepared(CardLine)`
    with places as materialized (
      select id from erp_location where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId}
        and (id = ${place}::uuid or (${place}::uuid is null and kind in ('internal', 'transit')))
    ), page as (
      select m.*, ${change} as change ${moves}
        and (m.effective_at, m.id) > (${since}::timestamptz, ${id}::uuid) and m.effective_at <= coalesce(${to ?? null}::timestamptz, 'infinity')
      order by m.effective_at, m.id limit ${limit + 1}
    ), before as (
      select coalesce(sum(${change}), 0) as balance ${moves} and (m.effective_at, m.id) <= (${since}::timestamptz, ${id}::uuid)
    )
    select ${moveColumns}, change, (before.balance + sum(change) over (order by effective_at, id rows unbounded preceding))::numeric(19, 6) as balance
      ${value ? sql.fragment`, (select v.value from erp_stock_layer v where v.tenant_id = ${tx.tenantId} and v.id = page.id) as value` : sql.fragment``}
    from page, before
    order by effective_at, id`)
}
