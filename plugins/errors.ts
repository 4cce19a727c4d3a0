import type { FastifyError } from 'fastify'
import fp from 'fastify-plugin'
import { Failure, failure } from '../domain/kernel/index.ts'

const BY_CODE: Record<string, Failure['detail']> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_json',
  FST_UNDER_PRESSURE: 'overloaded',
  FST_ERR_BAD_URL: 'route_not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'route_not_found',
}

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
  if (error instanceof SyntaxError && (error as FastifyError).statusCode === 400) return failure('invalid_json')
  return failure('internal')
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
