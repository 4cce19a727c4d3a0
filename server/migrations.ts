// Brings databases to the schema of this code: plain SQL files, in order, once, forward only.
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { Client } from 'pg'

const ROOT = path.join(import.meta.dirname, '..', 'sql')

export type MigrationPlane = 'control' | 'data' | 'telemetry'

export interface MigrationTarget {
  name: string
  plane: MigrationPlane
  url: string
  /** A tenant's own schema in a data database; the whole database when nothing is said. */
  schema?: string
}

export interface MigrationResult {
  target: string
  applied: string[]
  error?: string
}

interface File {
  name: string
  text: string
  checksum: string
}

/** Makes the extension where the server loads it, before the first migration of a telemetry database. */
async function offerTimescale(client: Client): Promise<void> {
  const { rows } = await client.query<{ preloaded: boolean }>(
    `select current_setting('timescaledb.disable_load', true) is not null as preloaded`,
  )
  if (!rows[0]!.preloaded) return
  await client.query('create extension if not exists timescaledb')
  // Policies run as the table's owner, and TimescaleDB wants a role that may sign in. Without a password none can.
  await client.query('alter role tenantry_owner login password null')
}

/**
 * Whether a database has the TimescaleDB edition. One that began on plain PostgreSQL stays there, because its rows are
 * there. The extension's Apache edition lacks the columnstore and continuous aggregates, so it counts as plain.
 */
async function hasTimescale(client: Client, known: ReadonlyMap<string, string>): Promise<boolean> {
  if ([...known.keys()].some((name) => name.endsWith('.plain.sql'))) return false
  const { rows } = await client.query<{ licensed: boolean }>(
    `select current_setting('timescaledb.license', true) is not distinct from 'timescale' as licensed`,
  )
  return rows[0]!.licensed
}

/** How many migrations the tables of a data plane have in this code. */
export const dataVersion = (): number => readdirSync(path.join(ROOT, 'data')).filter((name) => name.endsWith('.sql')).length

/** The files of a plane, in order; a tenant's schema has the tables alone, and shares the rest with its database. A file with an edition (`002_x.timescale.sql`) is for servers that have it. */
async function filesOf({ plane, schema }: MigrationTarget, timescale: boolean): Promise<File[]> {
  const files: File[] = []
  for (const folder of schema ? [plane] : ['plane', plane]) {
    const names = (await readdir(path.join(ROOT, folder))).filter((name) => name.endsWith('.sql')).sort()
    for (const name of names) {
      const edition = name.match(/\.(plain|timescale)\.sql$/)?.[1]
      if (edition && (edition === 'timescale') !== timescale) continue
      const text = await readFile(path.join(ROOT, folder, name), 'utf8')
      files.push({ name: `${folder}/${name}`, text, checksum: createHash('sha256').update(text).digest('hex') })
    }
  }
  return files
}

/** What ran here: name → checksum. Empty in a new database. */
async function recorded(client: Client, { schema = 'public' }: MigrationTarget): Promise<Map<string, string>> {
  const table = `${client.escapeIdentifier(schema)}.schema_migrations`
  const { rows: found } = await client.query<{ made: boolean }>('select to_regclass($1) is not null as made', [table])
  if (!found[0]!.made) return new Map()
  const { rows } = await client.query<{ name: string; checksum: string }>(`select name, checksum from ${table}`)
  return new Map(rows.map((row) => [row.name, row.checksum]))
}

/**
 * Applies what is missing to one database, or to one tenant's schema in it. One runner at a time, by advisory lock; each
 * file in its own transaction with its record, so a stopped run is taken up where it stopped. A file that was changed
 * after it ran is an error.
 */
export async function migrate(target: MigrationTarget): Promise<MigrationResult> {
  const { name, plane, url, schema = 'public' } = target
  const own = target.schema !== undefined
  const client = new Client({ connectionString: url, application_name: 'tenantry-migrate' })
  const applied: string[] = []
  try {
    await client.connect()
    await client.query('select pg_advisory_lock(7261, hashtext($1))', [own ? schema : ''])
    if (!own) await client.query(await readFile(path.join(ROOT, 'roles.sql'), 'utf8'))
    // Loads the library: a function that sets a parameter of pg_trgm is made only in a session that knows it.
    await client.query(`select extensions.similarity('', '')`)
    const known = await recorded(client, target)
    if (plane === 'telemetry' && known.size === 0) await offerTimescale(client)
    const timescale = plane === 'telemetry' && (await hasTimescale(client, known))
    await client.query('set role tenantry_owner')
    const inside = client.escapeIdentifier(schema)
    if (own) {
      await client.query(`create schema if not exists ${inside}`)
      await client.query(`grant usage on schema ${inside} to tenantry_app, tenantry_reader`)
    }
    // Nothing but its own: a name that is missing here must not be found among the tables of all others.
    await client.query(`set search_path to ${inside}, extensions`)
    const record = `${inside}.schema_migrations`
    await client.query(
      `create table if not exists ${record} (name text primary key, checksum text not null, applied_at timestamptz not null default now())`,
    )
    await client.query(`grant select on ${record} to tenantry_app`)
    for (const file of await filesOf(target, timescale)) {
      const checksum = known.get(file.name)
      if (checksum === file.checksum) continue
      if (checksum) throw new Error(`${file.name} was changed after it ran here: write a new file instead`)
      await client.query('begin')
      try {
        await client.query(file.text)
        await client.query(`insert into ${record} (name, checksum) values ($1, $2)`, [file.name, file.checksum])
        await client.query('commit')
      } catch (error) {
        await client.query('rollback')
        throw new Error(`${file.name}: ${(error as Error).message}`, { cause: error })
      }
      applied.push(file.name)
    }
    return { target: name, applied }
  } catch (error) {
    return { target: name, applied, error: (error as Error).message }
  } finally {
    await client.end().catch(() => {})
  }
}

/** What a target should have, and what ran there. */
async function stateOf(client: Client, target: MigrationTarget): Promise<{ files: File[]; known: Map<string, string> }> {
  const known = await recorded(client, target)
  const timescale = target.plane === 'telemetry' && (await hasTimescale(client, known))
  return { files: await filesOf(target, timescale), known }
}

/** What would be applied to a target. One that is not there yet lacks everything. */
export async function pendingOf(target: MigrationTarget): Promise<MigrationResult> {
  const { name, url } = target
  const client = new Client({ connectionString: url, application_name: 'tenantry-migrate' })
  try {
    await client.connect()
    const { files, known } = await stateOf(client, target)
    return { target: name, applied: files.filter((file) => !known.has(file.name)).map((file) => file.name) }
  } catch (error) {
    return { target: name, applied: [], error: (error as Error).message }
  } finally {
    await client.end().catch(() => {})
  }
}

/** Works off tasks, so many at once, in their order. */
export async function inParallel<T>(tasks: readonly T[], concurrency: number, work: (task: T) => Promise<void>): Promise<void> {
  const waiting = [...tasks]
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let task = waiting.shift(); task; task = waiting.shift()) await work(task)
    }),
  )
}

/** Databases by themselves, a few at a time; one that fails is reported and stops no other. Tenants' own: `migrateEverything`. */
export async function migrateAll(targets: readonly MigrationTarget[], concurrency = 4): Promise<MigrationResult[]> {
  const results: MigrationResult[] = []
  await inParallel(targets, concurrency, async (target) => {
    results.push(await migrate(target))
  })
  return results
}

/** A database that is asked whether it is safe, and says nothing for so long, has not answered. */
const ANSWER_MS = 10_000

/**
 * What makes a database unsafe to serve from: a pending migration, a tenant table that the application may touch without
 * forced row security, or a role that owns something or could bypass row security. Empty when all is well. Throws when
 * the database does not answer.
 */
export async function problemsOf(target: MigrationTarget): Promise<string[]> {
  const { name, url } = target
  const client = new Client({
    connectionString: url,
    application_name: 'tenantry-check',
    connectionTimeoutMillis: ANSWER_MS,
    query_timeout: ANSWER_MS,
  })
  client.on('error', () => {}) // a lost connection: the query under way says so
  try {
    await client.connect()
    const { files, known } = await stateOf(client, target)
    const pending = files.filter((file) => known.get(file.name) !== file.checksum)
    const { rows: open } = await client.query<{ table: string }>(`
      select c.oid::regclass::text as table from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
      where c.relkind in ('r', 'p') and exists (select from pg_namespace n where n.oid = c.relnamespace and (n.nspname in ('public', 'plane') or n.nspname like 't\\_%'))
        and not (c.relrowsecurity and c.relforcerowsecurity)
        and has_table_privilege('tenantry_app', c.oid, 'select, insert, update, delete')`)
    // A role has what it may become: a superuser is a member of every role, and one that creates roles makes itself one.
    const { rows: role } = await client.query<{ powerful: boolean; owner: boolean }>(`
      select exists (
          select from pg_roles p where (p.rolsuper or p.rolbypassrls or p.rolcreaterole or p.rolname = 'tenantry_owner')
            and pg_has_role(current_user, p.oid, 'member')) as powerful,
        exists (select from pg_class c where c.relowner = r.oid and c.relpersistence <> 't')
          or exists (select from pg_namespace n where n.nspowner = r.oid and n.nspname !~ '^pg_')
          or exists (select from pg_proc p where p.proowner = r.oid)
          or exists (select from pg_database d where d.datdba = r.oid) as owner
      from pg_roles r where r.rolname = current_user`)
    return [
      ...pending.map((file) => `${name}: migration ${file.name} is pending; run npm run migrate`),
      ...open.map((row) => `${name}: table ${row.table} lacks forced row security`),
      ...(role[0]?.powerful ? [`${name}: the role of this URL could bypass row security; connect as a member of tenantry_app`] : []),
      ...(role[0]?.owner
        ? [`${name}: the role of this URL owns a database, schema, table or function; connect as a member of tenantry_app`]
        : []),
    ]
  } finally {
    await client.end().catch(() => {})
  }
}
