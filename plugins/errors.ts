import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyError } from 'fastify'
import fp from 'fastify-plugin'
import { Failure, failure, newId } from '../domain/kernel/index.ts'

const BY_CODE: Record<string, Failure['detail']> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_json',
  FST_UNDER_PRESSURE: 'overloaded',
  FST_ERR_BAD_URL: 'route_not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'route_not_found',
  // Of the method QUERY, which no route has, where it came without a content type.
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: 'route_not_found',
}

/** Codes of zlib for a body that is not packed as its Content-Encoding says. */
const UNPACKING = /^Z_(DATA|BUF)_ERROR$/

const BY_PART: Record<string, Failure['detail']> = {
  body: 'invalid_body',
  querystring: 'invalid_query',
  params: 'invalid_params',
  headers: 'invalid_headers',
}

/** What the caller is told of any error. A fault of ours is `internal` and nothing more. */
export function toFailure(error: unknown): Failure {
  if (error instanceof Failure) return error
  const { code, validation, validationContext } = error as FastifyError
  if (validation) {
    const errors = validation.map((v) => ({ path: v.instancePath, rule: v.keyword, message: v.message ?? 'is not valid' }))
    return failure(BY_PART[validationContext ?? 'body'] ?? 'invalid_body', { errors })
  }
  if (code && BY_CODE[code]) return failure(BY_CODE[code])
  if (code && UNPACKING.test(code)) return failure('invalid_json')
  if (error instanceof SyntaxError && (error as FastifyError).statusCode === 400) return failure('invalid_json')
  return failure('internal')
}

/** Codes of Node's HTTP parser → refusals; anything else that it could not read is `malformed_request`. */
const BY_PARSER: Record<string, Failure['detail']> = {
  HPE_HEADER_OVERFLOW: 'headers_too_large',
  ERR_HTTP_REQUEST_TIMEOUT: 'request_timeout',
}

/** Answers what the HTTP parser refused, which never became a request, with the same envelope; then the connection ends. */
export function answerClientError(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  if (socket.writable) {
    const refused = failure(BY_PARSER[error.code ?? ''] ?? 'malformed_request')
    const id = newId()
    const body = JSON.stringify(refused.envelope(id))
    socket.write(
      `HTTP/1.1 ${refused.status} ${STATUS_CODES[refused.status]}\r\nconnection: close\r\nx-correlation-id: ${id}\r\n` +
        `content-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    )
  }
  socket.destroySoon()
}

/** The one error handler and the one not-found handler. */
export default fp(
  async (app) => {
    app.setErrorHandler((error, request, reply) => {
      const refused = toFailure(error)
      if (refused.status >= 500) request.log.error({ err: error, detail: refused.detail }, 'request failed')
      const wait = refused.status === 503 ? 1 : refused.details.retry_after_seconds
      if (wait) reply.header('retry-after', String(wait))
      return reply.status(refused.status).type('application/json; charset=utf-8').send(refused.envelope(request.id))
    })
    app.setNotFoundHandler((request, reply) => reply.status(404).send(failure('route_not_found').envelope(request.id)))
  },
  { name: 'errors', dependencies: ['correlation'] },
)
