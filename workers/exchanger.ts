// Reads files into records and writes records into files: the heavy part of imports and exports.
import { AsyncLocalStorage } from 'node:async_hooks'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  type AskedBy,
  CHUNK,
  codesRead,
  countStart,
  type ExchangeJob,
  exchanged,
  exportPermission,
  getExport,
  type Import,
  importLifecycle,
  keepLines,
  LineReader,
  linesOf,
  MOST_IN_WORKBOOK,
  mappable,
  noteExported,
  noteHeading,
  noteTaken,
  rememberedMapping,
  settleImport,
  suggest,
  takeLines,
  withdrawStart,
} from '../domain/erp/exchange/index.ts'
import {
  type Cell,
  charactersOf,
  csvLine,
  type Encoding,
  type FileKeeper,
  getFile,
  noteFile,
  noteVerdict,
  readTable,
  writeWorkbook,
  XLSX,
} from '../domain/files/index.ts'
import { Failure, failure, newId, openRows, parseListQuery, type Scope, type Tx } from '../domain/kernel/index.ts'
import { databaseOf, type Planes, type Tenant, type TenantDirectory, type Vault, writeAtHome } from '../domain/tenancy/index.ts'
import { ahead, inPieces } from './ahead.ts'
import type { Event } from './event-consumer.ts'
import type { JobHandler } from './job-consumer.ts'
import type { WorkerLog } from './log.ts'

export interface ExchangeDependencies {
  planes: Planes
  tenants: TenantDirectory
  vault: Vault
  files: FileKeeper
  log: WorkerLog
  /** How long the files of exports are kept. */
  keepExportsDays: number
}

const DAY_MS = 86_400_000
/** Characters of lines that are read, checked and kept at once: of usual lines a thousand have fewer. */
const MAX_CHARACTERS = 2_000_000

/** All lines are taken in, in one transaction: 200,000 of them within this, at a hundred a second. */
const TAKING_MS = 2_000_000

interface Place {
  tenant: Tenant
  scope: Scope
  read<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** @param deadlineMs how long it may take, when that is long */
  write<T>(work: (tx: Tx) => Promise<T>, deadlineMs?: number): Promise<T>
}

/** Where a job is done, and in whose name: what it makes is made by who asked. Null for a tenant that is gone. */
async function placeOf({ planes, tenants, vault }: ExchangeDependencies, job: Event): Promise<Place | null> {
  const tenant = await tenants.byId(job.tenant_id)
  if (!tenant) return null
  const { organization_id, workspace_id, user_id, kind } = job.data as unknown as AskedBy
  const scope: Scope = {
    tenantId: tenant.id,
    actor: { tenantId: tenant.id, userId: user_id, kind, sessionId: null, name: '' },
    context: { organizationId: organization_id, workspaceId: workspace_id },
    correlationId: job.correlation_id ?? newId(),
    limits: tenant.limits,
    secrets: vault.of(tenant.id),
  }
  return {
    tenant,
    scope,
    read: (work) => databaseOf(planes, 'data', tenant).read(scope, work),
    write: (work, deadlineMs) =>
      writeAtHome(planes, tenants, 'data', tenant, (database) => database.write(deadlineMs ? { ...scope, deadlineMs } : scope, work)),
  }
}

/** Why something cannot be done however often it is tried; null for what passes by itself. */
function lasting(error: unknown): Record<string, unknown> | null {
  if (!(error instanceof Failure)) return { detail: 'internal', message: 'Something went wrong here.' }
  if (error.status >= 500 && error.detail !== 'scanner_unavailable') return null
  const { lines } = error as Failure & { lines?: object }
  return { detail: error.detail, message: error.message, details: error.details, ...(lines ? { lines } : {}) }
}

/** How the starts of a kind of job are counted, in the tenant that the job is of; jobs of a tenant that is gone need none. */
export const startsOf = (deps: ExchangeDependencies, kind: ExchangeJob): NonNullable<JobHandler['starts']> => ({
  begin: async (job) => (await (await placeOf(deps, job))?.write((tx) => countStart(tx, kind, job.entity_id))) ?? true,
  withdraw: async (job) => (await placeOf(deps, job))?.write((tx) => withdrawStart(tx, kind, job.entity_id)),
})

/** Runs with a folder that is gone afterwards. */
async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'tenantry-exchange-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Reads a file, or takes in what was read: whatever the import's state asks for. */
export async function carryImport(deps: ExchangeDependencies, job: Event, signal: AbortSignal): Promise<void> {
  const place = await placeOf(deps, job)
  const found = await place?.read((tx) => importLifecycle.get(tx, job.entity_id)).catch(notThere)
  if (!place || !found) return
  try {
    if (found.status === 'reading') await withFolder((folder) => readFile(deps, place, found, folder, signal))
    else if (found.status === 'applying') await apply(place, found.id)
  } catch (error) {
    const reason = lasting(error)
    if (!reason) throw error
    deps.log.warn({ err: error, import_id: found.id }, 'import failed')
    await place.write((tx) => settleImport(tx, found.id, 'fail', { failure: reason }))
  }
}

const notThere = (error: unknown): null => {
  if (error instanceof Failure && error.detail === 'not_found') return null
  throw error
}

async function apply(place: Place, id: string): Promise<void> {
  // How far it is, is told outside of the transaction that makes the records, and their lines are read there.
  const outside = AsyncLocalStorage.snapshot()
  let telling: Promise<unknown> = Promise.resolve()
  let lines = { from: 0, to: 0 }
  try {
    await place.write(
      (tx) =>
        takeLines(tx, id, ahead(linesOf((work) => outside(() => place.read(work)), id)), (taken, next) => {
          lines = next
          if (taken > 0 && taken % (5 * CHUNK) === 0)
            telling = telling.then(() => outside(() => place.write((other) => noteTaken(other, id, taken))).catch(() => {}))
        }),
      TAKING_MS,
    )
  } catch (error) {
    await telling
    throw Object.assign(error as Error, { lines })
  }
  await telling
}

async function readFile(deps: ExchangeDependencies, place: Place, found: Import, folder: string, signal: AbortSignal): Promise<void> {
  const file = await place.read((tx) => getFile(tx, found.file_id, null))
  const local = path.join(folder, 'table')
  await pipeline(await deps.files.open(place.tenant.id, file), createWriteStream(local))
  const table = readTable(local, file.media_type, found.encoding as Encoding)
  try {
    const heading = await table.next()
    if (heading.done)
      throw failure('invalid_value', { path: 'file', rule: 'heading' }, 'The file has no heading: its first line names the columns.')
    const reader = await begin(place, found, heading.value, exchanged(found.entity))
    let line = 1 // the heading's
    for await (const lines of ahead(inPieces(table, CHUNK, { of: charactersOf, max: MAX_CHARACTERS }))) {
      const fresh = lines.slice(Math.max(0, found.lines + 1 - line)) // the others were read before a worker died
      line += lines.length
      if (fresh.length === 0) continue
      const first = line - fresh.length + 1
      if (!(await place.write(async (tx) => keepLines(tx, found, first, await reader.read(tx, fresh))))) return
      if (signal.aborted) throw failure('overloaded')
    }
    await place.write((tx) => settleImport(tx, found.id, 'finish_reading'))
  } finally {
    await table.return(undefined)
  }
}

/** Settles how a file is read, by its heading: as was asked, as the last one like it, or as its columns are called. */
async function begin(place: Place, found: Import, cells: readonly Cell[], resource: ReturnType<typeof exchanged>): Promise<LineReader> {
  const heading = cells.map((cell) => String(cell ?? '').trim())
  const twice = heading.find((column, at) => column !== '' && heading.indexOf(column) !== at)
  if (twice) throw failure('invalid_value', { path: 'file', rule: 'heading' }, `The column '${twice}' stands in the heading twice.`)
  return place.write(async (tx) => {
    const asked = Object.keys(found.mapping).length > 0 ? found.mapping : null
    const mapping =
      asked ??
      (await rememberedMapping(tx, found.entity, heading)) ??
      suggest(heading, [...mappable(found.entity), ...heading.filter((column) => resource.row.custom && column.startsWith('custom.'))])
    const missing = Object.keys(mapping).find((column) => !heading.includes(column))
    if (missing !== undefined) throw failure('invalid_value', { path: 'mapping', rule: 'column' }, `The file has no column '${missing}'.`)
    if (Object.keys(mapping).length === 0)
      throw failure('invalid_value', { path: 'mapping', rule: 'none' }, 'No column is called as a property is: send a mapping.')
    await noteHeading(tx, found.id, heading, mapping)
    return LineReader.of(tx, resource, heading, mapping, found.mode, found.lines > 0 ? await codesRead(tx, found.id) : [])
  })
}

/** Writes a list into a file of the one who asked. */
export async function carryExport(deps: ExchangeDependencies, job: Event): Promise<void> {
  const place = await placeOf(deps, job)
  const found = await place?.read((tx) => getExport(tx, job.entity_id, null)).catch(notThere)
  if (!place || !found || found.status !== 'queued') return
  const { row, spec, list } = exchanged(found.entity)
  const names = row.columns.filter((name: string) => name !== 'deleted_at')
  const query = { ...parseListQuery(spec, found.query), limit: CHUNK }
  let records = 0
  const secrets = deps.vault.of(place.tenant.id)
  async function* lines() {
    yield names as readonly unknown[]
    for (let after: unknown[] | null | undefined; after !== null; ) {
      const page = await place!.read((tx) => list(tx, after ? { ...query, after } : query))
      for (const record of await openRows(secrets, row, page.rows))
        yield names.map((name: string) => (record as Record<string, unknown>)[name])
      records += page.rows.length
      after = page.next
    }
  }
  async function* csv() {
    for await (const line of lines()) yield csvLine(line)
  }
  const id = newId()
  try {
    const { file: _, ...received } =
      found.format === 'csv'
        ? await deps.files.write(place.tenant.id, id, csv(), 'text/plain')
        : await deps.files.write(place.tenant.id, id, Readable.from([await workbook(lines())]), XLSX)
    const verdict =
      deps.files.state === 'pending' ? await deps.files.judge(place.tenant.id, { id, size: received.size, sealed: true }) : null
    await place.write(async (tx) => {
      const expires_at = new Date(tx.now.getTime() + deps.keepExportsDays * DAY_MS)
      const exported = { read_permissions: [exportPermission(found.entity)], expires_at }
      await noteFile(tx, { id, name: `${found.entity}.${found.format}`, scan: deps.files.state, ...received }, { exported })
      if (verdict) await noteVerdict(tx, id, verdict)
      if (!(await noteExported(tx, found.id, { file_id: id, records, expires_at }))) throw failure('invalid_transition')
    })
  } catch (error) {
    await deps.files.remove(place.tenant.id, id).catch(() => {})
    const reason = lasting(error)
    if (!reason) throw error
    deps.log.warn({ err: error, export_id: found.id }, 'export failed')
    await place.write((tx) => noteExported(tx, found.id, { failure: reason }))
  }
}

async function workbook(lines: AsyncGenerator<readonly unknown[]>): Promise<Buffer> {
  const all: (readonly unknown[])[] = []
  for await (const line of lines) {
    all.push(line)
    if (all.length > MOST_IN_WORKBOOK + 1)
      throw failure(
        'invalid_value',
        { path: 'format', rule: 'records' },
        `A workbook has at most ${MOST_IN_WORKBOOK} records: ask for CSV, or filter.`,
      )
  }
  return writeWorkbook(all)
}
