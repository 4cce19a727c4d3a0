// Silence of devices is decided as of the time until which their readings are written.
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { newId, sql } from '../../domain/kernel/index.ts'
import { writtenUntil } from '../../workers/ingest-progress.ts'
import { openMockBroker } from '../../workers/kafka.ts'
import { SilenceWatch } from '../../workers/silence-watch.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { eventually, testApp, times } from '../support/app.ts'
import { quietLog } from '../support/services.ts'

const name = newId()
const [topic, aside, group] = [`test-progress-${name}`, `test-progress-aside-${name}`, `test-progress-${name}`]
const broker = await openMockBroker([topic, aside])
const { tenant, runtime } = await testApp(t, { KAFKA_BROKERS: broker.brokers })
t.teardown(() => broker.stop())
const { planes, tenants } = runtime.services
const start = async () => {
  const consumer = telemetryConsumer({
    kafka: runtime.kafka,
    planes,
    tenants,
    producer: runtime.producer,
    log: quietLog.root,
    topic,
    aside,
    group,
  })
  await consumer.start()
  return consumer
}

t.test('T28: while messages wait no device is silent; once they are written, those that sent nothing are', async (t) => {
  const acme = await tenant()
  const devices = []
  for (const code of ['talks', 'rests']) {
    const { id } = (await acme.admin.post('/telemetry/devices', { code, name: code })).data
    devices.push({ id, code, key: (await acme.admin.post(`/telemetry/devices/${id}/keys`, {})).data.key })
  }
  const [talks, rests] = devices as [(typeof devices)[0], (typeof devices)[0]]
  await acme.admin.post('/telemetry/rules', { name: 'Silent', condition: { kind: 'silence', seconds: 30 } })
  await planes.telemetry
    .get('main')!
    .write(acme.scope, (tx) =>
      tx.query(sql.run`update tel_device set last_seen_at = now() - interval '100 seconds' where tenant_id = ${acme.id}`),
    )
  const alerts = async () => (await acme.viewer.get('/telemetry/alerts')).data
  const send = (count: number) =>
    runtime.producer.send(
      times(count, (n) => ({
        topic,
        key: `${n}`,
        headers: { 'device-key': talks.key },
        value: JSON.stringify({
          tenant: acme.slug,
          device: talks.code,
          readings: [{ ts: new Date(Date.now() - n * 1000).toISOString(), metric: 'm', value: n }],
        }),
      })),
    )
  const silence = new SilenceWatch(planes, tenants, quietLog.root, topic)
  silence.start()
  t.teardown(() => silence.stop())
  await send(50)
  await sleep(6_000)
  t.same(await alerts(), [], 'nothing is known of the messages that wait')
  const first = await start()
  await eventually(alerts, (found) => found.length === 1, 30)
  t.match(await alerts(), [{ device_id: rests.id, status: 'raised' }])
  await first.stop()

  const stopped = (await writtenUntil(planes.control, topic))!
  t.ok(Date.now() - stopped.getTime() < 30_000)
  await send(50)
  await sleep(3_000)
  t.same(await writtenUntil(planes.control, topic), stopped, 'without a worker the time stands still')
  const before = Date.now()
  const second = await start()
  t.teardown(() => second.stop())
  await eventually(
    () => writtenUntil(planes.control, topic),
    (until) => until!.getTime() > before,
    30,
  )
  t.equal((await alerts()).length, 1)
})
