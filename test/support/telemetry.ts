// Devices that send what a test wants, straight into the ingest.
import { newId } from '../../domain/kernel/index.ts'
import { type IngestResult, TelemetryIngest } from '../../domain/telemetry/index.ts'
import type { Runtime } from '../../server/runtime.ts'
import type { TestTenant } from './app.ts'

export interface Sent {
  ts: string
  metric?: string
  value: number
}

export interface Probe {
  id: string
  code: string
  key: string
  /** Sends readings, of the metric `m` where nothing else is said. */
  send(readings: readonly Sent[], key?: string): Promise<IngestResult>
}

/** Makes devices with a key each. One ingest for all, as one consumer would be. */
export function probes(runtime: Runtime): (tenant: TestTenant, extra?: object) => Promise<Probe> {
  const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)
  return async (tenant, extra = {}) => {
    const made = await tenant.admin.post('/telemetry/devices', { code: `probe-${newId().slice(-8)}`, name: 'Probe', ...extra })
    const { id, code } = made.data
    const { key } = (await tenant.admin.post(`/telemetry/devices/${id}/keys`, {})).data
    const send = (readings: readonly Sent[], shown = key) => {
      const messages = Array.from({ length: Math.ceil(readings.length / 1_000) }, (_, n) => {
        const some = readings.slice(n * 1_000, (n + 1) * 1_000).map((reading) => ({ metric: 'm', ...reading }))
        return { value: Buffer.from(JSON.stringify({ tenant: tenant.slug, device: code, readings: some })), key: shown, device: code }
      })
      return ingest.ingest(messages, newId())
    }
    return { id, code, key, send }
  }
}
