// A consumer of readings in a process of its own, which a test kills. It says when it has partitions, and how big it is.
import type { Config } from '../../server/config.ts'
import { createLog } from '../../server/log.ts'
import { createRuntime } from '../../server/runtime.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'

export interface ConsumerOrder {
  config: Config
  topic: string
  aside: string
  group: string
}
export interface ConsumerSays {
  /** Bytes. */
  rss: number
  accepted: number
}

const { config, topic, aside, group } = JSON.parse(process.env.CONSUMER_ORDER!) as ConsumerOrder
const log = createLog('test', 'silent')
const runtime = await createRuntime(config, log)
const { planes, tenants } = runtime.services
let accepted = 0
const consumer = telemetryConsumer({
  kafka: runtime.kafka,
  planes,
  tenants,
  producer: runtime.producer,
  log: log.root,
  topic,
  aside,
  group,
  onBatch: (result) => {
    accepted += result.accepted
  },
})
await consumer.start()
setInterval(() => process.send?.({ rss: process.memoryUsage.rss(), accepted } satisfies ConsumerSays), 200)
process.on('disconnect', () => process.exit(0))
