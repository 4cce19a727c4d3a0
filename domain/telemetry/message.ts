// What a device sends, and what is wrong with it.
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'

export const MAX_MESSAGE_BYTES = 256 * 1024
/** Characters of a device's code. */
export const MAX_DEVICE = 64
const MAX_AHEAD_MS = 5 * 60_000
/**
 * The largest absolute value of a reading. Sums of squares over 1e8 readings of it stay within a double (1.8e308), so that
 * no aggregate overflows. "No value" sentinels such as DBL_MAX lie beyond it.
 */
export const MAX_ABSOLUTE_VALUE = 1e100
/** Characters of a refused reading that are repeated in the rejected topic. */
const MAX_SAMPLE = 300
const DAY_MS = 86_400_000
export const QUALITIES = { good: 0, uncertain: 1, bad: 2 } as const

export const TelemetryMessage = Type.Object(
  {
    tenant: Type.String({ minLength: 1, maxLength: 63 }),
    device: Type.String({ minLength: 1, maxLength: MAX_DEVICE }),
    sent_at: Type.Optional(Type.String({ maxLength: 40 })),
    readings: Type.Array(
      Type.Object(
        {
          ts: Type.String({ maxLength: 40 }),
          metric: Type.String({ minLength: 1, maxLength: 64 }),
          value: Type.Number({ minimum: -MAX_ABSOLUTE_VALUE, maximum: MAX_ABSOLUTE_VALUE }),
          quality: Type.Optional(Type.Unsafe<keyof typeof QUALITIES>({ type: 'string', enum: Object.keys(QUALITIES) })),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 10_000 },
    ),
  },
  { additionalProperties: false },
)
export type TelemetryMessage = Static<typeof TelemetryMessage>

/** Why a reading or a whole message was refused. One word for an unknown device and a wrong key: nobody learns which. */
export type RejectionReason =
  | 'malformed'
  | 'too_large'
  | 'unknown_tenant'
  | 'unauthorized'
  | 'tenant_blocked'
  | 'module_unavailable'
  | 'over_limit'
  | 'device_metric_limit'
  | 'metric_limit'
  | 'series_limit'
  | 'invalid_reading'
  | 'out_of_range'
  | 'already_recorded'
  | 'unprocessable'
  | 'unknown_metric'
  | 'out_of_limits'
  | 'in_future'
  | 'too_old'

export interface GoodReading {
  metric: string
  /** Milliseconds since 1970. */
  at: number
  value: number
  quality: number
}

const Envelope = Compile(
  Type.Object({
    tenant: TelemetryMessage.properties.tenant,
    device: TelemetryMessage.properties.device,
    readings: Type.Array(Type.Unknown(), { minItems: 1, maxItems: 10_000 }),
  }),
)
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/

export interface Refused {
  reason: RejectionReason
  count: number
  /** The first of these readings as it was sent, as JSON, cut to 300 characters. */
  sample?: string
}

export interface Parsed {
  tenant: string
  device: string
  good: GoodReading[]
  rejected: Refused[]
}

/** Counts refused readings by reason and keeps the first of each reason as a sample. */
export class RefusedCounts {
  readonly #byReason = new Map<RejectionReason, Refused>()

  constructor(refused: readonly Refused[] = []) {
    for (const one of refused) this.#byReason.set(one.reason, { ...one })
  }

  add(reason: RejectionReason, reading: unknown): void {
    const known = this.#byReason.get(reason)
    if (known) known.count++
    else this.#byReason.set(reason, { reason, count: 1, sample: sampleOf(reading) })
  }

  list(): Refused[] {
    return [...this.#byReason.values()]
  }
}

function sampleOf(reading: unknown): string {
  try {
    return (JSON.stringify(reading) ?? '').slice(0, MAX_SAMPLE)
  } catch {
    return '' // nested too deeply
  }
}

/** Whether PostgreSQL can store the text: it has neither NUL nor half of a surrogate pair. */
const isStorable = (text: string): boolean => text.isWellFormed() && !text.includes('\u0000')

/** The text of a key whose value is a plain string, wherever it stands in a message. */
function plainText(value: Buffer, key: string): string | null {
  const start = value.indexOf(`"${key}"`)
  if (start < 0) return null
  const after = value.toString('utf8', start + key.length + 2, start + key.length + 300)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON allows none in a string, and PostgreSQL stores no NUL
  return after.match(/^\s*:\s*"([^"\\\u0000-\u001f]{1,64})"/)?.[1] ?? null
}

export interface ClaimedSender {
  tenant: string
  device: string
}

/**
 * The tenant and device that a message names, without parsing all of it. A claim: it proves nothing until the message's
 * key was checked for it. Null where it cannot be told so easily, and for what is too large to be read.
 */
export const claimedSender = (value: Buffer | null): ClaimedSender | null =>
  value && value.length <= MAX_MESSAGE_BYTES ? claimIn(value) : null

/** As `claimedSender`, for messages of any size. */
export function claimIn(value: Buffer): ClaimedSender | null {
  const [tenant, device] = [plainText(value, 'tenant'), plainText(value, 'device')]
  return tenant !== null && device !== null && tenant.length <= 63 ? { tenant, device } : null
}

/** Strings of a JSON text, also one that does not end, so that the search is linear; they stay as they are, and the literals that Python's `json.dumps` writes and JSON does not have. */
const NOT_JSON = /"(?:[^"\\]|\\.)*(?:"|\\?$)|-?\b(?:NaN|Infinity)\b/gs

/** Parses JSON; NaN and Infinity become null, so that only their own readings are refused. Throws for any other text. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error
    return JSON.parse(text.replace(NOT_JSON, (token) => (token.startsWith('"') ? token : 'null')))
  }
}

/**
 * Parses a message: bad readings are refused by reason, and never hold up a good one beside them.
 * @param now milliseconds since 1970; what is five minutes ahead of it is refused, and what is older than `keepDays`
 */
export function parseMessage(value: Buffer | null, now: number, keepDays: number): Parsed | RejectionReason {
  if (!value) return 'malformed'
  if (value.length > MAX_MESSAGE_BYTES) return 'too_large'
  try {
    return readMessage(parseJson(value.toString('utf8')), now, keepDays)
  } catch {
    return 'malformed'
  }
}

/** As `parseMessage`, for a body that is parsed already. */
export function readMessage(body: unknown, now: number, keepDays: number): Parsed | 'malformed' {
  if (!Envelope.Check(body)) return 'malformed'
  if (!isStorable(body.tenant) || !isStorable(body.device)) return 'malformed'
  const oldest = now - keepDays * DAY_MS
  const good: GoodReading[] = []
  const refused = new RefusedCounts()
  for (const reading of body.readings) {
    const result = readOne(reading, now, oldest)
    if (typeof result === 'string') refused.add(result, reading)
    else good.push(result)
  }
  return { tenant: body.tenant, device: body.device, good, rejected: refused.list() }
}

/** By hand and not by schema: this runs for every reading that any device sends. The schema above says the same. */
function readOne(reading: unknown, now: number, oldest: number): GoodReading | RejectionReason {
  if (reading === null || typeof reading !== 'object') return 'invalid_reading'
  const { ts, metric, value, quality = 'good' } = reading as Record<string, unknown>
  if (typeof value !== 'number') return 'invalid_reading'
  if (!(Math.abs(value) <= MAX_ABSOLUTE_VALUE)) return 'out_of_range' // Infinity, too: 1e999 is parsed as that
  if (typeof metric !== 'string' || metric.length === 0 || metric.length > 64 || !isStorable(metric)) return 'invalid_reading'
  if (typeof quality !== 'string' || !Object.hasOwn(QUALITIES, quality)) return 'invalid_reading'
  const at = typeof ts === 'string' && INSTANT.test(ts) && isDayOfMonth(ts) ? Date.parse(ts) : Number.NaN
  if (Number.isNaN(at)) return 'invalid_reading'
  if (at > now + MAX_AHEAD_MS) return 'in_future'
  return at < oldest ? 'too_old' : { metric, at, value, quality: QUALITIES[quality as keyof typeof QUALITIES] }
}

/** Whether the month has such a day: `Date.parse` takes February 30 for March 2. */
function isDayOfMonth(ts: string): boolean {
  const day = Number(ts.slice(8, 10))
  return day <= 28 || day <= new Date(Date.UTC(Number(ts.slice(0, 4)), Number(ts.slice(5, 7)), 0)).getUTCDate()
}
