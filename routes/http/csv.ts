// Whether a client asks for CSV.
import type { FastifyRequest } from 'fastify'

/** The quality of a media type in an Accept header (RFC 9110, 12.5.1), by its own name; 0 where it is not named. */
function qualityOf(accept: string, type: string): number {
  for (const part of accept.split(',')) {
    const [name = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase())
    if (name !== type) continue
    const q = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
    return q === undefined ? 1 : Number(q) || 0
  }
  return 0
}

/** CSV where it is named and no less wanted than JSON. A browser's header, which takes anything, does not name it. */
export function wantsCsv({ headers }: FastifyRequest): boolean {
  const accept = headers.accept ?? ''
  const csv = qualityOf(accept, 'text/csv')
  return csv > 0 && csv >= qualityOf(accept, 'application/json')
}
