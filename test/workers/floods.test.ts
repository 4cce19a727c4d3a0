// A company that floods the topic stands aside: the others do not wait behind it, and nothing of it is lost.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { claimedSender } from '../../domain/telemetry/index.ts'
import { Floods } from '../../workers/floods.ts'
import type { Message, OutgoingMessage } from '../../workers/kafka.ts'
import { Senders, UNPROVEN } from '../../workers/senders.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { eventually, type TestTenant, testApp, times } from '../support/app.ts'
import { makeTopics } from '../support/broker.ts'
import { quietLog, testServices } from '../support/services.ts'
import { probes } from '../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)

t.test('a flood is ten times what the middle sender sends, while others wait', async (t) => {
  const floods = new Floods()
  const sizes = (bytes: Record<string, number>) => new Map(Object.entries(bytes))
  floods.note(sizes({ alone: 1_000_000 }), true, 0)
  t.notOk(floods.has('alone'), 'nobody else waits')
  floods.note(sizes({ small: 1_000, big: 9_000 }), true, 1)
  t.ok(floods.has('alone'))
  t.notOk(floods.has('big'))
  floods.note(sizes({ big: 2_000 }), false, 2)
  t.notOk(floods.has('big'), 'it is ten times as much now, but nothing waits')
  floods.note(sizes({}), true, 3)
  t.notOk(floods.has('big'), 'the middle one is the big one by now')
  floods.note(sizes({ small: 10, other: 10, big: 10 }), false, 10_001)
  t.ok(floods.has('alone'), 'what it sent is still remembered')
  floods.note(sizes({ small: 10, other: 10, big: 10, alone: 10 }), true, 20_002)
  t.notOk(floods.has('alone'), 'it is over')
  floods.note(sizes({ small: 10, other: 11, third: 12, one: 500, two: 500 }), true, 60_000)
  t.same(
    ['small', 'other', 'third', 'one', 'two'].filter((sender) => floods.has(sender)),
    ['one', 'two'],
    'two at once, and nothing of a minute ago',
  )
})

t.test('the sender that a message claims is told without parsing all of it', async (t) => {
  const of = (text: string) => claimedSender(Buffer.from(text))
  t.same(of('{"tenant":"acme","device":"a"}'), { tenant: 'acme', device: 'a' })
  t.same(of('{ "device": "ü", "readings": [], "tenant" : "acme" }'), { tenant: 'acme', device: 'ü' })
  for (const text of [
    '{"device":"tenant"}',
    '{"tenant":17,"device":"a"}',
    `{"tenant":"${'x'.repeat(200)}","device":"a"}`,
    '{"tenant":"a\\u0062","device":"a"}',
    '{',
  ])
    t.equal(of(text), null, text)
  t.equal(of(`{"tenant":"acme","device":"a","pad":"${'x'.repeat(256 * 1024)}"}`), null, 'what is refused anyway is not copied first')
  t.equal(claimedSender(null), null)
})

t.test('R3: messages in the name of a tenant, without a key of its devices, are not counted as its own', async (t) => {
  const [victim, other] = [await tenant(), await tenant()]
  const [device, foreign] = [await probe(victim), await probe(other)]
  const senders = new Senders(runtime.services.planes, runtime.services.tenants)
  const message = (slug: string, code: string, key: string | null): Message => ({
    topic: 't',
    partition: 0,
    offset: 0,
    key: null,
    value: Buffer.from(JSON.stringify({ tenant: slug, device: code, readings: [] })),
    headers: key === null ? {} : { 'device-key': key },
    timestamp: Date.now(),
  })
  const messages = [
    message(victim.slug, device.code, device.key),
    message(victim.slug, device.code, null),
    message(victim.slug, device.code, 'dk_guessed'),
    message(victim.slug, foreign.code, foreign.key),
    message(victim.slug, 'none', device.key),
    message('no-such-tenant', device.code, device.key),
    message(other.slug, foreign.code, foreign.key),
    { ...message('x', 'x', null), value: null },
  ]
  for (const _ of [1, 2]) t.same(await senders.of(messages), [victim.slug, ...times(5, () => UNPROVEN), other.slug, UNPROVEN])
  // A flood in the victim's name makes no one else wait and puts nothing of the victim aside.
  const floods = new Floods()
  const forged = await senders.of(times(200, () => message(victim.slug, device.code, 'dk_forged')))
  const bytes = new Map<string, number>([
    [victim.slug, 100],
    [other.slug, 100],
  ])
  for (const sender of forged) bytes.set(sender, (bytes.get(sender) ?? 0) + 1_000)
  floods.note(bytes, true, 0)
  t.notOk(floods.has(victim.slug))
  t.ok(floods.has(UNPROVEN))
})

t.test('who sends little does not wait for a flood that came before; the flood is taken in whole', { timeout: 120_000 }, async (t) => {
  const MESSAGES = testServices().realBroker ? 12_000 : 3_000 // the embedded one keeps little
  const PER_MESSAGE = 50
  const [loud, quiet] = [await tenant(), await tenant()]
  const [many, one] = [await probe(loud), await probe(quiet)]
  const name = newId().slice(-8)
  const topics = { topic: `test-flood-${name}`, aside: `test-flood-aside-${name}` }
  await makeTopics(
    runtime,
    Object.values(topics).map((topic) => ({ topic, partitions: 8, retentionMs: 3_600_000 })),
  )
  const base = Math.floor(Date.now() / 1000) * 1000 - 10_000_000
  const message = ({ slug }: TestTenant, { code, key }: { code: string; key: string }, n: number): OutgoingMessage => ({
    topic: topics.topic,
    key: `${code}-${n % 64}`,
    headers: { 'device-key': key },
    value: JSON.stringify({
      tenant: slug,
      device: code,
      readings: times(PER_MESSAGE, (m) => ({ ts: new Date(base + (n * PER_MESSAGE + m) * 10).toISOString(), metric: 'm', value: m })),
    }),
  })
  await runtime.producer.send(times(64, (n) => message(quiet, one, n)))
  for (let n = 0; n < MESSAGES; n += 500) await runtime.producer.send(times(500, (m) => message(loud, many, n + m)))
  await runtime.producer.send(times(64, (n) => message(quiet, one, 64 + n)))

  const database = new Client({ connectionString: runtime.config.TELEMETRY_CATALOG.main })
  await database.connect()
  t.teardown(() => database.end())
  const rows = async ({ id }: TestTenant): Promise<number> => {
    await database.query('select set_config($1, $2, false)', ['tenantry.tenant_id', id])
    return (await database.query('select count(*)::int as n from tel_measurement where tenant_id = $1', [id])).rows[0].n
  }
  const consumer = telemetryConsumer({
    kafka: runtime.kafka,
    planes: runtime.services.planes,
    tenants: runtime.services.tenants,
    producer: runtime.producer,
    log: quietLog.root,
    ...topics,
    group: topics.topic,
    behind: 200,
  })
  await consumer.start()
  t.teardown(() => consumer.stop())
  await eventually(
    () => rows(quiet),
    (n) => n === 2 * 64 * PER_MESSAGE,
    60,
  )
  const meanwhile = await rows(loud)
  t.ok(meanwhile < MESSAGES * PER_MESSAGE, `${meanwhile} of ${MESSAGES * PER_MESSAGE} readings of the flood are there`)
  await eventually(
    () => rows(loud),
    (n) => n === MESSAGES * PER_MESSAGE,
    60,
  )
  t.equal(await rows(loud), MESSAGES * PER_MESSAGE)
})
