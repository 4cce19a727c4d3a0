// Which readings count: by what their devices say of them, and within what can be summed up.
import { Type } from 'typebox'
import { type Fragment, failure, sql } from '../kernel/index.ts'
import { MAX_ABSOLUTE_VALUE, QUALITIES } from './message.ts'

/** Codes of qualities. */
export type Qualities = readonly number[]

const NAMES = Object.keys(QUALITIES) as (keyof typeof QUALITIES)[]
export const ALL_QUALITIES: Qualities = Object.values(QUALITIES)
/** What buckets, series and charts are made of, and what hours are summed up of (`plane.is_summed`). */
export const USUAL_QUALITIES: Qualities = [QUALITIES.good, QUALITIES.uncertain]
export const areUsual = (qualities: Qualities): boolean =>
  qualities.length === USUAL_QUALITIES.length && USUAL_QUALITIES.every((quality) => qualities.includes(quality))

export const QualityFilter = Type.String({
  maxLength: 60,
  description: `Readings of these qualities alone: any of ${NAMES.join(', ')}, with commas between. All for readings as they were sent; good and uncertain for buckets, series and charts`,
  examples: ['good,uncertain,bad'],
})

/** Throws `invalid_value` for a word that is none. */
export function qualitiesOf(given: string | undefined, usual: Qualities): Qualities {
  if (given === undefined) return usual
  const names = [...new Set(given.split(','))]
  const wrong = names.find((name) => !Object.hasOwn(QUALITIES, name))
  if (wrong !== undefined)
    throw failure('invalid_value', { path: '/quality', rule: 'name', message: `'${wrong.slice(0, 40)}' is none of ${NAMES.join(', ')}` })
  return names.map((name) => QUALITIES[name as keyof typeof QUALITIES]).sort()
}

/** A condition on `quality` of readings. */
export const hasQuality = (qualities: Qualities): Fragment =>
  qualities.length === ALL_QUALITIES.length ? sql.fragment`true` : sql.fragment`quality = any(${sql.array([...qualities], 'int2')})`

/**
 * A condition on `value` and `quality` of readings that are summed up. Values out of range that were stored before they were
 * refused are left out, so that no sum overflows; NaN is above every number and left out too.
 */
export const isSummed = (qualities: Qualities): Fragment =>
  sql.fragment`(value between ${-MAX_ABSOLUTE_VALUE}::float8 and ${MAX_ABSOLUTE_VALUE}::float8 and ${hasQuality(qualities)})`
