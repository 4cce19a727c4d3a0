// A broker that is closed: a device's user writes readings over TLS, and can do nothing else.
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { Consumer, type KafkaOptions, Producer } from '../../workers/kafka.ts'
import { TOPICS } from '../../workers/topics.ts'

/** A broker with a door for devices, as .ci/services starts one. */
const closed = JSON.parse(process.env.KAFKA_CLOSED ?? 'null') as { brokers: string; ca: string; user: string; password: string } | null
const skip = closed === null && 'NO BROKER WITH SASL AND TLS: its half was not tested'
const device = (overrides: Partial<KafkaOptions> = {}): KafkaOptions => ({
  brokers: closed!.brokers,
  tls: true,
  tlsCa: closed!.ca,
  saslMechanism: 'SCRAM-SHA-512',
  saslUsername: closed!.user,
  saslPassword: closed!.password,
  ...overrides,
})
const message = (topic: string) => ({ topic, key: 'probe', value: 'not a reading', headers: {} })

async function send(options: KafkaOptions, topic: string): Promise<string> {
  const producer = new Producer(options)
  try {
    await producer.connect(5_000)
    await producer.send([message(topic)])
    return 'sent'
  } catch (error) {
    return (error as Error).message
  } finally {
    await producer.close()
  }
}

t.test('a device writes readings, over TLS and by its password', { skip }, async (t) => {
  t.equal(await send(device(), TOPICS.telemetry), 'sent')
  const wrong = await Promise.all([
    send(device({ saslPassword: 'guessed' }), TOPICS.telemetry),
    send(device({ saslUsername: 'nobody' }), TOPICS.telemetry),
    send(device({ tls: false }), TOPICS.telemetry),
    send(device({ saslMechanism: undefined }), TOPICS.telemetry),
    send(device({ tlsCa: undefined }), TOPICS.telemetry),
  ])
  for (const said of wrong) t.not(said, 'sent', said)
})

t.test('it writes nothing else', { skip }, async (t) => {
  for (const topic of [TOPICS.events, TOPICS.jobs, `new-${newId()}`])
    t.match(await send(device(), topic), /auth|denied|unknown|timed out/i, topic)
})

t.test('it reads nothing', { skip }, async (t) => {
  const errors: string[] = []
  const read: unknown[] = []
  const consumer = new Consumer({
    ...device(),
    group: `spy-${newId()}`,
    topics: [TOPICS.telemetry],
    handle: async (batch) => void read.push(...batch),
    onError: (error) => errors.push(error.message),
  })
  await consumer.start()
  for (let n = 0; n < 100 && errors.length === 0; n++) await new Promise((resolve) => setTimeout(resolve, 100))
  await consumer.stop()
  t.same(read, [])
  t.match(errors.join(), /authorization failed/i)
})
