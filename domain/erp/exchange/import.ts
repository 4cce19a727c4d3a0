// Records from a file: read and looked at first, then all of them or none.
import { type Static, Type } from 'typebox'
import { ENCODINGS, type FileReader, getFile, mayKnowFile, restrictFile } from '../../files/index.ts'
import {
  columns,
  failure,
  type ListSpec,
  lifecycle,
  newId,
  nullable,
  oneAtATime,
  oneOf,
  type RowOf,
  row,
  scopeOf,
  sql,
  type Tx,
  Uuid,
} from '../../kernel/index.ts'
import { EXCHANGED, exchanged } from './entities.ts'
import { askWorker } from './job.ts'
import { hasCodes, type Mapping, MODES, type ReadLine } from './lines.ts'

const MappingSchema = Type.Record(Type.String({ maxLength: 200 }), Type.String({ maxLength: 60 }), {
  maxProperties: 200,
  description: 'Column of the file → property of the record, `custom.<code>` for a company’s own field',
  examples: [{ 'Item no.': 'code', Description: 'name', Unit: 'uom_id' }],
})

const MODE = {
  default: 'create',
  description:
    'Whether its lines make records, change those that are there, or either: found by their code. A cell that is empty changes nothing. ' +
    'Who has changed one since the file was read is not overwritten: then nothing is taken',
} as const

export const Import = row(
  'erp_import',
  {
    entity: oneOf(EXCHANGED),
    mode: oneOf(MODES, MODE),
    status: oneOf(['reading', 'ready', 'applying', 'done', 'failed', 'cancelled']),
    file_id: Uuid,
    encoding: oneOf(ENCODINGS, { default: 'utf-8' }),
    columns: Type.Array(Type.String(), { default: [] }),
    mapping: MappingSchema,
    lines: Type.Integer({ description: 'Read so far' }),
    wrong: Type.Integer({ description: 'Of these, with errors: GET /erp/imports/{id}/errors' }),
    taken: Type.Integer({ description: 'Records made or changed so far; they are so when the import is done' }),
    failure: nullable(Type.Object({}, { additionalProperties: true })),
    requested_by: nullable(Uuid),
  },
  { scope: 'workspace', derived: ['status', 'columns', 'lines', 'wrong', 'taken', 'failure', 'requested_by'] },
)
export type Import = RowOf<typeof Import>

export const importList: ListSpec = { row: Import, filter: ['status', 'entity', 'created_at'], sort: ['created_at'] }
export const NewImport = Type.Object(
  {
    entity: oneOf(EXCHANGED),
    file_id: Uuid,
    mode: Type.Optional(oneOf(MODES, MODE)),
    encoding: Type.Optional(oneOf(ENCODINGS, { default: 'utf-8', description: 'Of a CSV file' })),
    mapping: Type.Optional(MappingSchema),
  },
  { additionalProperties: false },
)
export const ImportError = Type.Object(
  {
    line: Type.Integer({ description: 'The heading is line 1' }),
    errors: Type.Array(Type.Object({ column: Type.String(), rule: Type.String(), message: Type.String() })),
  },
  { additionalProperties: false },
)
export const ImportPreview = Type.Object(
  {
    line: Type.Integer(),
    record_id: nullable({ ...Uuid, description: 'The record that it changes; null where it makes one' }),
    record: Type.Object({}, { additionalProperties: true }),
    errors: nullable(Type.Array(ImportError.properties.errors.items)),
  },
  { additionalProperties: false },
)

/** Read, checked and written so many at a time. */
export const CHUNK = 1_000

/**
 * Asks for a file to be read; a worker does. The file is the reader's own, or one that the reader may see; from now on it is
 * shown as its records are. Throws `invalid_reference`, `invalid_value`, `permission_denied`.
 */
export async function startImport(tx: Tx, input: Static<typeof NewImport>, reader: FileReader): Promise<Import> {
  const { entity, file_id, mode = 'create', encoding = 'utf-8', mapping = {} } = input
  checkMapping(entity, mapping)
  if (mode !== 'create' && !hasCodes(exchanged(entity).row))
    throw failure('invalid_value', {
      path: '/mode',
      rule: 'code',
      message: `records of ${entity} have no code of their own to be found by`,
    })
  const file = await getFile(tx, file_id, null).catch(() => null)
  if (!file || !['clean', 'unscanned'].includes(file.scan)) throw failure('invalid_reference', { path: 'file_id', ids: [file_id] })
  await assertSource(tx, file_id, reader)
  await restrictFile(tx, file_id, `${exchanged(entity).permission}.read`)
  const id = newId()
  const now = tx.now.toISOString()
  const made = (await tx.one(sql.prepared(Import.schema)`
    insert into erp_import (id, tenant_id, organization_id, workspace_id, entity, mode, file_id, encoding, mapping, requested_by, created_at, updated_at)
    values (${id}, ${tx.tenantId}, ${tx.context.organizationId}, ${tx.context.workspaceId}, ${entity}, ${mode}, ${file_id}, ${encoding}, ${sql.jsonb(mapping)}, ${tx.actor.userId}, ${now}, ${now})
    returning ${columns(Import)}`)) as unknown as Import
  askWorker(tx, 'data-import', made)
  return made
}

/** Refuses readers who may not know what is in the file of an import. Throws `permission_denied`. */
export async function assertSource(tx: Tx, fileId: string, reader: FileReader): Promise<void> {
  if (!(await mayKnowFile(tx, fileId, reader))) throw failure('permission_denied', { permission: 'file.object.read' })
}

/** Every property of an entity that a column can be mapped to. */
export const mappable = (entity: string): string[] => [...exchanged(entity).row.writable].filter((property) => property !== 'custom')

function checkMapping(entity: string, mapping: Mapping): void {
  const known = mappable(entity)
  const wrong = Object.values(mapping).find(
    (property) => !known.includes(property) && !(exchanged(entity).row.custom && property.startsWith('custom.')),
  )
  if (wrong !== undefined)
    throw failure('invalid_value', { path: '/mapping', rule: 'property', message: `'${wrong}' is none of ${known.join(', ')}` })
}

/** What was read of a file, the first lines of it. */
export const previewImport = (tx: Tx, id: string) =>
  tx.any(sql.prepared(ImportPreview)`
    select line, record_id, record, errors from erp_import_line where tenant_id = ${tx.tenantId} and import_id = ${id} order by line limit 20`)

/** Lines with errors, from the one after `after` on, one more than `limit` where there are more. */
export const importErrors = (tx: Tx, id: string, limit: number, after: number) =>
  tx.any(sql.prepared(ImportError)`
    select line, errors from erp_import_line
    where tenant_id = ${tx.tenantId} and import_id = ${id} and errors is not null and line > ${after} order by line limit ${limit + 1}`)

export interface Asked {
  /** Whether the caller holds a permission here. */
  may?: (permission: string) => boolean
}

/** What it takes to do one by one what an import does. */
export const permissionsOf = ({ entity, mode = 'create' }: Pick<Static<typeof NewImport>, 'entity' | 'mode'>): string[] =>
  (mode === 'upsert' ? ['create', 'update'] : [mode]).map((verb) => `${exchanged(entity).permission}.${verb}`)

function mayDoEach(_tx: Tx, found: Import, { may = () => true }: Asked): void {
  const permission = permissionsOf(found).find((one) => !may(one))
  if (permission) throw failure('permission_denied', { permission })
}

/** Of failed imports only those that the plan had no room for are applied again: they were read to their end. */
function hadNoRoom(_tx: Tx, { status, failure: reason }: Import): void {
  if (status === 'failed' && (reason as { detail?: unknown } | null)?.detail !== 'plan_limit')
    throw failure('invalid_transition', { status, transition: 'apply' })
}

function nothingWrong(_tx: Tx, { lines, wrong }: Import): void {
  if (wrong > 0)
    throw failure(
      'invalid_value',
      { rule: 'errors', wrong },
      'Some lines have errors, and all are taken or none: mend the file and import it anew.',
    )
  if (lines === 0) throw failure('invalid_value', { rule: 'empty' }, 'The file has no lines.')
}

export const importLifecycle = lifecycle(Import, {
  initial: 'reading',
  permission: 'erp.import',
  transitions: {
    apply: {
      from: ['ready', 'failed'],
      to: 'applying',
      guard: [mayDoEach, hadNoRoom, nothingWrong],
      summary: 'Take all lines in, or none',
      effect: async (tx, { id, version }) => {
        askWorker(tx, 'data-import', { id, version: version + 1 })
        return { starts: 0, failure: null } // another piece of work, counted on its own
      },
    },
    cancel: {
      from: ['reading', 'ready', 'failed'],
      to: 'cancelled',
      summary: 'Call it off',
      effect: async (tx, { id }) => {
        await forgetLines(tx, id)
      },
    },
    finish_reading: { from: 'reading', to: 'ready', summary: 'The file was read to its end', internal: true },
    finish: {
      from: 'applying',
      to: 'done',
      summary: 'All lines were taken in',
      internal: true,
      effect: async (tx, { id }, { taken }: { taken: number }) => {
        await forgetLines(tx, id)
        return { taken, failure: null }
      },
    },
    fail: {
      from: ['reading', 'applying'],
      to: 'failed',
      summary: 'It cannot be done; nothing was taken',
      internal: true,
      effect: async (_tx, _found, { failure }: { failure: Record<string, unknown> }) => ({ failure, taken: 0 }),
    },
  },
})

const forgetLines = (tx: Tx, id: string) =>
  tx.query(sql.run`delete from erp_import_line where tenant_id = ${tx.tenantId} and import_id = ${id}`)

/** Notes what a worker has come to. False where the import has ended meanwhile: cancelled, or set aside. */
export async function settleImport(
  tx: Tx,
  id: string,
  move: 'finish_reading' | 'finish' | 'fail',
  input: Record<string, unknown> = {},
): Promise<boolean> {
  const { status } = await importLifecycle.lock(tx, id)
  if (![importLifecycle.transitions[move]!.from].flat().includes(status)) return false
  await importLifecycle.move(tx, move, id, null, input)
  return true
}

/** The mapping of the latest import of this entity from a file with the same columns that somebody finished. */
export async function rememberedMapping(tx: Tx, entity: string, heading: readonly string[]): Promise<Mapping | null> {
  const found = await tx.maybeOne(sql.prepared(Type.Object({ mapping: MappingSchema }, { additionalProperties: false }))`
    select mapping from erp_import
    where ${sql.and(scopeOf(tx, Import))} and entity = ${entity} and columns = ${sql.array([...heading], 'text')} and status = 'done' and deleted_at is null
    order by id desc limit 1`)
  return found?.mapping ?? null
}

/** Notes the heading of a file and how it is read. */
export async function noteHeading(tx: Tx, id: string, heading: readonly string[], mapping: Mapping): Promise<void> {
  await tx.query(sql.run`
    update erp_import set columns = ${sql.array([...heading], 'text')}, mapping = ${sql.jsonb(mapping)}, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${id} and status = 'reading'`)
}

const purpose = 'erp_import_line.record'

/**
 * Keeps lines that were read, from line number `first` on, and how far reading is. False once nobody wants them any more.
 * Of entities with sealed columns the line is kept under the tenant's key, as they are.
 */
export async function keepLines(tx: Tx, found: Import, first: number, read: readonly ReadLine[]): Promise<boolean> {
  const { row } = exchanged(found.entity)
  const sealed = Object.keys(row.sealed).length > 0
  const wrong = read.filter(({ errors }) => errors.length > 0).length
  const { rowCount } = await tx.query(sql.run`
    -- The heading is line 1, so the first line that was read is 2.
    update erp_import set lines = ${first - 2 + read.length}, wrong = wrong + ${wrong}, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${found.id} and status = 'reading'`)
  if (rowCount === 0) return false
  const rows = await Promise.all(
    read.map(async ({ record, errors, changes }, at) => {
      const text = JSON.stringify(record)
      const kept = sealed ? JSON.stringify({ sealed: (await tx.secrets.seal(purpose, text)).toString('hex') }) : text
      return [first + at, kept, errors.length > 0 ? JSON.stringify(errors) : null, changes?.id ?? null, changes?.version ?? null]
    }),
  )
  await tx.query(sql.run`
    insert into erp_import_line (tenant_id, import_id, line, record, errors, record_id, record_version)
    select ${tx.tenantId}, ${found.id}, l.line, l.record, l.errors, l.record_id, l.record_version
    from ${sql.unnest(rows, ['int4', 'jsonb', 'jsonb', 'uuid', 'int4'])} as l (line, record, errors, record_id, record_version)
    on conflict do nothing`)
  return true
}

/** Codes of the lines that were read before. */
export const codesRead = async (tx: Tx, id: string): Promise<string[]> =>
  (
    await tx.any(sql.prepared(Type.Object({ code: Type.String() }, { additionalProperties: false }))`
      select record ->> 'code' as code from erp_import_line where tenant_id = ${tx.tenantId} and import_id = ${id} and record ? 'code'`)
  ).map(({ code }) => code)

/** Says how many records were made so far, while they are not there yet. */
export async function noteTaken(tx: Tx, id: string, taken: number): Promise<void> {
  await tx.query(sql.run`update erp_import set taken = ${taken} where tenant_id = ${tx.tenantId} and id = ${id} and status = 'applying'`)
}

const Line = Type.Object(
  {
    line: Type.Integer(),
    record: Type.Object({}, { additionalProperties: true }),
    record_id: nullable(Uuid),
    record_version: nullable(Type.Integer()),
  },
  { additionalProperties: false },
)
type Line = Static<typeof Line>

/**
 * The lines of an import, a thousand at a time. They do not change any more once it is taken in, so they are read by
 * connections of their own, while others are written.
 */
export async function* linesOf(read: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>, id: string): AsyncGenerator<readonly Line[]> {
  for (let after = 0; ; ) {
    const lines = await read(async (tx) => {
      const kept = await tx.any(sql.prepared(Line)`
        select line, record, record_id, record_version from erp_import_line where tenant_id = ${tx.tenantId} and import_id = ${id} and line > ${after} order by line limit ${CHUNK}`)
      return Promise.all(
        kept.map(async (line) => {
          const { sealed } = line.record as { sealed?: string }
          if (!sealed) return line
          return { ...line, record: JSON.parse((await tx.secrets.open(purpose, Buffer.from(sealed, 'hex'))).toString()) as object }
        }),
      )
    })
    if (lines.length === 0) return
    after = lines.at(-1)!.line
    yield lines
  }
}

/**
 * Takes all lines in, in the transaction that it is given: whatever fails, nothing was. One at a time: an advisory lock of
 * the import is held until the end, and who comes second finds it done. Throws what making the records throws.
 * @param lines `linesOf` the import
 * @param progress is told how many were made, and which lines are next
 */
export async function takeLines(
  tx: Tx,
  id: string,
  lines: AsyncIterable<readonly Line[]>,
  progress: (taken: number, next: { from: number; to: number }) => void,
): Promise<void> {
  await oneAtATime(tx, `import ${id}`)
  const found = await importLifecycle.get(tx, id)
  if (found.status !== 'applying') return
  const resource = exchanged(found.entity)
  let taken = 0
  for await (const some of lines) {
    progress(taken, { from: some[0]!.line, to: some.at(-1)!.line })
    const made = some.flatMap(({ record, record_id }) => (record_id ? [] : [record]))
    if (made.length > 0) await resource.createMany(tx, made)
    const changed = some.flatMap(({ record, record_id, record_version }) =>
      record_id ? [{ id: record_id, version: record_version!, patch: record as Record<string, unknown> }] : [],
    )
    await resource.updateMany(tx, changed)
    taken += some.length
  }
  // Set aside by another worker while this one was at work: then nothing is taken.
  if (!(await settleImport(tx, id, 'finish', { taken }))) throw failure('invalid_transition', { transition: 'finish' })
}
