// Decisions remembered, for the same question is asked on every request.
import type { Context } from '../kernel/index.ts'
import { type Decision, evaluate } from './evaluate.ts'
import type { Grants } from './grants.ts'

const MAX_DECISIONS = 2_000
/** Assignments and overrides expire by the clock; a remembered decision is at most this old. */
const DECISION_MS = 1_000

/** By the grants themselves: when these are read anew, what was decided by the old ones is gone. */
const remembered = new WeakMap<Grants, Map<string, { decision: Decision; at: number }>>()

/** As `evaluate`, from memory where the same was asked within a second. */
export function decide(grants: Grants, permission: string, context: Context, now: number): Decision {
  let decisions = remembered.get(grants)
  if (!decisions) {
    decisions = new Map()
    remembered.set(grants, decisions)
  }
  const key = `${permission} ${context.organizationId} ${context.workspaceId}`
  const known = decisions.get(key)
  if (known && now - known.at < DECISION_MS) return known.decision
  const decision = evaluate(grants, permission, context, now)
  if (decisions.size >= MAX_DECISIONS) decisions.clear()
  decisions.set(key, { decision, at: now })
  return decision
}
