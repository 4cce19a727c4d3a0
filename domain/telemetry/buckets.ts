/*
 * Buckets of time. The rule, which queries, filled gaps, series and pages share:
 *
 * - Up to an hour: a bucket begins whenever the clocks of the zone show a multiple of its length, and whenever they are
 *   changed. It is never longer than its length; it is shorter where clocks are changed within an hour (Australia/Lord_Howe).
 * - Longer ones: a bucket begins at the first moment at which the clocks show its beginning or a later time, and ends where
 *   the next one begins. So a day of which the first hour does not exist begins when its clocks first show it, one whose
 *   first hour comes twice begins with the first of the two, and one that does not exist (Pacific/Apia, 2011-12-30) is none.
 *
 * Buckets therefore follow each other without gap or overlap, and begin no later than any reading in them. All of it is worked
 * out here, from the zones that Node knows; the database is given moments alone.
 */
import { type Fragment, failure, sql } from '../kernel/index.ts'
import { type OffsetSpan, offsetSpans } from './zone.ts'

export interface BucketKind {
  step: string
  /** At most, but for days on which clocks are changed. */
  seconds: number
  /** The calendar unit that it is. */
  calendar?: 'day' | 'week' | 'month'
}

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

/** Time that is asked for, in buckets of a zone: an IANA name. */
export interface Span {
  from: string
  to: string
  bucket: BucketLength
  timeZone: string
}

const DAY = 86_400_000
const WEEK = 7 * DAY
/** 1970-01-01 was a Thursday. */
const MONDAY = 4 * DAY
/** Longer than any bucket: within it lies the beginning of the bucket that a moment is in. */
const MARGIN = 40 * DAY

/** The beginning of the bucket that a time of the clocks is in, longer ones than an hour; times of clocks are milliseconds as if they were UTC. */
function wallStart({ seconds, calendar }: BucketKind, wall: number): number {
  if (calendar === 'week') return Math.floor((wall - MONDAY) / WEEK) * WEEK + MONDAY
  if (calendar !== 'month') return Math.floor(wall / (seconds * 1000)) * seconds * 1000
  return new Date(wall).setUTCHours(0, 0, 0, 0) - (new Date(wall).getUTCDate() - 1) * DAY
}
const nextWallStart = (kind: BucketKind, start: number): number =>
  kind.calendar === 'month' ? wallStart(kind, start + 32 * DAY) : start + kind.seconds * 1000

/** When buckets longer than an hour begin: from the one that `from` is in to the first one that is not before `to`. */
function longStarts(kind: BucketKind, spans: readonly OffsetSpan[], from: number, to: number): number[] {
  let starts: number[] = []
  let wall = wallStart(kind, from + spans.find(({ end }) => from < end)!.offset)
  // Later beginnings lie in the same span or in later ones, so that each span is looked at once.
  for (let place = 0; starts.length === 0 || starts.at(-1)! < to; wall = nextWallStart(kind, wall)) {
    const within = ({ start, offset }: OffsetSpan) => Math.max(start, wall - offset)
    while (within(spans[place]!) >= spans[place]!.end) place++
    const start = within(spans[place]!)
    if (start <= from) starts = [start]
    else if (start !== starts.at(-1)) starts.push(start)
  }
  return starts
}

/** When buckets of up to an hour begin: from the one that `from` is in to the last one before `to`, `limit` + 1 at most. */
function shortStarts({ seconds }: BucketKind, spans: readonly OffsetSpan[], from: number, to: number, limit: number): number[] {
  const length = seconds * 1000
  const starts: number[] = []
  for (const { start, end, offset } of spans) {
    if (end <= from || start >= to) continue
    const first = Math.max(from, start)
    starts.push(Math.max(start, Math.floor((first + offset) / length) * length - offset))
    for (let next = starts.at(-1)! + length - mod(starts.at(-1)! + offset, length); next < Math.min(end, to); next += length) {
      if (starts.length > limit) return starts
      starts.push(next)
    }
  }
  return starts
}
const mod = (value: number, by: number): number => ((value % by) + by) % by

const iso = (at: number): string => new Date(at).toISOString()
const momentsOf = (moments: readonly (number | string)[]): Fragment =>
  sql.fragment`${sql.array(
    moments.map((at) => (typeof at === 'string' ? at : iso(at))),
    'timestamptz',
  )}`

/** Buckets as SQL, for moments within the time that they were made for. */
export interface Grid {
  /** Moments within that time at which buckets begin that are longer than an hour. */
  starts: readonly number[]
  /** Whether all buckets that touch that time begin and end at multiples of so many milliseconds since 1970. */
  isMadeOf(length: number): boolean
  /** The beginning of the bucket that a moment is in. */
  startOf(moment: Fragment): Fragment
  /** Its end. */
  endOf(moment: Fragment): Fragment
}

/** @param from milliseconds since 1970, as `to`, which is not within the time itself */
export function gridOf({ bucket, timeZone }: Pick<Span, 'bucket' | 'timeZone'>, from: number, to: number): Grid {
  const kind = kindOf(bucket)
  const spans = offsetSpans(timeZone, from - MARGIN, to + MARGIN)
  return isWithinHour(kind) ? shortGrid(kind, spans, from, to) : longGrid(kind, spans, from, to)
}

function longGrid(kind: BucketKind, spans: readonly OffsetSpan[], from: number, to: number): Grid {
  const all = longStarts(kind, spans, from, to)
  const starts = all.filter((start) => start > from && start < to)
  const moments = momentsOf(all)
  const index = (moment: Fragment) => sql.fragment`width_bucket(${moment}, ${moments})`
  return {
    starts,
    isMadeOf: (length) => all.every((start) => start % length === 0),
    startOf: (moment) => sql.fragment`(${moments})[${index(moment)}]`,
    endOf: (moment) => sql.fragment`(${moments})[${index(moment)} + 1]`,
  }
}

function shortGrid(kind: BucketKind, spans: readonly OffsetSpan[], from: number, to: number): Grid {
  const touched = spans.filter(({ start, end }) => start < to && end > from)
  const changes = touched.slice(1).map(({ start }) => start)
  // At these moments clocks show a full hour.
  const origins = touched.map(({ offset }) => -offset)
  const isMadeOf = (length: number) => kind.seconds * 1000 >= length && [...changes, ...origins].every((moment) => moment % length === 0)
  const step = sql.fragment`${kind.step}::interval`
  const binned = (moment: Fragment, origin: Fragment) => sql.fragment`date_bin(${step}, ${moment}, ${origin})`
  if (changes.length === 0) {
    const startOf = (moment: Fragment) => binned(moment, sql.fragment`${iso(origins[0]!)}::timestamptz`)
    return { starts: [], isMadeOf, startOf, endOf: (moment) => sql.fragment`(${startOf(moment)} + ${step})` }
  }
  const bounds = momentsOf(['-infinity', ...changes, 'infinity'])
  const index = (moment: Fragment) => sql.fragment`width_bucket(${moment}, ${bounds})`
  const start = (moment: Fragment) => binned(moment, sql.fragment`(${momentsOf(origins)})[${index(moment)}]`)
  const startOf = (moment: Fragment) => sql.fragment`greatest((${bounds})[${index(moment)}], ${start(moment)})`
  return {
    starts: [],
    isMadeOf,
    startOf,
    endOf: (moment) => sql.fragment`least((${bounds})[${index(moment)} + 1], ${start(moment)} + ${step})`,
  }
}

/** When each bucket begins, in milliseconds since 1970, the earliest first; null where they are more than `limit`. */
function bucketStarts({ from: since, to: until, bucket, timeZone }: Span, limit: number): number[] | null {
  const kind = kindOf(bucket)
  const [from, to] = [Date.parse(since), Date.parse(until)]
  // A bucket is longer than its length by a change of clocks at most, so that nothing large is made to be refused.
  if ((to - from) / (kind.seconds * 1000) > limit + 24) return null
  if (from >= to) return []
  const spans = offsetSpans(timeZone, from - MARGIN, to + MARGIN)
  const starts = isWithinHour(kind)
    ? shortStarts(kind, spans, from, to, limit)
    : longStarts(kind, spans, from, to).filter((start) => start < to)
  return starts.length > limit ? null : starts
}

/** The same. Throws `invalid_value` where they are more than `limit`. */
export function bucketsBetween(span: Span, limit: number): readonly number[] {
  const starts = bucketStarts(span, limit)
  if (starts) return starts
  throw failure('invalid_value', { path: '/bucket', rule: 'buckets' }, `From and to span more than ${limit} buckets: choose longer ones.`)
}

/** The shortest buckets of which there are no more than `most`. Throws `invalid_value` where even months are more. */
export function bucketFor(span: Omit<Span, 'bucket'>, most: number): BucketLength {
  const lengths = Object.keys(BUCKETS) as BucketLength[]
  const bucket = lengths.find((length) => bucketStarts({ ...span, bucket: length }, most) !== null)
  if (bucket) return bucket
  throw failure('invalid_value', { path: '/buckets', rule: 'buckets' }, `From and to span more than ${most} months: allow more buckets.`)
}
