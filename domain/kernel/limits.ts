// How many of something the tenant's plan lets it have.
import { Type } from 'typebox'
import type { Metric, Tx } from './context.ts'
import { failure } from './errors.ts'
import { oneAtATime } from './rules.ts'
import { type Fragment, sql } from './sql.ts'

const Count = Type.Object({ n: Type.Integer() }, { additionalProperties: false })

/**
 * Makes sure that so many more fit the plan. A lock of the tenant and metric is held until the transaction ends, so that of
 * twenty who take the last place at once one gets it: the others count when he has committed. Throws `plan_limit`.
 * @param counted selects `n`, how many there are
 */
export async function requireRoom(tx: Tx, metric: Metric, adding: number, counted: Fragment): Promise<void> {
  const limit = tx.limits[metric]
  if (limit === undefined || limit === null) return
  await oneAtATime(tx, `${tx.tenantId} ${metric}`)
  const { n } = await tx.one(sql.type(Count)`${counted}`)
  if (n + adding > limit) throw failure('plan_limit', { metric, limit, used: n })
}
