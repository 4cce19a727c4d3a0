// Decisions remembered, for the same question is asked on every request.
import type { Context } from '../kernel/index.ts'
import { type Decision, evaluate } from './evaluate.ts'
import type { Grants } from './grants.ts'

const MAX_REMEMBERED = 2_000
/** Assignments and overrides expire by the clock; what is remembered is at most this old. */
const REMEMBERED_MS = 1_000

type Memory = Map<string, { value: unknown; at: number }>
/** By the grants themselves: when these are read anew, what was decided by the old ones is gone. */
const memories = new WeakMap<Grants, Memory>()

function remembered<T>(grants: Grants, key: string, now: number, find: () => T): T {
  let memory = memories.get(grants)
  if (!memory) {
    memory = new Map()
    memories.set(grants, memory)
  }
  const known = memory.get(key)
  if (known && now - known.at < REMEMBERED_MS) return known.value as T
  const value = find()
  if (memory.size >= MAX_REMEMBERED) memory.clear()
  memory.set(key, { value, at: now })
  return value
}

/** As `evaluate`, from memory where the same was asked within a second. */
export const decide = (grants: Grants, permission: string, context: Context, now: number): Decision =>
  remembered(grants, `${permission} ${context.organizationId} ${context.workspaceId}`, now, () =>
    evaluate(grants, permission, context, now),
  )

/** Which of these permissions somebody has in a context, in their order; remembered as long. */
export const allowedOf = (grants: Grants, permissions: Iterable<string>, context: Context, now: number): readonly string[] =>
  remembered(grants, ` ${context.organizationId} ${context.workspaceId}`, now, () =>
    [...permissions].filter((permission) => evaluate(grants, permission, context, now).allowed).sort(),
  )
