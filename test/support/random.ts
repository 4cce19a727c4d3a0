// Random choices that a printed seed repeats.
import { randomInt } from 'node:crypto'

export interface Random {
  seed: number
  /** 0 ≤ n < 1. */
  next(): number
  /** 0 ≤ n < below. */
  below(below: number): number
  pick<T>(of: readonly T[]): T
}

/** The seed is TEST_SEED where that is set. */
export function seeded(seed = Number(process.env.TEST_SEED) || randomInt(2 ** 31)): Random {
  let state = seed >>> 0
  // Mulberry32.
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return { seed, next, below, pick: (of) => of[below(of.length)]! }
}
