// What a filter can ask of a column, as SQL.
import { failure } from './errors.ts'
import { type Fragment, sql } from './sql.ts'

export const OPERATORS = { in: '=', gt: '>', gte: '>=', lt: '<', lte: '<=', ne: '<>', like: 'like', null: 'null' } as const
export type Operator = keyof typeof OPERATORS

/** A part of a list's query that is refused. */
export const refuseQuery = (path: string, message: string) => failure('invalid_query', { errors: [{ path, rule: 'list', message }] })

/** A column that is one of the values of an array, or stands so to its first. The array carries their type. */
export function compared(name: Fragment, operator: Exclude<Operator, 'like' | 'null'>, list: Fragment): Fragment {
  if (operator === 'in') return sql.fragment`${name} = any(${list})`
  const value = sql.fragment`(${list})[1]`
  if (operator === 'gt') return sql.fragment`${name} > ${value}`
  if (operator === 'gte') return sql.fragment`${name} >= ${value}`
  if (operator === 'lt') return sql.fragment`${name} < ${value}`
  if (operator === 'lte') return sql.fragment`${name} <= ${value}`
  return sql.fragment`${name} <> ${value}`
}

/** Text as LIKE finds it, and nothing else. */
export const escapeLike = (text: string): string => text.replace(/[\\%_]/g, '\\$&')

/** A column whose text holds another somewhere, letters of either case. */
export const contains = (name: Fragment, text: string): Fragment => sql.fragment`${name} ilike ${`%${escapeLike(text)}%`}`
