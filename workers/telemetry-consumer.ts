import type { Registry } from 'prom-client'
import { isCausedByData, newId } from '../domain/kernel/index.ts'
import { type IngestResult, MAX_DEVICE, type Rejection, TelemetryIngest } from '../domain/telemetry/index.ts'
import type { Planes, TenantDirectory } from '../domain/tenancy/index.ts'
import { Floods } from './floods.ts'
import { ingestMetrics } from './ingest-metrics.ts'
import { IngestProgress } from './ingest-progress.ts'
import { Consumer, type ConsumerState, type KafkaOptions, type Message, type Producer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { Senders } from './senders.ts'
import { TOPICS } from './topics.ts'

/** Messages in one batch: enough for one insert to pay, few enough that reading them does not hold up the process. */
const BATCH = 250
/** What is read of a message takes ten times its bytes. */
const BATCH_BYTES = 512 * 1024
/** So many messages wait before anybody is asked to stand aside: seconds of work, at the most. */
const BEHIND = 10 * BATCH

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
  /** Where readings come from, and where those of a flood are put aside; a test has its own. */
  topic?: string
  aside?: string
  group?: string
  /** Messages that wait before those of a flood are put aside. */
  behind?: number
  /** What operators see is counted here. */
  registry?: Registry
}

export interface TelemetryConsumer {
  start(): Promise<void>
  /** Resolves when the group has given its partitions, or after `ms`. */
  assigned(ms: number): Promise<void>
  stop(): Promise<void>
  states(): ConsumerState[]
}

/**
 * Readings from Kafka into the telemetry plane; what was refused goes to the rejected topic with its reason.
 *
 * While readings wait, those of a tenant whose devices flood the topic are put aside, into a topic of their own, and are
 * taken in from there at the same time: the others wait for the time that takes, not for the flood. A company stays aside
 * until its flood is over, so its readings keep their order until then.
 */
export function telemetryConsumer({
  kafka,
  planes,
  tenants,
  producer,
  log,
  onBatch,
  registry,
  topic = TOPICS.telemetry,
  aside = TOPICS.telemetryAside,
  group = 'tenantry.telemetry',
  behind = BEHIND,
  ...options
}: TelemetryConsumerOptions): TelemetryConsumer {
  const ingest = new TelemetryIngest(planes, tenants, options)
  const floods = new Floods()
  const senders = new Senders(planes, tenants)
  /** What is done of a batch that is tried again. */
  const settled = new WeakMap<readonly Message[], Map<string, IngestResult>>()

  /** Puts aside what a flood brought; returns the rest. Decides on senders that are proven (workers/senders.ts). */
  async function withoutFloods(messages: readonly Message[]): Promise<readonly Message[]> {
    const sent = await senders.of(messages)
    const bytes = new Map<string, number>()
    for (const [index, sender] of sent.entries()) bytes.set(sender, (bytes.get(sender) ?? 0) + (messages[index]!.value?.length ?? 0))
    floods.note(bytes, main.lag() > behind, Date.now())
    const flood = new Set(messages.filter(({ value }, index) => value !== null && floods.has(sent[index]!)))
    if (flood.size === 0) return messages
    await producer.send(
      [...flood].map(({ key, value, headers, timestamp }) => ({
        topic: aside,
        key: key ?? '',
        value: value!,
        headers: { ...headers, 'received-at': String(timestamp) },
      })),
    )
    metrics?.aside(flood.size)
    return messages.filter((message) => !flood.has(message))
  }

  const publishRejections = (rejections: readonly Rejection[]): Promise<void> =>
    producer.send(
      rejections.map((rejection) => ({
        topic: TOPICS.telemetryRejected,
        key: rejection.device,
        value: JSON.stringify({ ...rejection, at: new Date().toISOString() }),
      })),
    )

  async function take(messages: readonly Message[], before: Promise<boolean>, progress: Map<string, IngestResult>): Promise<void> {
    const began = performance.now()
    const result = await ingest.ingest(
      messages.map(({ topic, partition, offset, value, headers, key, timestamp }) => ({
        value,
        key: headers['device-key'],
        device: key,
        // Only this consumer writes to the topic of floods: the times in its headers are the broker's.
        receivedAt: topic === aside ? Number(headers['received-at']) || timestamp : timestamp,
        position: { topic, partition, offset },
      })),
      newId(),
      { before, settled: progress },
    )
    if (result.rejections.length > 0) await publishRejections(result.rejections)
    metrics?.observe(messages.length, result, (performance.now() - began) / 1000)
    onBatch?.(result)
  }

  const consumer = (
    of: string,
    group: string,
    overlap: boolean,
    sorted: (messages: readonly Message[]) => Promise<readonly Message[]>,
  ): Consumer =>
    new Consumer({
      ...kafka,
      group,
      topics: [of],
      batch: BATCH,
      batchBytes: BATCH_BYTES,
      overlap,
      handle: async (messages, _signal, before) => {
        const progress = settled.get(messages) ?? new Map<string, IngestResult>()
        settled.set(messages, progress)
        await take(await sorted(messages), before, progress)
      },
      poison: {
        is: isCausedByData,
        setAside: async ({ topic, partition, offset, key }, error) => {
          log.error({ err: error, consumer: group, topic, partition, offset }, 'message cannot be processed, it is rejected')
          const rejection: Rejection = {
            tenant: null,
            device: (key ?? '').slice(0, MAX_DEVICE),
            reason: 'unprocessable',
            count: 1,
            position: { topic, partition, offset },
          }
          await publishRejections([rejection])
          metrics?.observe(1, { accepted: 0, rejections: [rejection] }, 0)
        },
      },
      onError: (error) => log.warn({ err: error, consumer: group }, 'consumer trouble'),
    })
  // A reading's place in the table does not depend on when it is written; where rules watch, the ingest waits for its turn.
  const main = consumer(topic, group, true, withoutFloods)
  const second = consumer(aside, `${group}.aside`, false, async (messages) => messages)
  const both = [main, second]
  const progress = new IngestProgress(main, topic, planes.control, log)
  const metrics = registry && ingestMetrics(registry, () => both.reduce((waiting, one) => waiting + one.lag(), 0))
  return {
    start: async () => {
      await Promise.all(both.map((one) => one.start()))
      progress.start()
    },
    assigned: async (ms) => void (await Promise.all(both.map((one) => one.assigned(ms)))),
    stop: async () => {
      await progress.stop()
      await Promise.all(both.map((one) => one.stop()))
    },
    states: () => both.map((one) => one.state()),
  }
}
