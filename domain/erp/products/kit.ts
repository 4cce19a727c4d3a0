// Kits: products that are put together from others.
import { Type } from 'typebox'
import { failure, oneAtATime, PositiveQuantity, Quantity, resource, row, sql, type Tx, Uuid } from '../../kernel/index.ts'
import { Product } from './product.ts'

/** What a kit is put together from: so much of a component, in its base unit, for one of the kit. */
export const ProductComponent = row('erp_product_component', { kit_id: Uuid, component_id: Uuid, quantity: PositiveQuantity })

export const productComponents = resource(ProductComponent, {
  module: 'erp.products',
  permission: 'erp.product_component',
  filter: ['kit_id', 'component_id', 'created_at'],
  sort: ['created_at'],
  references: { kit_id: () => Product, component_id: () => Product },
  check: makesSense,
})

const Ring = Type.Object({ no_kit: Type.Array(Type.String()), ring: Type.Boolean() }, { additionalProperties: false })

/**
 * A kit is a product of that kind, and is not in itself, over however many kits. Kits of a tenant are changed one after
 * the other, by an advisory lock: two changes that are right alone could close a ring together. Throws `invalid_value`.
 */
async function makesSense(tx: Tx, rows: readonly Record<string, unknown>[], before?: Record<string, unknown>): Promise<void> {
  await oneAtATime(tx, `kits ${tx.tenantId}`)
  const { organizationId: organization } = tx.context
  const wanted = rows.map((row) => [row.kit_id, row.component_id] as string[])
  const id = (before?.id as string | undefined) ?? null
  const { no_kit, ring } = await tx.one(sql.prepared(Ring)`
    with recursive wanted as (
      select kit_id, component_id from ${sql.unnest(wanted, ['uuid', 'uuid'])} as w (kit_id, component_id)
    ), parts as (
      select kit_id, component_id from wanted
      union all
      select kit_id, component_id from erp_product_component
      where tenant_id = ${tx.tenantId} and organization_id = ${organization} and deleted_at is null and id is distinct from ${id}::uuid
    ), below as (
      select kit_id as top, component_id as part from wanted
      union
      select b.top, p.component_id from below b join parts p on p.kit_id = b.part
    )
    select array(select distinct w.kit_id::text from wanted w
        where not exists (select from erp_product p where p.tenant_id = ${tx.tenantId} and p.id = w.kit_id and p.kind = 'kit')) as no_kit,
      exists (select from below where top = part) as ring`)
  if (no_kit.length > 0)
    throw failure('invalid_value', { path: '/kit_id', rule: 'kit', ids: no_kit, message: 'is no product of the kind kit' })
  if (ring) throw failure('invalid_value', { path: '/component_id', rule: 'acyclic', message: 'would put the kit into itself' })
}

const Part = Type.Object(
  { product_id: Uuid, quantity: Quantity, kind: Type.String(), exact: Type.Boolean() },
  { additionalProperties: false },
)

/**
 * What so many of a kit (base unit) are put together from, over kits in kits, each stocked product once, in the order of
 * their ids; services in it are not moved. Throws `invalid_value` for a kit without parts, and where a part's quantity
 * does not come out exact to six decimals.
 */
export async function explodeKit(tx: Tx, kitId: string, quantity: string): Promise<{ product_id: string; quantity: string }[]> {
  const parts = await tx.any(sql.prepared(Part)`
    with recursive parts as (
      select ${kitId}::uuid as id, ${quantity}::numeric as quantity
      union all
      select c.component_id, p.quantity * c.quantity from parts p join erp_product_component c
        on c.tenant_id = ${tx.tenantId} and c.organization_id = ${tx.context.organizationId} and c.kit_id = p.id and c.deleted_at is null
    )
    select s.product_id, s.quantity::numeric(19, 6) as quantity, r.kind, scale(trim_scale(s.quantity)) <= 6 as exact
    from (select id as product_id, sum(quantity) as quantity from parts group by id) as s
    join erp_product r on r.tenant_id = ${tx.tenantId} and r.id = s.product_id and r.kind <> 'kit'
    order by s.product_id for key share of r`)
  const stocked = parts.filter(({ kind }) => kind === 'stocked')
  if (stocked.length === 0) throw failure('invalid_value', { path: 'product_id', rule: 'kit_parts' }, 'This kit has no stocked parts.')
  if (stocked.some(({ exact }) => !exact))
    throw failure('invalid_value', { path: 'quantity', rule: 'exact_conversion' }, 'The parts of so many kits do not come out exactly.')
  return stocked.map(({ product_id, quantity }) => ({ product_id, quantity }))
}
