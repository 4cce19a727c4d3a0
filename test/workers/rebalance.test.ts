// Workers join and leave a group while one of them is busy with a long job.
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { Consumer, type ConsumerOptions, createTopics, Producer } from '../../workers/kafka.ts'
import { eventually, times } from '../support/app.ts'
import { testServices } from '../support/services.ts'

const PARTITIONS = 12
const { brokers, realBroker } = testServices()
const skip = realBroker ? false : 'NO APACHE KAFKA HERE: librdkafka’s broker pauses and resumes differently'

t.test('a partition that was revoked during a long job is consumed when it is assigned again', { skip }, async (t) => {
  const topic = `test.rebalance.${newId()}`
  const kafka = { brokers }
  await createTopics(kafka, [{ topic, partitions: PARTITIONS, retentionMs: 600_000 }], 1)
  const producer = new Producer(kafka)
  t.teardown(() => producer.close())

  const handled = new Set<string>()
  const longJob = Promise.withResolvers<void>()
  const started = Promise.withResolvers<void>()
  const worker = async (handle: ConsumerOptions['handle']) => {
    const consumer = new Consumer({ ...kafka, group: topic, topics: [topic], batch: 1, long: true, handle })
    await consumer.start()
    t.teardown(() => consumer.stop())
    await consumer.assigned(20_000)
    return consumer
  }
  const busy = await worker(async ([message]) => {
    const job = message!.value!.toString()
    if (job === 'long') {
      started.resolve()
      await longJob.promise
    }
    handled.add(job)
  })
  await producer.send([{ topic, key: 'long', value: 'long' }])
  await started.promise
  const visitor = await worker(async () => {})
  await sleep(1_000) // the group settles
  longJob.resolve()
  await eventually(async () => handled.has('long'), Boolean)
  await visitor.stop()
  await eventually(
    async () => busy.partitions,
    (partitions) => partitions === PARTITIONS,
    30,
  )

  // One after the other: each job that is handled resumes all partitions of its consumer.
  for (const job of times(10, (n) => `job ${n}`)) {
    await producer.send([{ topic, key: job, value: job }])
    await eventually(async () => handled.has(job), Boolean, 20)
  }
  t.equal(handled.size, 11)
})
