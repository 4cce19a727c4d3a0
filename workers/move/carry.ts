// Carries a tenant's rows from one side of a move to the other, and compares the two.
import { pipeline } from 'node:stream/promises'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import type { Compared } from '../../domain/tenancy/index.ts'
import type { Side } from './side.ts'
import { type MovedTable, quote } from './tables.ts'

const list = (names: readonly string[]): string => names.map(quote).join(', ')
const on = ({ key }: MovedTable, a: string, b: string): string =>
  key.map(({ name }) => `${a}.${quote(name)} = ${b}.${quote(name)}`).join(' and ')

/**
 * Streams the rows of a query into a temporary table of the other side; memory stays flat however many there are. When one
 * side breaks off, the other would wait for ever with rows that nobody takes: then both connections are given up.
 */
async function stage(from: Side, to: Side, query: string, table: string): Promise<void> {
  const source = from.client.query(copyTo(`copy (${query}) to stdout`))
  const target = to.client.query(copyFrom(`copy ${table} from stdin`))
  await pipeline(source, target).catch(async (error) => {
    await Promise.all([from.end(), to.end()])
    throw error
  })
}

/** Puts staged rows where they belong. By way of a temporary table, because COPY refuses tables behind row security. */
const insertStaged = (to: Side, table: MovedTable, staged: string): string => {
  const columns = list(table.columns)
  const insert = `insert into ${to.table(table)} (${columns}) select ${columns} from ${staged}`
  if (!table.order) return insert
  const rest = table.columns.filter((column) => !table.key.some(({ name }) => name === column))
  return `${insert} order by ${quote(table.order)} on conflict (${list(table.key.map(({ name }) => name))})
    do update set ${rest.map((column) => `${quote(column)} = excluded.${quote(column)}`).join(', ')}`
}

const stagedColumns = (table: MovedTable): string[] => [...table.columns, ...(table.order ? [table.order] : [])]

/** Copies a whole table, once: what was there of the tenant goes, and that it is done is written with the rows. */
export async function copyTable(from: Side, to: Side, table: MovedTable): Promise<void> {
  const { tenantId } = from
  const columns = list(stagedColumns(table))
  try {
    await to.client.query(
      `begin;
       create temp table staged on commit drop as select ${columns} from ${to.table(table)} with no data;
       delete from ${to.table(table)} where tenant_id = '${tenantId}'`,
    )
    await stage(
      from,
      to,
      `select ${columns} from ${from.table(table)} where tenant_id = '${tenantId}' and ${table.beforeSwitch}`,
      'pg_temp.staged',
    )
    await to.client.query(
      `${insertStaged(to, table, 'pg_temp.staged')};
       update plane.move_sides set copied = array_append(copied, '${table.name}') where tenant_id = '${tenantId}' and home = '${to.home}';
       commit`,
    )
  } catch (error) {
    await to.client.query('rollback').catch(() => {})
    throw error
  }
}

export interface Pass {
  /** How many rows had changed. */
  rows: number
  ms: number
  /** What both sides agree on. */
  compared: Compared
}

export interface PassOptions {
  /** `changed` compares the rows that were carried, `all` every row of the tenant. */
  compare?: 'changed' | 'all'
  /** The last pass: nobody writes any more, and what waits comes too. */
  last?: boolean
}

/** So many rows are better known to the planner. */
const MANY = 1_000

/**
 * Carries what changed since it was noted: afterwards the target is as the source was at one moment. Rows that changed on
 * either side are taken out of the target, then put in as they are at the source: in this order no unique index is in
 * the way, because what is left equals the source. Throws `Doubt` when the two differ.
 */
export async function carryChanges(
  from: Side,
  to: Side,
  tables: readonly MovedTable[],
  { compare, last = false }: PassOptions = {},
): Promise<Pass> {
  const began = Date.now()
  await noteAtSource(from, to)
  // One moment for everything that is read here: the notes, the rows, and what they are compared by.
  await from.client.query('begin isolation level repeatable read')
  await to.client.query('begin')
  try {
    const noted = await notesOf(from)
    const compared: Compared = {}
    for (const [at, table] of tables.entries()) {
      const carry: Carry = {
        from,
        to,
        table,
        filter: last ? 'true' : table.beforeSwitch,
        keys: `pg_temp.keys_${at}`,
        staged: `pg_temp.staged_${at}`,
      }
      const rows = noted.get(table.name) ?? 0
      if (rows > 0) await carryRows(carry, rows)
      if (compare === 'all' || (compare && rows > 0)) compared[table.name] = await agreed(carry, compare)
    }
    if (from.database !== to.database) await carryUsage(from, to)
    await to.client.query('commit')
    await from.client.query('commit')
    await strike(from)
    return { rows: [...noted.values()].reduce((sum, rows) => sum + rows, 0), ms: Date.now() - began, compared }
  } catch (error) {
    await Promise.allSettled([from.client.query('rollback'), to.client.query('rollback')])
    throw error
  } finally {
    await from.client.query('drop table if exists pg_temp.seen').catch(() => {})
  }
}

/** Takes the notes that are there now; returns how many a table has. */
async function notesOf({ client, tenantId, home }: Side): Promise<Map<string, number>> {
  await client.query(
    `create temp table seen on commit preserve rows as
     select entity, key, seq from plane.changed_rows where tenant_id = '${tenantId}' and home = '${home}'`,
  )
  const { rows } = await client.query<{ entity: string; rows: number }>(
    'select entity, count(*)::int as rows from pg_temp.seen group by entity',
  )
  if (rows.length > 0) await client.query('create index on pg_temp.seen (entity); analyze pg_temp.seen')
  return new Map(rows.map(({ entity, rows }) => [entity, rows]))
}

/** Strikes out the notes that were taken. What changed again meanwhile has another number, and what somebody changes now is left. */
const strike = ({ client, tenantId, home }: Side) =>
  client.query(
    `delete from plane.changed_rows where (tenant_id, home, entity, key) in (
       select c.tenant_id, c.home, c.entity, c.key from plane.changed_rows c
       join pg_temp.seen s on s.entity = c.entity and s.key = c.key and s.seq = c.seq
       where c.tenant_id = '${tenantId}' and c.home = '${home}' for update of c skip locked)`,
  )

interface Carry {
  from: Side
  to: Side
  table: MovedTable
  /** Which rows the target should have. */
  filter: string
  /** Temporary tables of the target: the keys that changed, the rows as they are. */
  keys: string
  staged: string
}

/** The keys of a table that were noted, and the rows that there are to them. */
const keysOf = ({ name, key }: MovedTable): string =>
  `select ${key.map((column) => `(s.key ->> '${column.name}')::${column.type} as ${quote(column.name)}`).join(', ')} from pg_temp.seen s where s.entity = '${name}'`
const changedRows = ({ from, table, filter }: Carry): string =>
  `(${keysOf(table)}) as k join ${from.table(table)} t on ${on(table, 't', 'k')} where t.tenant_id = '${from.tenantId}' and (${filter})`

async function carryRows(carry: Carry, rows: number): Promise<void> {
  const { from, to, table, keys, staged } = carry
  const columns = stagedColumns(table)
  await to.client.query(
    `create temp table ${keys.slice(8)} on commit drop as select ${list(table.key.map(({ name }) => name))} from ${to.table(table)} with no data;
     create temp table ${staged.slice(8)} on commit drop as select ${list(columns)} from ${to.table(table)} with no data`,
  )
  await stage(from, to, keysOf(table), keys)
  await stage(from, to, `select ${columns.map((column) => `t.${quote(column)}`).join(', ')} from ${changedRows(carry)}`, staged)
  // A row that keeps its number stays where it is and is only changed.
  const kept = table.order ? `and not exists (select from ${staged} k where ${on(table, 'k', 't')})` : ''
  await to.client.query(
    `${rows > MANY ? `analyze ${keys}; analyze ${staged};` : ''}
     delete from ${to.table(table)} t using ${keys} d where ${on(table, 't', 'd')} and t.tenant_id = '${to.tenantId}' ${kept};
     ${insertStaged(to, table, staged)}`,
  )
}

/** The two sides do not say the same: the move is taken back. */
export class Doubt extends Error {
  override name = 'Doubt'
}

/** How many rows, and the sum of their hashes: the same for the same rows in any order. */
async function digest(side: Side, table: MovedTable, rowsOf: string): Promise<Compared[string]> {
  const row = `row(${table.columns.map((column) => `t.${quote(column)}`).join(', ')})`
  const { rows } = await side.client.query<Compared[string]>(
    `select count(*)::int as rows, coalesce(sum(hashtextextended(${row}::text, 0)), 0)::text as checksum from ${rowsOf}`,
  )
  return rows[0]!
}

/** Compares the rows of a table at both sides. Throws `Doubt`. */
async function agreed(carry: Carry, compare: 'changed' | 'all'): Promise<Compared[string]> {
  const { from, to, table, filter, keys } = carry
  const whole = (side: Side) => `${side.table(table)} t where t.tenant_id = '${side.tenantId}' and (${filter})`
  const [source, target] = await Promise.all([
    digest(from, table, compare === 'all' ? whole(from) : changedRows(carry)),
    digest(to, table, compare === 'all' ? whole(to) : `${whole(to)} and exists (select from ${keys} k where ${on(table, 'k', 't')})`),
  ])
  if (source.rows !== target.rows || source.checksum !== target.checksum)
    throw new Doubt(`${table.name}: ${source.rows} rows (${source.checksum}) became ${target.rows} (${target.checksum})`)
  return source
}

/** What changed at the target by itself (upkeep looks after every row of a database) is brought in line with the source. */
async function noteAtSource(from: Side, to: Side): Promise<void> {
  const { rows } = await to.client.query<{ entity: string; key: object; seq: string }>(
    'select entity, key, seq from plane.changed_rows where tenant_id = $1 and home = $2',
    [to.tenantId, to.home],
  )
  if (rows.length === 0) return
  const notes = JSON.stringify(rows)
  await from.client.query(
    `insert into plane.changed_rows (tenant_id, home, entity, key) select $1, $2, entity, key from jsonb_to_recordset($3::jsonb) as n (entity text, key jsonb)
     on conflict (tenant_id, home, entity, key) do update set seq = excluded.seq`,
    [from.tenantId, from.home, notes],
  )
  await to.client.query(
    `delete from plane.changed_rows c using jsonb_to_recordset($3::jsonb) as n (entity text, key jsonb, seq bigint)
     where c.tenant_id = $1 and c.home = $2 and c.entity = n.entity and c.key = n.key and c.seq = n.seq`,
    [to.tenantId, to.home, notes],
  )
}

/** What is used is the sum of changes whose numbers mean something in their database alone: the sum is carried. */
async function carryUsage(from: Side, to: Side): Promise<void> {
  const { rows } = await from.client.query<{ metric: string; amount: string }>(
    'select metric, sum(amount)::text as amount from plane.usage_changes where tenant_id = $1 group by metric',
    [from.tenantId],
  )
  await to.client.query('delete from plane.usage_changes where tenant_id = $1', [to.tenantId])
  await to.client.query(
    `insert into plane.usage_changes (tenant_id, metric, amount) select $1, metric, amount from jsonb_to_recordset($2::jsonb) as u (metric text, amount bigint)`,
    [to.tenantId, JSON.stringify(rows)],
  )
}
