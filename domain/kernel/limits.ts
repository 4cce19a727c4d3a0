// How many of something the tenant's plan lets it have.
import { Type } from 'typebox'
import type { Limits, Metric, Tx } from './context.ts'
import { failure } from './errors.ts'
import { oneAtATime } from './rules.ts'
import { type Fragment, sql } from './sql.ts'

const Count = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

/** Limits of plans that do not name them. Devices make metrics and series by sending them, so there is a limit in every plan. */
const DEFAULT_LIMITS: Limits = { device_metrics: 200, metrics: 5_000, series: 50_000 }

/** How many of a metric a plan allows; null is without limit. */
export const limitOf = (limits: Limits, metric: Metric): number | null =>
  (limits[metric] === undefined ? DEFAULT_LIMITS[metric] : limits[metric]) ?? null

/**
 * Makes sure that so many more fit the plan. A lock of the tenant and metric is held until the transaction ends, so that of
 * twenty who take the last place at once one gets it: the others count when he has committed. Throws `plan_limit`.
 * @param counted selects `n`, how many there are
 */
export async function requireRoom(tx: Tx, metric: Metric, adding: number, counted: Fragment): Promise<void> {
  const limit = limitOf(tx.limits, metric)
  if (limit === null) return
  await oneAtATime(tx, `${tx.tenantId} ${metric}`)
  const { n } = await tx.one(sql.type(Count)`${counted}`)
  if (n + adding > limit) throw failure('plan_limit', { metric, limit, used: n })
}
