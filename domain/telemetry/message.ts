// What a device sends, and what is wrong with it.
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'

export const MAX_MESSAGE_BYTES = 256 * 1024
/** Characters of a device's code. */
export const MAX_DEVICE = 64
const MAX_AHEAD_MS = 5 * 60_000
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
          value: Type.Number(),
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

export interface Parsed {
  tenant: string
  device: string
  good: GoodReading[]
  rejected: { reason: RejectionReason; count: number }[]
}

/** The text of a key whose value is a plain string, wherever it stands in a message. */
function plainText(value: Buffer, key: string): string | null {
  const start = value.indexOf(`"${key}"`)
  if (start < 0) return null
  return value.toString('utf8', start + key.length + 2, start + key.length + 300).match(/^\s*:\s*"([^"\\]{1,64})"/)?.[1] ?? null
}

export interface ClaimedSender {
  tenant: string
  device: string
}

/**
 * The tenant and device that a message names, without parsing all of it. A claim: it proves nothing until the message's
 * key was checked for it. Null where it cannot be told so easily, and for what is too large to be read.
 */
export function claimedSender(value: Buffer | null): ClaimedSender | null {
  if (!value || value.length > MAX_MESSAGE_BYTES) return null
  const [tenant, device] = [plainText(value, 'tenant'), plainText(value, 'device')]
  return tenant !== null && device !== null && tenant.length <= 63 ? { tenant, device } : null
}

/**
 * Reads a message: each bad reading is set aside by reason, and never holds up a good one beside it.
 * @param now milliseconds since 1970; what is five minutes ahead of it is refused, and what is older than `keepDays`
 */
export function parseMessage(value: Buffer | null, now: number, keepDays: number): Parsed | RejectionReason {
  if (!value) return 'malformed'
  if (value.length > MAX_MESSAGE_BYTES) return 'too_large'
  let body: unknown
  try {
    body = JSON.parse(value.toString('utf8'))
  } catch {
    return 'malformed'
  }
  if (!Envelope.Check(body)) return 'malformed'
  if (`${body.tenant}${body.device}`.includes('\u0000')) return 'malformed'
  const oldest = now - keepDays * DAY_MS
  const good: GoodReading[] = []
  const counts = new Map<RejectionReason, number>()
  for (const reading of body.readings) {
    const result = readOne(reading, now, oldest)
    if (typeof result === 'string') counts.set(result, (counts.get(result) ?? 0) + 1)
    else good.push(result)
  }
  return { tenant: body.tenant, device: body.device, good, rejected: [...counts].map(([reason, count]) => ({ reason, count })) }
}

/** By hand and not by schema: this runs for every reading that any device sends. The schema above says the same. */
function readOne(reading: unknown, now: number, oldest: number): GoodReading | RejectionReason {
  if (reading === null || typeof reading !== 'object') return 'invalid_reading'
  const { ts, metric, value, quality = 'good' } = reading as Record<string, unknown>
  if (typeof value !== 'number' || !Number.isFinite(value)) return 'invalid_reading'
  if (typeof metric !== 'string' || metric.length === 0 || metric.length > 64 || metric.includes('\u0000')) return 'invalid_reading'
  if (typeof quality !== 'string' || !Object.hasOwn(QUALITIES, quality)) return 'invalid_reading'
  const at = typeof ts === 'string' && INSTANT.test(ts) ? Date.parse(ts) : Number.NaN
  if (Number.isNaN(at)) return 'invalid_reading'
  if (at > now + MAX_AHEAD_MS) return 'in_future'
  return at < oldest ? 'too_old' : { metric, at, value, quality: QUALITIES[quality as keyof typeof QUALITIES] }
}
