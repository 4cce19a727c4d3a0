// Records into a file, by a worker: a list as it is filtered and sorted, whole.
import { type Static, Type } from 'typebox'
import {
  columns,
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

/** Throws `not_found`. */
export async function getExport(tx: Tx, id: string): Promise<Export> {
  const found = await tx.maybeOne(sql.prepared(Export.schema)`
    select ${columns(Export)} from erp_export where ${sql.and(scopeOf(tx, Export))} and id = ${id} and deleted_at is null`)
  if (!found) throw failure('not_found')
  return found as unknown as Export
}

/** Notes what became of an export. */
export async function noteExported(
  tx: Tx,
  id: string,
  outcome: { file_id: string; records: number } | { failure: Record<string, unknown> },
): Promise<void> {
  const { file_id = null, records = null, failure: reason = null } = outcome as { file_id?: string; records?: number; failure?: object }
  const done = (await tx.maybeOne(sql.prepared(Export.schema)`
    update erp_export set status = ${reason ? 'failed' : 'done'}, file_id = ${file_id}, records = ${records}, failure = ${reason ? sql.jsonb(reason as never) : null},
      version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and status = 'queued' returning ${columns(Export)}`)) as Export | null
  if (done) tx.emit({ type: `erp.export.${done.status}`, entity_id: id, version: done.version, data: done })
}
