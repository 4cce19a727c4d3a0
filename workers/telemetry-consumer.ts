import type { Registry } from 'prom-client'
import { newId } from '../domain/kernel/index.ts'
import { type IngestResult, TelemetryIngest } from '../domain/telemetry/index.ts'
import type { Planes, TenantDirectory } from '../domain/tenancy/index.ts'
import { ingestMetrics } from './ingest-metrics.ts'
import { Consumer, type KafkaOptions, type Producer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { TOPICS } from './topics.ts'

/** Messages in one batch: enough for one insert to pay, few enough that reading them does not hold up the process. */
const BATCH = 250
/** What is read of a message takes ten times its bytes. */
const BATCH_BYTES = 512 * 1024

export interface TelemetryConsumerOptions {
  kafka: KafkaOptions
  planes: Planes
  tenants: TenantDirectory
  keepDays?: number
  /** Told of a tenant that has new readings. */
  announce?: (tenantId: string) => void
  producer: Producer
  log: WorkerLog
  onBatch?: (result: IngestResult) => void
  /** Where readings come from; a test has its own. */
  topic?: string
  group?: string
  /** What operators see is counted here. */
  registry?: Registry
}

/** Readings from Kafka into the telemetry plane; what was refused goes to the rejected topic with its reason. */
export function telemetryConsumer({
  kafka,
  planes,
  tenants,
  producer,
  log,
  onBatch,
  registry,
  topic = TOPICS.telemetry,
  group = 'tenantry.telemetry',
  ...options
}: TelemetryConsumerOptions): Consumer {
  const ingest = new TelemetryIngest(planes, tenants, options)
  const consumer: Consumer = new Consumer({
    ...kafka,
    group,
    topics: [topic],
    batch: BATCH,
    batchBytes: BATCH_BYTES,
    overlap: true, // a reading's place in the table does not depend on when it is written; where rules watch, the ingest waits for its turn
    handle: async (messages, _signal, before) => {
      const began = performance.now()
      const result = await ingest.ingest(
        messages.map((m) => ({ value: m.value, key: m.headers['device-key'], device: m.key, receivedAt: m.timestamp })),
        newId(),
        before,
      )
      if (result.rejections.length > 0) {
        await producer.send(
          result.rejections.map(({ device, reason, count }) => ({
            topic: TOPICS.telemetryRejected,
            key: device,
            value: JSON.stringify({ device, reason, count, at: new Date().toISOString() }),
          })),
        )
      }
      metrics?.observe(messages.length, result, (performance.now() - began) / 1000)
      onBatch?.(result)
    },
    onError: (error) => log.warn({ err: error, consumer: 'telemetry' }, 'consumer trouble'),
  })
  const metrics = registry && ingestMetrics(registry, () => consumer.lag())
  return consumer
}
