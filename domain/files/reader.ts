// Which files a user sees: files hold records, and records have permissions of their own.
import { type Fragment, failure, sql, type Tx } from '../kernel/index.ts'
import type { FileObject } from './file.ts'

/** The user or API key that asks for files. Null in place of one is a part of the system, which sees all. */
export interface FileReader {
  userId: string | null
  /** Whether the reader holds `file.object.read` here; without it only own files are visible. */
  anyFile: boolean
  /** Permissions to read records that the reader holds here: `erp.party_contact.read`. */
  permissions: readonly string[]
}

/** The permission to read a record of a table: `erp_party` → `erp.party.read`. */
export const readPermissionOf = (entity: string): string => `${entity.replace('_', '.')}.read`

/**
 * Rows of `file_object` that a reader sees: files that have not expired, and are the reader's own or hold nothing that the
 * reader has no permission to read.
 */
export const visibleTo = (tx: Tx, reader: FileReader | null): Fragment =>
  sql.and([sql.fragment`(expires_at is null or expires_at > ${tx.now.toISOString()})`, ...(reader ? [mayKnow(reader)] : [])])

const mayKnow = ({ userId, anyFile, permissions }: FileReader): Fragment =>
  sql.fragment`(uploaded_by = ${userId} or (${anyFile} and read_permissions <@ ${sql.array([...permissions], 'text')}))`

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
