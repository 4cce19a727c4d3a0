// Records into a file, by a worker: a list as it is filtered and sorted, whole.
import { type Static, Type } from 'typebox'
import {
  columns,
  type Fragment,
  failure,
  type ListSpec,
  newId,
  nullable,
  oneOf,
  parseListQuery,
  type RowOf,
  row,
  scopeOf,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { EXCHANGED, exchanged } from './entities.ts'
import { askWorker } from './job.ts'

export const Export = row(
  'erp_export',
  {
    entity: oneOf(EXCHANGED),
    format: oneOf(['csv', 'xlsx']),
    query: Type.Record(Type.String({ maxLength: 100 }), Type.String({ maxLength: 2000 }), { default: {} }),
    status: oneOf(['queued', 'done', 'failed']),
    file_id: nullable(Uuid),
    records: nullable(Type.Integer()),
    failure: nullable(Type.Object({}, { additionalProperties: true })),
    requested_by: nullable(Uuid),
    expires_at: nullable({ ...Timestamp, description: 'When its file is removed: a week after it was written, by default' }),
  },
  { scope: 'workspace' },
)
export type Export = RowOf<typeof Export>
export const exportList: ListSpec = { row: Export, filter: ['status', 'created_at'], sort: ['created_at'] }

export const NewExport = Type.Object(
  {
    entity: oneOf(EXCHANGED),
    format: Type.Optional(oneOf(['csv', 'xlsx'], { default: 'csv' })),
    query: Type.Optional(
      Type.Record(Type.String({ maxLength: 100 }), Type.String({ maxLength: 2000 }), {
        description: 'Filters, sort and q, as the list of the entity takes them',
        examples: [{ active: 'true', sort: 'code' }],
      }),
    ),
  },
  { additionalProperties: false },
)

/** The user who looks at exports, and the permissions to read records that are held here. */
export interface ExportReader {
  userId: string | null
  permissions: readonly string[]
}

/** The permission to read the records of an exported entity. */
export const exportPermission = (entity: string): string => `${exchanged(entity).permission}.read`

/** Exports that a reader sees: own ones, and those of entities that the reader may read. */
export const visibleExports = ({ userId, permissions }: ExportReader): Fragment => {
  const entities = EXCHANGED.filter((entity) => permissions.includes(exportPermission(entity)))
  return sql.fragment`(requested_by = ${userId}::uuid or entity = any(${sql.array(entities, 'text')}))`
}

/** Records that a workbook may have: it is put together in memory, and CSV is not. */
export const MOST_IN_WORKBOOK = 100_000

/** Asks for a list as a file; a worker makes it. Throws `invalid_query`. */
export async function startExport(tx: Tx, { entity, format = 'csv', query = {} }: Static<typeof NewExport>): Promise<Export> {
  parseListQuery(exchanged(entity).spec, query)
  const id = newId()
  const now = tx.now.toISOString()
  const made = (await tx.one(sql.prepared(Export.schema)`
    insert into erp_export (id, tenant_id, organization_id, workspace_id, entity, format, query, requested_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${entity}, ${format}, ${sql.jsonb(query)}, ${tx.actor.userId}, ${now}, ${now})
    returning ${columns(Export)}`)) as unknown as Export
  askWorker(tx, 'data-export', made)
  return made
}

/** @param reader null for a part of the system. Throws `not_found`. */
export async function getExport(tx: Tx, id: string, reader: ExportReader | null): Promise<Export> {
  const found = await tx.maybeOne(sql.prepared(Export.schema)`
    select ${columns(Export)} from erp_export
    where ${sql.and([...scopeOf(tx, Export), ...(reader ? [visibleExports(reader)] : [])])} and id = ${id} and deleted_at is null`)
  if (!found) throw failure('not_found')
  return found as unknown as Export
}

/** Notes what became of an export. False where it has an outcome already: then the file that was written is not its file. */
export async function noteExported(
  tx: Tx,
  id: string,
  outcome: { file_id: string; records: number; expires_at: Date } | { failure: Record<string, unknown> },
): Promise<boolean> {
  const file = 'file_id' in outcome ? outcome : null
  const reason = 'failure' in outcome ? sql.jsonb(outcome.failure as never) : null
  const done = (await tx.maybeOne(sql.prepared(Export.schema)`
    update erp_export set status = ${file ? 'done' : 'failed'}, file_id = ${file?.file_id ?? null}, records = ${file?.records ?? null},
      expires_at = ${file?.expires_at.toISOString() ?? null}, failure = ${reason}, version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and status = 'queued' returning ${columns(Export)}`)) as Export | null
  if (!done) return false
  // Filters may name a person; events go to more readers than the export.
  const { query: _, ...data } = done
  tx.emit({ type: `erp.export.${done.status}`, entity_id: id, version: done.version, data })
  return true
}
