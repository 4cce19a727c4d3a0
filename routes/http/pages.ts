// Pages of what is no list of rows: the place where the next one begins is signed, as every list's is.
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { type ListQuery, readCursor, writeCursor } from '../../domain/kernel/index.ts'

/** Query parameters of a list in pages. */
export const PAGING = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 200, default: 50 })),
  cursor: Type.Optional(Type.String({ maxLength: 2000, description: 'next_cursor of the page before' })),
}

/** What is asked for is in the list's name, so a cursor is good for the same question alone. */
const PLAIN: ListQuery = { limit: 0, sort: [], filters: [], expand: [] }
const scopeOf = (request: FastifyRequest, list: string): string => `${request.tenant.id} ${list}`

/** The place in a cursor, or null for the first page. Refuses with `invalid_cursor`. */
export const placeIn = (request: FastifyRequest, list: string, cursor: string | undefined): unknown[] | null =>
  cursor === undefined ? null : readCursor(request.server.services.settings.cursorKey, scopeOf(request, list), PLAIN, cursor)

/** Where the next page begins, as a cursor. */
export const nextPlace = (request: FastifyRequest, list: string, place: unknown[]): string =>
  writeCursor(request.server.services.settings.cursorKey, scopeOf(request, list), PLAIN, place)

/** A page of what was found, one more than `limit` where there is more. `placeOf` says where an entry stands. */
export function pageOf<T>(request: FastifyRequest, list: string, limit: number, found: readonly T[], placeOf: (last: T) => unknown[]) {
  const data = found.slice(0, limit)
  return { data, pagination: { limit, next_cursor: found.length > limit ? nextPlace(request, list, placeOf(data.at(-1)!)) : null } }
}
