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

/** A copy without secrets, which are known by their names. Its depth has an end, so that a ring is no trap. */
function censored(value: unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (depth === MAX_DEPTH) return '[deeper]'
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
