// Bodies, queries and params against TypeBox, one technology for the wire and for rows; and what no text may contain.
import type { FastifySchema } from 'fastify'
import fp from 'fastify-plugin'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { failure } from '../domain/kernel/index.ts'

const MAX_DEPTH = 32
/** Secrets are taken as they are; everything else is trimmed. */
const VERBATIM = /password|secret|token/i

/** Trims every string of a body; refuses NUL bytes, half characters and depth that only an attack has. */
export function clean(value: unknown, path = '', depth = 0): unknown {
  const refuse = (message: string) => failure('invalid_body', { errors: [{ path, rule: 'text', message }] })
  if (depth > MAX_DEPTH) throw refuse(`is nested deeper than ${MAX_DEPTH}`)
  if (typeof value === 'string') {
    if (value.includes('\u0000')) throw refuse('contains a NUL byte')
    if (!value.isWellFormed()) throw refuse('is not valid Unicode')
    return VERBATIM.test(path.slice(path.lastIndexOf('/') + 1)) ? value : value.trim()
  }
  if (Array.isArray(value)) return value.map((item, index) => clean(item, `${path}/${index}`, depth + 1))
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [clean(key, path, depth + 1) as string, clean(item, `${path}/${key}`, depth + 1)]),
    )
  }
  return value
}

const MAX_ERRORS = 20

export default fp(
  async (app) => {
    // A POST without a body, such as a transition with If-Match, is fine even when the client names a content type.
    const parse = app.getDefaultJsonParser('error', 'error')
    app.removeContentTypeParser('application/json')
    app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
      if (body === '') done(null, undefined)
      else parse(request, body as string, done)
    })
    app.setValidatorCompiler<TSchema & FastifySchema>(({ schema, httpPart }) => {
      const compiled = Compile(schema as TSchema)
      // Where nothing is needed, no body at all means an empty one.
      const empty = (schema as { type?: string }).type === 'object' && !(schema as { required?: string[] }).required?.length
      return (given) => {
        let value = given
        try {
          if (httpPart === 'body') value = clean(given ?? (empty ? {} : given))
          else if (httpPart !== 'headers') value = Value.Convert(schema as TSchema, clean(given))
        } catch (error) {
          return { error: error as Error }
        }
        if (compiled.Check(value)) return { value }
        return {
          error: compiled
            .Errors(value)
            .slice(0, MAX_ERRORS)
            .map((e) => ({ ...e, message: e.message })) as never,
        }
      }
    })
  },
  { name: 'validation' },
)
