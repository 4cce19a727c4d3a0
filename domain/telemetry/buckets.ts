// Buckets of time: how long they are, when they begin, and what those have that nothing was sent in.
import { Type } from 'typebox'
import { type Fragment, failure, oneOf, sql, Timestamp, type Tx } from '../kernel/index.ts'

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

const Begins = Type.Object({ ts: Timestamp }, { additionalProperties: false })

/**
 * When every bucket begins, from the one of `from` to the one before `to`, the latest first. Throws `invalid_value` where
 * they are more than `limit`, before they are made where that is plain.
 */
export async function bucketsBetween(tx: Tx, span: Span, limit: number): Promise<readonly string[]> {
  const { bucket, timeZone, from, to } = span
  const kind = kindOf(bucket)
  const tooMany = () =>
    failure('invalid_value', { path: '/bucket', rule: 'buckets' }, `From then to then are more than ${limit} buckets: make them longer.`)
  if ((Date.parse(to) - Date.parse(from)) / 1000 / kind.seconds > limit + 1) throw tooMany()
  const step = sql.fragment`${kind.step}::interval`
  const first = startOf(span, sql.fragment`${from}::timestamptz`)
  const last = sql.fragment`${to}::timestamptz - interval '1 millisecond'`
  const all = isWithinHour(kind)
    ? sql.fragment`select b as ts from generate_series(${first}, ${last}, ${step}) as b`
    : sql.fragment`
      select b at time zone ${timeZone} as ts
      from generate_series(${first} at time zone ${timeZone}, (${last}) at time zone ${timeZone}, ${step}) as b`
  const found = await tx.any(sql.prepared(Begins)`select ts from (${all}) as g order by ts desc limit ${limit + 1}`)
  if (found.length > limit) throw tooMany()
  return found.map(({ ts }) => ts)
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
