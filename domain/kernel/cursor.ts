// Opaque, signed places in a list.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { failure } from './errors.ts'
import type { ListQuery } from './list.ts'

/** What a cursor is good for: this tenant and context, this list, this filter and sort. Limit, fields and expand may change. */
const bindingOf = (scope: string, { sort, filters, q }: ListQuery): string => JSON.stringify([scope, sort, filters, q ?? null])

const sign = (key: KeyObject, binding: string, payload: string) =>
  createHmac('sha256', key).update(binding).update('\n').update(payload).digest().subarray(0, 16)

/** The cursor of the page that starts after these values. */
export function writeCursor(key: KeyObject, scope: string, query: ListQuery, next: unknown[]): string {
  const payload = Buffer.from(JSON.stringify(next)).toString('base64url')
  return `${payload}.${sign(key, bindingOf(scope, query), payload).toString('base64url')}`
}

/** The values in a cursor; refuses with `invalid_cursor` one that is forged or of another list. */
export function readCursor(key: KeyObject, scope: string, query: ListQuery, cursor: string): unknown[] {
  const [payload = '', signature = ''] = cursor.split('.')
  const expected = sign(key, bindingOf(scope, query), payload)
  const given = Buffer.from(signature, 'base64url')
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw failure('invalid_cursor')
  return JSON.parse(Buffer.from(payload, 'base64url').toString()) as unknown[]
}
