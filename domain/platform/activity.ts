// What tenants do with the platform: counted by each process, written every few seconds, read by staff.
import { type Static, Type } from 'typebox'
import { type Database, type Fragment, nullable, type Queries, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

const WRITE_MS = 5_000
/** Rows that wait to be written. Beyond, requests are not counted rather than held: it takes so many tenants and features in five seconds. */
const MAX_ENTRIES = 20_000
const KEEP_DAYS = 90

export interface AnsweredRequest {
  tenantId: string
  userId: string | null
  /** `erp.parties`, `identity` */
  feature: string
  changes: boolean
  failed: boolean
  durationMs: number
  databaseMs: number
}

interface Sums {
  requests: number
  changes: number
  errors: number
  durationMs: number
  databaseMs: number
}

interface UserSums {
  requests: number
  changes: number
  lastAt: string
}

/**
 * Adds up what requests cost and who made them. Every process writes its own sums in two statements, whatever the number of
 * requests; those of a process that is killed are lost, which a report can bear.
 */
export class Activity {
  readonly #control: Database
  readonly #timer: NodeJS.Timeout
  #tenants = new Map<string, Sums>()
  #users = new Map<string, UserSums>()
  #writing: Promise<void> = Promise.resolve()

  constructor(control: Database) {
    this.#control = control
    this.#timer = setInterval(() => void this.write(), WRITE_MS).unref()
  }

  note({ tenantId, userId, feature, changes, failed, durationMs, databaseMs }: AnsweredRequest, now: Date): void {
    const time = now.toISOString()
    const key = `${tenantId} ${time.slice(0, 13)} ${feature}`
    const sums = this.#tenants.get(key) ?? { requests: 0, changes: 0, errors: 0, durationMs: 0, databaseMs: 0 }
    if (this.#tenants.size >= MAX_ENTRIES && !this.#tenants.has(key)) return
    sums.requests++
    sums.changes += changes ? 1 : 0
    sums.errors += failed ? 1 : 0
    sums.durationMs += durationMs
    sums.databaseMs += databaseMs
    this.#tenants.set(key, sums)
    if (userId === null) return
    const userKey = `${tenantId} ${time.slice(0, 10)} ${userId} ${feature}`
    const user = this.#users.get(userKey) ?? { requests: 0, changes: 0, lastAt: time }
    if (this.#users.size >= MAX_ENTRIES && !this.#users.has(userKey)) return
    user.requests++
    user.changes += changes ? 1 : 0
    user.lastAt = time
    this.#users.set(userKey, user)
  }

  /** Writes what was added up. What cannot be written is dropped with a database that is away. */
  write(): Promise<void> {
    const [tenants, users] = [this.#tenants, this.#users]
    if (tenants.size === 0) return this.#writing
    this.#tenants = new Map()
    this.#users = new Map()
    this.#writing = this.#writing.then(() => this.#write(tenants, users)).catch(() => {})
    return this.#writing
  }

  async #write(tenants: Map<string, Sums>, users: Map<string, UserSums>): Promise<void> {
    // In the order of their keys: two processes that write at once lock the rows in the same order.
    const sorted = <T>(map: Map<string, T>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
    const rows = sorted(tenants).map(([key, sums]) => {
      const [tenantId, hour, feature] = key.split(' ')
      return [
        tenantId!,
        `${hour}:00:00Z`,
        feature!,
        sums.requests,
        sums.changes,
        sums.errors,
        Math.round(sums.durationMs),
        Math.round(sums.databaseMs),
      ]
    })
    const userRows = sorted(users).map(([key, { requests, changes, lastAt }]) => {
      const [tenantId, day, userId, feature] = key.split(' ')
      return [tenantId!, day!, userId!, feature!, requests, changes, lastAt]
    })
    await this.#control.platform(async (queries) => {
      await queries.query(sql.run`
        insert into tenant_activity as a (tenant_id, hour, feature, requests, changes, errors, duration_ms, database_ms)
        select * from ${sql.unnest(rows, ['uuid', 'timestamptz', 'text', 'int8', 'int8', 'int8', 'int8', 'int8'])} as n
        on conflict (tenant_id, hour, feature) do update set requests = a.requests + excluded.requests, changes = a.changes + excluded.changes,
          errors = a.errors + excluded.errors, duration_ms = a.duration_ms + excluded.duration_ms, database_ms = a.database_ms + excluded.database_ms`)
      await queries.query(sql.run`
        insert into tenant_user_activity as a (tenant_id, day, user_id, feature, requests, changes, last_at)
        select * from ${sql.unnest(userRows, ['uuid', 'date', 'uuid', 'text', 'int8', 'int8', 'timestamptz'])} as n
        on conflict (tenant_id, day, user_id, feature) do update set requests = a.requests + excluded.requests, changes = a.changes + excluded.changes,
          last_at = greatest(a.last_at, excluded.last_at)`)
    })
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.write()
  }
}

/** Removes activity past its keep. */
export async function forgetActivity(queries: Queries): Promise<void> {
  await queries.query(sql.run`delete from tenant_activity where hour < now() - make_interval(days => ${KEEP_DAYS})`)
  await queries.query(sql.run`delete from tenant_user_activity where day < now()::date - ${KEEP_DAYS}::int`)
}

const FeatureUse = Type.Object(
  {
    feature: Type.String({ examples: ['erp.parties'] }),
    requests: Type.Integer(),
    changes: Type.Integer(),
    users: Type.Integer({ description: 'How many users used it' }),
    last_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)
const UserUse = Type.Object(
  {
    user_id: Uuid,
    name: nullable(Type.String()),
    email: nullable(Type.String()),
    requests: Type.Integer(),
    changes: Type.Integer(),
    last_at: Timestamp,
  },
  { additionalProperties: false },
)
export const TenantActivity = Type.Object(
  {
    features: Type.Array(FeatureUse, { description: 'What was used, the most used first' }),
    users: Type.Array(UserUse, { description: 'By whom, the latest first; 100 at most' }),
  },
  { additionalProperties: false },
)

/** What the tenant of the unit of work used in the last `days`, and by whom. */
export async function activityOf(tx: Tx, days: number): Promise<Static<typeof TenantActivity>> {
  const since = new Date(tx.now.getTime() - days * 86_400_000).toISOString()
  const features = await tx.any(sql.prepared(FeatureUse)`
    select a.feature, sum(a.requests)::int8 as requests, sum(a.changes)::int8 as changes, max(u.users)::int as users, max(u.last_at) as last_at
    from tenant_activity a
    left join lateral (select count(distinct x.user_id) as users, max(x.last_at) as last_at from tenant_user_activity x
      where x.tenant_id = a.tenant_id and x.feature = a.feature and x.day >= ${since}::timestamptz::date) as u on true
    where a.tenant_id = ${tx.tenantId} and a.hour >= ${since} group by a.feature order by 2 desc, 1`)
  const users = await tx.any(sql.prepared(UserUse)`
    select a.user_id, u.name, u.email, sum(a.requests)::int8 as requests, sum(a.changes)::int8 as changes, max(a.last_at) as last_at
    from tenant_user_activity a left join res_users u on u.tenant_id = a.tenant_id and u.id = a.user_id and u.deleted_at is null
    where a.tenant_id = ${tx.tenantId} and a.day >= ${since}::timestamptz::date group by a.user_id, u.name, u.email order by 6 desc limit 100`)
  return { features: [...features], users: [...users] }
}

export const TrialReport = Type.Object(
  {
    tenant_id: Uuid,
    slug: Type.String(),
    name: Type.String(),
    plan: nullable(Type.String()),
    trial_ends_at: nullable(Timestamp),
    requests: Type.Integer(),
    changes: Type.Integer(),
    active_days: Type.Integer({ description: 'Days with a request of a user' }),
    users: Type.Integer({ description: 'Users who made a request' }),
    features: Type.Array(Type.String(), { description: 'Features in which something was changed' }),
    last_at: nullable(Timestamp),
  },
  { additionalProperties: false },
)

/** Tenants on trial with what they used in the last 30 days, the next to end first. `after` is end and id of the last one before. */
export const trialReport = (
  queries: Queries,
  limit: number,
  after: readonly unknown[] | null,
): Promise<readonly Static<typeof TrialReport>[]> =>
  queries.any(sql.prepared(TrialReport)`
    select t.id as tenant_id, t.slug, t.name,
      (select p.plan from tenant_platform_products p where p.tenant_id = t.id and p.plan is not null limit 1) as plan, t.trial_ends_at,
      coalesce(u.requests, 0)::int8 as requests, coalesce(u.changes, 0)::int8 as changes, coalesce(u.active_days, 0)::int as active_days,
      coalesce(u.users, 0)::int as users, coalesce(u.features, '{}') as features, u.last_at
    from tenants t
    left join lateral (select sum(a.requests) as requests, sum(a.changes) as changes, count(distinct a.day) as active_days, count(distinct a.user_id) as users,
        array_agg(distinct a.feature order by a.feature) filter (where a.changes > 0) as features, max(a.last_at) as last_at
      from tenant_user_activity a where a.tenant_id = t.id and a.day >= now()::date - 30) as u on true
    where t.kind = 'customer' and t.status = 'active' and t.trial_ends_at is not null
      and not exists (select from billing_subscriptions b where b.tenant_id = t.id and b.status <> 'cancelled')
      ${after ? sql.fragment`and (t.trial_ends_at, t.id) > (${String(after[0])}::timestamptz, ${String(after[1])}::uuid)` : sql.fragment``}
    order by t.trial_ends_at, t.id limit ${limit}`)

export const PERFORMANCE_ORDERS = ['requests', 'errors', 'database_ms', 'duration_ms'] as const
export const TenantPerformance = Type.Object(
  {
    tenant_id: Uuid,
    slug: Type.String(),
    requests: Type.Integer(),
    changes: Type.Integer(),
    errors: Type.Integer({ description: 'Answers of 500 and above' }),
    duration_ms: Type.Integer({ description: 'Of all requests together' }),
    database_ms: Type.Integer({ description: 'Of it, in units of work on databases' }),
    mean_ms: Type.Number(),
  },
  { additionalProperties: false },
)

/** Tenants that had the most of something in the last hours. */
export const tenantPerformance = (
  queries: Queries,
  hours: number,
  order: (typeof PERFORMANCE_ORDERS)[number],
  limit: number,
): Promise<readonly Static<typeof TenantPerformance>[]> => {
  const by: Fragment = sql.identifier([order]) as never
  return queries.any(sql.prepared(TenantPerformance)`
    select * from (
      select a.tenant_id, t.slug, sum(a.requests)::int8 as requests, sum(a.changes)::int8 as changes, sum(a.errors)::int8 as errors,
        sum(a.duration_ms)::int8 as duration_ms, sum(a.database_ms)::int8 as database_ms,
        round(sum(a.duration_ms)::numeric / greatest(sum(a.requests), 1), 1)::float8 as mean_ms
      from tenant_activity a join tenants t on t.id = a.tenant_id
      where a.hour > now() - make_interval(hours => ${hours}) group by a.tenant_id, t.slug) as p
    order by ${by} desc, tenant_id limit ${limit}`)
}
