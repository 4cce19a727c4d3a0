// Values of buckets in which nothing was sent.
import { oneOf } from '../kernel/index.ts'

export const FILLS = ['none', 'null', 'previous', 'linear'] as const
export type Fill = (typeof FILLS)[number]
export const FillSchema = oneOf(FILLS, {
  default: 'none',
  description:
    'Values of empty buckets: left out, null, those of the bucket before, or interpolated. Count (0), sum and rate (null) are never filled: they are amounts',
})

/** Aggregates that are amounts: a value for an empty bucket would be invented. */
const AMOUNTS: readonly string[] = ['count', 'sum', 'rate']
/** What an aggregate is filled with, where `fill` is asked for. */
export const fillOf = (aggregate: string, fill: Fill): Fill => (AMOUNTS.includes(aggregate) ? 'null' : fill)

/**
 * Values in order of time, ascending or descending: null ones get the value before, or what lies on the line between their
 * neighbours.
 */
export function fillGaps(times: readonly number[], values: readonly (number | null)[], fill: Fill): (number | null)[] {
  if (fill === 'none' || fill === 'null') return [...values]
  const inTime = times.map((_, index) => index)
  if (times.length > 1 && times[0]! > times[1]!) inTime.reverse()
  /** For each index that of the nearest known value before it on the way. */
  const neighbours = (way: readonly number[]) => {
    const found = new Map<number, number>()
    let known: number | undefined
    for (const index of way) {
      if (values[index] !== null) known = index
      else if (known !== undefined) found.set(index, known)
    }
    return found
  }
  const before = neighbours(inTime)
  const after = fill === 'linear' ? neighbours(inTime.toReversed()) : before
  return values.map((value, index) => {
    const [b, a] = [before.get(index), after.get(index)]
    if (value !== null || b === undefined || a === undefined) return value
    const share = a === b ? 0 : (times[index]! - times[b]!) / (times[a]! - times[b]!)
    return values[b]! + share * (values[a]! - values[b]!)
  })
}
