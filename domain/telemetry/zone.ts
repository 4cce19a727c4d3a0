// Clocks of a time zone: how far they are ahead of UTC, and when they are changed.
import { failure } from '../kernel/index.ts'

const DAY = 86_400_000
/** Clocks of any zone since 1970 were changed a week after each other at least (Recife, 2000), so no change is missed. */
const PROBE = 3 * DAY
/** Outside of it a zone keeps the offset of its nearest moment: no readings are there, and the search stays short. */
const [EARLIEST, LATEST] = [Date.UTC(1900), Date.UTC(2100)]

const MAX_FORMATS = 600
const formats = new Map<string, Intl.DateTimeFormat>()
/** Formats are cached, because making one takes milliseconds. Throws `invalid_value` for a name that is no time zone. */
function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone)
  if (known) return known
  if (formats.size >= MAX_FORMATS) formats.clear()
  try {
    const format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
    formats.set(timeZone, format)
    return format
  } catch {
    throw failure('invalid_value', { path: '/time_zone', rule: 'time_zone', message: 'is an IANA name such as Europe/Madrid' })
  }
}

/** Milliseconds by which clocks are ahead of UTC at a moment. */
function offsetAt(format: Intl.DateTimeFormat, at: number): number {
  const second = Math.floor(at / 1000) * 1000
  const [month, day, year, hour, minute, seconds] = format.format(second).match(/\d+/g)!.map(Number)
  return Date.UTC(year!, month! - 1, day, hour, minute, seconds) - second
}

/** Time without a change of clocks: from `start` to before `end`, in milliseconds since 1970. */
export interface OffsetSpan {
  start: number
  end: number
  /** Milliseconds ahead of UTC. */
  offset: number
}

/** The first moment in (since, until] from which on clocks are not as at `since`. */
function changeWithin(format: Intl.DateTimeFormat, since: number, until: number, offset: number): number {
  let [before, after] = [Math.floor(since / 1000), Math.ceil(until / 1000)]
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2)
    if (offsetAt(format, middle * 1000) === offset) before = middle
    else after = middle
  }
  return after * 1000
}

/**
 * The spans of constant offset that touch the time from `from` to `to`, in order and without gaps. The first one begins at
 * -Infinity and the last one ends at Infinity. Throws `invalid_value` for a name that is no time zone.
 */
export function offsetSpans(timeZone: string, from: number, to: number): OffsetSpan[] {
  const format = formatOf(timeZone)
  const until = Math.min(Math.max(to, EARLIEST), LATEST)
  let at = Math.min(Math.max(from, EARLIEST), LATEST)
  let offset = offsetAt(format, at)
  const spans: OffsetSpan[] = [{ start: Number.NEGATIVE_INFINITY, end: Number.POSITIVE_INFINITY, offset }]
  while (at < until) {
    const next = Math.min(at + PROBE, until)
    if (offsetAt(format, next) !== offset) {
      const change = changeWithin(format, at, next, offset)
      offset = offsetAt(format, change)
      spans.at(-1)!.end = change
      spans.push({ start: change, end: Number.POSITIVE_INFINITY, offset })
      at = change
    } else at = next
  }
  return spans
}
