// How much a plan lets in: by the minute in which Kafka had it, and whoever sends too much takes nothing from the others.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type IngestResult, TelemetryIngest } from '../../../domain/telemetry/index.ts'
import { testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)
const plan = `test-${newId().slice(-8)}`
const owner = new Client({ connectionString: testServices().admin.control })
await owner.connect()
await owner.query(`insert into platform_plans (code, name, price, sort) values ($1, 'Test', 9999, 99)`, [plan])
await owner.query(`insert into platform_plan_modules (plan, module) select $1, code from platform_product_modules`, [plan])
await owner.query(`insert into platform_plan_limits (plan, metric, amount) values ($1, 'readings', 100)`, [plan])
await owner.end()

const minute = Math.floor(Date.now() / 60_000) * 60_000 - 60_000
const message = (slug: string, device: { code: string; key: string }, first: number, count: number, receivedAt: number) => ({
  value: Buffer.from(
    JSON.stringify({
      tenant: slug,
      device: device.code,
      readings: times(count, (n) => ({ ts: new Date(minute - (first + n) * 1000).toISOString(), metric: 'm', value: n })),
    }),
  ),
  key: device.key,
  device: device.code,
  receivedAt,
})

t.test('a plan lets so many in a minute, and says of the rest that it did not', async (t) => {
  const [small, free] = [await tenant({ plan }), await tenant()]
  const [one, other] = [await probe(small), await probe(free)]
  const flood = times(20, (n) => message(small.slug, one, n * 10, 10, minute + n))
  const result = await ingest.ingest([...flood, message(free.slug, other, 0, 500, minute)], newId())
  t.equal(result.accepted, 600)
  t.same([...new Set(result.rejections.map(({ reason }) => reason))], ['over_limit'])
  t.equal(
    result.rejections.reduce((sum, { count }) => sum + count, 0),
    100,
  )
  t.match((await small.viewer.get(`/telemetry/rejections?device=${one.code}`)).data, [{ reason: 'over_limit', count: 100 }])
  const used = async () => (await small.viewer.get('/tenant/usage')).data.find(({ metric }: { metric: string }) => metric === 'readings')
  if (Math.floor(Date.now() / 60_000) * 60_000 === minute + 60_000) t.match(await used(), { used: 100, limit: 100 })

  // A backlog that is worked off at once is of many minutes.
  const backlog = times(5, (n) => message(small.slug, one, 1_000 + n * 100, 100, minute - (n + 1) * 60_000))
  t.equal((await ingest.ingest(backlog, newId())).accepted, 500)
  t.equal((await ingest.ingest([message(small.slug, one, 5_000, 1, minute + 5)], newId())).accepted, 0, 'that minute is full')
})

t.test('what comes again is not counted again', async (t) => {
  const small = await tenant({ plan })
  const one = await probe(small)
  const batch = [message(small.slug, one, 0, 40, minute)]
  for (let n = 0; n < 3; n++) await ingest.ingest(batch, newId())
  t.equal((await ingest.ingest([message(small.slug, one, 100, 60, minute)], newId())).accepted, 60)
})

t.test('a batch that is tried again counts nothing again of those who were done', async (t) => {
  const [done, late] = [await tenant(), await tenant()]
  const [one, other] = [await probe(done), await probe(late)]
  const rule = { name: 'Watched', condition: { kind: 'threshold', metric: 'm', above: 1e9 } }
  t.equal((await late.admin.post('/telemetry/rules', rule)).status, 201)
  const batch = [
    message(done.slug, one, 0, 3, minute),
    { ...message(done.slug, one, 0, 3, minute), key: 'dk_wrong' },
    message(late.slug, other, 0, 50, minute),
  ]
  const settled = new Map<string, IngestResult>()
  await t.rejects(ingest.ingest(batch, newId(), { before: Promise.resolve(false), settled }), 'rules watch the one who sent more')
  t.same([...settled.keys()], [done.slug])
  t.match(await ingest.ingest(batch, newId(), { settled }), { accepted: 53, rejections: [{ reason: 'unauthorized', count: 3 }] })
  t.match((await done.viewer.get('/telemetry/rejections')).data, [{ reason: 'unauthorized', count: 3 }])
})

t.test('in one batch those who sent little are written before the one who sent much', async (t) => {
  const [loud, quiet] = [await tenant(), await tenant()]
  const [one, other] = [await probe(loud), await probe(quiet)]
  const order: string[] = []
  const telling = new TelemetryIngest(runtime.services.planes, runtime.services.tenants, { announce: (id) => order.push(id) })
  await telling.ingest(
    [...times(50, (n) => message(loud.slug, one, n * 10, 10, minute)), message(quiet.slug, other, 0, 10, minute)],
    newId(),
  )
  t.same(order, [quiet.id, loud.id])
})
