import { keepDeadLetters } from '../domain/events/index.ts'
import { type Database, isCausedByData } from '../domain/kernel/index.ts'
import { Consumer, type KafkaOptions } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { deadLetter, TOPICS } from './topics.ts'

const SOURCES = [TOPICS.events, TOPICS.jobs]

/** Copies what lies on the dead-letter topics into the control plane, where the staff can read it and send it again. */
export const deadLetterConsumer = (kafka: KafkaOptions, control: Database, log: WorkerLog): Consumer =>
  new Consumer({
    ...kafka,
    group: 'tenantry.dead-letters',
    topics: SOURCES.map(deadLetter),
    batch: 200,
    handle: (messages) =>
      control.platform((queries) =>
        keepDeadLetters(
          queries,
          messages.map(({ topic, partition, offset, key, value, headers }) => ({
            topic: SOURCES.find((source) => deadLetter(source) === topic) ?? topic,
            partition,
            position: offset,
            key,
            value: value?.toString('utf8') ?? '',
            headers,
          })),
        ),
      ),
    // It stays on its topic for as long as that keeps messages.
    poison: {
      is: isCausedByData,
      setAside: async ({ topic, partition, offset }, error) =>
        log.error({ err: error, topic, partition, offset }, 'a dead letter cannot be stored and is left on its topic'),
    },
    onError: (error) => log.warn({ err: error, consumer: 'dead-letters' }, 'consumer trouble'),
  })
