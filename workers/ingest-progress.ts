// How far readings are written: the time until which all that the brokers received is durable, by partition.
import { Type } from 'typebox'
import { type Database, nullable, sql, Timestamp } from '../domain/kernel/index.ts'
import type { Consumer } from './kafka.ts'
import type { WorkerLog } from './log.ts'
import { PeriodicTask } from './periodic-task.ts'

const EVERY_MS = 2_000
const Until = Type.Object({ until: nullable(Timestamp) }, { additionalProperties: false })

/**
 * The time until which readings of a topic are written in all partitions; null while nothing is known. A partition that no
 * worker reads holds it where it was.
 */
export async function writtenUntil(control: Database, topic: string): Promise<Date | null> {
  const { until } = await control.platform((queries) =>
    queries.one(sql.prepared(Until)`select min(written_until) as until from platform_ingest_progress where topic = ${topic}`),
  )
  return until === null ? null : new Date(until)
}

/**
 * Notes the progress of a consumer every two seconds. By offsets, not by the times of messages, which their producers
 * choose: the end of a partition is asked for, and once all before it is durable, all that came before the question is.
 */
export class IngestProgress extends PeriodicTask {
  readonly #consumer: Consumer
  readonly #topic: string
  readonly #control: Database
  readonly #log: WorkerLog
  /** Ends that are not reached yet, and when they were asked for, by partition. */
  readonly #waiting = new Map<number, { at: number; end: number }>()
  #isPrepared = false

  constructor(consumer: Consumer, topic: string, control: Database, log: WorkerLog) {
    super(EVERY_MS)
    this.#consumer = consumer
    this.#topic = topic
    this.#control = control
    this.#log = log
  }

  /** One row for each partition of the topic: one that no worker has read yet holds the time, one that is gone does not. */
  async #prepare(): Promise<void> {
    const count = await this.#consumer.partitionsOf(this.#topic)
    if (count === 0) throw new Error(`topic ${this.#topic} has no partitions yet`)
    await this.#control.platform(async (queries) => {
      await queries.query(sql.run`delete from platform_ingest_progress where topic = ${this.#topic} and partition >= ${count}`)
      await queries.query(sql.run`
        insert into platform_ingest_progress (topic, partition, written_until)
        select ${this.#topic}, p, to_timestamp(0) from generate_series(0, ${count - 1}::int) as p on conflict do nothing`)
    })
  }

  async #note(): Promise<void> {
    const at = Date.now()
    const partitions = await this.#consumer.progress()
    const own = new Set(partitions.map(({ partition }) => partition))
    for (const partition of this.#waiting.keys()) if (!own.has(partition)) this.#waiting.delete(partition)
    const reached: [string, number, string][] = []
    for (const { partition, durable, end } of partitions) {
      const wanted = durable >= end ? { at, end } : (this.#waiting.get(partition) ?? { at, end })
      if (durable < wanted.end) {
        this.#waiting.set(partition, wanted)
        continue
      }
      this.#waiting.delete(partition)
      reached.push([this.#topic, partition, new Date(wanted.at).toISOString()])
    }
    if (reached.length === 0) return
    await this.#control.platform((queries) =>
      queries.query(sql.run`
        insert into platform_ingest_progress as p (topic, partition, written_until)
        select * from ${sql.unnest(reached, ['text', 'int4', 'timestamptz'])} as r (topic, partition, written_until) order by partition
        on conflict (topic, partition) do update set written_until = greatest(p.written_until, excluded.written_until)`),
    )
  }

  protected async work(): Promise<void> {
    try {
      if (!this.#isPrepared) await this.#prepare()
      this.#isPrepared = true
      await this.#note()
    } catch (error) {
      this.#log.warn({ err: error }, 'progress of ingest not noted, it is tried again in a moment')
    }
  }
}
