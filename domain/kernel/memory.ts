// What is asked on every request, answered from memory for a second.

const MAX_REMEMBERED = 2_000
/** Assignments, overrides and flags expire by the clock; what is remembered is at most this old. */
const REMEMBERED_MS = 1_000

/**
 * Makes a memory of values by owner and key. What belongs to an owner goes with it: when that is read anew, what followed
 * from the old one is forgotten.
 */
export function rememberBy<Owner extends object>() {
  const memories = new WeakMap<Owner, Map<string, { value: unknown; at: number }>>()
  return <T>(owner: Owner, key: string, now: number, find: () => T): T => {
    let memory = memories.get(owner)
    if (!memory) {
      memory = new Map()
      memories.set(owner, memory)
    }
    const known = memory.get(key)
    if (known && now - known.at < REMEMBERED_MS) return known.value as T
    const value = find()
    if (memory.size >= MAX_REMEMBERED) memory.clear()
    memory.set(key, { value, at: now })
    return value
  }
}
