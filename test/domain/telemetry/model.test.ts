// Aggregates against an independent model: zones whose clocks are hard, every length of bucket, random readings and questions.
import t from 'tap'
import { sql, type Tx } from '../../../domain/kernel/index.ts'
import {
  alignedSeries,
  BUCKETS,
  type Bucket,
  type BucketLength,
  bucketedReadings,
  FURTHER,
  sumUpHours,
} from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp } from '../../support/app.ts'
import { seeded } from '../../support/random.ts'
import { ownTelemetryPlane } from '../../support/services.ts'
import { probes } from '../../support/telemetry.ts'
import { type ModelBucket, type ModelReading, ModelZone, modelBuckets, SHORT } from '../../support/telemetry-model.ts'

const { seed: SEED, next: random, below } = seeded()
t.comment(`TEST_SEED=${SEED}`)

const { tenant, runtime } = await testApp(t, await ownTelemetryPlane(t))
const probe = probes(runtime)
const telemetry = runtime.services.planes.telemetry.get('main')!
const HOUR = 3_600_000
const DAY = 24 * HOUR
const LENGTHS = Object.keys(BUCKETS) as BucketLength[]

/** Zones and times at which their clocks are changed. */
const CASES = [
  ['America/Santiago', '2025-09-07T04:00:00Z'],
  ['America/Santiago', '2025-04-06T03:00:00Z'],
  ['Africa/Cairo', '2025-04-24T22:00:00Z'],
  ['Africa/Cairo', '2025-10-30T21:00:00Z'],
  ['Atlantic/Azores', '2025-10-26T01:00:00Z'],
  ['Atlantic/Azores', '2025-03-30T01:00:00Z'],
  ['America/Havana', '2025-11-02T05:00:00Z'],
  ['America/Havana', '2025-03-09T05:00:00Z'],
  ['Australia/Lord_Howe', '2025-04-05T15:00:00Z'],
  ['Australia/Lord_Howe', '2025-10-04T15:30:00Z'],
  ['Asia/Kathmandu', '2025-06-01T00:00:00Z'],
  ['Europe/Berlin', '2025-10-26T01:00:00Z'],
  ['Europe/Berlin', '2025-03-30T01:00:00Z'],
  ['UTC', '2025-07-01T00:00:00Z'],
] as const
/** The day that Samoa skipped, and the last time that its clocks were put back. */
const OLD = [
  ['Pacific/Apia', '2011-12-30T10:00:00Z'],
  ['Pacific/Apia', '2021-04-03T14:00:00Z'],
] as const

interface Case {
  zone: string
  clocks: ModelZone
  device: string
  counter: boolean
  start: number
  end: number
  readings: ModelReading[]
}

/** Three days of readings around a change, with gaps and bad ones among them, and one of long before. */
async function prepare(acme: TestTenant, zone: string, change: string): Promise<Case> {
  const counter = random() < 0.3
  const { code } = await probe(acme)
  const [start, end] = [Date.parse(change) - 36 * HOUR - below(12 * HOUR), Date.parse(change) + 36 * HOUR]
  const moments = new Set([start - 5 * DAY, Date.parse(change), Date.parse(change) - 1, Date.parse(change) + HOUR])
  for (let at = start; at < end; at += random() < 0.03 ? below(8 * HOUR) : 1 + below(20 * 60_000)) {
    moments.add(at)
    if (random() < 0.1) moments.add(Math.floor(at / 900_000) * 900_000)
  }
  let level = 0
  const readings = [...moments]
    .sort((a, b) => a - b)
    .map((at) => {
      level = counter && random() < 0.95 ? level + below(50) : below(10_000) / 100 - (counter ? 0 : 50)
      const value = random() < 0.01 ? 1.797e308 : level
      return { at, value, quality: random() < 0.05 ? 2 : random() < 0.1 ? 1 : 0 }
    })
  await telemetry.write(acme.scope, (tx) => store(tx, code, counter, readings))
  return { zone, clocks: new ModelZone(zone, start - 6 * DAY, end), device: code, counter, start, end, readings }
}

/** Stores readings as they may have been stored before values were limited, and at times that are refused today. */
async function store(tx: Tx, device: string, counter: boolean, readings: readonly ModelReading[]): Promise<void> {
  const metric = counter ? 'c' : 'm'
  await tx.query(sql.run`
    insert into tel_series (tenant_id, device_id, metric_id)
    select d.tenant_id, d.id, m.id from tel_device d join tel_metric m on m.tenant_id = d.tenant_id and m.code = ${metric}
    where d.tenant_id = ${tx.tenantId} and d.code = ${device}`)
  const columns = readings.map(({ at, value, quality }) => [new Date(at).toISOString(), value, quality])
  await tx.query(sql.run`
    insert into tel_measurement (tenant_id, series_id, ts, value, quality)
    select d.tenant_id, s.series_id, r.ts, r.value, r.quality
    from ${sql.unnest(columns, ['timestamptz', 'float8', 'int2'])} as r (ts, value, quality)
    join tel_device d on d.tenant_id = ${tx.tenantId} and d.code = ${device}
    join tel_series s on s.tenant_id = d.tenant_id and s.device_id = d.id`)
}

const FURTHER_ASKED = ['p50', 'p95', 'time_weighted_avg', 'rate'] as const
const ALWAYS = ['count', 'sum', 'min', 'max', 'avg', 'first', 'last'] as const

const isNear = (is: number | null, should: number | null): boolean =>
  is === should || (is !== null && should !== null && Math.abs(is - should) <= 1e-9 * Math.max(1, Math.abs(should)))

/** What of an answer is not as the model says. */
function difference(answer: readonly Bucket[], model: readonly ModelBucket[], names: readonly (keyof ModelBucket)[]): string | null {
  if (answer.length !== model.length) return `${answer.length} buckets and not ${model.length}`
  for (const [index, expected] of model.entries()) {
    const found = answer[index]!
    if (Date.parse(found.ts) !== expected.ts) return `${found.ts} and not ${new Date(expected.ts).toISOString()}`
    for (const name of names) {
      const [is, should] = [(found[name] as number | null | undefined) ?? null, expected[name]]
      if (!isNear(is, should)) return `${found.ts} ${name}: ${is} and not ${should}`
    }
  }
  return null
}

const sources = new Map<string, number>()

/** A random question about each length of bucket, in pages, at once, filled, and as a series. */
async function compare(acme: TestTenant, one: Case, lengths: readonly BucketLength[]): Promise<string[]> {
  const wrong: string[] = []
  const read = <R>(ask: (tx: Tx) => Promise<R>) => telemetry.read(acme.scope, ask)
  for (const bucket of lengths) {
    const aligned = random() < 0.3 ? HOUR : 1
    const [a, b] = [one.start + below(20 * HOUR), one.end - below(20 * HOUR)].map((at) => Math.floor(at / aligned) * aligned)
    const [from, to] = [a!, b!]
    const model = modelBuckets(one.clocks, one.readings, { ...one, bucket, from, to, now: Date.now() })
    const span = { from: new Date(from).toISOString(), to: new Date(to).toISOString(), bucket, timeZone: one.zone, qualities: [0, 1] }
    const metric = one.counter ? 'c' : 'm'
    const ask = { ...span, device: one.device, metric, fill: 'none', further: [], limit: 1_000, before: null } as const
    const tell = (what: string, said: string | null) => {
      if (said) wrong.push(`${one.zone} ${bucket} ${span.from} ${span.to} ${what}: ${said}`)
    }
    const whole = await read((tx) => bucketedReadings(tx, ask))
    sources.set(whole.source, (sources.get(whole.source) ?? 0) + 1)
    tell(`at once (${whole.source})`, difference(whole.buckets, model, ALWAYS))

    const paged: Bucket[] = []
    const limit = Math.max(1, Math.ceil(model.length / (1 + below(5))))
    for (let before: string | null = null, pages = 0; ; pages++) {
      const { buckets } = await read((tx) => bucketedReadings(tx, { ...ask, limit, before, further: FURTHER_ASKED }))
      paged.push(...buckets.slice(0, limit))
      if (buckets.length <= limit || pages > 20) break
      before = paged.at(-1)!.ts
    }
    tell(`in pages of ${limit}`, difference(paged, model, [...ALWAYS, ...FURTHER_ASKED]))

    if (bucket in SHORT && SHORT[bucket]! < 300_000) continue
    const starts = one.clocks.starts(bucket, from, to)
    const filled = (await read((tx) => bucketedReadings(tx, { ...ask, fill: 'null' }))).buckets
    tell(
      'filled',
      difference(
        filled.filter(({ count }) => count > 0),
        model,
        ALWAYS,
      ),
    )
    tell(
      'all buckets',
      same(
        filled.map(({ ts }) => Date.parse(ts)),
        starts,
      ),
    )

    const aggregate = [...ALWAYS, ...FURTHER_ASKED][below(11)]!
    const series = await read((tx) =>
      alignedSeries(tx, { ...span, devices: [one.device], metrics: [metric], buckets: 300, aggregate, fill: 'null' }),
    )
    tell(
      'times of the series',
      same(
        series.times.map((ts) => Date.parse(ts)),
        starts.toReversed(),
      ),
    )
    const nothing = aggregate === 'count' ? 0 : null
    const expected = starts.toReversed().map((ts) => model.find((found) => found.ts === ts)?.[aggregate] ?? nothing)
    const values = series.series[0]!.values
    const wrongAt = expected.findIndex((value, index) => !isNear(values[index] ?? null, value))
    tell(`series of ${aggregate}`, wrongAt < 0 ? null : `${series.times[wrongAt]}: ${values[wrongAt]} and not ${expected[wrongAt]}`)
  }
  return wrong
}
const same = (found: readonly unknown[], expected: readonly unknown[]): string | null =>
  JSON.stringify(found) === JSON.stringify(expected) ? null : `${found.slice(0, 8)} … and not ${expected.slice(0, 8)} …`

for (const [name, places] of [
  ['clocks of this year', CASES],
  ['clocks of long ago', OLD],
] as const) {
  t.test(`P1 P2 P3 P12 aggregates equal those of the model, from readings and from sums of hours: ${name}`, async (t) => {
    const acme = await tenant()
    for (const [code, kind] of [
      ['m', 'gauge'],
      ['c', 'counter'],
    ] as const)
      await acme.admin.post('/telemetry/metrics', { code, kind })
    const cases: Case[] = []
    for (const [zone, change] of places) cases.push(await prepare(acme, zone, change))
    for (const one of cases) t.same(await compare(acme, one, LENGTHS), [], `${one.zone} from readings, seed ${SEED}`)
    await sumUpHours(telemetry, acme.id)
    await sumUpHours(telemetry, acme.id)
    const long = LENGTHS.filter((length) => !(length in SHORT) || length === '1h')
    for (const one of cases) t.same(await compare(acme, one, long), [], `${one.zone} from sums, seed ${SEED}`)
  })
}

t.test('both sources were compared', async (t) => {
  for (const source of ['raw', 'hourly', 'daily']) t.ok(sources.get(source), source)
  t.ok(FURTHER.length > FURTHER_ASKED.length)
})
