// Buckets where clocks are changed, averages by time, values and qualities that do not count, charts of many readings.

import { Client } from 'pg'
import { Registry } from 'prom-client'
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { sumUpHours } from '../../../domain/telemetry/index.ts'
import { hourSums } from '../../../workers/hour-sums.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const telemetry = runtime.services.planes.telemetry.get('main')!
const owner = new Client({ connectionString: testServices().admin.telemetry })
await owner.connect()
t.teardown(() => owner.end())
const timescale = (await owner.query(`select 1 from schema_migrations where name like '%.timescale.sql'`)).rowCount! > 0

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const iso = (at: number) => new Date(at).toISOString()

interface Sent {
  at: number
  value: number
  quality?: number
  metric?: string
}
/** A device with readings that are stored as they are, also ones that are refused on arrival. */
async function measured(acme: TestTenant, readings: readonly Sent[], extra: object = {}) {
  const device = await probe(acme, extra)
  await device.send([{ ts: iso(Date.now() - 300 * 24 * HOUR), value: 1 }])
  await store(acme, device.code, readings)
  const query = (path: string, question: object, headers = {}) =>
    acme.viewer.get(`${path}?${new URLSearchParams({ device: device.code, metric: 'm', ...question })}`, headers)
  return { ...device, query, ask: (question: object) => query('/telemetry/readings', question) }
}
const store = (acme: TestTenant, code: string, readings: readonly Sent[]) =>
  telemetry.write(acme.scope, (tx) =>
    tx.query(sql.run`
      insert into tel_measurement (tenant_id, series_id, ts, value, quality)
      select d.tenant_id, s.series_id, r.ts, r.value, r.quality
      from ${sql.unnest(
        readings.map(({ at, value, quality = 0 }) => [iso(at), value, quality]),
        ['timestamptz', 'float8', 'int2'],
      )} as r (ts, value, quality)
      join tel_device d on d.tenant_id = ${tx.tenantId} and d.code = ${code}
      join tel_series s on s.tenant_id = d.tenant_id and s.device_id = d.id`),
  )

interface Bucket {
  ts: string
  count: number
}
const total = (buckets: readonly Bucket[]) => buckets.reduce((sum, { count }) => sum + count, 0)

t.test('P1 P2 P3 P12 days of hard clocks: labels agree, every reading counts once, pages and streams end', async (t) => {
  const acme = await tenant()
  for (const [time_zone, bucket, from, hours, labels] of [
    [
      'America/Santiago',
      '1d',
      '2025-09-06T04:00:00.000Z',
      72,
      ['2025-09-06T04:00:00.000Z', '2025-09-07T04:00:00.000Z', '2025-09-08T03:00:00.000Z', '2025-09-09T03:00:00.000Z'],
    ],
    [
      'Africa/Cairo',
      '1d',
      '2025-04-23T22:00:00.000Z',
      71,
      ['2025-04-23T22:00:00.000Z', '2025-04-24T22:00:00.000Z', '2025-04-25T21:00:00.000Z'],
    ],
    ['Atlantic/Azores', '1d', '2025-10-25T00:00:00.000Z', 49, ['2025-10-25T00:00:00.000Z', '2025-10-26T00:00:00.000Z']],
    ['America/Havana', '1d', '2025-11-01T04:00:00.000Z', 49, ['2025-11-01T04:00:00.000Z', '2025-11-02T04:00:00.000Z']],
    [
      'Australia/Lord_Howe',
      '1h',
      '2025-04-05T13:00:00.000Z',
      4,
      [
        '2025-04-05T13:00:00.000Z',
        '2025-04-05T14:00:00.000Z',
        '2025-04-05T15:00:00.000Z',
        '2025-04-05T15:30:00.000Z',
        '2025-04-05T16:30:00.000Z',
      ],
    ],
    ['Pacific/Apia', '3h', '2021-04-03T10:00:00.000Z', 7, ['2021-04-03T10:00:00.000Z', '2021-04-03T13:00:00.000Z']],
    ['Pacific/Apia', '1d', '2011-12-29T10:00:00.000Z', 48, ['2011-12-29T10:00:00.000Z', '2011-12-30T10:00:00.000Z']],
  ] as const) {
    const start = Date.parse(from)
    const sent = times(hours * 6, (n) => ({ at: start + n * 10 * MINUTE, value: n }))
    const { ask, query } = await measured(acme, sent)
    const span = { from, to: iso(start + hours * HOUR), bucket, time_zone }
    const name = `${time_zone} ${bucket}`
    const plain = (await ask(span)).data
    t.same(plain.map(({ ts }: Bucket) => ts).reverse(), labels, name)
    t.equal(total(plain), sent.length, `${name}: every reading`)
    t.same((await ask({ ...span, fill: 'null' })).data, plain, `${name}: filled`)
    t.same((await query('/telemetry/series', { ...span, aggregate: 'count' })).data.times, labels, `${name}: series`)
    const { series } = (await query('/telemetry/series', { ...span, aggregate: 'count' })).data
    t.equal(
      series[0].values.reduce((sum: number, n: number) => sum + n, 0),
      sent.length,
      `${name}: counts of the series`,
    )
    const paged: Bucket[] = []
    for (let cursor = '', pages = 0; pages < 20; pages++) {
      const page = await ask({ ...span, limit: 1, ...(cursor ? { cursor } : {}) })
      paged.push(...page.data)
      cursor = page.body.pagination.next_cursor
      if (!cursor) break
    }
    t.same(paged, plain, `${name}: pages`)
    for (const accept of ['text/csv', 'application/x-ndjson']) {
      const lines = (await query('/telemetry/readings', span, { accept })).text.trim().split('\n')
      t.equal(lines.length, labels.length + Number(accept === 'text/csv'), `${name}: ${accept}`)
    }
  }
})

t.test('P4 an average by time ends now, and not with the time that was asked for', async (t) => {
  const acme = await tenant()
  const now = Date.now()
  const { ask } = await measured(acme, [
    { at: now - HOUR, value: 0 },
    { at: now - 2_000, value: 100 },
  ])
  for (const to of [{}, { to: iso(now + 24 * HOUR) }]) {
    const from = iso(now - HOUR)
    const { data } = await ask({ from, ...to, bucket: '1mo', aggregates: 'time_weighted_avg' })
    const weighted = data.length === 1 ? data[0].time_weighted_avg : 0
    t.ok(weighted < 1, `${weighted}`)
  }
})

t.test('P5 an average by time begins at `from`, with the value before it', async (t) => {
  const acme = await tenant()
  const ten = Date.parse('2026-05-01T10:00:00Z')
  for (const first of [ten, ten - MINUTE]) {
    const { ask } = await measured(acme, [
      { at: first, value: 0 },
      { at: ten + 50 * MINUTE, value: 100 },
    ])
    const [bucket] = (
      await ask({ from: iso(ten + 30 * MINUTE), to: iso(ten + HOUR), bucket: '1h', time_zone: 'UTC', aggregates: 'time_weighted_avg' })
    ).data
    t.match(bucket, { ts: iso(ten), count: 1 })
    t.ok(Math.abs(bucket.time_weighted_avg - 100 / 3) < 1e-9, `${bucket.time_weighted_avg}`)
  }
})

t.test('P7 there are never more buckets than were asked for', async (t) => {
  const acme = await tenant()
  const start = Date.parse('2026-05-01T10:00:30Z')
  const { query } = await measured(
    acme,
    times(10, (n) => ({ at: start + n * MINUTE, value: n })),
  )
  const ask = (to: number, buckets: number) => query('/telemetry/series', { from: iso(start), to: iso(to), buckets })
  t.equal((await ask(start + 10 * MINUTE, 10)).data.times.length, 3, 'eleven minutes are three times five')
  t.equal((await ask(start + 10 * MINUTE, 11)).data.times.length, 11)
  t.match(await ask(start + 4_000 * 24 * HOUR, 10), { status: 400, body: { detail: 'invalid_value' } })
})

t.test('P24 gaps are filled alike in readings and series, and amounts are not invented', async (t) => {
  const acme = await tenant()
  const start = Date.parse('2026-05-01T00:00:00Z')
  const { ask, query } = await measured(acme, [
    { at: start + HOUR, value: 10 },
    { at: start + 4 * HOUR, value: 40 },
  ])
  const span = { from: iso(start), to: iso(start + 6 * HOUR), bucket: '1h', time_zone: 'UTC' }
  const names = ['count', 'sum', 'min', 'avg', 'last', 'p50', 'time_weighted_avg', 'rate']
  for (const fill of ['null', 'previous', 'linear']) {
    const { data } = await ask({ ...span, fill, aggregates: 'p50,time_weighted_avg,rate' })
    for (const aggregate of names) {
      const { series } = (await query('/telemetry/series', { ...span, fill, aggregate })).data
      t.same(series[0].values, data.map((bucket: Record<string, number | null>) => bucket[aggregate]).reverse(), `${fill} ${aggregate}`)
    }
    const empty = data.at(-3)
    t.match(empty, { count: 0, sum: null, rate: null }, fill)
    t.equal(empty.p50, fill === 'null' ? null : fill === 'previous' ? 10 : 20, fill)
  }
})

t.test('P6 P13 stored values out of range leave questions and sums of other series alone', { skip: timescale }, async (t) => {
  const acme = await tenant()
  const start = Math.floor(Date.now() / HOUR) * HOUR - 30 * HOUR
  const huge = await measured(acme, [
    { at: start, value: 1.797e308 },
    { at: start + MINUTE, value: 1.797e308 },
    { at: start + 2 * MINUTE, value: 7 },
  ])
  const sane = await measured(
    acme,
    times(120, (n) => ({ at: start + n * 10 * MINUTE, value: n })),
  )
  const time = { from: iso(start), to: iso(start + 24 * HOUR) }
  const span = { ...time, time_zone: 'UTC' }
  const answers = async () =>
    [
      await huge.ask({ ...span, bucket: '1h' }),
      await huge.ask({ ...span, bucket: '10m', aggregates: 'p50,time_weighted_avg' }),
      await sane.ask({ ...span, bucket: '1mo' }),
      await acme.viewer.get(`/telemetry/series?${new URLSearchParams({ metric: 'm', ...span, bucket: '1h', aggregate: 'avg' })}`),
      await huge.query('/telemetry/chart', time),
    ].map(({ status, body }) => ({ status, data: body.data }))
  const before = await answers()
  t.same(
    before.map(({ status }) => status),
    [200, 200, 200, 200, 200],
  )
  t.match(before[0]!.data, [{ count: 1, sum: 7, max: 7 }])
  t.equal(total(before[2]!.data), 120)
  t.same(await sumUpHours(telemetry, acme.id), [])
  t.same(await answers(), before)
  const { rows } = await owner.query('select summed_until > $2 as done from tel_hour_state where tenant_id = $1', [acme.id, iso(start)])
  t.equal(rows[0].done, true)
  t.equal((await huge.ask({ ...span })).data.length, 3, 'raw readings show what is stored')
})

t.test('P13 a series that cannot be summed up stops no other, is told, and caught up on', { skip: timescale }, async (t) => {
  const acme = await tenant()
  const start = Math.floor(Date.now() / HOUR) * HOUR - 30 * HOUR
  const readings = times(60, (n) => ({ at: start + n * 20 * MINUTE, value: n }))
  const [broken, sane] = [await measured(acme, readings), await measured(acme, readings)]
  const { rows: series } = await owner.query(
    'select s.series_id from tel_series s join tel_device d on d.id = s.device_id where d.code = $1',
    [broken.code],
  )
  const id = Number(series[0].series_id)
  // The database refuses this series' sums, as it did when they overflowed.
  await owner.query(
    `create function plane.overflow_${id}() returns trigger language plpgsql as $$ begin raise numeric_value_out_of_range; end $$`,
  )
  await owner.query(
    `create trigger overflow_${id} before insert on tel_hour_sum for each row when (new.series_id = ${id}) execute function plane.overflow_${id}()`,
  )
  const drop = () => owner.query(`drop function if exists plane.overflow_${id}() cascade`)
  t.teardown(drop)
  const question = { from: iso(start), to: iso(start + 24 * HOUR), bucket: '1h', time_zone: 'UTC' }
  const answers = async () => [(await broken.ask(question)).data, (await sane.ask(question)).data]
  const before = await answers()
  const told: object[] = []
  const log = { info: () => {}, error: () => {}, warn: (data: object) => void told.push(data) }
  const registry = new Registry()
  const known = (await runtime.services.tenants.bySlug(acme.slug))!
  const sumUp = hourSums(runtime.services.planes, registry, log)
  await sumUp([known])
  t.match(told, [{ tenant_id: acme.id, failures: [{ series_id: id, device: broken.code, metric: 'm' }] }])
  t.match(await registry.metrics(), /telemetry_hours_failed\{kind="series"\} 1/)
  t.same(await answers(), before, 'answers are the same, from readings where hours are missing')
  const hours = async (code: string) =>
    (
      await owner.query(
        'select count(*)::int as n from tel_hour_sum h join tel_series s on s.series_id = h.series_id join tel_device d on d.id = s.device_id where d.code = $1',
        [code],
      )
    ).rows[0].n
  t.equal(await hours(broken.code), 0)
  t.equal(await hours(sane.code), 21)
  await sumUp([known])
  t.equal(told.length, 2, 'tried again, and told again')
  await drop()
  await sumUp([known])
  t.equal(await hours(broken.code), 21)
  t.match(await registry.metrics(), /telemetry_hours_failed\{kind="series"\} 0/)
  t.same(await answers(), before)
})

t.test('bad readings count where they are asked for alone, from readings and from sums', { skip: timescale }, async (t) => {
  const acme = await tenant()
  const start = Math.floor(Date.now() / HOUR) * HOUR - 30 * HOUR
  const { ask, query, code } = await measured(acme, [
    { at: start, value: 10 },
    { at: start + MINUTE, value: 20, quality: 1 },
    { at: start + 2 * MINUTE, value: 1_000, quality: 2 },
    { at: start + HOUR, value: 2_000, quality: 2 },
  ])
  const time = { from: iso(start), to: iso(start + 24 * HOUR) }
  const span = { ...time, time_zone: 'UTC' }
  const check = async (when: string) => {
    t.match((await ask({ ...span, bucket: '1h' })).data, [{ count: 2, max: 20, avg: 15 }], when)
    t.equal((await ask({ ...span, bucket: '1h' })).data.length, 1, when)
    t.match((await ask({ ...span, bucket: '1h', quality: 'good,uncertain,bad' })).data, [{ avg: 2_000 }, { count: 3, max: 1_000 }], when)
    t.match((await ask({ ...span, bucket: '1d', quality: 'good', aggregates: 'p50' })).data.at(-1), { p50: 10 }, when)
    t.match(
      (await query('/telemetry/series', { ...span, bucket: '1h', aggregate: 'max' })).data.series[0].values.slice(0, 2),
      [20, null],
      when,
    )
    t.match((await query('/telemetry/series', { ...span, bucket: '1h', aggregate: 'max', quality: 'bad' })).data, { source: 'raw' }, when)
    t.same(
      (await query('/telemetry/chart', time)).data[0].points.map(({ value }: { value: number }) => value),
      [10, 20],
      when,
    )
    t.equal((await query('/telemetry/chart', { ...time, quality: 'bad' })).data[0].points.length, 2, when)
  }
  await check('from readings')
  await sumUpHours(telemetry, acme.id)
  await check('from sums')
  t.same(
    (await ask(span)).data.map(({ quality }: { quality: number }) => quality),
    [2, 2, 1, 0],
    'raw readings are all there',
  )
  t.same(
    (await ask({ ...span, quality: 'bad' })).data.map(({ value }: { value: number }) => value),
    [2_000, 1_000],
  )
  const csv = (await query('/telemetry/series/readings', { ...time, quality: 'good' }, { accept: 'text/csv' })).text.trim().split('\r\n')
  t.equal(csv.length, 2)
  t.match(
    (await acme.viewer.get(`/telemetry/latest?device=${code}`)).data,
    [{ value: 2_000, quality: 2 }],
    'the latest says of what quality it is',
  )
  t.match(await ask({ ...span, quality: 'excellent' }), { status: 400, body: { detail: 'invalid_value' } })
})

t.test('P20 a chart of many readings keeps their range, from and to, and its spikes', async (t) => {
  const acme = await tenant()
  const start = Date.parse('2026-05-01T17:30:00Z')
  const { query } = await measured(acme, [])
  const { rows } = await owner.query(
    `select s.series_id from tel_series s join tel_device d on d.id = s.device_id where d.tenant_id = $1`,
    [acme.id],
  )
  await owner.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  await owner.query(
    `insert into tel_measurement (tenant_id, series_id, ts, value)
     select $1, $2, $3::timestamptz + n * interval '1 second', case when n = 23456 then 500 when n = 34567 then -500 else sin(n / 500.0) end
     from generate_series(0, 60000) as n`,
    [acme.id, rows[0].series_id, iso(start)],
  )
  const [from, to] = [iso(start), iso(start + 55_000_000)]
  for (const points of [50, 500, 5_000]) {
    const [drawn] = (await query('/telemetry/chart', { from, to, points })).data
    t.match(drawn, { source: 'raw' })
    t.equal(drawn.points.length, points)
    t.equal(drawn.points[0].ts, from)
    t.equal(drawn.points.at(-1).ts, iso(start + 54_999_000))
    const values = drawn.points.map(({ value }: { value: number }) => value)
    t.equal(Math.max(...values), 500)
    t.equal(Math.min(...values), -500)
  }
})

t.test('P1 spans of a thousand years are answered or refused at once, in any zone', async (t) => {
  const acme = await tenant()
  const start = Date.parse('2026-05-01T00:00:00Z')
  const { ask, query } = await measured(
    acme,
    times(10, (n) => ({ at: start + n * HOUR, value: n })),
  )
  const since = performance.now()
  for (const [from, to] of [
    ['0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z'],
    ['1970-01-01T00:00:00Z', '2100-01-01T00:00:00Z'],
    ['9990-01-01T00:00:00Z', '9999-12-31T23:59:59Z'],
    ['2026-05-01T00:00:00Z', '2026-05-01T00:00:00Z'],
    ['2027-05-01T00:00:00Z', '2026-05-01T00:00:00Z'],
  ] as const) {
    for (const bucket of ['1s', '1h', '3h', '1d', '1mo']) {
      const span = { from, to, bucket, time_zone: 'Europe/Berlin' }
      const { status, data } = await ask({ ...span, aggregates: 'time_weighted_avg' })
      t.equal(status, 200, `${from} ${bucket}`)
      t.equal(total(data), from < '2026-05-02' && to > '2026-05-02' ? 10 + Number(from < '2026') : 0, `${from} ${bucket}`)
      for (const answer of [await ask({ ...span, fill: 'null' }), await query('/telemetry/series', span)])
        t.ok([200, 400].includes(answer.status), `${from} ${bucket} ${answer.status}`)
    }
    for (const answer of [await query('/telemetry/chart', { from, to }), await query('/telemetry/series', { from, to, buckets: 10_000 })])
      t.ok([200, 400].includes(answer.status), `${from} ${answer.status}`)
  }
  t.ok(performance.now() - since < 20_000)
})

t.test('P20 a chart of more readings than are looked at one by one keeps them, too, to the hour', async (t) => {
  const acme = await tenant()
  const start = Date.parse('2026-05-01T17:30:00Z')
  const { query, code } = await measured(acme, [])
  await owner.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  await owner.query(
    `insert into tel_measurement (tenant_id, series_id, ts, value)
     select d.tenant_id, s.series_id, $3::timestamptz + n * interval '1 second', case when n = 234567 then 500 when n = 345678 then -500 else sin(n / 5000.0) end
     from tel_device d join tel_series s on s.device_id = d.id, generate_series(0, 510000) as n where d.tenant_id = $1 and d.code = $2`,
    [acme.id, code, iso(start)],
  )
  const [from, to] = [iso(start), iso(start + 509_000_000)]
  const [drawn] = (await query('/telemetry/chart', { from, to, points: 200 })).data
  t.match(drawn, { source: 'hourly' })
  t.equal(drawn.points.length, 200)
  t.equal(drawn.points[0].ts, from)
  t.equal(drawn.points.at(-1).ts, iso(start + 508_999_000))
  for (const [value, second] of [
    [500, 234_567],
    [-500, 345_678],
  ] as const) {
    const point = drawn.points.find((one: { value: number }) => one.value === value)
    t.ok(Math.abs(Date.parse(point.ts) - start - second * 1000) < HOUR, `${value} at ${point.ts}`)
  }
  t.match(await query('/telemetry/chart', { from, to, quality: 'good' }), { status: 400, body: { detail: 'invalid_value' } })
  const since = performance.now()
  const [scanned] = (await query('/telemetry/chart', { from, to: iso(start + 490_000_000), points: 200 })).data
  t.comment(`490,000 readings drawn in ${Math.round(performance.now() - since)} ms`)
  t.match(scanned, { source: 'raw' })
  t.ok(scanned.points.some((one: { value: number }) => one.value === 500))
})
