import type { FastifyReply, FastifyRequest } from 'fastify'
import { failure } from '../../domain/kernel/index.ts'

/** The version that the caller read, from `If-Match: "7"` or `version` in the body. Refuses with `version_required`. */
export function versionOf(request: FastifyRequest): number {
  const header = request.headers['if-match']
  const quoted = header?.match(/^(?:W\/)?"(\d{1,9})"$/)?.[1]
  const version = quoted === undefined ? (request.body as { version?: number } | undefined | null)?.version : Number(quoted)
  if (version === undefined) throw failure('version_required')
  return version
}

/** Sends a record with its version as ETag. */
export function tagged<T extends { version: number }>(reply: FastifyReply, record: T): { data: T } {
  reply.header('etag', `"${record.version}"`)
  return { data: record }
}
