// Domain events → handlers: each exactly once in effect, whatever is delivered twice.
import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Failure, isCausedByData, newId, sql, systemScope, type Tx } from '../domain/kernel/index.ts'
import { type Planes, type TenantDirectory, writeAtHome } from '../domain/tenancy/index.ts'
import { Consumer, type KafkaOptions, type Message, type Producer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { asDeadLetter, TOPICS } from './topics.ts'

const Event = Type.Object({
  event_id: Type.String({ format: 'uuid' }),
  tenant_id: Type.String({ format: 'uuid' }),
  type: Type.String(),
  entity_id: Type.String({ format: 'uuid' }),
  version: Type.Integer(),
  occurred_at: Type.String(),
  correlation_id: Type.Union([Type.String(), Type.Null()]),
  data: Type.Record(Type.String(), Type.Unknown()),
})
export type Event = Static<typeof Event>
export const EventCheck = Compile(Event)

/** The event that a message is, or null. */
export function readEvent(value: string): Event | null {
  try {
    const event = JSON.parse(value) as unknown
    return EventCheck.Check(event) ? event : null
  } catch {
    return null
  }
}

/** What one consumer does with the events that it asks for. It runs inside the transaction that marks the event as done. */
export interface EventHandler {
  consumer: string
  types: readonly string[]
  handle: (tx: Tx, event: Event) => Promise<void>
}

export interface Retry {
  consumer: string
  /** `source` is its partition and offset, while it was not put away. */
  message: { topic: string; key: string | null; value: string; source?: string }
  attempt: number
  firstAt: string
  error: string
}

/** Seconds before the next try of a message that failed for its own sake; after the last it goes to the dead letters. */
export const RETRY_DELAYS_SECONDS = [10, 60, 600, 3_600, 21_600] as const

export interface EventConsumerDependencies {
  kafka: KafkaOptions
  planes: Planes
  tenants: TenantDirectory
  producer: Producer
  log: WorkerLog
  /** Puts a failed message away until its next try (pg-boss). */
  retryLater: (retry: Retry, delaySeconds: number) => Promise<void>
}

/**
 * A cause that will pass and has nothing to do with the message: the batch waits for it. A tenant that is not migrated
 * waits alone: its message is put away, and nobody waits behind it.
 */
const passing = (error: unknown): boolean => error instanceof Failure && error.status >= 500 && error.detail !== 'tenant_migrating'

const reasonOf = (error: unknown): string =>
  error instanceof Failure ? `${error.detail}: ${error.message} ${JSON.stringify(error.details)}` : String(error)

export class EventConsumer {
  readonly #handler: EventHandler
  readonly #deps: EventConsumerDependencies
  readonly #consumer: Consumer

  constructor(handler: EventHandler, deps: EventConsumerDependencies) {
    this.#handler = handler
    this.#deps = deps
    this.#consumer = new Consumer({
      ...deps.kafka,
      group: `tenantry.${handler.consumer}`,
      topics: [TOPICS.events],
      batch: 200,
      handle: async (messages) => {
        for (const message of messages) await this.#handle(message)
      },
      // What cannot even be put away until a later try, as its text cannot be stored.
      poison: {
        is: isCausedByData,
        setAside: async (message, error) => {
          deps.log.error({ err: error, consumer: handler.consumer }, 'message failed for good, moved to the dead letters')
          await deps.producer.send([asDeadLetter(message, { consumer: handler.consumer, error })])
        },
      },
      onError: (error) => deps.log.warn({ err: error, consumer: handler.consumer }, 'consumer trouble'),
    })
  }

  start = () => this.#consumer.start()
  stop = () => this.#consumer.stop()
  assigned = (ms: number) => this.#consumer.assigned(ms)
  states = () => this.#consumer.states()

  async #handle(message: Message): Promise<void> {
    const value = message.value?.toString('utf8') ?? ''
    const retry: Retry = {
      consumer: this.#handler.consumer,
      message: { topic: message.topic, key: message.key, value, source: `${message.partition}:${message.offset}` },
      attempt: 0,
      firstAt: new Date().toISOString(),
      error: '',
    }
    await this.attempt(retry)
  }

  /** One try; a failure for the message's own sake is put away, a passing one is thrown. pg-boss calls it for later tries. */
  async attempt(retry: Retry): Promise<void> {
    const event = readEvent(retry.message.value)
    // No later try makes an event of it. Every consumer meets it; the place that it came from makes them one dead letter.
    if (!event) return this.#bury({ ...retry, error: 'not a domain event' }, retry.message.source)
    try {
      if (!this.#handler.types.includes(event.type)) return
      await this.#effect(event)
    } catch (error) {
      if (passing(error)) throw error
      await this.#putAway({ ...retry, error: reasonOf(error).slice(0, 1000) })
    }
  }

  async #effect(event: Event): Promise<void> {
    const tenant = await this.#deps.tenants.byId(event.tenant_id)
    if (!tenant) throw new TypeError('no such tenant')
    const { planes, tenants } = this.#deps
    const scope = systemScope(tenant.id, this.#handler.consumer, event.correlation_id ?? newId())
    const work = async (tx: Tx) => {
      // The inbox's primary key: a second delivery waits for the first and then finds it done.
      const { rowCount } = await tx.query(sql.run`
        insert into plane.consumer_inbox (tenant_id, consumer, event_id) values (${tx.tenantId}, ${this.#handler.consumer}, ${event.event_id}) on conflict do nothing`)
      if (rowCount > 0) await this.#handler.handle(tx, event)
    }
    await writeAtHome(planes, tenants, 'data', tenant, (database) => database.write(scope, work))
  }

  async #putAway(retry: Retry): Promise<void> {
    const delay = RETRY_DELAYS_SECONDS[retry.attempt]
    if (delay !== undefined) {
      this.#deps.log.warn(
        { consumer: retry.consumer, attempt: retry.attempt + 1, reason: retry.error },
        'message failed, tried again later',
      )
      const { source: _, ...message } = retry.message
      return this.#deps.retryLater({ ...retry, message, attempt: retry.attempt + 1 }, delay)
    }
    await this.#bury(retry)
  }

  async #bury({ consumer, message, attempt, firstAt, error }: Retry, source?: string): Promise<void> {
    this.#deps.log.error({ consumer, reason: error }, 'message failed for good, to the dead letters')
    await this.#deps.producer.send([asDeadLetter(message, { consumer, error, attempts: attempt + 1, firstAt, source })])
  }
}
