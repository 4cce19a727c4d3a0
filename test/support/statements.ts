// Every statement that the suites run against a tenant's table names the tenant: recorded while they run, parsed at the end.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'libpg-query'
import { Client } from 'pg'
import type { Interceptor } from 'slonik'

const FOLDER = 'TENANTRY_TEST_STATEMENTS'

/** Remembers each statement once, and leaves them in the run's folder when the process ends. */
export function recordStatements(): Interceptor[] {
  const folder = process.env[FOLDER]
  if (!folder) return []
  const seen = new Set<string>()
  process.once('exit', () => writeFileSync(path.join(folder, `${process.pid}-${Math.random()}.json`), JSON.stringify([...seen])))
  return [{ name: 'record-statements', beforeQueryExecution: (_context, { sql }) => void seen.add(sql) as never }]
}

/** What looks at all tenants on purpose, on a connection of the platform. Anything else must say which tenant. */
const ACROSS: readonly [start: RegExp, why: string][] = [
  [/^select event_id, tenant_id, type, entity_id, version/, 'the relay publishes for all'],
  [/^update plane\.event_outbox set (attempts|status)/, 'the relay marks what it published, by event id'],
  [/^select event_id, tenant_id, position/, 'the staff reads an outbox'],
  [/^(select|update) .*platform_dead_letters/, 'the staff reads and replays dead letters'],
  [/^select count\(\*\) filter \(where status = 'pending'\)/, 'how much waits in an outbox, for the monitor'],
  [/^delete from plane\.(event_outbox|idempotency_keys|consumer_inbox)/, 'upkeep'],
  [/^delete from tenant_(user_)?activity/, 'upkeep'],
  [/^update tenant_registrations set email = null/, 'upkeep'],
  [/^delete from res_(one_time_tokens|login_throttle|sessions)/, 'upkeep'],
  [/^select target, plane, tenant_id, state/, 'the staff sees all migrations'],
  [/^select count\(\*\) filter \(where email = /, 'floods of registrations are counted across tenants'],
  [/^select t\.id, t\.slug/, 'a tenant is looked for by its host'],
  [/^insert into pgboss|^with .*pgboss|pgboss\./s, 'the job queue is the platform’s'],
]

type Node = Record<string, unknown>
interface Level {
  tables: { name: string; alias: string }[]
  named: Set<string>
  joined: boolean
}

const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null

/** The tables of a statement whose tenant is named nowhere in the query that reads them. */
export function withoutTenant(statement: Node, tenantTables: ReadonlySet<string>): string[] {
  const missing: string[] = []
  const ctes = new Set<string>()
  const gather = (value: unknown): void => {
    if (Array.isArray(value)) for (const item of value) gather(item)
    else if (isNode(value)) {
      if ('CommonTableExpr' in value) ctes.add(String((value.CommonTableExpr as Node).ctename))
      for (const item of Object.values(value)) gather(item)
    }
  }
  gather(statement)

  function walk(value: unknown, levels: readonly Level[]): void {
    if (Array.isArray(value)) {
      for (const item of value) walk(item, levels)
      return
    }
    if (!isNode(value)) return
    for (const [key, inner] of Object.entries(value)) {
      if (['SelectStmt', 'UpdateStmt', 'DeleteStmt', 'InsertStmt'].includes(key) && isNode(inner)) {
        const level: Level = { tables: [], named: new Set(), joined: false }
        // The relation of a change is no node of its own kind, but the table itself.
        if (isNode(inner.relation)) add(inner.relation, level)
        if (key === 'InsertStmt' && Array.isArray(inner.cols)) {
          for (const column of inner.cols) if ((column as { ResTarget: Node }).ResTarget.name === 'tenant_id') level.named.add('*')
        }
        for (const [name, part] of Object.entries(inner)) {
          // Left and right of a union are queries of their own; a join's sides are not.
          if (name === 'larg' || name === 'rarg') walk({ SelectStmt: part }, levels)
          else if (name !== 'relation') walk({ [name]: part }, [...levels, level])
        }
        for (const { name, alias } of level.tables) {
          const alone = level.tables.length === 1 && level.named.has('*')
          if (!level.joined && !alone && !level.named.has(alias)) missing.push(name)
        }
      } else if (key === 'RangeVar' && isNode(inner)) {
        add(inner, levels.at(-1))
      } else if (key === 'usingClause' && Array.isArray(inner)) {
        // Of a join it is a list of columns, of a delete a list of tables.
        if (JSON.stringify(inner).includes('"tenant_id"')) for (const level of levels.slice(-1)) level.joined = true
        walk(inner, levels)
      } else if (key === 'ColumnRef' && isNode(inner)) {
        const fields = (inner.fields as { String?: { sval: string } }[]).map((field) => field.String?.sval)
        if (fields.at(-1) === 'tenant_id') for (const level of levels) level.named.add(fields.length > 1 ? fields[0]! : '*')
      } else walk(inner, levels)
    }
  }
  function add(relation: Node, level: Level | undefined): void {
    const name = String(relation.relname)
    if (!tenantTables.has(name) || (ctes.has(name) && !relation.schemaname)) return
    level?.tables.push({ name, alias: String((relation.alias as Node | undefined)?.aliasname ?? name) })
  }
  walk(statement, [])
  return missing
}

/** One sentence for each statement of the run that does not say whose rows it means. @param urls as an owner */
export async function checkStatements(folder: string, urls: readonly string[]): Promise<{ checked: number; wrong: string[] }> {
  const tables = new Set<string>()
  for (const url of urls) {
    const client = new Client({ connectionString: url })
    await client.connect()
    const { rows } = await client.query<{ name: string }>(`
      select distinct c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
      join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('public', 'plane') where c.relkind in ('r', 'p', 'v')`)
    for (const { name } of rows) tables.add(name)
    await client.end()
  }
  const statements = new Set(readdirSync(folder).flatMap((file) => JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as string[]))
  const wrong: string[] = []
  for (const text of statements) {
    const line = text.replace(/\s+/g, ' ').trim()
    if (ACROSS.some(([start]) => start.test(line))) continue
    const { stmts = [] } = (await parse(text)) as { stmts?: Node[] }
    for (const statement of stmts) {
      const missing = withoutTenant(statement, tables)
      if (missing.length > 0) wrong.push(`${missing.join(', ')} without tenant_id: ${line.slice(0, 300)}`)
    }
  }
  return { checked: statements.size, wrong }
}
