import { Client } from 'pg'
import t from 'tap'
import { Type } from 'typebox'
import { failure, newId, sql } from '../../domain/kernel/index.ts'
import { startWorkers } from '../../server/workers.ts'
import { EventConsumer, type EventHandler } from '../../workers/event-consumer.ts'
import { Consumer, type Message } from '../../workers/kafka.ts'
import { deadLetter, TOPICS } from '../../workers/topics.ts'
import { eventually, testApp } from '../support/app.ts'
import { catalogue, stockUp } from '../support/erp.ts'
import { quietLog, testServices } from '../support/services.ts'

const testing = await testApp(t)
const { tenant, runtime } = testing

/** Fails as long as it is told to, to drive the retry path with real events. */
const flaky = { fail: new Set<string>(), done: [] as string[] }
const flakyHandler: EventHandler = {
  consumer: `flaky-${newId().slice(-6)}`,
  types: ['erp.party.created'],
  handle: async (_tx, event) => {
    if (flaky.fail.has(event.entity_id)) throw failure('invalid_value', { why: 'told to' })
    flaky.done.push(event.entity_id)
  },
}
const { lowStock } = await import('../../workers/handlers.ts')
const workers = await startWorkers(runtime, quietLog, ['relay', 'events', 'jobs'], [lowStock, flakyHandler])
t.teardown(() => workers.stop())

t.test('stock falls below the minimum: an alert is raised from the event, and cleared when goods come', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '10')
  await acme.admin.post('/erp/reorder-rules', { product_id: c.product, location_id: c.store, minimum: '8', target: '20' })
  await acme.operator.post('/erp/stock/issues', { product_id: c.product, location_id: c.store, quantity: '5' })
  const alerts = (status: string) => acme.viewer.get(`/erp/stock-alerts?status=${status}&product_id=${c.product}`)
  const raised = await eventually(
    () => alerts('raised'),
    (a) => a.data.length === 1,
    20,
  )
  t.match(raised.data, [{ on_hand: '5.000000', minimum: '8.000000', location_id: c.store }])
  await stockUp(acme, c, '10')
  await eventually(
    () => alerts('cleared'),
    (a) => a.data.length === 1,
    20,
  )
  t.equal((await alerts('raised')).data.length, 0)
})

t.test('events are published in commit order within an entity, once delivered twice changes nothing', async (t) => {
  const acme = await tenant()
  const seen: Message[] = []
  const consumer = new Consumer({
    ...runtime.kafka,
    group: `test-${newId()}`,
    topics: [TOPICS.events],
    handle: async (batch) => void seen.push(...batch),
  })
  await consumer.start()
  t.teardown(() => consumer.stop())
  const { id } = (await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).data
  for (let version = 1; version <= 5; version++) await acme.admin.patch(`/erp/parties/${id}`, { name: `N${version}`, version })
  const own = () => seen.filter(({ key }) => key === `${acme.id}:${id}`).map((m) => JSON.parse(m.value!.toString()))
  await eventually(
    async () => own().length,
    (n) => n >= 6,
    20,
  )
  t.same(
    own().map((e) => e.version),
    [1, 2, 3, 4, 5, 6],
  )
  t.match(own()[0], { type: 'erp.party.created', tenant_id: acme.id, data: { code: 'A' }, correlation_id: String })
  await eventually(
    async () => flaky.done.filter((e) => e === id).length,
    (n) => n === 1,
    20,
  )
  // The same message again, by hand.
  const event = own()[0]
  await runtime.producer.send([{ topic: TOPICS.events, key: `${acme.id}:${id}`, value: JSON.stringify(event) }])
  const marker = (await acme.admin.post('/erp/parties', { code: 'B', name: 'B', roles: ['client'] })).data.id
  await eventually(async () => flaky.done.includes(marker), Boolean, 20)
  t.equal(flaky.done.filter((e) => e === id).length, 1)
})

t.test('a message that fails for its own sake is put away and does not stop the others; later it succeeds', async (t) => {
  const acme = await tenant()
  const Retry = Type.Object({ n: Type.Integer() })
  const waiting = async () =>
    (
      await runtime.services.planes.control.platform((c) =>
        c.one(
          sql.type(
            Retry,
          )`select count(*) as n from pgboss.job where name = 'event-retry' and data ->> 'consumer' = ${flakyHandler.consumer} and state = 'created'`,
        ),
      )
    ).n
  const bad = await acme.admin.post('/erp/parties', { code: 'BAD', name: 'B', roles: ['client'] })
  flaky.fail.add(bad.data.id)
  const good = (await acme.admin.post('/erp/parties', { code: 'GOOD', name: 'G', roles: ['client'] })).data.id
  await eventually(async () => flaky.done.includes(good), Boolean, 20)
  if (!flaky.done.includes(bad.data.id)) {
    await eventually(waiting, (n) => n >= 1, 20)
    flaky.fail.delete(bad.data.id)
    // Ten seconds by the clock, and longer where many tests share few cores.
    await eventually(async () => flaky.done.includes(bad.data.id), Boolean, 90)
  }
  t.ok(flaky.done.includes(bad.data.id))
})

t.test('garbage on the topic and events of tenants that do not exist harm nobody', async (t) => {
  const acme = await tenant()
  await runtime.producer.send([
    { topic: TOPICS.events, key: 'x', value: 'not json' },
    {
      topic: TOPICS.events,
      key: 'x',
      value: JSON.stringify({
        event_id: newId(),
        tenant_id: newId(),
        type: 'erp.party.created',
        entity_id: newId(),
        version: 1,
        occurred_at: 'x',
        correlation_id: null,
        data: {},
      }),
    },
  ])
  const { id } = (await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).data
  await eventually(async () => flaky.done.includes(id), Boolean, 20)
  t.ok(flaky.done.includes(id))
})

t.test('what follows an event that the broker refuses waits with it, and other entities do not', async (t) => {
  const acme = await tenant()
  const [stuck, other] = [newId(), newId()]
  const event = (entity_id: string, version: number, data: Record<string, unknown>) => ({
    type: 'erp.test.changed',
    entity_id,
    version,
    data,
  })
  await runtime.services.planes.data.get('main')!.write(acme.scope, async (tx) => {
    tx.emit(event(stuck, 1, { text: 'x'.repeat(1_200_000) })) // more than a message may have
    tx.emit(event(stuck, 2, {}))
    tx.emit(event(other, 1, {}))
  })
  const Row = Type.Object({
    entity_id: Type.String(),
    version: Type.Integer(),
    status: Type.String(),
    error: Type.Union([Type.String(), Type.Null()]),
  })
  const outbox = () =>
    runtime.services.planes.data
      .get('main')!
      .read(acme.scope, (tx) =>
        tx.any(
          sql.type(
            Row,
          )`select entity_id, version, status, error from plane.event_outbox where tenant_id = ${tx.tenantId} order by position`,
        ),
      )
  const states = async () => (await outbox()).map((e) => e.status)
  await eventually(states, ([, , third]) => third === 'dispatched')
  await eventually(outbox, ([first]) => first!.error !== null)
  t.same(await states(), ['pending', 'pending', 'dispatched'])
  const admin = new Client({ connectionString: testServices().admin.data })
  await admin.connect()
  await admin.query(`update plane.event_outbox set status = 'failed' where entity_id = $1 and version = 1`, [stuck])
  await admin.end()
  t.same(await eventually(states, ([, second]) => second === 'dispatched', 20), ['failed', 'dispatched', 'dispatched'])
})

t.test('a message that never succeeds is tried five more times, later each time, and ends among the dead letters', async (t) => {
  const acme = await tenant()
  const { planes, tenants } = runtime.services
  const delays: number[] = []
  const consumer: EventConsumer = new EventConsumer(
    {
      consumer: 'hopeless',
      types: ['erp.party.created'],
      handle: async () => {
        throw failure('invalid_value', { why: 'hopeless' })
      },
    },
    {
      kafka: runtime.kafka,
      planes,
      tenants,
      producer: runtime.producer,
      log: quietLog.root,
      // The delays are waited for by pg-boss, which the test above drives; here they pass at once.
      retryLater: async (retry, delay) => {
        delays.push(delay)
        await consumer.attempt(retry)
      },
    },
  )
  const dead: Message[] = []
  const reader = new Consumer({
    ...runtime.kafka,
    group: `test-${newId()}`,
    topics: [deadLetter(TOPICS.events)],
    handle: async (messages) => void dead.push(...messages),
  })
  await reader.start()
  t.teardown(() => reader.stop())
  const event = {
    event_id: newId(),
    tenant_id: acme.id,
    type: 'erp.party.created',
    entity_id: newId(),
    version: 1,
    occurred_at: new Date().toISOString(),
    correlation_id: null,
    data: {},
  }
  const value = JSON.stringify(event)
  await consumer.attempt({
    consumer: 'hopeless',
    message: { topic: TOPICS.events, key: event.entity_id, value },
    attempt: 0,
    firstAt: new Date().toISOString(),
    error: '',
  })
  t.same(delays, [10, 60, 600, 3_600, 21_600])
  const mine = () => dead.filter((m) => m.key === event.entity_id)
  await eventually(
    async () => mine().length,
    (n) => n > 0,
    20,
  )
  t.equal(mine().length, 1)
  t.equal(mine()[0]!.value!.toString(), value, 'the message as it came')
  t.match(mine()[0]!.headers, { consumer: 'hopeless', attempts: '6', error: /hopeless|invalid_value/, 'first-at': /T/, 'last-at': /T/ })
})
