// Readings as they are asked for: in pages, by the company's days and hours, with and without gaps.
import t from 'tap'
import { type Failure, newId } from '../../../domain/kernel/index.ts'
import { bucketedReadings } from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)

interface Reading {
  ts: string
  value: number
}
/** A device of its own with these readings of `m`, and how they are asked for. */
async function measured(acme: TestTenant, readings: readonly Reading[], device = `probe-${newId().slice(-8)}`) {
  const { send } = await probe(acme, { code: device })
  await send(readings)
  return (query: Record<string, string>, path = '/telemetry/readings') =>
    acme.viewer.get(`${path}?${new URLSearchParams({ device, metric: 'm', ...query })}`)
}
const hourly = (from: string, hours: number): Reading[] =>
  times(hours, (n) => ({ ts: new Date(Date.parse(from) + n * 3_600_000).toISOString(), value: n }))

t.test('raw readings come in pages, newest first, each once', async (t) => {
  const acme = await tenant()
  const ask = await measured(acme, hourly('2026-05-01T00:00:00Z', 50))
  const between = { from: '2026-05-01T00:00:00Z', to: '2026-06-01T00:00:00Z' }
  const seen: number[] = []
  for (let cursor = ''; ; ) {
    const page = await ask({ ...between, limit: '7', ...(cursor ? { cursor } : {}) })
    seen.push(...page.data.map(({ value }: Reading) => value))
    cursor = page.body.pagination.next_cursor
    if (!cursor) break
  }
  t.same(
    seen,
    times(50, (n) => 49 - n),
  )
  const { next_cursor: cursor } = (await ask({ ...between, limit: '7' })).body.pagination
  t.match(await ask({ cursor, bucket: '1h' }), { status: 400, body: { detail: 'invalid_cursor' } }, 'another question')
  t.match(await ask({ cursor: 'nonsense' }), { status: 400, body: { detail: 'invalid_cursor' } })
  t.same((await ask({ from: '2026-05-01T00:00:00Z', to: '2026-05-01T01:00:00Z' })).data.length, 1, 'the end is not in it')
})

t.test('days are the company’s: of 23 and of 25 hours where the clocks are changed', async (t) => {
  const acme = await tenant()
  const [spring, autumn] = ['2026-03-28T00:00:00Z', '2026-10-24T00:00:00Z']
  const ask = await measured(acme, [...hourly(spring, 72), ...hourly(autumn, 72)])
  const days = async (from: string, time_zone: string, bucket = '1d') =>
    (await ask({ from, to: new Date(Date.parse(from) + 72 * 3_600_000).toISOString(), bucket, time_zone })).data.map(
      ({ ts, count }: { ts: string; count: number }) => [ts, count],
    )
  t.same(await days(spring, 'Europe/Madrid'), [
    ['2026-03-30T22:00:00.000Z', 2],
    ['2026-03-29T22:00:00.000Z', 24],
    ['2026-03-28T23:00:00.000Z', 23],
    ['2026-03-27T23:00:00.000Z', 23],
  ])
  t.same(await days(autumn, 'Europe/Madrid'), [
    ['2026-10-26T23:00:00.000Z', 1],
    ['2026-10-25T23:00:00.000Z', 24],
    ['2026-10-24T22:00:00.000Z', 25],
    ['2026-10-23T22:00:00.000Z', 22],
  ])
  t.same(await days(spring, 'UTC'), [
    ['2026-03-30T00:00:00.000Z', 24],
    ['2026-03-29T00:00:00.000Z', 24],
    ['2026-03-28T00:00:00.000Z', 24],
  ])
  // Six hours on the wall: the one in which the clocks are put forward has five.
  t.same((await days(spring, 'Europe/Madrid', '6h')).slice(6, 10), [
    ['2026-03-29T10:00:00.000Z', 6],
    ['2026-03-29T04:00:00.000Z', 6],
    ['2026-03-28T23:00:00.000Z', 5],
    ['2026-03-28T17:00:00.000Z', 6],
  ])
  // An hour begins where the zone's does.
  t.same((await days(spring, 'Asia/Kolkata', '1h')).at(-1), ['2026-03-27T23:30:00.000Z', 1])
  t.same((await days(spring, 'Europe/Madrid', '1mo')).length, 1)
  for (const time_zone of ['Europe/Atlantis', '+02:00', '']) {
    t.match(await ask({ bucket: '1d', time_zone }), { status: 400 }, time_zone)
  }
  t.match(await ask({ bucket: '7m' }), { status: 400, body: { detail: 'invalid_query' } })
})

t.test('a time zone that Node knows and the database does not is refused, and no fault of ours', async (t) => {
  const acme = await tenant()
  const device = `probe-${newId().slice(-8)}`
  await measured(acme, hourly('2026-05-01T00:00:00Z', 1), device)
  const question = {
    device,
    metric: 'm',
    from: '2026-05-01T00:00:00Z',
    to: '2026-05-02T00:00:00Z',
    limit: 10,
    before: null,
    qualities: [0],
  }
  const { telemetry } = runtime.services.planes
  await t.rejects(
    telemetry
      .get('main')!
      .read(acme.scope, (tx) =>
        bucketedReadings(tx, { ...question, bucket: '30m', timeZone: 'Europe/Atlantis', fill: 'none', further: [] }),
      ),
    { detail: 'invalid_value', details: { rule: 'time_zone' } } as Partial<Failure> as Error,
  )
})

t.test('gaps are left, shown, or filled', async (t) => {
  const acme = await tenant()
  const [from, to] = ['2026-05-01T00:00:00Z', '2026-05-01T06:00:00Z']
  const at = (hour: number, value: number) => ({ ts: `2026-05-01T0${hour}:30:00.000Z`, value })
  const ask = await measured(acme, [at(1, 10), at(4, 40)])
  const average = async (fill: string) =>
    (await ask({ from, to, bucket: '1h', time_zone: 'UTC', fill })).data.map(({ avg }: { avg: number | null }) => avg).reverse()
  t.same(await average('none'), [10, 40])
  t.same(await average('null'), [null, 10, null, null, 40, null])
  t.same(await average('previous'), [null, 10, 10, 10, 40, 40])
  t.same(await average('linear'), [null, 10, 20, 30, 40, null])
  const [newest] = (await ask({ from, to, bucket: '1h', time_zone: 'UTC', fill: 'previous' })).data
  t.same(newest, { ts: '2026-05-01T05:00:00.000Z', count: 0, sum: null, min: 40, max: 40, avg: 40, first: 40, last: 40 })
  t.equal(
    (await ask({ from: '2026-03-28T12:00:00Z', to: '2026-03-30T12:00:00Z', bucket: '6h', time_zone: 'Europe/Madrid', fill: 'null' })).data
      .length,
    9,
  )
  for (const [since, bucket] of [
    ['2025-01-01', '1m'],
    ['1970-01-01', '1s'],
  ] as const)
    t.match(await ask({ from: `${since}T00:00:00Z`, to, bucket, fill: 'null' }), { status: 400, body: { detail: 'invalid_value' } }, bucket)
  const edge = { from, to: '2026-05-01T00:16:40Z', bucket: '1s', fill: 'null' }
  t.equal((await ask({ ...edge, limit: '1000' })).data.length, 1000, 'as many as may be')
  t.match(await ask({ ...edge, limit: '999' }), { status: 400, body: { detail: 'invalid_value' } }, 'and not one more')
})

t.test('percentiles, averages by time and rates of change are worked out where they are asked for', async (t) => {
  const acme = await tenant()
  const at = (time: string, value: number) => ({ ts: `2026-05-01T${time}Z`, value })
  const ask = await measured(acme, [at('00:30:00', 10), at('01:15:00', 40), at('01:45:00', 20), at('04:00:00', 100)])
  const answer = await ask({
    from: '2026-05-01T01:00:00Z',
    to: '2026-05-01T05:00:00Z',
    bucket: '1h',
    time_zone: 'UTC',
    aggregates: 'p50,p95,time_weighted_avg,rate',
  })
  t.equal(answer.body.source, 'raw')
  const [last, first] = answer.data
  // 10 for a quarter of an hour, which the reading before brought in, 40 for half an hour, 20 for a quarter.
  t.match(first, { ts: '2026-05-01T01:00:00.000Z', count: 2, p50: 30, p95: 39, time_weighted_avg: (10 + 2 * 40 + 20) / 4 })
  t.ok(Math.abs(first.rate - 10 / 4500) < 1e-12, 'from 10 at half past to 20 an hour and a quarter later')
  t.match(last, { ts: '2026-05-01T04:00:00.000Z', count: 1, time_weighted_avg: 100 })
  t.match(await ask({ bucket: '1h', aggregates: 'p50,median' }), { status: 400, body: { detail: 'invalid_value' } })
})

t.test('a counter that begins anew has grown all the same', async (t) => {
  const acme = await tenant()
  await acme.admin.post('/telemetry/metrics', { code: 'm', unit: 'l', kind: 'counter' })
  const at = (minute: number, value: number) => ({ ts: `2026-05-01T00:${String(minute).padStart(2, '0')}:00Z`, value })
  const ask = await measured(acme, [at(0, 100), at(10, 160), at(20, 30), at(30, 90)])
  const [hour] = (
    await ask({ from: '2026-05-01T00:00:00Z', to: '2026-05-01T01:00:00Z', bucket: '1h', time_zone: 'UTC', aggregates: 'rate' })
  ).data
  t.ok(Math.abs(hour.rate - (60 + 30 + 60) / 1800) < 1e-12)
})

t.test('all of a series is streamed, as lines of JSON or CSV', async (t) => {
  const acme = await tenant()
  const device = `probe-${newId().slice(-8)}`
  await measured(acme, hourly('2025-05-01T00:00:00Z', 5_500), device)
  const path = `/telemetry/readings?device=${device}&metric=m&from=2025-05-01T00:00:00Z&to=2026-05-01T00:00:00Z`
  const csv = (await acme.viewer.get(path, { accept: 'text/csv' })).text.trim().split('\r\n')
  t.equal(csv.length, 5_501, 'more than a page')
  t.same(csv.slice(0, 2), [
    'device,metric,ts,value,quality',
    `${device},m,${new Date(Date.parse('2025-05-01') + 5_499 * 3_600_000).toISOString()},5499,0`,
  ])
  const lines = (await acme.viewer.get(path, { accept: 'application/x-ndjson' })).text.trim().split('\n')
  t.equal(new Set(lines).size, 5_500)
  t.same(JSON.parse(lines.at(-1)!), { device, metric: 'm', ts: '2025-05-01T00:00:00.000Z', value: 0, quality: 0 })

  const hours = (await acme.viewer.get(`${path}&bucket=1h&aggregates=p50`, { accept: 'text/csv' })).text.trim().split('\r\n')
  t.equal(hours.length, 5_501, 'buckets too')
  t.equal(new Set(hours).size, 5_501)
  t.same(hours[0], 'ts,count,sum,min,max,avg,first,last,p50')
  t.same(hours.at(-1), '2025-05-01T00:00:00.000Z,1,0,0,0,0,0,0,0')
  const days = (await acme.viewer.get(`${path}&bucket=1d&time_zone=UTC`, { accept: 'application/x-ndjson' })).text.trim().split('\n')
  t.equal(days.length, 230)
  t.match(JSON.parse(days.at(-1)!), { ts: '2025-05-01T00:00:00.000Z', count: 24, sum: 276 })
  const filled = `${path}&bucket=1d&time_zone=UTC&fill=previous&limit=1000`
  const filledDays = (await acme.viewer.get(filled, { accept: 'text/csv' })).text.trim().split('\r\n')
  t.equal(filledDays.length, 366)
  t.match(await acme.viewer.get(`${filled}0`, { accept: 'text/csv' }), { status: 200 })
  t.match(await acme.viewer.get(`${path}&bucket=1m&fill=null`, { accept: 'text/csv' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.equal((await acme.viewer.get(path.replace(device, 'nobody'), { accept: 'text/csv' })).status, 404)
  t.equal((await acme.viewer.get(`${path.replace(device, 'nobody')}&bucket=1h`, { accept: 'text/csv' })).status, 404)
})
