// Answers of any length as CSV or NDJSON: a page in memory at a time.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { csvLine } from '../../domain/files/index.ts'

const FORMATS = { 'text/csv': 'csv', 'application/x-ndjson': 'ndjson' } as const
type Format = (typeof FORMATS)[keyof typeof FORMATS]
const TYPES: Record<Format, string> = { csv: 'text/csv; charset=utf-8', ndjson: 'application/x-ndjson' }

/** The form of lines that `Accept` asks for; undefined for JSON. */
export const formatOf = (request: FastifyRequest): Format | undefined => FORMATS[request.headers.accept as keyof typeof FORMATS]

/** Sends records as lines. What is wrong is to be said before: the first line says 200. */
export function sendLines<R extends object>(
  reply: FastifyReply,
  format: Format,
  columns: readonly (keyof R & string)[],
  pages: AsyncIterable<readonly R[]> | Iterable<readonly R[]>,
): FastifyReply {
  async function* lines() {
    if (format === 'csv') yield csvLine(columns)
    for await (const page of pages)
      yield page.map((record) => (format === 'csv' ? csvLine(columns.map((name) => record[name])) : `${JSON.stringify(record)}\n`)).join('')
  }
  return reply.type(TYPES[format]).header('content-disposition', `attachment; filename="readings.${format}"`).send(Readable.from(lines()))
}
