// Limits on metrics of a device, and on metrics and series of a tenant, which devices make by sending.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { TelemetryIngest } from '../../../domain/telemetry/index.ts'
import { SeriesIds } from '../../../domain/telemetry/series-ids.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { type Probe, probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const owner = new Client({ connectionString: testServices().admin.control })
await owner.connect()
t.teardown(() => owner.end())

/** A plan with all modules and these limits. */
async function planWith(limits: Record<string, number | null>): Promise<string> {
  const plan = `test-${newId().slice(-8)}`
  await owner.query(`insert into platform_plans (code, name, price, sort) values ($1, 'Test', 9999, 99)`, [plan])
  await owner.query(`insert into platform_plan_modules (plan, module) select $1, code from platform_product_modules`, [plan])
  for (const [metric, amount] of Object.entries(limits))
    await owner.query('insert into platform_plan_limits (plan, metric, amount) values ($1, $2, $3)', [plan, metric, amount])
  return plan
}
const ts = new Date(Date.now() - 60_000).toISOString()
const of = (metrics: string[]) => metrics.map((metric) => ({ ts, metric, value: 1 }))
const named = (prefix: string, count: number) => times(count, (n) => `${prefix}${n}`)
const usage = async (acme: TestTenant) =>
  Object.fromEntries((await acme.viewer.get('/tenant/usage')).data.map((one: { metric: string; used: number }) => [one.metric, one.used]))
const rejected = async (acme: TestTenant, { code }: Probe) =>
  (await acme.viewer.get(`/telemetry/rejections?device=${code}`)).data.map((one: { reason: string; count: number }) => [
    one.reason,
    one.count,
  ])

t.test('F23: a device sends no more metrics than its plan allows, and the rest of its message is stored', async (t) => {
  const acme = await tenant({ plan: await planWith({ device_metrics: 5 }) })
  const [one, other] = [await probe(acme), await probe(acme)]
  const result = await one.send(of([...named('a', 3), ...named('b', 300)]))
  t.equal(result.accepted, 5)
  t.match(result.rejections, [{ device: one.code, reason: 'device_metric_limit', count: 298 }])
  t.same(await rejected(acme, one), [['device_metric_limit', 298]])
  t.equal(
    (await one.send(of(named('a', 3)).map((reading) => ({ ...reading, ts: new Date().toISOString() })))).accepted,
    3,
    'known ones go on',
  )
  t.equal((await other.send(of(named('c', 4)))).accepted, 4, 'another device has its own')
  t.match(await usage(acme), { device_metrics: 5, metrics: 9, series: 9 })
  t.equal((await acme.viewer.get('/telemetry/metrics?count=exact&limit=1')).body.pagination.total, 9)
})

t.test('F23: metrics and series of a tenant are limited, by its API as well', async (t) => {
  const acme = await tenant({ plan: await planWith({ metrics: 3, series: 5 }) })
  const [one, two] = [await probe(acme), await probe(acme)]
  t.match(await one.send(of(named('m', 4))), { accepted: 3, rejections: [{ reason: 'metric_limit', count: 1 }] })
  t.match(await two.send(of(named('m', 3))), { accepted: 2, rejections: [{ reason: 'series_limit', count: 1 }] })
  t.match(await acme.admin.post('/telemetry/metrics', { code: 'one-more' }), {
    status: 403,
    body: { detail: 'plan_limit', error: { details: { metric: 'metrics', limit: 3, used: 3 } } },
  })
  const free = await tenant()
  t.equal((await (await probe(free)).send(of(named('m', 10)))).accepted, 10, 'another tenant has its own')
})

t.test('F23: plans that name no limits have 200 metrics a device, 5,000 metrics and 50,000 series', async (t) => {
  const acme = await tenant({ plan: await planWith({ devices: 10 }) })
  const one = await probe(acme)
  t.match(await one.send(of(named('m', 300))), { accepted: 200, rejections: [{ reason: 'device_metric_limit', count: 100 }] })
  const limits = (await acme.viewer.get('/tenant/usage')).data as { metric: string; limit: number }[]
  t.same(
    limits.filter(({ metric }) => ['device_metrics', 'metrics', 'series'].includes(metric)).map(({ limit }) => limit),
    [200, 5_000, 50_000],
  )
})

t.test('F23: twenty consumers that make series at once stay within the limit, exactly', async (t) => {
  const acme = await tenant({ plan: await planWith({ device_metrics: 18, metrics: 40, series: 33 }) })
  const devices = [await probe(acme), await probe(acme)]
  const results = await Promise.all(
    times(20, (n) => {
      const { planes, tenants } = runtime.services
      const { code, key } = devices[n % 2]!
      const readings = of(named(`n${n}-`, 10))
      return new TelemetryIngest(planes, tenants).ingest(
        [{ value: Buffer.from(JSON.stringify({ tenant: acme.slug, device: code, readings })), key, device: code }],
        newId(),
      )
    }),
  )
  t.equal(
    results.reduce((sum, { accepted }) => sum + accepted, 0),
    33,
  )
  t.match(await usage(acme), { metrics: 33, series: 33, device_metrics: 18 })
})

t.test('F23: a profile that lists metrics takes those alone by default', async (t) => {
  const acme = await tenant()
  const profile = async (body: object) =>
    (await acme.admin.post('/telemetry/device-profiles', { code: newId().slice(-8), name: 'P', ...body })).data
  const strict = await profile({ metrics: [{ metric: 'temperature' }] })
  t.equal(strict.other_metrics, false)
  const one = await probe(acme, { profile_id: strict.id })
  t.match(await one.send(of(['temperature', 'junk'])), { accepted: 1, rejections: [{ reason: 'unknown_metric', count: 1 }] })
  const plain = await profile({ expected_interval_seconds: 60 })
  t.equal(
    (await (await probe(acme, { profile_id: plain.id })).send(of(['temperature', 'junk']))).accepted,
    2,
    'one that lists none restricts none',
  )
})

t.test('F23: series of one tenant do not push those of another out of memory', (t) => {
  const ids = new SeriesIds(10, 25)
  ids.set('quiet', 'device', 'm', 1)
  for (let n = 0; n < 10_000; n++) ids.set('loud', 'device', `m${n}`, n)
  t.equal(ids.get('quiet', 'device', 'm'), 1)
  for (let n = 0; n < 100; n++) ids.set(`other ${n % 4}`, 'device', `m${n}`, n)
  t.equal(ids.get('quiet', 'device', 'm'), 1, 'the tenant with the most loses them')
  t.end()
})
