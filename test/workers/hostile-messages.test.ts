// Messages that nobody should send: none of them stops a partition, and good ones beside them arrive.
import { gzipSync } from 'node:zlib'
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { type Rejection, TelemetryIngest } from '../../domain/telemetry/index.ts'
import { Consumer, type OutgoingMessage, Producer } from '../../workers/kafka.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { TOPICS, topicDeclarations } from '../../workers/topics.ts'
import { eventually, testApp, times } from '../support/app.ts'
import { makeTopics } from '../support/broker.ts'
import { seeded } from '../support/random.ts'
import { quietLog, testServices } from '../support/services.ts'
import { type Probe, probes } from '../support/telemetry.ts'

const HOSTILE = 10_000
const GOOD = 300
const STEPS = 20
/** Sent before this, good messages are in the table within it. */
const WITHIN_SECONDS = 10

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const random = seeded()
t.comment(`TEST_SEED=${random.seed}`)

const now = Date.now()
const iso = (secondsAgo: number) => new Date(now - secondsAgo * 1000).toISOString()
const { below, pick } = random
const text = (length: number, of: string) => times(length, () => pick([...of])).join('')

const TEXTS = [
  '\u0000',
  'a\u0000b',
  '\ud800',
  'x\udfff',
  '\ufeff',
  '‮',
  '__proto__',
  'constructor',
  '',
  ' ',
  '\n',
  'é',
  '𝒳'.repeat(32),
  'm'.repeat(65),
]
const NUMBERS = [
  '1e309',
  '-1e309',
  '1e308',
  '1.797e308',
  '1e155',
  '-0',
  '5e-324',
  '1'.repeat(400),
  'NaN',
  'Infinity',
  '-Infinity',
  '0x1',
  '1.',
  'null',
]
const TIMES = [
  'yesterday', '', '2026-02-30T10:00:00Z', '2026-13-01T10:00:00Z', '2026-01-01T24:00:00Z', '2026-01-01T23:59:60Z', '0000-01-01T00:00:00Z',
  '0001-01-01T00:00:00Z', '9999-12-31T23:59:59Z', '+010000-01-01T00:00:00Z', '-271821-04-20T00:00:00Z', '2026-01-01T00:00:00+15:59',
  '2026-01-01T00:00:00+99:99', '2026-01-01T00:00:00.123456789Z', '2026-01-01', '2026-01-01T00:00:00',
] // biome-ignore format: one list
const KAFKA_TIMES = [-1, 0, 1, now + 86_400_000, 253_402_300_799_000, 253_402_300_800_000, 1_790_000_000_000_000, 8_640_000_000_000_001]

/** JSON of a message with one part replaced by a text that `JSON.stringify` would not write. */
const raw = (one: { slug: string; code: string }, { ts = JSON.stringify(iso(60)), metric = '"m"', value = '1', extra = '' }) =>
  `{"tenant":${JSON.stringify(one.slug)},"device":${JSON.stringify(one.code)},"readings":[{"ts":${ts},"metric":${metric},"value":${value}${extra}}]}`

type Target = { slug: string } & Probe
/** One hostile message, of a kind that is drawn. */
function hostile(target: Target): Omit<OutgoingMessage, 'topic'> {
  const headers: Record<string, string> = { 'device-key': target.key }
  const message = (value: string | Buffer, more: Partial<OutgoingMessage> = {}) => ({ key: target.code, value, headers, ...more })
  const kinds: (() => Omit<OutgoingMessage, 'topic'>)[] = [
    () => message(raw(target, { metric: JSON.stringify(pick(TEXTS)) })),
    () => message(raw({ ...target, [pick(['slug', 'code'])]: pick(TEXTS) }, {})),
    () => message(raw(target, { value: pick(NUMBERS) })),
    () => message(raw(target, { ts: JSON.stringify(pick(TIMES)) })),
    () => message(raw(target, {}), { timestamp: pick(KAFKA_TIMES) }),
    () =>
      message(raw(target, {}), {
        headers: pick([
          {},
          { 'device-key': '' },
          { 'device-key': '\u0000' },
          { 'device-key': 'dk_'.repeat(3_000) },
          { ...headers, x: '\u0000' },
        ]),
      }),
    () => message(raw(target, {}), { key: pick(['', '\u0000', '\ud800', 'k'.repeat(10_000)]) }),
    () => message(Buffer.from(times(1 + below(200), () => below(256)))),
    () => message(Buffer.concat([Buffer.from(raw(target, {}).slice(0, 60)), Buffer.from([0xc0, 0xaf, 0xed, 0xa0, 0x80, 0x00, 0xff])])),
    () => message(Buffer.from(raw(target, {}), pick(['utf16le', 'latin1'] as const))),
    () => message(gzipSync(raw(target, {}))),
    () => message(raw(target, {}).slice(0, below(120))),
    () => message(pick(['', ' ', 'null', '[]', '{}', '"', '1', '{"tenant":1,"device":{},"readings":{}}'])),
    () => message(raw(target, { extra: `,"x":${'['.repeat(5_000)}${']'.repeat(5_000)}` })),
    () => message(raw(target, { extra: `,"__proto__":{"value":1},"quality":${pick(['"best"', '3', 'null', '"__proto__"'])}` })),
    () => message(raw(target, { extra: `,"x":"${text(20, 'abc\u0001\u0002')}"` })),
  ]
  return pick(kinds)()
}

t.test(`${HOSTILE} hostile messages among good ones: all good ones arrive, and others go on`, { timeout: 200_000 }, async (t) => {
  const name = newId().slice(-8)
  const [topic, aside, group] = [`test-hostile-${name}`, `test-hostile-aside-${name}`, `test-hostile-${name}`]
  // As production makes it: Kafka replaces hostile times, and the embedded broker keeps them.
  const { config } = topicDeclarations.find((declared) => declared.topic === TOPICS.telemetry)!
  const topics = [topic, aside].map((one) => ({ topic: one, partitions: 4, retentionMs: 3_600_000, config: config! }))
  await makeTopics(runtime, topics)
  const attacker = await tenant()
  const target: Target = { slug: attacker.slug, ...(await probe(attacker)) }
  const victims = await Promise.all(
    times(3, async () => {
      const acme = await tenant()
      return { acme, device: await probe(acme) }
    }),
  )
  const producers = (['none', 'gzip', 'snappy', 'lz4'] as const).map((codec) => new Producer(runtime.kafka, codec))
  t.teardown(() => Promise.all(producers.map((producer) => producer.close())))
  const consumer = telemetryConsumer({
    ...runtime.services, kafka: runtime.kafka, producer: runtime.producer, log: quietLog.root, topic, aside, group, behind: 1e9,
  }) // biome-ignore format: one call
  await consumer.start()
  t.teardown(() => consumer.stop())
  await consumer.assigned(20_000)

  const good = (n: number): OutgoingMessage => {
    const { acme, device } = victims[n % victims.length]!
    return {
      topic,
      key: device.code,
      value: raw({ slug: acme.slug, code: device.code }, { ts: JSON.stringify(iso(n)) }),
      headers: { 'device-key': device.key },
    }
  }
  const sent: Promise<void>[] = []
  for (let step = 0; step < STEPS; step++) {
    const producer = pick(producers)
    sent.push(...(await producer.sendEach(times(HOSTILE / STEPS, () => ({ topic, ...hostile(target) })))))
    sent.push(...(await producer.sendEach(times(GOOD / STEPS, (n) => good((step * GOOD) / STEPS + n)))))
  }
  const refusedByBroker = (await Promise.allSettled(sent)).filter(({ status }) => status === 'rejected').length
  t.comment(`${refusedByBroker} were refused by the broker`)
  const start = performance.now()
  const arrived = async () =>
    (await Promise.all(victims.map(({ acme, device }) => acme.viewer.get(`/telemetry/readings?device=${device.code}&metric=m&limit=1000`))))
      .map(({ data }) => (data ?? []).length)
      .reduce((sum, n) => sum + n, 0)
  t.equal(await eventually(arrived, (n) => n === GOOD, WITHIN_SECONDS * 3), GOOD)
  t.comment(`the last good one was there ${Math.round(performance.now() - start)} ms after the last was sent`)
  const drained = () => consumer.states().every(({ lag, blockedSince }) => lag === 0 && blockedSince === null)
  await eventually(async () => drained(), Boolean, WITHIN_SECONDS * 3)
  const rejections = (await attacker.viewer.get(`/telemetry/rejections?device=${target.code}`)).data as Rejection[]
  const reasons = new Set(rejections.map(({ reason }) => reason))
  for (const reason of ['malformed', 'invalid_reading', 'out_of_range', 'unauthorized'] as const) t.ok(reasons.has(reason), reason)
  t.notOk(reasons.has('unprocessable'), 'all are refused before the database is asked')
})

t.test('a message that the database refuses is set aside alone, with its position', async (t) => {
  const acme = await tenant()
  const [bad, fine] = [await probe(acme), await probe(acme)]
  // No message is known that a database refuses: this database refuses one value.
  const owner = new Client({ connectionString: testServices().admin.telemetry })
  await owner.connect()
  await owner.query(`create or replace function test_refuse() returns trigger language plpgsql as
    $$ begin raise exception 'refused for a test' using errcode = '22000'; end $$`)
  await owner.query(
    `create trigger test_refuse before insert on tel_measurement for each row when (new.value = 424242.4242) execute function test_refuse()`,
  )
  t.teardown(async () => {
    await owner.query('drop function test_refuse cascade')
    await owner.end()
  })
  const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)
  const message = (device: Probe, secondsAgo: number, value: number) => ({
    value: Buffer.from(raw({ slug: acme.slug, code: device.code }, { ts: JSON.stringify(iso(secondsAgo)), value: String(value) })),
    key: device.key,
    device: device.code,
    position: { topic: 'a-topic', partition: 3, offset: 1_000 + secondsAgo },
  })
  const batch = times(20, (n) => (n === 13 ? message(bad, n, 424242.4242) : message(fine, n, n)))
  t.match(await ingest.ingest(batch, newId()), {
    accepted: 19,
    rejections: [
      {
        tenant: acme.slug,
        device: bad.code,
        reason: 'unprocessable',
        count: 1,
        position: { partition: 3, offset: 1_013 },
        error: /refused for a test/,
      },
    ],
  })
  t.equal((await acme.viewer.get(`/telemetry/readings?device=${fine.code}&metric=m`)).data.length, 19)
  t.match((await acme.viewer.get(`/telemetry/rejections?device=${bad.code}`)).data, [{ reason: 'unprocessable', count: 1 }])
})

t.test('a consumer that cannot go on is told by /ready and by a metric', async (t) => {
  const { request } = await testApp(t)
  const topic = `test-blocked-${newId()}`
  await makeTopics(runtime, [{ topic, partitions: 1, retentionMs: 600_000 }])
  const handled: string[] = []
  let away = true
  const consumer = new Consumer({
    ...runtime.kafka,
    group: topic,
    topics: [topic],
    poison: { is: (error) => error instanceof TypeError, setAside: async ({ value }) => void handled.push(`aside ${value}`) },
    handle: async (messages) => {
      if (away) throw new Error('away')
      if (messages.some(({ value }) => value!.toString() === 'bad')) throw new TypeError('bad')
      handled.push(...messages.map(({ value }) => value!.toString()))
    },
  })
  await consumer.start()
  t.teardown(() => consumer.stop())
  await runtime.producer.send(['a', 'b', 'bad', 'c'].map((value) => ({ topic, key: '', value })))
  await eventually(
    async () => consumer.state(),
    ({ blockedSince, lastError }) => blockedSince !== null && lastError === 'away',
    20,
  )
  // As the process that runs it reports it, a minute later.
  const { reportConsumers, forgetConsumers } = await import('../../domain/platform/index.ts')
  const instance = newId()
  const { control } = runtime.services.planes
  const state = { consumer: topic, lag: 4, blockedSince: Date.now() - 70_000, lastError: 'away' }
  await control.platform((queries) => reportConsumers(queries, instance, [state]))
  t.teardown(() => control.platform((queries) => forgetConsumers(queries, instance)))
  const ready = () => request('x', { method: 'GET', url: '/ready' })
  t.match(await ready(), { status: 200, body: { status: 'degraded', checks: { consumers: 'down' } } })
  away = false
  await eventually(
    async () => consumer.state(),
    ({ blockedSince }) => blockedSince === null,
    20,
  )
  t.same(
    ['a', 'aside bad', 'b', 'c'].filter((one) => !handled.includes(one)),
    [],
  )
  t.notOk(handled.includes('bad'))
  await control.platform((queries) => reportConsumers(queries, instance, [{ ...state, blockedSince: null }]))
  await eventually(ready, ({ body }) => body.checks.consumers === 'up', 5)
  // Reports go on while a consumer stops.
  let isStopped = false
  const stopping = consumer.stop().finally(() => {
    isStopped = true
  })
  let reports = 0
  for (; !isStopped; reports++) {
    t.match(consumer.state(), { group: topic, lag: Number })
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await stopping
  t.ok(reports > 0)
  t.match(consumer.state(), { lag: 0, blockedSince: null })
})
