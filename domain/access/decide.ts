// Decisions remembered, for the same question is asked on every request.
import { type Context, rememberBy } from '../kernel/index.ts'
import { type Decision, evaluate } from './evaluate.ts'
import type { Grants } from './grants.ts'

/** By the grants themselves: when these are read anew, what was decided by the old ones is gone. */
const remembered = rememberBy<Grants>()

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
