import { Type } from 'typebox'
import { DateOnly, failure, newId, nullable, resource, row, sql, type Tx, Uuid } from '../../kernel/index.ts'
import { Product } from '../products/index.ts'

/** A lot of a product: what came or was made together. */
export const Lot = row(
  'erp_lot',
  {
    product_id: Uuid,
    code: Type.String({ minLength: 1, maxLength: 64 }),
    supplier_lot: nullable(Type.String({ maxLength: 64 })),
    expires_on: nullable(DateOnly),
  },
  { custom: true },
)

export const lots = resource(Lot, {
  module: 'erp.inventory',
  permission: 'erp.lot',
  filter: ['product_id', 'code', 'expires_on', 'created_at'],
  sort: ['created_at'],
  references: { product_id: () => Product },
})

const Found = Type.Object({ id: Uuid, product_id: Uuid }, { additionalProperties: false })

/**
 * Refuses what comes without its lot where the product is tracked by lot, with one where it is not (`invalid_value`), and
 * a lot that is not there or is of another product (`invalid_reference`). One query for all lines that name one.
 */
export async function requireLots(
  tx: Tx,
  lines: readonly { product_id: string; lot_id: string | null; lot_tracked: boolean; path: string }[],
): Promise<void> {
  for (const { lot_id, lot_tracked, path } of lines)
    if (lot_tracked !== (lot_id !== null)) throw failure('invalid_value', { path, rule: lot_tracked ? 'lot_needed' : 'no_lot' })
  const named = lines.filter(({ lot_id }) => lot_id !== null)
  if (named.length === 0) return
  const found = await tx.any(sql.prepared(Found)`
    select id, product_id from erp_lot
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and deleted_at is null and id = any(${sql.array(
      named.map(({ lot_id }) => lot_id!),
      'uuid',
    )})`)
  const productOf = new Map(found.map(({ id, product_id }) => [id, product_id]))
  for (const { product_id, lot_id, path } of named)
    if (productOf.get(lot_id!) !== product_id) throw failure('invalid_reference', { path, ids: [lot_id] })
}

const Known = Type.Object({ id: Uuid, product_id: Uuid, code: Type.String() }, { additionalProperties: false })

export interface WantedLot {
  product_id: string
  code: string
  expires_on: string | null
}

/** The ids of lots by product and code, made where they are new. The unique index makes two receipts of one lot agree. */
export async function ensureLots(tx: Tx, wanted: readonly WantedLot[]): Promise<Map<string, string>> {
  if (wanted.length === 0) return new Map()
  const rows = wanted.map((lot) => [newId(), lot.product_id, lot.code, lot.expires_on])
  await tx.query(sql.run`
    insert into erp_lot (id, tenant_id, organization_id, product_id, code, expires_on)
    select w.id, ${tx.tenantId}, ${tx.context.organizationId}, w.product_id, w.code, w.expires_on
    from ${sql.unnest(rows, ['uuid', 'uuid', 'text', 'date'])} as w (id, product_id, code, expires_on)
    order by w.product_id, w.code
    on conflict do nothing`)
  const known = await tx.any(sql.prepared(Known)`
    select l.id, l.product_id, l.code from erp_lot l
    join ${sql.unnest(
      rows.map(([, product, code]) => [product!, code!]),
      ['uuid', 'text'],
    )} as w (product_id, code) on w.product_id = l.product_id and w.code = l.code
    where l.tenant_id = ${tx.tenantId} and l.organization_id = ${tx.context.organizationId} and l.deleted_at is null`)
  return new Map(known.map((lot) => [`${lot.product_id} ${lot.code}`, lot.id]))
}
