// Which lots are taken when something is wanted out of a place.
import { Type } from 'typebox'
import { decimal, failure, quantity as format, nullable, SignedQuantity, sql, Timestamp, type Tx, Uuid } from '../../kernel/index.ts'
import type { StockPlace } from './location.ts'

/** So much (base unit) of a product; of one lot where it is named. */
export interface WantedStock {
  product_id: string
  quantity: string
  lot_id?: string | null | undefined
}
export interface PickedStock {
  /** What is taken, each for the wanted line at its index. */
  parts: { line: number; product_id: string; lot_id: string | null; quantity: string }[]
  /** When it can leave: now, or the moment of the latest move of what is taken where another clock was ahead. */
  at: string
}

const Free = Type.Object(
  { product_id: Uuid, lot_id: nullable(Uuid), free: SignedQuantity, last_at: Timestamp },
  { additionalProperties: false },
)

/**
 * Picks out of a location, earliest expiry first, things without lot last. Before now no more than leaves enough for all
 * that happened since. What is free is what nobody reserved; a reservation that has expired gives way. Throws
 * `insufficient_stock`; a location that may have less than nothing gives what it has not, without lot or of the lot named.
 *
 * Never oversells: all quants of the products in both locations are locked in (product, location, lot) order, the order
 * that the move trigger keeps too, so that no two movers deadlock, and only then counted; the constraints stand behind it.
 *
 * @param to where it goes; null where it stays and is only held
 */
export async function pick(
  tx: Tx,
  wanted: readonly WantedStock[],
  { from, to, effective_at }: { from: StockPlace; to: string | null; effective_at?: string | undefined },
): Promise<PickedStock> {
  const products = [...new Set(wanted.map(({ product_id }) => product_id))]
  const freeNow = () => freeIn(tx, products, from.id, to ?? from.id, effective_at ?? null)
  const picked = allocate(wanted, await freeNow())
  if (picked.missing && (await giveUpExpired(tx, products))) Object.assign(picked, allocate(wanted, await freeNow()))
  const { parts, missing, taken } = picked
  const at = effective_at ?? leavesAt(tx, taken)
  if (!missing) return { parts, at }
  const anyLot = missing.map(({ line }) => wanted[line]!).filter(({ lot_id }) => !lot_id)
  if (!from.allow_negative || to === null || (await areLotTracked(tx, anyLot))) {
    const { product_id, quantity } = wanted[missing[0]!.line]!
    const available = format(decimal(quantity).minus(missing[0]!.quantity))
    throw failure('insufficient_stock', { product_id, location_id: from.id, requested: quantity, available })
  }
  for (const { line, quantity } of missing) {
    const { product_id, lot_id = null } = wanted[line]!
    const owed = parts.find((part) => part.line === line && part.lot_id === lot_id)
    if (owed) owed.quantity = format(decimal(quantity).plus(owed.quantity))
    else parts.push({ line, product_id, lot_id, quantity })
  }
  return { parts, at }
}

const freeIn = (tx: Tx, products: readonly string[], from: string, to: string, at: string | null) =>
  tx.any(sql.prepared(Free)`
    with locked as materialized (
      select product_id, location_id, lot_id, quantity, quantity - reserved as free, last_at from erp_stock_quant
      where tenant_id = ${tx.tenantId} and product_id = any(${sql.array([...products], 'uuid')}) and location_id in (${from}, ${to})
      order by product_id, location_id, lot_id for update
    )
    select q.product_id, q.lot_id, f.free::numeric(19, 6) as free, q.last_at
    from locked q left join erp_lot l on l.tenant_id = ${tx.tenantId} and l.id = q.lot_id
    cross join lateral (
      select case when ${at}::timestamptz < q.last_at
        then least(q.free, erp_lowest_since(${tx.tenantId}, q.location_id, q.product_id, q.lot_id, ${at}::timestamptz, q.quantity)) else q.free end as free
    ) as f
    where q.location_id = ${from} and f.free > 0
    order by l.expires_on nulls last, q.lot_id`)

/** Reservations that have expired, of products whose quants are locked. Whether there were any. */
async function giveUpExpired(tx: Tx, products: readonly string[]): Promise<boolean> {
  const { rowCount } = await tx.query(sql.run`
    delete from erp_stock_reservation
    where tenant_id = ${tx.tenantId} and product_id = any(${sql.array([...products], 'uuid')}) and expires_at <= ${tx.now.toISOString()}`)
  return rowCount > 0
}

/** Whether some of these products come in lots: none of them can be owed without saying which. */
const areLotTracked = (tx: Tx, wanted: readonly WantedStock[]) =>
  tx.exists(sql.run`
    select 1 from erp_product where tenant_id = ${tx.tenantId} and lot_tracked and id = any(${sql.array(
      wanted.map(({ product_id }) => product_id),
      'uuid',
    )})`)

/** From when something can leave: now, or after the latest move of it where another clock was ahead. */
export const leavesAt = (tx: Tx, quants: readonly { last_at: string }[]): string =>
  quants.reduce((latest, { last_at }) => (last_at > latest ? last_at : latest), tx.now.toISOString())

/** Takes what is wanted from what is free, in its order; lines that name their lot before those that take any. */
export function allocate<F extends { product_id: string; lot_id: string | null; free: string }>(
  wanted: readonly WantedStock[],
  free: readonly F[],
) {
  const left = free.map((quant) => ({ ...quant, amount: decimal(quant.free) }))
  const parts: PickedStock['parts'] = []
  const missing: { line: number; quantity: string }[] = []
  const lines = wanted.map((line, index) => ({ ...line, index }))
  for (const { product_id, quantity, lot_id = null, index } of [...lines.filter((l) => l.lot_id), ...lines.filter((l) => !l.lot_id)]) {
    let open = decimal(quantity)
    for (const quant of left) {
      if (open.isZero()) break
      if (quant.product_id !== product_id || (lot_id && quant.lot_id !== lot_id) || quant.amount.isZero()) continue
      const part = quant.amount.lt(open) ? quant.amount : open
      quant.amount = quant.amount.minus(part)
      open = open.minus(part)
      parts.push({ line: index, product_id, lot_id: quant.lot_id, quantity: format(part) })
    }
    if (!open.isZero()) missing.push({ line: index, quantity: format(open) })
  }
  return { parts, missing: missing.length > 0 ? missing : null, taken: left.filter((quant) => !quant.amount.eq(quant.free)) }
}
