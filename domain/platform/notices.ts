// What staff tells tenants: announcements, and windows of maintenance in which they read only.
import { type Static, Type } from 'typebox'
import {
  columns,
  failure,
  type ListSpec,
  newId,
  nullable,
  oneOf,
  type Row,
  row,
  sql,
  Text,
  Timestamp,
  type Tx,
  tableOf,
  Uuid,
} from '../kernel/index.ts'

const target = {
  target_tenant_id: nullable(Uuid),
  target_plan: nullable(Type.String({ maxLength: 64, description: 'All tenants of a plan; with neither target it is for all tenants' })),
}
const Title = Type.String({ minLength: 1, maxLength: 120, examples: ['New: stock counts'] })

/** Said in `GET /auth/me` from `starts_at` until `ends_at`, or until it is deleted. */
export const Announcement = row(
  'platform_announcements',
  {
    title: Title,
    body: Type.String({ ...Text, minLength: 1 }),
    level: { ...oneOf(['info', 'warning']), default: 'info' },
    starts_at: Timestamp,
    ends_at: nullable(Timestamp),
    ...target,
  },
  { scope: 'platform', softDelete: false },
)

/** Its tenants read only from `starts_at` to `ends_at`, and are told a week before. */
export const MaintenanceWindow = row(
  'platform_maintenance_windows',
  {
    message: Type.String({ ...Text, minLength: 1, examples: ['Servers are replaced'] }),
    starts_at: Timestamp,
    ends_at: Timestamp,
    ...target,
  },
  { scope: 'platform', softDelete: false },
)

const filter = ['starts_at', 'ends_at', 'target_tenant_id', 'target_plan', 'created_at']
const sort = ['starts_at', 'created_at']
export const announcementList: ListSpec = { row: Announcement, filter: [...filter, 'level'], sort, search: ['title', 'body'] }
export const maintenanceList: ListSpec = { row: MaintenanceWindow, filter, sort, search: ['message'] }

/** Whether a notice has a text in one of the columns that its list searches. */
export const matchesNotice = ({ row: { table }, search = [] }: ListSpec, text: string) =>
  sql.fragment`(${sql.join(
    search.map((column) => sql.fragment`strpos(lower(${sql.identifier([table, column])}), lower(${text}::text)) > 0`),
    sql.fragment` or `,
  )})`

export interface Notice extends Record<string, unknown> {
  id: string
  version: number
  starts_at: string
  ends_at: string | null
  target_tenant_id: string | null
  target_plan: string | null
}

function check({ starts_at, ends_at, target_tenant_id, target_plan }: Notice): void {
  if (ends_at !== null && Date.parse(ends_at) <= Date.parse(starts_at))
    throw failure('invalid_value', { path: '/ends_at', rule: 'after_start', message: 'is not after starts_at' })
  if (target_tenant_id !== null && target_plan !== null)
    throw failure('invalid_value', { path: '/target_plan', rule: 'one_target', message: 'is given beside target_tenant_id' })
}

const names = (row: Row) =>
  sql.join(
    row.writable.map((name) => sql.identifier([name])),
    sql.fragment`, `,
  )

/** Throws `not_found`. */
export async function noticeById(tx: Tx, row: Row, id: string): Promise<Notice> {
  const found = await tx.maybeOne(sql.type(row.schema)`select ${columns(row)} from ${tableOf(row)} where id = ${id}`)
  if (!found) throw failure('not_found')
  return found as unknown as Notice
}

/** Every process knows it when this has committed. Throws `invalid_value`, `invalid_reference` for a target that is not there. */
export async function createNotice(tx: Tx, row: Row, input: object): Promise<Notice> {
  const id = newId()
  const empty = { ends_at: null, target_tenant_id: null, target_plan: null }
  const notice = { ...empty, ...row.complete(input), id } as unknown as Notice
  check(notice)
  await tx.query(sql.run`
    insert into ${tableOf(row)} (id, ${names(row)}) select ${id}, ${names(row)} from jsonb_populate_record(null::${tableOf(row)}, ${sql.jsonb(notice as never)})`)
  return noticeById(tx, row, id)
}

/** Throws `not_found`, `version_conflict`, `invalid_value`, `invalid_reference`. */
export async function updateNotice(
  tx: Tx,
  row: Row,
  id: string,
  version: number,
  { version: _, ...patch }: Record<string, unknown>,
): Promise<Notice> {
  const before = await lockNotice(tx, row, id, version)
  const after = { ...before, ...patch } as Notice
  check(after)
  await tx.query(sql.run`
    update ${tableOf(row)} set (${names(row)}) = (select ${names(row)} from jsonb_populate_record(null::${tableOf(row)}, ${sql.jsonb(after as never)})),
      version = version + 1, updated_at = ${tx.now.toISOString()} where id = ${id}`)
  return noticeById(tx, row, id)
}

/** A window that is deleted ends at once. Throws `not_found`, `version_conflict`. */
export async function removeNotice(tx: Tx, row: Row, id: string, version: number): Promise<void> {
  await lockNotice(tx, row, id, version)
  await tx.query(sql.run`delete from ${tableOf(row)} where id = ${id}`)
}

const Locked = Type.Object({ version: Type.Integer() }, { additionalProperties: false })

async function lockNotice(tx: Tx, row: Row, id: string, version: number): Promise<Notice> {
  const locked: Static<typeof Locked> | null = await tx.maybeOne(
    sql.type(Locked)`select version from ${tableOf(row)} where id = ${id} for update`,
  )
  if (!locked) throw failure('not_found')
  const before = await noticeById(tx, row, id)
  if (locked.version !== version) throw failure('version_conflict', { current: before })
  return before
}
