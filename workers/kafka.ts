// The one file that knows node-rdkafka. Everything else sees promises, batches and plain messages.
import rdkafka from 'node-rdkafka'

export interface KafkaOptions {
  brokers: string
  tls?: boolean
  tlsCa?: string | undefined
  saslMechanism?: string | undefined
  saslUsername?: string | undefined
  saslPassword?: string | undefined
}

export interface Message {
  topic: string
  partition: number
  offset: number
  key: string | null
  value: Buffer | null
  headers: Record<string, string>
  timestamp: number
}

export interface OutgoingMessage {
  topic: string
  key: string
  value: string | Buffer
  headers?: Record<string, string>
  /** Milliseconds since 1970; now when nothing is said. */
  timestamp?: number
}

/** A batch that takes less keeps nobody waiting who joins the group. */
const BRIEF_MS = 500
/** Characters of an error that the state of a consumer tells. */
const MAX_ERROR = 300
/** librdkafka's code in a rebalance. */
const PARTITIONS_GIVEN = -175
/** What node-rdkafka says when brokers do not answer; in events and reports the code is always -1. */
const AWAY = /broker connections are down|broker transport failure|message timed out/

/** What librdkafka says of a batch that it cannot unpack. It asks for it again and again. */
const UNREADABLE = /Not implemented|Bad compression|Bad message/i
/** A consumer that has told of no unreadable batch for so long is past it. */
const HEALED_MS = 10_000

/** librdkafka's names for our options: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md */
function connection(options: KafkaOptions): Record<string, unknown> {
  const { brokers, tls, tlsCa, saslMechanism, saslUsername, saslPassword } = options
  return {
    'metadata.broker.list': brokers,
    'security.protocol': saslMechanism ? (tls ? 'sasl_ssl' : 'sasl_plaintext') : tls ? 'ssl' : 'plaintext',
    ...(tlsCa ? { 'ssl.ca.location': tlsCa } : {}),
    ...(saslMechanism ? { 'sasl.mechanisms': saslMechanism, 'sasl.username': saslUsername, 'sasl.password': saslPassword } : {}),
    'reconnect.backoff.max.ms': 2_000,
    'socket.keepalive.enable': true,
    log_level: 0,
  }
}

/** A started embedded broker. */
export interface BrokerHandle {
  brokers: string
  stop(): Promise<void>
}

const connectProducer = (producer: rdkafka.Producer, timeout: number): Promise<rdkafka.Metadata> =>
  new Promise((resolve, reject) => producer.connect({ timeout }, (error, metadata) => (error ? reject(error) : resolve(metadata))))

/** Opens librdkafka's own broker: Kafka's protocol on a loopback port, nothing kept. For development and tests. */
export async function openMockBroker(topics: readonly string[] = []): Promise<BrokerHandle> {
  const producer = new rdkafka.Producer({ 'test.mock.num.brokers': 1, log_level: 0 } as never)
  producer.on('event.error', () => {})
  const metadata = await connectProducer(producer, 10_000)
  const [broker] = metadata.brokers
  // It makes a topic when one asks for it; consumers that subscribe before would wait for their next look.
  for (const topic of topics) await new Promise<void>((resolve) => producer.getMetadata({ topic, timeout: 5_000 }, () => resolve()))
  return {
    brokers: `${broker!.host}:${broker!.port}`,
    stop: () => new Promise((resolve) => producer.disconnect(1_000, () => resolve())),
  }
}

/** Sends messages; each promise is kept when the broker has it (all in-sync replicas). */
export class Producer {
  readonly #producer: rdkafka.Producer
  #connecting: Promise<unknown> | null = null
  #pinging: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  connected = false

  constructor(options: KafkaOptions, compression: 'none' | 'gzip' | 'snappy' | 'lz4' = 'snappy') {
    this.#producer = new rdkafka.Producer(
      {
        ...connection(options),
        'enable.idempotence': true,
        'compression.codec': compression,
        'linger.ms': 5,
        'queue.buffering.max.messages': 200_000,
        dr_cb: true,
      } as never,
      // Of each topic: among the settings above it would be taken without a word, and not hold.
      { acks: -1, 'message.timeout.ms': 10_000 } as never,
    )
    this.#producer.on('event.error', (error) => {
      // librdkafka keeps trying by itself; the next delivery says that they are back.
      if (AWAY.test(error.message)) this.connected = false
    })
    this.#producer.on('delivery-report', (error, report) => {
      const settle = report.opaque as ((error: Error | null) => void) | undefined
      if (!error) this.connected = true
      else if (AWAY.test(error.message)) this.connected = false
      settle?.(error as unknown as Error | null)
    })
  }

  /** Connects, or throws after `timeout` ms while the client keeps trying. */
  async connect(timeout = 5_000): Promise<void> {
    if (this.#producer.isConnected()) return
    this.#connecting ??= connectProducer(this.#producer, timeout).finally(() => {
      this.#connecting = null
    })
    await this.#connecting
    this.connected = true
    if (!this.#timer) {
      this.#timer = setInterval(() => this.#producer.poll(), 10)
      this.#timer.unref()
    }
  }

  /** Whether a broker answers now. */
  async ping(timeout = 2_000): Promise<void> {
    await this.connect(timeout)
    // One for all who ask: each question holds a thread of the few that passwords are hashed on too.
    this.#pinging ??= new Promise<void>((resolve, reject) =>
      this.#producer.getMetadata({ timeout }, (error) => {
        this.connected = !error
        if (error) reject(error)
        else resolve()
      }),
    ).finally(() => {
      this.#pinging = null
    })
    await this.#pinging
  }

  /** Keeps its promise when every message is acknowledged; rejects with the first error. */
  async send(messages: readonly OutgoingMessage[]): Promise<void> {
    await Promise.all(await this.sendEach(messages))
  }

  /** One promise a message, so that the caller knows which arrived. Throws soon while the brokers are known to be away. */
  async sendEach(messages: readonly OutgoingMessage[]): Promise<Promise<void>[]> {
    if (!this.connected) await this.ping()
    const sent = messages.map(({ topic, key, value, headers, timestamp = Date.now() }) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      try {
        const list = Object.entries(headers ?? {}).map(([name, text]) => ({ [name]: text }))
        const settle = (error: Error | null) => (error ? reject(error) : resolve())
        this.#producer.produce(topic, null, typeof value === 'string' ? Buffer.from(value) : value, key, timestamp, settle, list)
      } catch (error) {
        reject(error)
      }
      promise.catch(() => {}) // the caller awaits it later
      return promise
    })
    return sent
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#connecting?.catch(() => {})
    if (this.#producer.isConnected()) await new Promise<void>((resolve) => this.#producer.flush(5_000, () => resolve()))
    // Also a client that never reached a broker has threads that would keep the process alive; it answers when it has none.
    await new Promise<void>((resolve) => {
      setTimeout(resolve, 5_000).unref()
      // The typed `disconnect` flushes first and throws when there was never a connection.
      ;(this.#producer as unknown as { _disconnect(done: () => void): void })._disconnect(resolve)
    })
  }
}

export interface ConsumerOptions extends KafkaOptions {
  group: string
  topics: readonly string[]
  /** Messages at most in one batch: what bounds memory. */
  batch?: number
  /** Bytes at most in one batch, unless one message alone has more. */
  batchBytes?: number
  /**
   * Begin with the next batch while this one waits for its database. Only where the order of batches does not matter:
   * offsets are still committed in order, so what was not durable comes again.
   */
  overlap?: boolean
  /**
   * A batch takes minutes: meanwhile the partitions are paused and the group is kept in touch with, which otherwise takes a
   * silent consumer for dead and holds up whoever joins.
   */
  long?: boolean
  /**
   * Handles a batch; when it returns the offsets are committed, when it throws the batch is given again after a pause.
   * `before` says when the batch before is durable, and false when it will not be: this one was stopped.
   */
  handle: (messages: readonly Message[], signal: AbortSignal, before: Promise<boolean>) => Promise<void>
  /**
   * Messages that fail because of what they contain. The batch is halved until the message is found, which is set aside,
   * and all others are handled. Without it such a message is tried again for ever, and stops its partition.
   */
  poison?: {
    is: (error: unknown) => boolean
    setAside: (message: Message, error: unknown) => Promise<void>
  }
  onError?: (error: Error) => void
}

/** How far a consumer is. */
export interface ConsumerState {
  group: string
  /** Messages that wait in its partitions. */
  lag: number
  /** Since when the batch in hand makes no progress, milliseconds since 1970; null while the consumer works as it should. */
  blockedSince: number | null
  lastError: string | null
}

/**
 * A consumer of batches. It pulls (node-rdkafka's non-flowing mode), so nothing is fetched into the process beyond what
 * librdkafka's bounded queue holds while a batch is being handled; it commits only after the effect is durable.
 */
export class Consumer {
  readonly #consumer: rdkafka.KafkaConsumer
  readonly #options: Required<Pick<ConsumerOptions, 'batch'>> & ConsumerOptions
  readonly #abort = new AbortController()
  #loop: Promise<void> | undefined
  #retries = 0
  #batchesInHand = 0
  /** When the first batch in hand was begun, or the last one committed. */
  #progressAt = 0
  #failing = false
  #lastError: string | null = null
  /** Errors of batches that this client cannot read, as of a codec that it was built without. */
  #unreadable: { since: number; last: number; message: string } | null = null
  /** The offset after the last message that was taken, by partition. */
  readonly #reached = new Map<string, number>()
  /** The offset after the last message whose effect is durable, by partition. */
  readonly #durable = new Map<string, number>()

  constructor(options: ConsumerOptions) {
    this.#options = { batch: 1_000, ...options }
    this.#consumer = new rdkafka.KafkaConsumer(
      {
        ...connection(options),
        'group.id': options.group,
        'enable.auto.commit': false,
        'enable.auto.offset.store': false,
        'partition.assignment.strategy': 'cooperative-sticky',
        // What is fetched ahead is memory: a few batches are enough, if the next ones are asked for as soon as there is
        // room, and not a second later, which is the default and halves the rate.
        'queued.max.messages.kbytes': 4_096,
        'fetch.queue.backoff.ms': 20,
        'fetch.message.max.bytes': 512 * 1024,
        'fetch.max.bytes': 4 * 1024 * 1024,
        'fetch.wait.max.ms': 100,
        'session.timeout.ms': 10_000,
        'topic.metadata.refresh.interval.ms': 5_000,
        offset_commit_cb: (error: rdkafka.LibrdKafkaError | null) => {
          // A commit that crosses a rebalance is refused; the messages come again and their effect is idempotent.
          if (error && error.code !== 22 && error.code !== 27) this.#options.onError?.(new Error(error.message))
        },
        rebalance_cb: true,
      } as never,
      { 'auto.offset.reset': 'earliest' },
    )
    this.#consumer.on('event.error', (error) => this.#options.onError?.(new Error(error.message)))
    this.#consumer.on('rebalance', ({ code }, places) => this.#place(code, places))
    this.#consumer.on('rebalance.error', (error) => this.#options.onError?.(error))
  }

  /** Resumes partitions that are given to this consumer, notes their offsets, and forgets those that are taken from it. */
  #place(code: number, places: readonly rdkafka.Assignment[]): void {
    for (const { topic, partition } of places) {
      this.#reached.delete(`${topic}/${partition}`)
      this.#durable.delete(`${topic}/${partition}`)
    }
    if (code !== PARTITIONS_GIVEN || places.length === 0) return
    // A partition that was taken away while it was paused is still paused when it is given back.
    if (this.#options.long) this.#consumer.resume([...places])
    this.#consumer.committed([...places], 5_000, (error, found) => {
      if (error) return // the lag is told as if nothing had been read, until something is
      for (const { topic, partition, offset } of found as rdkafka.TopicPartitionOffset[]) {
        const name = `${topic}/${partition}`
        if (offset >= 0 && !this.#reached.has(name)) this.#reached.set(name, offset)
      }
    })
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) =>
      this.#consumer.connect({ timeout: 10_000 }, (error) => (error ? reject(error) : resolve())),
    )
    this.#consumer.setDefaultConsumeTimeout(200)
    this.#consumer.subscribe([...this.#options.topics])
    this.#loop = this.#run()
  }

  /** The partitions of this consumer; none while it is not connected, and while it disconnects, when the client refuses to say. */
  #assignments(): rdkafka.Assignment[] {
    if (!this.#consumer.isConnected()) return []
    try {
      return this.#consumer.assignments()
    } catch {
      return []
    }
  }

  /** How many partitions the group has given to this consumer. */
  get partitions(): number {
    return this.#assignments().length
  }

  /** Resolves when the group has given this consumer its partitions, or after `ms`. */
  async assigned(ms: number): Promise<void> {
    const until = Date.now() + ms
    while (!this.#abort.signal.aborted && Date.now() < until && this.partitions === 0) await pause(25, this.#abort.signal)
  }

  /** Messages that wait in this consumer's partitions, as far as the client has heard. */
  lag(): number {
    let waiting = 0
    for (const { topic, partition } of this.#assignments()) {
      try {
        const { highOffset, lowOffset } = this.#consumer.getWatermarkOffsets(topic, partition)
        const reached = this.#reached.get(`${topic}/${partition}`) ?? lowOffset
        waiting += Math.max(0, highOffset - Math.max(reached, lowOffset))
      } catch {
        // nothing was heard of this partition yet
      }
    }
    return waiting
  }

  states(): ConsumerState[] {
    return [this.state()]
  }

  /** A batch of a long job may take its time: it is blocked only when it failed. */
  state(): ConsumerState {
    const blocked = this.#batchesInHand > 0 && (this.#failing || !this.#options.long)
    if (this.#unreadable && Date.now() - this.#unreadable.last > HEALED_MS) this.#unreadable = null
    return {
      group: this.#options.group,
      lag: this.lag(),
      blockedSince: this.#unreadable?.since ?? (blocked ? this.#progressAt : null),
      lastError: this.#unreadable?.message ?? (this.#failing ? this.#lastError : null),
    }
  }

  /** How many partitions a topic has. */
  async partitionsOf(topic: string, timeout = 5_000): Promise<number> {
    const metadata = await new Promise<rdkafka.Metadata>((resolve, reject) =>
      this.#consumer.getMetadata({ topic, timeout }, (error, found) => (error ? reject(error) : resolve(found))),
    )
    return metadata.topics.find(({ name }) => name === topic)?.partitions.length ?? 0
  }

  /** Of each partition of this consumer: the offset up to which effects are durable, and the end that the broker has now. */
  async progress(timeout = 5_000): Promise<{ topic: string; partition: number; durable: number; end: number }[]> {
    const found = []
    for (const { topic, partition } of this.#assignments()) {
      const { lowOffset, highOffset } = await new Promise<rdkafka.WatermarkOffsets>((resolve, reject) =>
        this.#consumer.queryWatermarkOffsets(topic, partition, timeout, (error, offsets) => (error ? reject(error) : resolve(offsets))),
      )
      let durable = this.#durable.get(`${topic}/${partition}`)
      if (durable === undefined) {
        const [committed] = await new Promise<rdkafka.TopicPartitionOffset[]>((resolve, reject) =>
          this.#consumer.committed([{ topic, partition }], timeout, (error, offsets) =>
            error ? reject(error) : resolve(offsets as rdkafka.TopicPartitionOffset[]),
          ),
        )
        durable = committed && committed.offset >= 0 ? committed.offset : lowOffset
      }
      found.push({ topic, partition, durable, end: highOffset })
    }
    return found
  }

  /** Takes no new batch, finishes the one in hand, commits, leaves the group. */
  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#loop
    if (this.#consumer.isConnected()) await new Promise<void>((resolve) => this.#consumer.disconnect(() => resolve()))
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort
    let last = Promise.resolve(true)
    const waiting: Message[][] = []
    while (!signal.aborted) {
      const [batch = [], ...more] = waiting.length > 0 ? waiting.splice(0, 1) : bySize(await this.#pull(), this.#options.batchBytes)
      waiting.push(...more)
      if (batch.length === 0) continue
      const turn = this.#handle(batch, signal, last)
      if (this.#options.long) waiting.push(...(await this.#keepInTouch(turn)))
      await (this.#options.overlap ? last : turn)
      last = turn
    }
    await last
  }

  /** Polls while a batch is handled; returns what came of partitions that the group gave it meanwhile. */
  async #keepInTouch(turn: Promise<unknown>): Promise<Message[][]> {
    const came: Message[][] = []
    const done = new AbortController()
    void turn.finally(() => done.abort())
    // Pausing drops what was fetched ahead: a batch that is soon done is not worth it.
    await pause(BRIEF_MS, done.signal)
    if (done.signal.aborted) return came
    while (!done.signal.aborted) {
      this.#consumer.pause(this.#consumer.assignments())
      const batch = await this.#pull()
      if (batch.length > 0) came.push(batch)
    }
    this.#consumer.resume(this.#consumer.assignments())
    return came
  }

  /** Handles a batch until it is durable, and commits it after the one before. False when it was stopped first. */
  async #handle(batch: readonly Message[], signal: AbortSignal, before: Promise<boolean>): Promise<boolean> {
    if (this.#batchesInHand++ === 0) this.#progressAt = Date.now()
    try {
      while (!signal.aborted) {
        try {
          await this.#isolating(batch, signal, before)
          this.#retries = 0
          if (!(await before)) return false // stopped while the one before was not durable: both come again
          this.#commit(batch)
          this.#failing = false
          this.#progressAt = Date.now()
          return true
        } catch (error) {
          // A passing cause (database away): the same batch again, later each time. The group keeps its place meanwhile.
          this.#failing = true
          this.#lastError = String((error as Error)?.message ?? error).slice(0, MAX_ERROR)
          this.#options.onError?.(error as Error)
          await pause(Math.min(10_000, 200 * 2 ** this.#retries++), signal)
        }
      }
      return false
    } finally {
      this.#batchesInHand--
    }
  }

  /** Handles messages; those that fail because of what they contain are found by halving, and set aside. */
  async #isolating(messages: readonly Message[], signal: AbortSignal, before: Promise<boolean>): Promise<void> {
    const { handle, poison } = this.#options
    try {
      return await handle(messages, signal, before)
    } catch (error) {
      if (!poison?.is(error)) throw error
      if (messages.length === 1) return poison.setAside(messages[0]!, error)
    }
    const middle = messages.length >> 1
    await this.#isolating(messages.slice(0, middle), signal, before)
    await this.#isolating(messages.slice(middle), signal, before)
  }

  #commit(batch: readonly Message[]): void {
    const ends = new Map<string, { topic: string; partition: number; offset: number }>()
    for (const { topic, partition, offset } of batch) ends.set(`${topic}/${partition}`, { topic, partition, offset: offset + 1 })
    for (const [name, { offset }] of ends) this.#durable.set(name, offset)
    try {
      this.#consumer.commit([...ends.values()])
    } catch (error) {
      this.#options.onError?.(error as Error) // "generation id is not valid": a rebalance; the batch comes again
    }
  }

  #pull(): Promise<Message[]> {
    return new Promise((resolve) => {
      this.#consumer.consume(this.#options.batch, (error, messages) => {
        if (error) {
          this.#options.onError?.(new Error(error.message))
          if (UNREADABLE.test(error.message))
            this.#unreadable = { since: this.#unreadable?.since ?? Date.now(), last: Date.now(), message: error.message }
          setTimeout(resolve, 500, []).unref()
          return
        }
        for (const { topic, partition, offset } of messages) this.#reached.set(`${topic}/${partition}`, offset + 1)
        resolve(
          messages.map((m) => ({
            topic: m.topic,
            partition: m.partition,
            offset: m.offset,
            key: m.key === null || m.key === undefined ? null : m.key.toString(),
            value: m.value,
            timestamp: m.timestamp ?? Date.now(),
            headers: Object.fromEntries((m.headers ?? []).flatMap((h) => Object.entries(h).map(([k, v]) => [k.toLowerCase(), String(v)]))),
          })),
        )
      })
    })
  }
}

/** Messages in their order, in pieces of so many bytes. */
function bySize(messages: Message[], most = Number.POSITIVE_INFINITY): Message[][] {
  const pieces: Message[][] = []
  let bytes = most // the first one begins a piece
  for (const message of messages) {
    bytes += message.value?.length ?? 0
    if (bytes >= most) {
      pieces.push([])
      bytes = message.value?.length ?? 0
    }
    pieces.at(-1)!.push(message)
  }
  return pieces
}

/** Waits, unless stopped meanwhile. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const timer = setTimeout(done, ms)
    function done() {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    signal.addEventListener('abort', done)
  })
}

export interface TopicDeclaration {
  topic: string
  partitions: number
  retentionMs: number
  /** Further settings of the topic, by the names that Kafka gives them. */
  config?: Readonly<Record<string, string>>
}

/** Creates the topics that are missing; one that exists is left as it is. */
export async function createTopics(options: KafkaOptions, topics: readonly TopicDeclaration[], replication: number): Promise<void> {
  const admin = rdkafka.AdminClient.create(connection(options) as never)
  try {
    for (const { topic, partitions, retentionMs, config: further } of topics) {
      const config = { 'retention.ms': String(retentionMs), ...further }
      await new Promise<void>((resolve, reject) =>
        admin.createTopic(
          { topic, num_partitions: partitions, replication_factor: replication, config } as never,
          20_000,
          // 36: it exists already
          (error) => (error && error.code !== 36 ? reject(new Error(`topic ${topic}: ${error.message}`)) : resolve()),
        ),
      )
    }
  } finally {
    admin.disconnect()
  }
}
