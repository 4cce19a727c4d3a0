// What a tenant uses of its plan.
import { type Static, Type } from 'typebox'
import { type Database, type Limits, limitOf, type Metric, nullable, sql, type Tx } from '../kernel/index.ts'

const WRITE_MS = 1_000
const ASKED_MS = 60_000
const Total = Type.Object({ tenant_id: Type.String(), amount: Type.Integer() }, { additionalProperties: false })

interface Count {
  /** The month that it is of: `2026-11`. */
  month: string
  /** Of this process, not written yet. */
  pending: number
  /** Of all processes, when it was asked last; null until it was. */
  total: number | null
  /** When the last call of a tenant with a limit came: while it works, the process asks what others counted. */
  limitedAt: number
}

/**
 * Counts calls of the API. Every process adds up its own and writes them once a second, for a counter that every request
 * wrote would be the slowest row of the database. No call is counted twice or forgotten by a process that ends orderly;
 * a limit is held to within what all processes let through in that second.
 */
export class ApiCalls {
  readonly #control: Database
  readonly #counts = new Map<string, Count>()
  readonly #timer: NodeJS.Timeout
  #writing: Promise<void> = Promise.resolve()

  constructor(control: Database) {
    this.#control = control
    this.#timer = setInterval(() => void this.write(), WRITE_MS).unref()
  }

  /** Counts one call. False when the month's limit is reached: then it is not counted. */
  take(tenantId: string, limit: number | null | undefined, now: Date): boolean {
    const month = now.toISOString().slice(0, 7)
    let count = this.#counts.get(tenantId)
    if (!count || count.month !== month) {
      if (count && count.pending > 0) void this.write()
      count = { month, pending: 0, total: null, limitedAt: 0 }
      this.#counts.set(tenantId, count)
    }
    if (limit != null) count.limitedAt = now.getTime()
    if (isReached(count, limit)) return false
    count.pending++
    return true
  }

  /** Whether the next call of a tenant would be refused. */
  exhausted(tenantId: string, limit: number | null | undefined, now: Date): boolean {
    const count = this.#counts.get(tenantId)
    return count !== undefined && count.month === now.toISOString().slice(0, 7) && isReached(count, limit)
  }

  /** Writes what was counted and learns what others counted. A failure leaves it for the next time. */
  write(): Promise<void> {
    // Taken now, before a month's first call can replace it.
    const now = Date.now()
    const due = [...this.#counts]
      .filter(([, { pending, total, limitedAt }]) => pending > 0 || total === null || now - limitedAt < ASKED_MS)
      .sort(([a], [b]) => (a < b ? -1 : 1))
    this.#writing = this.#writing.then(() => this.#write(due))
    return this.#writing
  }

  async #write(due: readonly [string, Count][]): Promise<void> {
    if (due.length === 0) return
    const taken = due.map(([tenantId, count]) => ({ tenantId, count, amount: count.pending }))
    try {
      const rows = taken.map(({ tenantId, count, amount }) => [tenantId, `${count.month}-01`, amount])
      const totals = await this.#control.platform((queries) =>
        queries.any(sql.prepared(Total)`
        with due as (select * from ${sql.unnest(rows, ['uuid', 'date', 'int8'])} as n (tenant_id, period, amount)),
        written as (
          insert into usage_counters as c (tenant_id, metric, period, amount)
          select tenant_id, 'api_calls', period, amount from due where amount > 0 order by tenant_id
          on conflict (tenant_id, metric, period) do update set amount = c.amount + excluded.amount
          returning tenant_id, amount)
        select tenant_id, amount from written
        union all
        select d.tenant_id, coalesce(c.amount, 0) from due d
        left join usage_counters c on c.tenant_id = d.tenant_id and c.metric = 'api_calls' and c.period = d.period where d.amount = 0`),
      )
      const byTenant = new Map(totals.map((row) => [row.tenant_id, row.amount]))
      // Both at once: what is on its way to the database counts here until it counts there.
      for (const { tenantId, count, amount } of taken) {
        count.pending -= amount
        count.total = byTenant.get(tenantId) ?? count.total
      }
    } catch {
      // it stays pending
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.write()
  }
}

const isReached = ({ total, pending }: Count, limit: number | null | undefined): boolean =>
  limit !== null && limit !== undefined && (total ?? 0) + pending >= limit

const METRICS: readonly Metric[] = [
  'users',
  'records',
  'devices',
  'storage',
  'api_calls',
  'readings',
  'device_metrics',
  'metrics',
  'series',
]
export const Usage = Type.Object({
  metric: Type.String({
    description: 'storage in bytes, api_calls of this month, readings of the last whole minute, device_metrics of the device with the most',
  }),
  used: Type.Integer(),
  limit: nullable(Type.Integer({ description: 'Null is without limit' })),
})

/** How much of each limit a tenant uses. @param read runs a unit of work of the tenant in the plane that knows the metric */
export const usageOf = (
  limits: Limits,
  read: (work: (tx: Tx) => Promise<number>, plane: 'control' | 'data' | 'telemetry') => Promise<number>,
): Promise<Static<typeof Usage>[]> =>
  Promise.all(
    METRICS.map(async (metric) => ({
      metric,
      used: await read((tx) => used(tx, metric), planeOf(metric)),
      limit: limitOf(limits, metric),
    })),
  )

const Sum = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

/**
 * How many of a metric are used, in the plane that knows it; of calls those of this month, of readings those of the last whole
 * minute, of `device_metrics` those of the device that has the most.
 */
async function used(tx: Tx, metric: Metric): Promise<number> {
  const { n } = await tx.one(sql.prepared(Sum)`${countOf(tx, metric)}`)
  return n
}

/** The plane that knows how many there are. */
const planeOf = (metric: Metric): 'control' | 'data' | 'telemetry' => PLANES[metric]

const PLANES = {
  users: 'control',
  api_calls: 'control',
  records: 'data',
  storage: 'data',
  devices: 'telemetry',
  readings: 'telemetry',
  device_metrics: 'telemetry',
  metrics: 'telemetry',
  series: 'telemetry',
} as const satisfies Record<Metric, 'control' | 'data' | 'telemetry'>

function countOf(tx: Tx, metric: Metric) {
  switch (metric) {
    case 'users':
      return sql.fragment`select count(*) as n from res_users where tenant_id = ${tx.tenantId} and deleted_at is null`
    case 'devices':
      return sql.fragment`select count(*) as n from tel_device where tenant_id = ${tx.tenantId} and deleted_at is null`
    case 'metrics':
      return sql.fragment`select count(*) as n from tel_metric where tenant_id = ${tx.tenantId}`
    case 'series':
      return sql.fragment`select count(*) as n from tel_series s
        join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id and d.deleted_at is null where s.tenant_id = ${tx.tenantId}`
    case 'device_metrics':
      return sql.fragment`select coalesce(max(n), 0) as n from (
        select count(*) as n from tel_series s join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id and d.deleted_at is null
        where s.tenant_id = ${tx.tenantId} group by s.device_id) as devices`
    case 'readings':
      return sql.fragment`select coalesce(sum(readings), 0)::int8 as n from tel_intake
        where tenant_id = ${tx.tenantId} and minute = date_trunc('minute', ${tx.now.toISOString()}::timestamptz) - interval '1 minute'`
    case 'api_calls':
      return sql.fragment`select coalesce(sum(amount), 0)::int8 as n from usage_counters
        where tenant_id = ${tx.tenantId} and metric = 'api_calls' and period = date_trunc('month', ${tx.now.toISOString()}::timestamptz)::date`
    default:
      return sql.fragment`select coalesce(sum(amount), 0)::int8 as n from plane.usage_changes where tenant_id = ${tx.tenantId} and metric = ${metric}`
  }
}
