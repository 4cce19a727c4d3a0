import { type Static, Type } from 'typebox'
import { Code, failure, lockAlone, Name, nullable, oneOf, resource, row, sql, type Tx, Uuid } from '../../kernel/index.ts'

export const LOCATION_KINDS = ['internal', 'supplier', 'client', 'production', 'loss', 'transit'] as const

/** Where things are. internal and transit hold stock; the other kinds are the far side of a double entry. */
export const Location = row(
  'erp_location',
  {
    code: Code,
    name: Name,
    kind: oneOf(LOCATION_KINDS, { default: 'internal' }),
    level: oneOf(['site', 'area', 'bin'], { default: 'area' }),
    parent_id: nullable(Uuid),
    allow_negative: Type.Boolean({ default: false }),
  },
  { custom: true },
)

/** A transfer that still needs both of its places: what is called off goes back. */
const ON_THE_WAY = sql.fragment`status in ('draft', 'shipped', 'partially_received')`

export const locations = resource(Location, {
  module: 'erp.inventory',
  permission: 'erp.location',
  filter: ['code', 'kind', 'parent_id', 'created_at'],
  sort: ['code', 'name', 'created_at'],
  references: { parent_id: () => Location },
  tree: 'parent_id',
  usedBy: [
    { table: 'erp_location', column: 'parent_id' },
    { table: 'erp_stock_quant', column: 'location_id', while: sql.fragment`quantity <> 0` },
    { table: 'erp_reorder_rule', column: 'location_id' },
    { table: 'erp_stock_transfer', column: 'from_location_id', while: ON_THE_WAY },
    { table: 'erp_stock_transfer', column: 'to_location_id', while: ON_THE_WAY },
    { table: 'erp_stock_count', column: 'location_id', while: sql.fragment`status in ('counting', 'submitted', 'approved')` },
  ],
  check: keepsItsKind,
})

/**
 * What a place is to the ledger does not change once something was moved: the value of stock follows from it. The place is
 * held alone; whoever is about to move something shares it, so one of the two sees the other. Throws `in_use`.
 */
async function keepsItsKind(tx: Tx, [after]: readonly Record<string, unknown>[], before?: Record<string, unknown>): Promise<void> {
  if (!before || before.kind === after!.kind) return
  const id = String(before.id)
  await lockAlone(tx, Location, id)
  const moved = await tx.exists(sql.run`select 1 from erp_stock_quant where tenant_id = ${tx.tenantId} and location_id = ${id}`)
  if (moved) throw failure('in_use', { columns: ['kind'], by: [{ entity: 'erp_stock_move' }] })
}

const Found = Type.Object({ id: Uuid, kind: oneOf(LOCATION_KINDS), allow_negative: Type.Boolean() }, { additionalProperties: false })
/** A location that holds stock. */
export type StockPlace = Pick<Static<typeof Found>, 'id' | 'allow_negative'>

/** The organization's location of a virtual kind, made at first need. The unique code makes a race harmless. */
export async function virtualLocation(tx: Tx, kind: Exclude<(typeof LOCATION_KINDS)[number], 'internal'>): Promise<string> {
  const code = `VIRTUAL-${kind.toUpperCase()}`
  const find = () =>
    tx.maybeOne(sql.prepared(Found)`
    select id, kind, allow_negative from erp_location
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and code = ${code} and deleted_at is null for key share`)
  const known = await find()
  if (known) return known.id
  await tx.query(sql.run`
    insert into erp_location (id, tenant_id, organization_id, code, name, kind, level)
    values (gen_random_uuid(), ${tx.tenantId}, ${tx.context.organizationId}, ${code}, ${`Virtual ${kind} location`}, ${kind}, 'site')
    on conflict do nothing`)
  return (await find())!.id
}

/** Refuses with `invalid_reference` a location that cannot hold stock. It is shared until the transaction ends. */
export async function requireStockLocation(tx: Tx, id: string, path: string): Promise<StockPlace> {
  const found = await tx.maybeOne(sql.prepared(Found)`
    select id, kind, allow_negative from erp_location
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and id = ${id} and deleted_at is null for key share`)
  if (!found || (found.kind !== 'internal' && found.kind !== 'transit')) throw failure('invalid_reference', { path, ids: [id] })
  return found
}
