// One line of JSON an event, the same fields on every line.
import { type DestinationStream, type Logger, pino } from 'pino'

export interface Log {
  root: Logger
  /** The logger of a request or a message: its lines carry the correlation id, and the tenant once it is known. */
  ofRequest(correlationId: string, tenantId?: string): RequestLog
}

type Level = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

/** Adds fields to each line when it is written. A pino child would serialize them when it is made, and most requests write one line. */
export class RequestLog {
  readonly #root: Logger
  readonly #fields: object

  constructor(root: Logger, fields: object) {
    this.#root = root
    this.#fields = fields
  }

  get level(): string {
    return this.#root.level
  }

  child(fields: object): RequestLog {
    return new RequestLog(this.#root, { ...this.#fields, ...fields })
  }

  fatal = (what: unknown, message?: string) => this.#write('fatal', what, message)
  error = (what: unknown, message?: string) => this.#write('error', what, message)
  warn = (what: unknown, message?: string) => this.#write('warn', what, message)
  info = (what: unknown, message?: string) => this.#write('info', what, message)
  debug = (what: unknown, message?: string) => this.#write('debug', what, message)
  trace = (what: unknown, message?: string) => this.#write('trace', what, message)
  silent = () => {}

  #write(level: Level, what: unknown, message?: string): void {
    if (typeof what === 'string') this.#root[level](this.#fields, what)
    else this.#root[level]({ ...this.#fields, ...(what instanceof Error ? { err: what } : (what as object)) }, message)
  }
}

const TOP = new Set(['correlation_id', 'tenant_id', 'context', 'user_id', 'module', 'action', 'err'])

const SECRET = /^(authorization|cookie|set-cookie|(\w+_)?(password|secret|token)|device-key|challenge|recovery_codes?|smtp_url)$/i

const MAX_DEPTH = 6
const MAX_CAUSES = 8

/** Our own refusals say why in one word; PostgreSQL says it in a sentence with the values of the row, which stays out. */
const WORD = /^[a-z_]+$/
/** SQLSTATE classes whose messages quote the value that was refused: 22 (data), 23 (constraints). */
const QUOTES_VALUES = /^2[23]/

/** An error, or a copy of one as a plain object, which libraries make to add to its message. */
const isError = (value: unknown): value is Error =>
  value instanceof Error || (typeof value === 'object' && value !== null && 'stack' in value && 'message' in value)

/**
 * The parts of an error that a log line shows: its kind, message, code, refusal, constraint and place, and the same of its causes.
 * Whatever else it carries (bind values, rows, headers of a request) is left out, by naming what stays.
 */
export function describeError(error: unknown, depth = 0): unknown {
  if (!isError(error)) return typeof error === 'object' ? '[no error]' : error
  const { code, detail, constraint, cause, errors } = error as Error & Record<string, unknown>
  const quoted = typeof code === 'string' && QUOTES_VALUES.test(code)
  const text = String(error.message)
  const message = quoted ? text.replace(/"[^"]*"|'[^']*'|\([^)]*\)/g, '***') : text
  const nested = depth < MAX_CAUSES
  return {
    type: error.constructor.name,
    message,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(typeof detail === 'string' && WORD.test(detail) ? { detail } : {}),
    ...(typeof constraint === 'string' ? { constraint } : {}),
    // The frames alone: the first lines repeat the message.
    stack: String(error.stack ?? '')
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .join('\n'),
    ...(isError(cause) && nested ? { cause: describeError(cause, depth + 1) } : {}),
    ...(Array.isArray(errors) && nested ? { errors: errors.slice(0, 10).map((one) => describeError(one, depth + 1)) } : {}),
  }
}

/** A copy without secrets, which are known by their names. Its depth has an end, so that a ring is no trap. */
function censored(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (depth === MAX_DEPTH) return '[deeper]'
  if (isError(value)) return describeError(value, depth)
  if ('toJSON' in value && typeof value.toJSON === 'function') return censored(value.toJSON(), depth + 1)
  if (Array.isArray(value)) return value.map((item) => censored(item, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, SECRET.test(key) ? '***' : censored(item, depth + 1)]))
}

/** Puts what a line says of itself under `data`, so that the top level is the same everywhere. */
function shape(line: Record<string, unknown>): Record<string, unknown> {
  const data: Record<string, unknown> = {}
  const top: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(line)) (TOP.has(key) ? top : data)[key] = value
  return { ...top, data: censored(data) }
}

/** The process's log. Secrets are removed by name wherever they stand. */
export function createLog(service: string, level: string, destination?: DestinationStream): Log {
  const base = pino(
    {
      level,
      messageKey: 'message',
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      base: { service },
      serializers: { err: (error: unknown) => describeError(error) },
      formatters: { level: (label) => ({ level: label }), log: shape },
    },
    destination as DestinationStream,
  )
  const empty = { correlation_id: null, tenant_id: null, context: null }
  return {
    root: base.child(empty),
    ofRequest: (correlationId, tenantId) =>
      new RequestLog(base, { correlation_id: correlationId, tenant_id: tenantId ?? null, context: null }),
  }
}
