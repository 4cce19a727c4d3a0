// An independent model of aggregates in buckets. It shares no code with the product: clocks are read from `longOffset` names
// every quarter of an hour, buckets are found by walking over all quarters, and values are integrated step by step.
export interface ModelReading {
  at: number
  value: number
  quality: number
}
export interface ModelQuestion {
  zone: string
  bucket: string
  from: number
  to: number
  now: number
  counter: boolean
}
export interface ModelBucket {
  ts: number
  count: number
  sum: number
  min: number
  max: number
  avg: number
  first: number
  last: number
  p50: number
  p95: number
  time_weighted_avg: number
  rate: number | null
}

const QUARTER = 900_000
const HOUR = 3_600_000
const DAY = 24 * HOUR
export const SHORT: Record<string, number> = {
  '1s': 1_000,
  '10s': 10_000,
  '30s': 30_000,
  '1m': 60_000,
  '5m': 300_000,
  '10m': 600_000,
  '15m': 900_000,
  '30m': 1_800_000,
  '1h': HOUR,
}

/** The clocks of a zone over some time, every quarter of an hour. */
export class ModelZone {
  readonly #start: number
  readonly #offsets: number[] = []
  /** By quarter: the latest time that clocks have shown up to then. */
  readonly #highest: number[] = []

  constructor(zone: string, from: number, to: number) {
    const names = new Intl.DateTimeFormat('en', { timeZone: zone, timeZoneName: 'longOffset' })
    this.#start = Math.floor(from / QUARTER) * QUARTER - 40 * DAY
    let highest = Number.NEGATIVE_INFINITY
    for (let at = this.#start; at < to + 40 * DAY; at += QUARTER) {
      const name = names.formatToParts(at).find(({ type }) => type === 'timeZoneName')!.value
      const [, sign, hours, minutes] = name.match(/GMT(?:([+-])(\d+):(\d+))?/)!
      const offset = sign ? (sign === '+' ? 1 : -1) * (Number(hours) * 60 + Number(minutes)) * 60_000 : 0
      this.#offsets.push(offset)
      highest = Math.max(highest, at + offset)
      this.#highest.push(highest)
    }
  }

  #quarter = (at: number) => Math.floor((at - this.#start) / QUARTER)

  #last: { bucket: string; bounds: [start: number, end: number] } | undefined

  /** From when to when the bucket lasts that a moment is in. */
  bucketOf(bucket: string, at: number): [start: number, end: number] {
    const last = this.#last
    if (last?.bucket === bucket && at >= last.bounds[0] && at < last.bounds[1]) return last.bounds
    const bounds = bucket in SHORT ? this.#short(SHORT[bucket]!, at) : this.#long(bucket, at)
    this.#last = { bucket, bounds }
    return bounds
  }

  #short(length: number, at: number): [number, number] {
    const quarter = this.#quarter(at)
    const offset = this.#offsets[quarter]!
    // An hour is four quarters: no further do clocks have to be looked at.
    let since = quarter
    while (quarter - since < 8 && this.#offsets[since - 1] === offset) since--
    let until = quarter + 1
    while (until - quarter < 8 && this.#offsets[until] === offset) until++
    let start = at
    const wall = at + offset
    start -= wall - Math.floor(wall / length) * length
    return [
      Math.max(start, since === quarter - 8 ? start : this.#start + since * QUARTER),
      Math.min(start + length, until === quarter + 8 ? start + length : this.#start + until * QUARTER),
    ]
  }

  #label(bucket: string, quarter: number): string {
    const shown = new Date(this.#highest[quarter]!)
    const day = shown.toISOString().slice(0, 10)
    if (bucket === '1d') return day
    if (bucket === '1mo') return day.slice(0, 7)
    if (bucket === '1w') {
      const monday = new Date(shown)
      monday.setUTCDate(shown.getUTCDate() - ((shown.getUTCDay() + 6) % 7))
      return monday.toISOString().slice(0, 10)
    }
    return `${day} ${Math.floor(shown.getUTCHours() / Number.parseInt(bucket, 10))}`
  }

  #long(bucket: string, at: number): [number, number] {
    const quarter = this.#quarter(at)
    const label = this.#label(bucket, quarter)
    let [since, until] = [quarter, quarter + 1]
    while (this.#label(bucket, since - 1) === label) since--
    while (this.#label(bucket, until) === label) until++
    return [this.#start + since * QUARTER, this.#start + until * QUARTER]
  }

  /** When each bucket begins that has a part in [from, to), the latest first. */
  starts(bucket: string, from: number, to: number): number[] {
    const found: number[] = []
    for (let at = from; at < to; ) {
      const [start, end] = this.bucketOf(bucket, at)
      found.push(start)
      at = end
    }
    return found.reverse()
  }
}

const percentile = (sorted: readonly number[], share: number): number => {
  const place = share * (sorted.length - 1)
  const [low, high] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!]
  return low + (high - low) * (place - Math.floor(place))
}

/** The mean of a value over a time, each holding until the next; undefined where none is known in it. */
function meanOverTime(readings: readonly ModelReading[], from: number, to: number): number | undefined {
  let [area, time] = [0, 0]
  for (const [index, { at, value }] of readings.entries()) {
    const begin = Math.max(at, from)
    const end = Math.min(readings[index + 1]?.at ?? Number.POSITIVE_INFINITY, to)
    if (end <= begin) continue
    area += value * (end - begin)
    time += end - begin
  }
  return time > 0 ? area / time : undefined
}

/** Buckets in which readings were sent, the latest first. Bad readings and values beyond 1e100 do not count. @param all by time */
export function modelBuckets(
  zone: ModelZone,
  all: readonly ModelReading[],
  { bucket, from, to, now, counter }: ModelQuestion,
): ModelBucket[] {
  const known = all.filter(({ value, quality, at }) => quality < 2 && Math.abs(value) <= 1e100 && at < to)
  const groups = new Map<number, { end: number; places: number[] }>()
  for (const [place, { at }] of known.entries()) {
    if (at < from) continue
    const [start, end] = zone.bucketOf(bucket, at)
    if (!groups.has(start)) groups.set(start, { end, places: [] })
    groups.get(start)!.places.push(place)
  }
  const before = known.findLastIndex(({ at }) => at < from)
  const held = known.slice(Math.max(before, 0))
  return [...groups]
    .map(([ts, { end, places }]): ModelBucket => {
      const values = places.map((place) => known[place]!.value)
      const sorted = [...values].sort((a, b) => a - b)
      const sum = values.reduce((total, value) => total + value, 0)
      let [growth, seconds] = [0, 0]
      for (const place of places) {
        const [one, earlier] = [known[place]!, known[place - 1]]
        if (!earlier) continue
        growth += counter && one.value < earlier.value ? one.value : one.value - earlier.value
        seconds += (one.at - earlier.at) / 1000
      }
      return {
        ts,
        count: values.length,
        sum,
        min: sorted[0]!,
        max: sorted.at(-1)!,
        avg: sum / values.length,
        first: values[0]!,
        last: values.at(-1)!,
        p50: percentile(sorted, 0.5),
        p95: percentile(sorted, 0.95),
        time_weighted_avg: meanOverTime(held, Math.max(ts, from), Math.min(end, to, now)) ?? sum / values.length,
        rate: seconds > 0 ? growth / seconds : null,
      }
    })
    .sort((a, b) => b.ts - a.ts)
}
