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

const Found = Type.Object(
  { id: Uuid, code: Type.String(), kind: oneOf(LOCATION_KINDS), allow_negative: Type.Boolean() },
  { additionalProperties: false },
)
type Found = Static<typeof Found>
/** A location that holds stock. */
export type StockPlace = Pick<Found, 'id' | 'allow_negative'>
type VirtualKind = Exclude<(typeof LOCATION_KINDS)[number], 'internal'>

/** The organization's locations of this id and this code. They are shared until the transaction ends. */
const placesOf = (tx: Tx, id: string | null, code: string | null): Promise<readonly Found[]> =>
  tx.any(sql.prepared(Found)`
    select id, code, kind, allow_negative from erp_location
    where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and deleted_at is null and (id = ${id} or code = ${code})
    for key share`)

const virtualCode = (kind: VirtualKind): string => `VIRTUAL-${kind.toUpperCase()}`

/** Made at first need. The unique code makes a race harmless. */
async function makeVirtual(tx: Tx, kind: VirtualKind): Promise<string> {
  const code = virtualCode(kind)
  await tx.query(sql.run`
    insert into erp_location (id, tenant_id, organization_id, code, name, kind, level)
    values (gen_random_uuid(), ${tx.tenantId}, ${tx.context.organizationId}, ${code}, ${`Virtual ${kind} location`}, ${kind}, 'site')
    on conflict do nothing`)
  return (await placesOf(tx, null, code))[0]!.id
}

function holdsStock(found: Found | undefined, id: string, path: string): StockPlace {
  if (found?.kind !== 'internal' && found?.kind !== 'transit') throw failure('invalid_reference', { path, ids: [id] })
  return found
}

/** The organization's location of a virtual kind. */
export const virtualLocation = async (tx: Tx, kind: VirtualKind): Promise<string> =>
  (await placesOf(tx, null, virtualCode(kind)))[0]?.id ?? makeVirtual(tx, kind)

/** Refuses with `invalid_reference` a location that cannot hold stock. */
export const requireStockLocation = async (tx: Tx, id: string, path: string): Promise<StockPlace> =>
  holdsStock((await placesOf(tx, id, null))[0], id, path)

/** A location that holds stock and the organization's one of a virtual kind, in one look. Throws `invalid_reference`. */
export async function stockLocationAnd(tx: Tx, id: string, path: string, kind: VirtualKind): Promise<[StockPlace, string]> {
  const code = virtualCode(kind)
  const found = await placesOf(tx, id, code)
  const place = holdsStock(
    found.find((one) => one.id === id),
    id,
    path,
  )
  return [place, found.find((one) => one.code === code)?.id ?? (await makeVirtual(tx, kind))]
}
