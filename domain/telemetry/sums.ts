// Sums of hours: kept up by a timed job, and told of what comes late.
import { Type } from 'typebox'
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

/** Sums up a tenant's hours to the one that is not over. Two at once wait for each other at the tenant's `tel_hour_state`. */
export async function sumUpHours(database: Database, tenantId: string): Promise<void> {
  const scope = systemScope(tenantId, 'telemetry-sums', 'telemetry-sums')
  // Committed by itself: who writes sees it before anything is summed up.
  await database.write(scope, (tx) => tx.query(sql.run`select plane.mark_hours(${tenantId}::uuid)`))
  for (let step = 0; step < MOST_STEPS; step++) {
    const { more } = await database.write(scope, (tx) => tx.one(sql.prepared(More)`select plane.sum_up_hours(${tenantId}::uuid) as more`))
    if (!more) return
  }
}
