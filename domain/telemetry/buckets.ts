// Buckets of time: how long they are, when they begin, and what those have that nothing was sent in.
import { Type } from 'typebox'
import { type Fragment, failure, oneOf, sql, type Tx } from '../kernel/index.ts'

export interface BucketKind {
  step: string
  /** At most, but for days on which clocks are changed. */
  seconds: number
  /** What of the calendar it is. */
  calendar?: 'day' | 'week' | 'month'
}

/** Up to an hour a bucket is so long, from the hour on; longer ones follow the clock on the wall, whatever the length of a day. */
export const BUCKETS = {
  '1s': { step: '1 second', seconds: 1 },
  '10s': { step: '10 seconds', seconds: 10 },
  '30s': { step: '30 seconds', seconds: 30 },
  '1m': { step: '1 minute', seconds: 60 },
  '5m': { step: '5 minutes', seconds: 300 },
  '10m': { step: '10 minutes', seconds: 600 },
  '15m': { step: '15 minutes', seconds: 900 },
  '30m': { step: '30 minutes', seconds: 1_800 },
  '1h': { step: '1 hour', seconds: 3_600 },
  '3h': { step: '3 hours', seconds: 10_800 },
  '6h': { step: '6 hours', seconds: 21_600 },
  '12h': { step: '12 hours', seconds: 43_200 },
  '1d': { step: '1 day', seconds: 86_400, calendar: 'day' },
  '1w': { step: '1 week', seconds: 604_800, calendar: 'week' },
  '1mo': { step: '1 month', seconds: 2_678_400, calendar: 'month' },
} as const satisfies Record<string, BucketKind>
export type BucketLength = keyof typeof BUCKETS
export const kindOf = (bucket: BucketLength): BucketKind => BUCKETS[bucket]
const isWithinHour = ({ seconds }: BucketKind): boolean => seconds <= 3_600

/** Whose days and hours: an IANA name that is known. */
export interface Span {
  from: string
  to: string
  bucket: BucketLength
  timeZone: string
}

/** When the bucket begins that a moment is in. */
export function startOf({ bucket, timeZone }: Pick<Span, 'bucket' | 'timeZone'>, moment: Fragment): Fragment {
  const kind = kindOf(bucket)
  if (kind.calendar) return sql.fragment`date_trunc(${kind.calendar}, ${moment}, ${timeZone})`
  const step = sql.fragment`${kind.step}::interval`
  if (isWithinHour(kind)) return sql.fragment`date_bin(${step}, ${moment}, date_trunc('hour', ${moment}, ${timeZone}))`
  return sql.fragment`(date_bin(${step}, ${moment} at time zone ${timeZone}, timestamp '2000-01-01') at time zone ${timeZone})`
}

/** When a bucket ends, by when it begins. */
export function endOf({ bucket, timeZone }: Pick<Span, 'bucket' | 'timeZone'>, start: Fragment): Fragment {
  const step = sql.fragment`${kindOf(bucket).step}::interval`
  return isWithinHour(kindOf(bucket))
    ? sql.fragment`${start} + ${step}`
    : sql.fragment`((${start} at time zone ${timeZone} + ${step}) at time zone ${timeZone})`
}

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/** Minutes by which a zone's clocks are ahead of UTC at a moment. @param format with `longOffset` */
export function offsetAt(format: Intl.DateTimeFormat, at: number): number {
  const name = format.formatToParts(at).find(({ type }) => type === 'timeZoneName')!.value
  const [, sign, hours, minutes = '0'] = /GMT(?:([+-])(\d{2}):(\d{2}))?/.exec(name) ?? []
  return sign ? (sign === '-' ? -1 : 1) * (Number(hours) * 60 + Number(minutes)) : 0
}
const formats = new Map<string, Intl.DateTimeFormat>()
const MOST_FORMATS = 600
/** What tells a zone's offsets; kept, because to make one takes milliseconds. */
export function offsetsOf(timeZone: string): Intl.DateTimeFormat {
  const format = formats.get(timeZone) ?? new Intl.DateTimeFormat('en', { timeZone, timeZoneName: 'longOffset' })
  if (formats.size >= MOST_FORMATS) formats.clear()
  formats.set(timeZone, format)
  return format
}

const Begins = Type.Object({ begins: Type.Array(Type.Number()) }, { additionalProperties: false })

/**
 * When every bucket begins, in milliseconds since 1970, from the one of `from` to the one before `to`, the latest first.
 * Throws `invalid_value` where they are more than `limit`, before they are made where that is plain.
 */
export async function bucketsBetween(tx: Tx, span: Span, limit: number): Promise<readonly number[]> {
  const { bucket, timeZone } = span
  const kind = kindOf(bucket)
  const [from, to] = [Date.parse(span.from), Date.parse(span.to)]
  const tooMany = () =>
    failure('invalid_value', { path: '/bucket', rule: 'buckets' }, `From then to then are more than ${limit} buckets: make them longer.`)
  const length = kind.seconds * 1000
  if ((to - from) / length > limit + 1) throw tooMany()
  if (isWithinHour(kind)) {
    const offset = offsetAt(offsetsOf(timeZone), from) * MINUTE_MS
    const hour = Math.floor((from + offset) / HOUR_MS) * HOUR_MS - offset
    const first = hour + Math.floor((from - hour) / length) * length
    const count = Math.max(0, Math.ceil((to - first) / length))
    if (count > limit) throw tooMany()
    return Array.from({ length: count }, (_, n) => first + (count - 1 - n) * length)
  }
  const last = sql.fragment`${span.to}::timestamptz - interval '1 millisecond'`
  const first = startOf(span, sql.fragment`${span.from}::timestamptz`)
  const { begins } = await tx.one(sql.prepared(Begins)`
    select coalesce(json_agg((extract(epoch from ts) * 1000)::int8), '[]') as begins from (
      select b at time zone ${timeZone} as ts
      from generate_series(${first} at time zone ${timeZone}, (${last}) at time zone ${timeZone}, ${kind.step}::interval) as b
      order by b desc limit ${limit + 1}
    ) as all_of_them`)
  if (begins.length > limit) throw tooMany()
  return begins
}

/** The shortest bucket by which a span comes to no more than so many. */
export function bucketFor(from: string, to: string, most: number): BucketLength {
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000
  const lengths = Object.keys(BUCKETS) as BucketLength[]
  return lengths.find((length) => seconds / kindOf(length).seconds <= most) ?? '1mo'
}

export const FILLS = ['none', 'null', 'previous', 'linear'] as const
export type Fill = (typeof FILLS)[number]
export const FillSchema = oneOf(FILLS, {
  default: 'none',
  description:
    'What empty buckets have: they are left out, or have nothing, what the one before has, or what lies between their neighbours',
})

/** Values by time, either way round: those that are null get what the one before has, or what lies on the line between their neighbours. */
export function fillGaps(times: readonly number[], values: readonly (number | null)[], fill: Fill): (number | null)[] {
  if (fill === 'none' || fill === 'null') return [...values]
  const inTime = times.map((_, at) => at)
  if (times.length > 1 && times[0]! > times[1]!) inTime.reverse()
  /** For each place that of the known value next to it on the way. */
  const neighbours = (way: readonly number[]) => {
    const found = new Map<number, number>()
    let known: number | undefined
    for (const at of way) {
      if (values[at] !== null) known = at
      else if (known !== undefined) found.set(at, known)
    }
    return found
  }
  const before = neighbours(inTime)
  const after = fill === 'linear' ? neighbours(inTime.toReversed()) : before
  return values.map((value, at) => {
    const [b, a] = [before.get(at), after.get(at)]
    if (value !== null || b === undefined || a === undefined) return value
    const share = a === b ? 0 : (times[at]! - times[b]!) / (times[a]! - times[b]!)
    return values[b]! + share * (values[a]! - values[b]!)
  })
}
