// Many series: beside each other, drawn with fewer points, the latest of each, streamed.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { largestTriangles } from '../../../domain/telemetry/index.ts'
import { testApp, times } from '../../support/app.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const MINUTE = 60_000
const start = Date.parse('2026-05-01T00:00:00Z')
const at = (minute: number, value: number, metric = 'm') => ({ ts: new Date(start + minute * MINUTE).toISOString(), metric, value })
const between = 'from=2026-05-01T00:00:00Z&to=2026-05-01T04:00:00Z'

t.test('series stand beside each other by the same buckets, gaps as they are asked for', async (t) => {
  const acme = await tenant()
  await acme.admin.post('/telemetry/metrics', { code: 'm', unit: '°C' })
  const [one, two] = [await probe(acme, { tags: ['north'] }), await probe(acme, { tags: ['north', 'tall'] })]
  await one.send([at(10, 10), at(20, 20), at(190, 80)])
  await two.send([at(70, 5), at(70, 7, 'other')])
  const ask = async (query: string) => acme.viewer.get(`/telemetry/series?${between}&time_zone=UTC&${query}`)
  const hours = times(4, (n) => new Date(start + n * 60 * MINUTE).toISOString())
  const both = [one, two].sort((a, b) => (a.code < b.code ? -1 : 1))
  const values = (of: Record<string, (number | null)[]>) =>
    both.map(({ id, code }) => ({ device: code, device_id: id, metric: 'm', unit: '°C', values: of[code] }))
  t.same((await ask(`device=${one.code},${two.code}&metric=m&bucket=1h`)).data, {
    source: 'hourly',
    bucket: '1h',
    aggregate: 'avg',
    times: hours,
    series: values({ [one.code]: [15, null, null, 80], [two.code]: [null, 5, null, null] }),
  })
  t.same(
    (await ask('tag=north&metric=m&bucket=1h&fill=linear&aggregate=max')).data.series,
    values({ [one.code]: [20, 40, 60, 80], [two.code]: [null, 5, null, null] }),
  )
  t.same(
    (await ask('tag=north&metric=m&bucket=1h&fill=previous&aggregate=count')).data.series,
    values({ [one.code]: [2, 0, 0, 1], [two.code]: [0, 1, 0, 0] }),
  )
  t.match(
    (await ask('tag=tall')).data,
    { bucket: '1m', series: [{ metric: 'm' }, { metric: 'other' }] },
    'the shortest with no more than 300',
  )
  t.match((await ask('tag=tall&buckets=20')).data, { bucket: '15m' })
  t.match((await ask('tag=tall&metric=m&bucket=15m&aggregate=p95')).data, { source: 'raw' })
  t.match(await ask('tag=south'), { status: 404, body: { detail: 'not_found' } })
  t.match(await ask('tag=north&bucket=1s&aggregate=avg'), { status: 200 })
  t.match(await acme.viewer.get('/telemetry/series?tag=north&from=2025-01-01T00:00:00Z&bucket=1m'), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  const globex = await tenant()
  t.match(await globex.viewer.get(`/telemetry/series?device=${one.code}`), { status: 404 })
})

t.test('the latest reading of every series is there at once, also after it came late', async (t) => {
  const acme = await tenant()
  const [one, two] = [await probe(acme), await probe(acme, { tags: ['mine'] })]
  await one.send([at(0, 1), at(5, 3), at(3, 2)])
  await two.send([at(0, 7), at(1, 8, 'other')])
  const both = [
    { device: one.code, metric: 'm', unit: null, ts: at(5, 3).ts, value: 3, quality: 0 },
    { device: two.code, metric: 'm', unit: null, ts: at(0, 7).ts, value: 7, quality: 0 },
    { device: two.code, metric: 'other', unit: null, ts: at(1, 8).ts, value: 8, quality: 0 },
  ].sort((a, b) => (a.device + a.metric < b.device + b.metric ? -1 : 1))
  t.same((await acme.viewer.get('/telemetry/latest')).data, both)
  t.same(
    (await acme.viewer.get('/telemetry/latest?tag=mine&metric=other')).data,
    both.filter(({ metric }) => metric === 'other'),
  )
  const seen: unknown[] = []
  for (let cursor = ''; ; ) {
    const page = await acme.viewer.get(`/telemetry/latest?limit=1${cursor && `&cursor=${cursor}`}`)
    seen.push(...page.data)
    cursor = page.body.pagination.next_cursor
    if (!cursor) break
  }
  t.same(seen, both)
  await one.send([at(4, 9)])
  t.same((await acme.viewer.get(`/telemetry/latest?device=${one.code}`)).data[0].value, 3, 'what came late is not the latest')
  t.match(await acme.viewer.get('/telemetry/latest?cursor=nonsense'), { status: 400, body: { detail: 'invalid_cursor' } })
})

t.test('a chart has as many points as it is asked for, and keeps its peaks', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await device.send(times(2_000, (n) => at(n / 10, n === 777 ? 500 : Math.sin(n / 50))))
  const [drawn] = (await acme.viewer.get(`/telemetry/chart?${between}&device=${device.code}&points=50`)).data
  t.match(drawn, { device: device.code, metric: 'm', source: 'raw' })
  t.equal(drawn.points.length, 50)
  t.equal(drawn.points[0].ts, at(0, 0).ts)
  t.equal(drawn.points.at(-1).ts, at(199.9, 0).ts)
  t.ok(
    drawn.points.some(({ value }: { value: number }) => value === 500),
    'the one peak',
  )
  t.same(
    drawn.points.map(({ ts }: { ts: string }) => ts),
    drawn.points.map(({ ts }: { ts: string }) => ts).sort(),
  )
  t.equal(
    (await acme.viewer.get(`/telemetry/chart?${between}&device=${device.code}&points=5000`)).data[0].points.length,
    2_000,
    'no more than there are',
  )
  t.match(await acme.viewer.get('/telemetry/chart?device=nobody'), { status: 404 })
})

t.test('largest triangles, worked by hand', async (t) => {
  const points = [0, 5, 1, 1, 9, 0, 2, 2].map((value, at) => ({ at, value }))
  // Three parts of two each: of (1, 5) and (2, 1) beside (0, 0) and the middle (3.5, 5) it is the second, and so on.
  t.same(
    largestTriangles(points, 5).map(({ at }) => at),
    [0, 1, 4, 5, 7],
  )
  t.same(largestTriangles(points, 8), points)
  t.same(largestTriangles([], 10), [])
  t.equal(
    largestTriangles(
      times(1_000, (at) => ({ at, value: at % 7 })),
      100,
    ).length,
    100,
  )
})

t.test('many series are streamed one after the other', async (t) => {
  const acme = await tenant()
  const many = await Promise.all(times(3, () => probe(acme)))
  for (const device of many) await device.send(times(10, (n) => at(n, n)))
  const lines = (await acme.viewer.get(`/telemetry/series/readings?${between}`)).text.trim().split('\n')
  t.equal(lines.length, 30)
  t.equal(new Set(lines.map((line) => JSON.parse(line).device)).size, 3)
  const csv = await acme.viewer.get(`/telemetry/series/readings?${between}&device=${many[0]!.code}`, { accept: 'text/csv' })
  t.equal(csv.text.trim().split('\r\n').length, 11)
  t.match(await acme.viewer.get(`/telemetry/series/readings?device=${newId()}`), { status: 404 })
})
