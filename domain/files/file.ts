// Files: what is known of them, and what they belong to.
import { type Static, Type } from 'typebox'
import {
  columns,
  type Failure,
  failure,
  type ListQuery,
  type ListSpec,
  listRows,
  newId,
  nullable,
  oneOf,
  type Page,
  type RowOf,
  row,
  scopeOf,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { type FileReader, inReachOfFile, LINKABLE, linkInReach, RECORD_SCOPES, readPermissionOf, visibleTo } from './reader.ts'
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
  workspace_id: nullable({ ...Uuid, description: 'Where it was uploaded; null for the organization as such' }),
  uploaded_by: nullable({ ...Uuid, description: 'Of an export the user who asked for it' }),
  origin: oneOf(['upload', 'export']),
  sealed: Type.Boolean({ description: 'Whether its bytes are encrypted in the store' }),
  read_permissions: Type.Array(Type.String(), { description: 'Needed to see the file, except by the user who uploaded it' }),
  expires_at: nullable({ ...Timestamp, description: 'When the file is removed; null for files that stay' }),
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

export const RecordName = Type.Object({ entity: oneOf(LINKABLE), entity_id: Uuid }, { additionalProperties: false })
export type RecordName = Static<typeof RecordName>
export const NewLink = Type.Object(
  { ...RecordName.properties, role: Type.Optional(oneOf(['document', 'image'], { default: 'document' })) },
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

/** A file with the records that it is attached to, as far as the reader may read them. Throws `not_found`. */
export async function getFile(tx: Tx, id: string, reader: FileReader | null) {
  const file = (await tx.maybeOne(sql.prepared(FileObject.schema)`
    select ${columns(FileObject)} from file_object
    where ${sql.and(scopeOf(tx, FileObject))} and id = ${id} and deleted_at is null and ${visibleTo(tx, reader)}`)) as FileObject | null
  if (!file) throw failure('not_found')
  const links = await tx.any(sql.prepared(FileLink)`
    select ${linkColumns} from file_link l where tenant_id = ${tx.tenantId} and file_id = ${id} and ${linkInReach(tx)} order by created_at, id`)
  return { ...file, links: links.filter(({ entity }) => !reader || reader.permissions.includes(readPermissionOf(entity))) }
}

/** A page of the files that a reader sees. */
export const listFiles = (tx: Tx, query: ListQuery, reader: FileReader): Promise<Page<FileObject>> =>
  listRows<FileObject>(tx, fileList, query, [visibleTo(tx, reader)])

/** Refuses a record that is not in this organization, or in no workspace that the unit of work reaches. */
async function assertRecord(tx: Tx, { entity, entity_id }: RecordName, refusal: () => Failure): Promise<void> {
  const exists = await tx.exists(sql.run`
    select 1 from ${sql.identifier([entity])}
    where ${sql.and(scopeOf(tx, { table: entity, scope: RECORD_SCOPES[entity], within: undefined }))} and id = ${entity_id} and deleted_at is null`)
  if (!exists) throw refusal()
}

/**
 * Refuses with `permission_denied` to attach files to master data, or detach them, where the unit of work reaches no more than
 * workspaces of the organization.
 */
function assertMayAttach({ reach, context }: Tx, entity: RecordName['entity']): void {
  if (reach && RECORD_SCOPES[entity] === 'organization' && !reach.organizations.includes(context.organizationId!))
    throw failure('permission_denied', {
      permission: 'file.object.link',
      scope: { organization_id: context.organizationId, workspace_id: null },
    })
}

/** The files of a record that a reader sees, in the order in which they were attached. At most 500. Throws `not_found`. */
export async function filesOf(tx: Tx, record: RecordName, reader: FileReader): Promise<readonly FileObject[]> {
  await assertRecord(tx, record, () => failure('not_found'))
  return (await tx.any(sql.prepared(FileObject.schema)`
    select ${columns(FileObject, 'f')}
    from file_link l
    join (select * from file_object where tenant_id = ${tx.tenantId} and deleted_at is null and ${visibleTo(tx, reader)}) f on f.id = l.file_id
    where l.tenant_id = ${tx.tenantId} and l.organization_id = ${tx.context.organizationId} and l.entity_id = ${record.entity_id}
      and l.entity = ${record.entity}
    order by l.created_at, l.id limit 500`)) as unknown as readonly FileObject[]
}

/** Properties of an export's file beyond an upload's; its bytes are sealed. */
export interface ExportedFile {
  read_permissions: readonly string[]
  expires_at: Date
}

/** Notes a file whose bytes are in the store. Throws `plan_limit`, `invalid_reference`. */
export async function noteFile(
  tx: Tx,
  { id, name, scan, ...file }: { id: string; name: string; scan: 'pending' | 'unscanned' } & Omit<Received, 'file'>,
  { link, exported }: { link?: Static<typeof NewLink>; exported?: ExportedFile } = {},
) {
  if (!tx.context.organizationId) throw failure('context_required')
  const now = tx.now.toISOString()
  await tx.query(sql.run`
    insert into file_object (id, tenant_id, organization_id, workspace_id, name, size, sha256, media_type, scan, width, height, uploaded_by, origin, sealed, read_permissions, expires_at, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${name}, ${file.size}, ${file.sha256}, ${file.mediaType}, ${scan}, ${file.width}, ${file.height}, ${tx.actor.userId},
      ${exported ? 'export' : 'upload'}, ${exported !== undefined}, ${sql.array([...(exported?.read_permissions ?? [])], 'text')}, ${exported?.expires_at.toISOString() ?? null}, ${now}, ${now})`)
  if (link) await linkFile(tx, id, link, null)
  const made = await getFile(tx, id, null)
  tx.emit({ type: 'file.object.created', entity_id: id, version: 1, data: made })
  return made
}

/** Notes what the scanner said of a file in quarantine. */
export async function noteVerdict(tx: Tx, id: string, { clean, finding }: { clean: boolean; finding: string | null }) {
  const scan = clean ? 'clean' : 'infected'
  const { rowCount } = await tx.query(sql.run`
    update file_object set scan = ${scan}, finding = ${finding}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and scan = 'pending' and deleted_at is null`)
  const file = await getFile(tx, id, null)
  if (rowCount > 0) tx.emit({ type: `file.object.${scan}`, entity_id: id, version: file.version, data: { sha256: file.sha256, finding } })
  return file
}

/** Attaches a file to a record of this organization; twice is once. Throws `not_found`, `invalid_reference`. */
export async function linkFile(
  tx: Tx,
  fileId: string,
  { entity, entity_id, role = 'document' }: Static<typeof NewLink>,
  reader: FileReader | null,
): Promise<FileLink> {
  assertMayAttach(tx, entity)
  await tx.query(
    sql.run`select 1 from file_object where ${sql.and(scopeOf(tx, FileObject))} and id = ${fileId} and deleted_at is null for key share`,
  )
  await getFile(tx, fileId, reader)
  await assertRecord(tx, { entity, entity_id }, () => failure('invalid_reference', { path: 'entity_id', ids: [entity_id] }))
  return tx.one(sql.prepared(FileLink)`
    insert into file_link (id, tenant_id, organization_id, file_id, entity, entity_id, role, created_by, created_at)
    values (${newId()}, ${tx.tenantId}, ${tx.context.organizationId}, ${fileId}, ${entity}, ${entity_id}, ${role}, ${tx.actor.userId}, ${tx.now.toISOString()})
    on conflict (tenant_id, entity_id, file_id) do update set role = excluded.role
    returning ${linkColumns}`)
}

/** Detaches a file from a record that the reader may read. Throws `not_found`. */
export async function unlinkFile(tx: Tx, fileId: string, linkId: string, reader: FileReader): Promise<void> {
  const { links } = await getFile(tx, fileId, reader)
  const link = links.find(({ id }) => id === linkId)
  if (!link) throw failure('not_found')
  assertMayAttach(tx, link.entity as RecordName['entity'])
  const { rowCount } = await tx.query(sql.run`
    delete from file_link where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and file_id = ${fileId} and id = ${linkId}`)
  if (rowCount === 0) throw failure('not_found')
}

/**
 * Deletes a file and detaches it from everything; the caller removes its bytes from the store. A unit of work that reaches
 * only workspaces deletes what was uploaded there or by its user. Throws `permission_denied`, `version_conflict`.
 */
export async function deleteFile(tx: Tx, id: string, version: number, userId: string | null): Promise<void> {
  const own = await tx.exists(
    sql.run`select 1 from file_object where ${sql.and(scopeOf(tx, FileObject))} and id = ${id} and ${inReachOfFile(tx, userId)}`,
  )
  if (!own) throw failure('permission_denied', { permission: 'file.object.delete' })
  const { rowCount } = await tx.query(sql.run`
    update file_object set deleted_at = ${tx.now.toISOString()}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where ${sql.and(scopeOf(tx, FileObject))} and id = ${id} and version = ${version} and deleted_at is null`)
  if (rowCount === 0) throw failure('version_conflict', { current: await getFile(tx, id, null) })
  await tx.query(sql.run`delete from file_link where tenant_id = ${tx.tenantId} and file_id = ${id}`)
  tx.emit({ type: 'file.object.deleted', entity_id: id, version: version + 1, data: {} })
}

const Expired = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Files of the tenant whose time is over, of every organization; at most `limit`. */
export const expiredFiles = async (tx: Tx, limit: number): Promise<string[]> =>
  (
    await tx.any(sql.prepared(Expired)`
      select id from file_object where tenant_id = ${tx.tenantId} and expires_at <= ${tx.now.toISOString()} and deleted_at is null
      order by expires_at limit ${limit}`)
  ).map(({ id }) => id)

/** Notes that an expired file has no bytes any more; a file that is deleted already stays as it is. */
export async function noteExpired(tx: Tx, id: string): Promise<void> {
  const now = tx.now.toISOString()
  const { rowCount } = await tx.query(sql.run`
    update file_object set deleted_at = ${now}, version = version + 1, updated_at = ${now}
    where tenant_id = ${tx.tenantId} and id = ${id} and expires_at <= ${now} and deleted_at is null`)
  if (rowCount > 0) await tx.query(sql.run`delete from file_link where tenant_id = ${tx.tenantId} and file_id = ${id}`)
}

/** Notes that reading a file takes these permissions, too: it is the source of an import of such records. */
export async function restrictFile(tx: Tx, id: string, permission: string): Promise<void> {
  await tx.query(sql.run`
    update file_object set read_permissions = array_append(read_permissions, ${permission}), updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and not read_permissions @> ${sql.array([permission], 'text')}`)
}
