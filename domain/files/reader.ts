// Which files a user sees: files hold records, and records have permissions of their own.
import { type Fragment, failure, inReach, sql, type Tx } from '../kernel/index.ts'
import type { FileObject } from './file.ts'

/** The user or API key that asks for files. Null in place of one is a part of the system, which sees all. */
export interface FileReader {
  userId: string | null
  /** Whether the reader holds `file.object.read` here; without it only own files are visible. */
  anyFile: boolean
  /** Permissions to read records that the reader holds here: `erp.party_contact.read`. */
  permissions: readonly string[]
}

/** Tables of the records that files are attached to, with the scope of their rows. */
export const RECORD_SCOPES = {
  erp_party: 'organization',
  erp_product: 'organization',
  erp_product_variant: 'organization',
  erp_product_category: 'organization',
  erp_location: 'organization',
  erp_lot: 'organization',
  erp_purchase_order: 'workspace',
  erp_goods_receipt: 'workspace',
  erp_stock_transfer: 'workspace',
  erp_stock_count: 'workspace',
  erp_landed_cost: 'workspace',
} as const
export type Linkable = keyof typeof RECORD_SCOPES
export const LINKABLE = Object.keys(RECORD_SCOPES) as readonly Linkable[]
const [MASTER_DATA, DOCUMENTS] = (['organization', 'workspace'] as const).map((scope) =>
  LINKABLE.filter((entity) => RECORD_SCOPES[entity] === scope),
) as [Linkable[], Linkable[]]

/** Whether a file was uploaded in a scope that the unit of work reaches, or by this user. */
export const inReachOfFile = (tx: Tx, userId: string | null): Fragment =>
  sql.fragment`(${inReach(tx, sql.fragment`file_object.organization_id`, sql.fragment`file_object.workspace_id`)} or file_object.uploaded_by = ${userId}::uuid)`

/** Rows `l` of `file_link` whose record the unit of work reaches: master data, which the whole organization reads, and documents. */
export function linkInReach(tx: Tx): Fragment {
  if (!tx.reach) return sql.fragment`true`
  const documents = DOCUMENTS.map(
    (entity) => sql.fragment`l.entity = ${entity} and exists (
      select from ${sql.identifier([entity])} d where d.tenant_id = l.tenant_id and d.id = l.entity_id
        and ${inReach(tx, sql.fragment`d.organization_id`, sql.fragment`d.workspace_id`)})`,
  )
  return sql.fragment`(l.entity = any(${sql.array(MASTER_DATA, 'text')}) or ${sql.join(documents, sql.fragment` or `)})`
}

/** Whether a unit of work that reaches a part of the organization finds a file: uploaded there, or attached to a record there. */
const found = (tx: Tx, userId: string | null): Fragment => sql.fragment`(${inReachOfFile(tx, userId)} or exists (
  select from file_link l where l.tenant_id = ${tx.tenantId} and l.file_id = file_object.id and ${linkInReach(tx)}))`

/** The permission to read a record of a table: `erp_party` → `erp.party.read`. */
export const readPermissionOf = (entity: string): string => `${entity.replace('_', '.')}.read`

/**
 * Rows of `file_object` that a reader sees: files that have not expired, lie in the reach of the unit of work, and are the
 * reader's own or hold nothing that the reader has no permission to read.
 */
export const visibleTo = (tx: Tx, reader: FileReader | null): Fragment =>
  sql.and([
    sql.fragment`(expires_at is null or expires_at > ${tx.now.toISOString()})`,
    ...(reader ? [mayKnow(reader)] : []),
    ...(reader && tx.reach ? [found(tx, reader.userId)] : []),
  ])

const mayKnow = ({ userId, anyFile, permissions }: FileReader): Fragment =>
  sql.fragment`(uploaded_by = ${userId}::uuid or (${anyFile} and read_permissions <@ ${sql.array([...permissions], 'text')}))`

/** Whether a reader may know what is in a file, one that was deleted or has expired among them. */
export const mayKnowFile = (tx: Tx, id: string, reader: FileReader): Promise<boolean> =>
  tx.exists(sql.run`select 1 from file_object where tenant_id = ${tx.tenantId} and id = ${id} and ${mayKnow(reader)}`)

/**
 * Refuses the bytes of an export to users who may not read its records now, the one who asked for it among them. Throws
 * `permission_denied`.
 */
export function assertDownloadable({ origin, read_permissions }: FileObject, { permissions }: FileReader): void {
  const missing = origin === 'export' ? read_permissions.find((permission) => !permissions.includes(permission)) : undefined
  if (missing) throw failure('permission_denied', { permission: missing })
}
