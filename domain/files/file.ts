// Files: what is known of them, and what they belong to.
import { type Static, Type } from 'typebox'
import {
  columns,
  failure,
  type ListSpec,
  newId,
  nullable,
  oneOf,
  type RowOf,
  row,
  scopeOf,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import type { Received } from './receive.ts'

export const FileObject = row('file_object', {
  name: Type.String({ minLength: 1, maxLength: 255 }),
  size: Type.Integer({ description: 'Bytes' }),
  sha256: Type.String(),
  media_type: Type.String({ description: 'What the bytes are, by themselves' }),
  scan: oneOf(['pending', 'clean', 'infected', 'unscanned'], { description: 'Only clean and unscanned ones are served' }),
  finding: nullable(Type.String()),
  width: nullable(Type.Integer()),
  height: nullable(Type.Integer()),
  uploaded_by: nullable(Uuid),
})
export type FileObject = RowOf<typeof FileObject>

export const FileLink = Type.Object(
  {
    id: Uuid,
    file_id: Uuid,
    entity: Type.String(),
    entity_id: Uuid,
    role: oneOf(['document', 'image']),
    created_by: nullable(Uuid),
    created_at: Timestamp,
  },
  { additionalProperties: false },
)
export type FileLink = Static<typeof FileLink>
export const FileDocument = Type.Object({ ...FileObject.schema.properties, links: Type.Array(FileLink) }, { additionalProperties: false })

/** Records that files belong to. */
export const LINKABLE = [
  'erp_party',
  'erp_product',
  'erp_product_variant',
  'erp_product_category',
  'erp_location',
  'erp_lot',
  'erp_purchase_order',
  'erp_goods_receipt',
  'erp_stock_transfer',
  'erp_stock_count',
  'erp_landed_cost',
] as const
export const NewLink = Type.Object(
  { entity: oneOf(LINKABLE), entity_id: Uuid, role: Type.Optional(oneOf(['document', 'image'], { default: 'document' })) },
  { additionalProperties: false },
)

export const fileList: ListSpec = {
  row: FileObject,
  filter: ['name', 'media_type', 'scan', 'sha256', 'created_at'],
  sort: ['created_at', 'name'],
}

/** Where the bytes of a file lie in the store: by tenant, so that a tenant's are removed together. */
export const keyOf = (tenantId: string, id: string): string => `${tenantId}/${id.slice(-2)}/${id}`

const linkColumns = sql.join(
  Object.keys(FileLink.properties).map((name) => sql.identifier([name])),
  sql.fragment`, `,
)

/** A file with what it belongs to. Throws `not_found`. */
export async function getFile(tx: Tx, id: string) {
  const found = await tx.maybeOne(sql.prepared(FileObject.schema)`
    select ${columns(FileObject)} from file_object where ${sql.and(scopeOf(tx, FileObject))} and id = ${id} and deleted_at is null`)
  if (!found) throw failure('not_found')
  const links = await tx.any(sql.prepared(FileLink)`
    select ${linkColumns} from file_link where tenant_id = ${tx.tenantId} and file_id = ${id} order by created_at, id`)
  return { ...(found as unknown as FileObject), links }
}

/** The files of a record, in the order in which they were attached. At most 500. */
export const filesOf = async (tx: Tx, entityId: string): Promise<readonly FileObject[]> =>
  (await tx.any(sql.prepared(FileObject.schema)`
    select ${columns(FileObject, 'f')} from file_link l join file_object f on f.tenant_id = l.tenant_id and f.id = l.file_id and f.deleted_at is null
    where l.tenant_id = ${tx.tenantId} and l.organization_id = ${tx.context.organizationId} and l.entity_id = ${entityId}
    order by l.created_at, l.id limit 500`)) as unknown as readonly FileObject[]

/** Notes a file whose bytes are in the store. Throws `plan_limit`, `invalid_reference`. */
export async function noteFile(
  tx: Tx,
  { id, name, scan, ...file }: { id: string; name: string; scan: 'pending' | 'unscanned' } & Omit<Received, 'file'>,
  link?: Static<typeof NewLink>,
) {
  if (!tx.context.organizationId) throw failure('context_required')
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    insert into file_object (id, tenant_id, organization_id, name, size, sha256, media_type, scan, width, height, uploaded_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${name}, ${file.size}, ${file.sha256}, ${file.mediaType}, ${scan}, ${file.width}, ${file.height}, ${tx.actor.userId}, ${now}, ${now})`)
  if (link) await linkFile(tx, id, link)
  const made = await getFile(tx, id)
  tx.emit({ type: 'file.object.created', entity_id: id, version: 1, data: made })
  return made
}

/** Notes what the scanner said of a file in quarantine. */
export async function noteVerdict(tx: Tx, id: string, { clean, finding }: { clean: boolean; finding: string | null }) {
  const scan = clean ? 'clean' : 'infected'
  const { rowCount } = await tx.query(sql.run`
    update file_object set scan = ${scan}, finding = ${finding}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and scan = 'pending' and deleted_at is null`)
  const file = await getFile(tx, id)
  if (rowCount > 0) tx.emit({ type: `file.object.${scan}`, entity_id: id, version: file.version, data: { sha256: file.sha256, finding } })
  return file
}

/** Attaches a file to a record of this organization; twice is once. Throws `not_found`, `invalid_reference`. */
export async function linkFile(
  tx: Tx,
  fileId: string,
  { entity, entity_id, role = 'document' }: Static<typeof NewLink>,
): Promise<FileLink> {
  await tx.query(
    sql.run`select 1 from file_object where ${sql.and(scopeOf(tx, FileObject))} and id = ${fileId} and deleted_at is null for key share`,
  )
  await getFile(tx, fileId)
  const there = await tx.exists(sql.run`
    select 1 from ${sql.identifier([entity])} where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and id = ${entity_id} and deleted_at is null`)
  if (!there) throw failure('invalid_reference', { path: 'entity_id', ids: [entity_id] })
  return tx.one(sql.prepared(FileLink)`
    insert into file_link (id, tenant_id, organization_id, file_id, entity, entity_id, role, created_by, created_at)
    values (${newId()}, ${tx.tenantId}, ${tx.context.organizationId}, ${fileId}, ${entity}, ${entity_id}, ${role}, ${tx.actor.userId}, ${tx.now.toISOString()})
    on conflict (tenant_id, entity_id, file_id) do update set role = excluded.role
    returning ${linkColumns}`)
}

/** Detaches a file from a record. Throws `not_found`. */
export async function unlinkFile(tx: Tx, fileId: string, linkId: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    delete from file_link where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and file_id = ${fileId} and id = ${linkId}`)
  if (rowCount === 0) throw failure('not_found')
}

/** Deletes a file and detaches it from everything; its bytes are removed by whoever has the store. Throws `not_found`, `version_conflict`. */
export async function deleteFile(tx: Tx, id: string, version: number): Promise<void> {
  const { rowCount } = await tx.query(sql.run`
    update file_object set deleted_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where ${sql.and(scopeOf(tx, FileObject))} and id = ${id} and version = ${version} and deleted_at is null`)
  if (rowCount === 0) throw failure('version_conflict', { current: await getFile(tx, id) })
  await tx.query(sql.run`delete from file_link where tenant_id = ${tx.tenantId} and file_id = ${id}`)
  tx.emit({ type: 'file.object.deleted', entity_id: id, version: version + 1, data: {} })
}
