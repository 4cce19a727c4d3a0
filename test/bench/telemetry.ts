// From Kafka into the table.
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { TOPICS } from '../../workers/topics.ts'
import { admin, first, note, quietLog, READINGS, results, runtime } from './harness.ts'

export async function telemetry() {
  note('telemetry …')
  const device = (await first.admin.post('/telemetry/devices', { code: 'bench', name: 'Bench' })).data.id
  const { key } = (await first.admin.post(`/telemetry/devices/${device}/keys`, {})).data
  const start = Date.now() - READINGS * 10
  const at = (i: number) => new Date(start + i * 10).toISOString()
  const perMessage = 100
  await runtime.producer.send(
    Array.from({ length: READINGS / perMessage }, (_, m) => ({
      topic: TOPICS.telemetry,
      key: `bench-${m % 16}`,
      headers: { 'device-key': key },
      value: JSON.stringify({
        tenant: first.slug,
        device: 'bench',
        readings: Array.from({ length: perMessage }, (_, i) => ({ ts: at(m * perMessage + i), metric: 'm', value: i })),
      }),
    })),
  )
  let accepted = 0
  const done = Promise.withResolvers<void>()
  let began = 0n
  const consumer = telemetryConsumer({
    kafka: runtime.kafka,
    planes: runtime.services.planes,
    tenants: runtime.services.tenants,
    producer: runtime.producer,
    log: quietLog.root,
    onBatch: (result) => {
      accepted += result.accepted
      if (accepted >= READINGS) done.resolve()
    },
  })
  await consumer.start()
  await consumer.assigned(10_000)
  began = process.hrtime.bigint()
  await done.promise
  const kafka = READINGS / (Number(process.hrtime.bigint() - began) / 1e9)
  await consumer.stop()
  const telemetry = new Client({ connectionString: admin.telemetry })
  await telemetry.connect()
  const {
    rows: [counted],
  } = await telemetry.query('select count(*)::int as n, max(series_id) as series from tel_measurement')
  if (counted.n !== READINGS) throw new Error(`${counted.n} of ${READINGS} readings in the table`)
  await telemetry.query('truncate tel_measurement')
  const copyStart = process.hrtime.bigint()
  const stream = telemetry.query(copyFrom('copy tel_measurement (tenant_id, series_id, ts, value, quality) from stdin'))
  await pipeline(
    Readable.from(
      (function* () {
        for (let i = 0; i < READINGS; i += 1000)
          yield Array.from({ length: 1000 }, (_, j) => `${first.id}\t${counted.series}\t${at(i + j)}\t${j}\t0\n`).join('')
      })(),
    ),
    stream,
  )
  const copy = READINGS / (Number(process.hrtime.bigint() - copyStart) / 1e9)
  await telemetry.end()
  results.push({ name: 'telemetry', ratio: kafka / copy, ours: kafka, limit: copy, unit: 'rows/s' })
}
