// Heavy work that is asked for on Kafka: one piece at a time, taken up by another worker when this one dies.

import { isCausedByData } from '../domain/kernel/index.ts'
import { type Event, readEvent } from './event-consumer.ts'
import { Consumer, type KafkaOptions, type Message, type Producer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { asDeadLetter, deadLetter, isJobType, type JobKind, TOPICS } from './topics.ts'

export interface JobHandler {
  /** `tenant-move` of the message type `job.tenant-move`. */
  job: JobKind
  /** Done again from the beginning after whatever it throws, and after a crash: it knows itself how far it was. */
  handle: (job: Event, signal: AbortSignal) => Promise<void>
  /**
   * For work that may end its process. `begin` counts a start before the work begins, once for each delivery of the message:
   * what is tried again by the same process is the same start. False sets the job aside, and its message is committed.
   * `withdraw` takes the start back when the consumer stops in order.
   */
  starts?: { begin: (job: Event) => Promise<boolean>; withdraw: (job: Event) => Promise<void> }
}

/** A consumer group a kind of work, so that a long one holds up no other. */
export const jobConsumer = (kafka: KafkaOptions, producer: Producer, log: WorkerLog, { job, handle, starts }: JobHandler): Consumer => {
  const begun = new WeakSet<Message>()
  async function carry(asked: Event, message: Message, signal: AbortSignal): Promise<void> {
    if (starts && !begun.has(message)) {
      if (!(await starts.begin(asked))) return log.warn({ consumer: job, job_id: asked.entity_id }, 'job set aside after too many starts')
      begun.add(message)
    }
    try {
      await handle(asked, signal)
    } catch (error) {
      if (signal.aborted) await starts?.withdraw(asked)
      throw error
    }
  }
  return new Consumer({
    ...kafka,
    group: `tenantry.job.${job}`,
    topics: [TOPICS.jobs],
    batch: 1,
    long: true,
    handle: async ([message], signal) => {
      const value = message!.value?.toString('utf8') ?? ''
      const asked = readEvent(value)
      if (asked?.type === `job.${job}`) return carry(asked, message!, signal)
      // Every kind of work meets it; the place that it came from makes them one dead letter.
      if (!asked || !isJobType(asked.type)) {
        const error = asked ? `no such job: ${asked.type.slice(0, 100)}` : 'not a job'
        const source = `${message!.partition}:${message!.offset}`
        await producer.send([
          { topic: deadLetter(TOPICS.jobs), key: message!.key ?? '', value, headers: { consumer: job, error, attempts: '1', source } },
        ])
      }
    },
    poison: {
      is: isCausedByData,
      setAside: async (message, error) => {
        log.error({ err: error, consumer: job }, 'job failed for good, moved to the dead letters')
        await producer.send([asDeadLetter(message, { consumer: job, error })])
      },
    },
    onError: (error) => log.warn({ err: error, consumer: job }, 'job not done, it is tried again'),
  })
}
