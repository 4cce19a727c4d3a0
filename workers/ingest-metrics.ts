// What an operator sees of the ingest: how much, how fast, what is refused, and how far it is behind.
import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { IngestResult } from '../domain/telemetry/index.ts'

export interface IngestMetrics {
  /** Notes a batch: messages in it, what became of them, and how long it took in seconds. */
  observe(messages: number, result: IngestResult, seconds: number): void
  /** Notes messages of a flood that were put aside. */
  aside(messages: number): void
}

/** @param lag messages that wait in Kafka, as far as this process knows */
export function ingestMetrics(registry: Registry, lag: () => number): IngestMetrics {
  const registers = [registry]
  const rows = new Counter({ name: 'telemetry_readings_total', help: 'Readings written or already there', registers })
  const rejected = new Counter({ name: 'telemetry_rejected_total', help: 'Readings refused, by reason', labelNames: ['reason'], registers })
  const aside = new Counter({ name: 'telemetry_aside_total', help: 'Messages of a flood that were put aside, for others’ sake', registers })
  const size = new Histogram({
    name: 'telemetry_batch_messages',
    help: 'Messages in a batch',
    buckets: [1, 5, 10, 25, 50, 100, 250],
    registers,
  })
  const time = new Histogram({
    name: 'telemetry_batch_seconds',
    help: 'Time to write a batch',
    buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers,
  })
  new Gauge({
    name: 'telemetry_lag_messages',
    help: 'Messages that wait in the partitions of this process',
    registers,
    collect() {
      this.set(lag())
    },
  })
  return {
    observe: (messages, result, seconds) => {
      rows.inc(result.accepted)
      for (const { reason, count } of result.rejections) rejected.inc({ reason }, count)
      size.observe(messages)
      time.observe(seconds)
    },
    aside: (messages) => aside.inc(messages),
  }
}
