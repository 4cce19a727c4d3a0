// When sessions and keys were used last. Every request would touch these rows, so it is gathered and written in one go.
import { type Database, type Fragment, sql } from '../kernel/index.ts'

const FLUSH_MS = 15_000

/** Gathers times and writes them every fifteen seconds; a crash loses no more than that. */
export class Presence {
  readonly #control: Database
  readonly #sessions = new Map<string, [tenantId: string, id: string, at: string]>()
  readonly #keys = new Map<string, [tenantId: string, id: string, at: string]>()
  #timer: NodeJS.Timeout | undefined

  constructor(control: Database) {
    this.#control = control
  }

  session(tenantId: string, id: string, at: number): void {
    this.#note(this.#sessions, tenantId, id, at)
  }

  key(tenantId: string, id: string, at: number): void {
    this.#note(this.#keys, tenantId, id, at)
  }

  #note(into: Map<string, [string, string, string]>, tenantId: string, id: string, at: number): void {
    if (into.has(id) && this.#timer) return // the first time in an interval says enough
    into.set(id, [tenantId, id, new Date(at).toISOString()])
    this.#timer ??= setTimeout(() => void this.#flush(), FLUSH_MS).unref()
  }

  async #flush(): Promise<void> {
    this.#timer = undefined
    const sessions = take(this.#sessions)
    const keys = take(this.#keys)
    // What cannot be written now is not worth a second try: the next use will say more.
    await this.#control
      .platform(async (queries) => {
        if (sessions.length > 0) await queries.query(lastUse('res_sessions', 'last_seen_at', sessions))
        if (keys.length > 0) await queries.query(lastUse('res_api_keys', 'last_used_at', keys))
      })
      .catch(() => {})
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    if (this.#sessions.size + this.#keys.size > 0) await this.#flush()
  }
}

function take<T>(from: Map<string, T>): T[] {
  const values = [...from.values()]
  from.clear()
  return values
}

/** Rows in the order of their ids, so that two processes that flush at once lock them in the same order. */
function lastUse(table: string, column: string, rows: [string, string, string][]) {
  const at: Fragment = sql.fragment`${sql.identifier([column])}`
  const sorted = rows.sort((a, b) => (a[1] < b[1] ? -1 : 1))
  return sql.run`
    with seen as (select * from ${sql.unnest(sorted, ['uuid', 'uuid', 'timestamptz'])} as v (tenant_id, id, at)),
    locked as (
      select t.tenant_id, t.id, seen.at from ${sql.identifier([table])} t join seen on t.tenant_id = seen.tenant_id and t.id = seen.id
      where t.${at} is null or t.${at} < seen.at order by t.id for update of t)
    update ${sql.identifier([table])} t set ${at} = locked.at from locked where t.tenant_id = locked.tenant_id and t.id = locked.id`
}
