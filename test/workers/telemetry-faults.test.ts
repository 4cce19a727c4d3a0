// A million readings, each sent twice and in no order, while consumers are killed, PostgreSQL dies and comes back, and
// nonsense comes between: the table is the set that was sent.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { prepareServer, startPostgres } from '../../server/embedded/postgres.ts'
import { migrateAll } from '../../server/migrations.ts'
import type { OutgoingMessage } from '../../workers/kafka.ts'
import { testApp, times } from '../support/app.ts'
import { makeTopics } from '../support/broker.ts'
import { openGate } from '../support/gate.ts'
import { testServices } from '../support/services.ts'
import type { ConsumerOrder, ConsumerSays } from '../support/telemetry-process.ts'

/** The broker of the tests that need no other keeps little of a topic; a real one takes all. */
const READINGS = testServices().realBroker ? 1_000_000 : 200_000
const PER_MESSAGE = 100
const QUIET = 4
/** One tenant sends fifty times as much as each of the others. */
const LOUD_SHARE = 50

const folder = mkdtempSync(path.join(tmpdir(), 'tenantry-faults-'))
chmodSync(folder, 0o755)
let postgres = await startPostgres(path.join(folder, 'postgres'))
await prepareServer(postgres.url('postgres'), ['telemetry'])
const [migrated] = await migrateAll([{ name: 'telemetry:main', plane: 'telemetry', url: postgres.url('telemetry') }])
if (migrated?.error) throw new Error(migrated.error)
const gate = await openGate(t, postgres.url('telemetry', 'tenantry_app'))
const { tenant, runtime } = await testApp(t, { TELEMETRY_CATALOG: JSON.stringify({ main: gate.url }) })

const name = newId().slice(-8)
const [topic, aside, group] = [`test-readings-${name}`, `test-readings-aside-${name}`, `test-readings-${name}`]
const topics = [topic, aside].map((one) => ({ topic: one, partitions: 8, retentionMs: 3_600_000 }))
await makeTopics(runtime, topics)

const children = new Set<ChildProcess>()
let largest = 0
/** Another consumer of the group, with the bounds that `npm run worker` gives it. */
function consumer(): ChildProcess {
  const order: ConsumerOrder = { config: { ...runtime.config }, topic, aside, group }
  const child = fork(path.join(import.meta.dirname, '../support/telemetry-process.ts'), {
    execArgv: ['--max-semi-space-size=8', '--max-old-space-size=512'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '16', MALLOC_ARENA_MAX: '2', CONSUMER_ORDER: JSON.stringify(order) },
  })
  child.on('message', ({ rss }: ConsumerSays) => {
    largest = Math.max(largest, rss)
  })
  children.add(child)
  return child
}
async function kill(child: ChildProcess) {
  children.delete(child)
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}
t.teardown(async () => {
  for (const child of children) await kill(child)
  await postgres.stop()
  rmSync(folder, { recursive: true, force: true })
})

const base = Math.floor(Date.now() / 1000) * 1000 - 2_000_000_000
const valueAt = (device: number, n: number) => (n * 7_919 + device * 104_729) % 100_003
const checkOf = (n: number, value: number) => ((n % 1_009) * value) % 1_000_003

async function query<R extends object>(text: string): Promise<R[]> {
  const client = new Client({ connectionString: postgres.url('telemetry'), connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    return (await client.query<R>(text)).rows
  } finally {
    await client.end().catch(() => {})
  }
}
const written = () =>
  query<{ n: number }>('select count(*)::int as n from tel_measurement').then(
    ([row]) => row!.n,
    () => -1, // it is away
  )

t.test('a million readings, twice, shuffled, through all of it', { timeout: 300_000 }, async (t) => {
  const tenants = await Promise.all(times(QUIET + 1, () => tenant()))
  const share = READINGS / (LOUD_SHARE + QUIET)
  const devices = (
    await Promise.all(
      tenants.map(async (one, at) => {
        const count = at === 0 ? 10 : 2
        const readings = Math.floor(((at === 0 ? LOUD_SHARE : 1) * share) / count)
        const { data: made } = await one.admin.post('/telemetry/devices/bulk', {
          rows: times(count, (n) => ({ code: `fault-${name}-${at}-${n}`, name: 'Probe' })),
        })
        const { data: keys } = await one.admin.post('/telemetry/devices/keys', { device_ids: made.map(({ id }: { id: string }) => id) })
        return made.map(({ code }: { code: string }, n: number) => ({ slug: one.slug, code, key: keys[n].key as string, readings }))
      }),
    )
  ).flat() as { slug: string; code: string; key: string; readings: number }[]
  const expected = devices.reduce((sum, { readings }) => sum + readings, 0)

  /** Which readings of which device one message carries. */
  const parts = devices.flatMap(({ readings }, device) =>
    times(Math.ceil(readings / PER_MESSAGE), (n) => [device, n * PER_MESSAGE, Math.min(readings, (n + 1) * PER_MESSAGE)] as const),
  )
  const order = [...parts, ...parts]
  let seed = 42
  for (let at = order.length - 1; at > 0; at--) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    const other = seed % (at + 1)
    ;[order[at], order[other]] = [order[other]!, order[at]!]
  }
  const messageOf = ([device, from, to]: readonly [number, number, number]): OutgoingMessage => {
    const { slug, code, key } = devices[device]!
    const readings = times(to - from, (n) => ({
      ts: new Date(base + (from + n) * 1000).toISOString(),
      metric: 'm',
      value: valueAt(device, from + n),
    }))
    return { topic, key: code, value: JSON.stringify({ tenant: slug, device: code, readings }), headers: { 'device-key': key } }
  }
  const { slug, code, key } = devices[0]!
  const nonsense = (body: string, headers: Record<string, string> = { 'device-key': key }): OutgoingMessage => ({
    topic,
    key: code,
    value: body,
    headers,
  })
  const wrong = (reading: object) => JSON.stringify({ tenant: slug, device: code, readings: [reading] })
  const poison = [
    nonsense('{'),
    nonsense(''),
    nonsense('x'.repeat(256 * 1024 + 1)),
    nonsense(JSON.stringify({ tenant: slug, device: code, readings: [], pad: 'x'.repeat(200 * 1024) })),
    nonsense(`{"tenant":"${slug}","device":"${code}","readings":[{"ts":"${new Date(base).toISOString()}","metric":"m","value":1e999}]}`),
    nonsense(wrong({ ts: new Date(base).toISOString(), metric: 'm', value: 'NaN' })),
    nonsense(wrong({ ts: new Date(Date.now() + 365 * 86_400_000).toISOString(), metric: 'm', value: 1 })),
    nonsense(wrong({ ts: new Date(base).toISOString(), metric: 'm\u0000', value: 1 })),
    nonsense(JSON.stringify({ tenant: slug, device: code, readings: [{ ts: new Date(base).toISOString(), metric: 'm', value: 1 }] }), {}),
  ]

  let sent = 0
  const sending = (async () => {
    for (let at = 0; at < order.length; at += 200) {
      const some = order.slice(at, at + 200).map(messageOf)
      if (at % 2_000 === 0) some.push(...poison)
      await runtime.producer.send(some)
      sent = at + 200
    }
  })()
  const reached = async (part: number) => {
    while ((await written()) < expected * part) await new Promise((resolve) => setTimeout(resolve, 100))
  }
  let [one, two] = [consumer(), consumer()]
  await reached(0.1)
  await kill(one) // in the midst of batches
  one = consumer() // and the group is divided anew
  await reached(0.25)
  const three = consumer()
  await reached(0.35)
  await Promise.all([kill(two), kill(three)])
  two = consumer()
  await reached(0.5)
  await postgres.kill()
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  postgres = await startPostgres(path.join(folder, 'postgres'))
  gate.lead(postgres.url('telemetry', 'tenantry_app'))
  await reached(0.75)
  await kill(one)
  one = consumer()
  await sending
  t.ok(sent >= order.length)
  await reached(1)
  // Whatever comes yet is there already.
  let before = -1
  for (let quiet = 0; quiet < 3; ) {
    const [{ accepted } = { accepted: 0 }] = await query<{ accepted: number }>(
      'select coalesce(sum(n_tup_ins), 0)::int as accepted from pg_stat_user_tables',
    )
    quiet = accepted === before ? quiet + 1 : 0
    before = accepted
    await new Promise((resolve) => setTimeout(resolve, 500))
  }

  const rows = await query<{ code: string; n: number; values: string; checks: string }>(
    `select d.code, count(*)::int as n, sum(m.value)::text as values,
       sum((((extract(epoch from m.ts) * 1000 - ${base}) / 1000)::bigint % 1009 * m.value::bigint) % 1000003)::text as checks
     from tel_measurement m join tel_series s using (tenant_id, series_id) join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id
     group by d.code`,
  )
  const found = new Map(rows.map((row) => [row.code, row]))
  for (const [device, { code, readings }] of devices.entries()) {
    let [values, checks] = [0, 0]
    for (let n = 0; n < readings; n++) {
      const value = valueAt(device, n)
      values += value
      checks += checkOf(n, value)
    }
    const { n, ...sums } = found.get(code)!
    t.same({ n, values: Number(sums.values), checks: Number(sums.checks) }, { n: readings, values, checks }, code)
  }
  t.equal(rows.length, devices.length)
  const reasons = await query<{ reason: string }>('select distinct reason from tel_rejection order by reason')
  t.same(
    reasons.map(({ reason }) => reason),
    ['in_future', 'invalid_reading', 'malformed', 'out_of_range', 'unauthorized'],
  )
  t.ok(largest < 300e6, `a consumer had ${(largest / 1e6).toFixed(0)} MB at most`)
})
