// Sums of hours: kept up by a timed job, and told of what comes late.
import { type Static, Type } from 'typebox'
import { type Database, nullable, sql, systemScope, Timestamp, type Tx } from '../kernel/index.ts'

/** A series and the beginning of an hour of it. */
export type LateHour = readonly [series: number, hour: string]

const Before = Type.Object({ before: nullable(Timestamp) }, { additionalProperties: false })

/**
 * Before which moment, in milliseconds, a reading is late; asked before any is written. A shared advisory lock keeps it
 * there until the transaction ends: `plane.mark_hours`, which moves it on, takes the same lock alone. So hours are summed
 * up only when all that was written into them unmarked is there to be seen.
 */
export async function readingsLateBefore(tx: Tx): Promise<number> {
  const { before } = await tx.one(sql.prepared(Before)`
    select nullif(plane.readings_late_before(${tx.tenantId}::uuid), '-infinity') as before`)
  return before === null ? Number.NEGATIVE_INFINITY : Date.parse(before)
}

/** Notes hours that are to be summed up anew; until then they are read as they are. */
export async function noteLateHours(tx: Tx, late: readonly LateHour[]): Promise<void> {
  if (late.length === 0) return
  await tx.query(sql.run`
    insert into tel_hour_late (tenant_id, series_id, hour)
    select ${tx.tenantId}, l.series_id, l.hour from ${sql.unnest(
      late.map(([series, hour]) => [series, hour]),
      ['int8', 'timestamptz'],
    )} as l (series_id, hour)`)
}

const More = Type.Object({ more: Type.Boolean() }, { additionalProperties: false })
/** Weeks of hours, or 20,000 late ones, that are summed up in one go; what is left comes an hour later. */
const MOST_STEPS = 600

const HourFailure = Type.Object(
  { series_id: Type.Integer(), device: Type.String(), metric: Type.String(), error: Type.String() },
  { additionalProperties: false },
)
export type HourFailure = Static<typeof HourFailure>

/**
 * Sums up a tenant's hours to the one that is not over. Two at once wait for each other at the tenant's `tel_hour_state`.
 * Returns the series of which hours could not be summed up, a thousand at most: they hold up no other one.
 */
export async function sumUpHours(database: Database, tenantId: string): Promise<readonly HourFailure[]> {
  const scope = systemScope(tenantId, 'telemetry-sums', 'telemetry-sums')
  // Committed by itself: who writes sees it before anything is summed up.
  await database.write(scope, (tx) => tx.query(sql.run`select plane.mark_hours(${tenantId}::uuid)`))
  for (let step = 0; step < MOST_STEPS; step++) {
    const { more } = await database.write(scope, (tx) => tx.one(sql.prepared(More)`select plane.sum_up_hours(${tenantId}::uuid) as more`))
    if (!more) break
  }
  return database.read(scope, (tx) =>
    tx.any(sql.prepared(HourFailure)`
      select f.series_id, d.code as device, m.code as metric, f.error
      from tel_hour_failure f
      join tel_series s on s.tenant_id = f.tenant_id and s.series_id = f.series_id
      join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id
      join tel_metric m on m.tenant_id = s.tenant_id and m.id = s.metric_id
      where f.tenant_id = ${tx.tenantId} order by f.series_id limit 1000`),
  )
}
