// Messages of devices: what is refused of them, where it is told, and what the device's record says.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Rejection, TelemetryIngest } from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp } from '../../support/app.ts'
import { connectTo, testServices } from '../../support/services.ts'
import { type Probe, probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)
const iso = (secondsAgo: number) => new Date(Date.now() - secondsAgo * 1000).toISOString()

/** Ingests the text of one message of a device. */
const send = (device: Probe, value: string | Buffer, more: { receivedAt?: number; key?: string } = {}) =>
  ingest.ingest([{ value: Buffer.from(value), key: device.key, device: device.code, ...more }], newId())
const message = (acme: TestTenant, { code }: Probe, readings: string) =>
  `{"tenant":"${acme.slug}","device":"${code}","readings":[${readings}]}`
const rejectionsOf = async (acme: TestTenant, { code }: Probe) =>
  (await acme.viewer.get(`/telemetry/rejections?device=${code}`)).data as Rejection[]
const valuesOf = async (acme: TestTenant, { code }: Probe, metric: string) =>
  ((await acme.viewer.get(`/telemetry/readings?device=${code}&metric=${metric}`)).data ?? []).map(({ value }: { value: number }) => value)

t.test('NaN and Infinity refuse their own reading, and text that contains the words stays as it is', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const readings = [
    `{"ts":"${iso(3)}","metric":"NaN, Infinity","value":1}`,
    `{"ts":"${iso(2)}","metric":"m","value":NaN}`,
    `{"ts":"${iso(1)}","metric":"m","value":-Infinity}`,
  ]
  const result = await send(device, message(acme, device, readings.join()))
  t.match(result, { accepted: 1, rejections: [{ reason: 'invalid_reading', count: 2, sample: /"value":null/ }] })
  t.same(await valuesOf(acme, device, 'NaN, Infinity'), [1])
})

t.test('a long text that does not end is read in one pass', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const began = performance.now()
  for (const tail of ['\\"'.repeat(120_000), '"'.repeat(240_000), '\\'.repeat(240_001)])
    t.match(await send(device, `[NaN,"${tail}`), { accepted: 0, rejections: [{ reason: 'malformed' }] })
  t.ok(performance.now() - began < 10_000, 'quadratic, each of them took half a minute')
})

t.test('a malformed or too large message is counted for its device, and for nobody when the key is wrong', async (t) => {
  const acme = await tenant()
  const [device, other] = [await probe(acme), await probe(acme)]
  await send(device, message(acme, device, '{"ts":'))
  await send(device, `${message(acme, device, '')}${' '.repeat(256 * 1024)}`)
  t.match((await rejectionsOf(acme, device)).map(({ reason }) => reason).toSorted(), ['malformed', 'too_large'])
  t.match(await send(other, message(acme, other, '{"ts":'), { key: 'dk_wrong' }), { rejections: [{ reason: 'unauthorized' }] })
})

t.test('a day that the month does not have is refused', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const days = ['2026-02-30', '2026-02-29', '2026-04-31', '2026-11-31', '2026-02-28', '2024-02-29', '2026-01-31']
  const result = await send(
    device,
    message(acme, device, days.map((day, n) => `{"ts":"${day}T10:00:00Z","metric":"m","value":${n}}`).join()),
  )
  t.match(result, { accepted: 3, rejections: [{ reason: 'invalid_reading', count: 4, sample: /2026-02-30/ }] })
})

t.test('a conversion keeps the last digits of a large counter', async (t) => {
  const acme = await tenant()
  const metrics = [
    { metric: 'energy', factor: 0.001 },
    { metric: 'fahrenheit', factor: 0.5555555555555556, offset: -17.77777777777778 },
    { metric: 'huge', factor: 1e60 },
  ]
  const profile = (await acme.admin.post('/telemetry/device-profiles', { code: 'METER', name: 'Meter', metrics })).data
  const device = await probe(acme, { profile_id: profile.id })
  const readings = [
    { ts: iso(2), metric: 'energy', value: 1_234_567_890_123_456 },
    { ts: iso(1), metric: 'energy', value: 1_234_567_890_123_996 },
    { ts: iso(1), metric: 'fahrenheit', value: 77 },
    { ts: iso(1), metric: 'huge', value: 1e60 },
  ]
  t.match(await device.send(readings), { accepted: 3, rejections: [{ reason: 'out_of_limits', count: 1 }] })
  t.same(await valuesOf(acme, device, 'energy'), [1_234_567_890_124, 1_234_567_890_123.46])
  t.same(await valuesOf(acme, device, 'fahrenheit'), [25])
})

t.test('a device is seen when all its readings are refused, alone in a batch', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const seen = async () => (await acme.viewer.get(`/telemetry/devices/${device.id}`)).data
  t.match(await seen(), { last_seen_at: null })
  t.match(await send(device, message(acme, device, '{"ts":"yesterday","metric":"m","value":1}')), { accepted: 0 })
  t.match(await seen(), { last_seen_at: String, status: 'online' })
})

t.test('another value at the same millisecond is refused, and a redelivered one is not', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const at = iso(10)
  t.match(await device.send([{ ts: at, value: 1 }]), { accepted: 1, rejections: [] })
  t.match(await device.send([{ ts: at, value: 1 }]), { accepted: 1, rejections: [] })
  t.match(await device.send([{ ts: at, value: 2 }, { ts: iso(5), value: 3 }]), {
    rejections: [{ tenant: acme.slug, device: device.code, reason: 'already_recorded', count: 1, sample: /"value":2/ }],
  }) // biome-ignore format: two readings
  t.same(await valuesOf(acme, device, 'm'), [3, 1])
})

t.test('a producer does not choose the minute in which its readings count', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const owner = await connectTo(t, testServices().admin.telemetry)
  const impossible = [253_402_300_800_000, 8_640_000_000_000_001, -1, 0, Date.now() + 3_600_000, Date.now() - 10 * 86_400_000]
  for (const [n, receivedAt] of impossible.entries())
    t.match(await send(device, message(acme, device, `{"ts":"${iso(n + 1)}","metric":"m","value":1}`), { receivedAt }), { accepted: 1 })
  const { rows } = await owner.query(
    `select sum(readings)::int as readings from tel_intake where tenant_id = $1 and minute > now() - interval '5 minutes' and minute <= now()`,
    [acme.id],
  )
  t.same(rows, [{ readings: impossible.length }])
})

t.test('a message that is deeply nested, or full of strange names, is refused and harms nobody', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  t.match(await send(device, message(acme, device, `${'['.repeat(100_000)}${']'.repeat(100_000)}`)), { accepted: 0 })
  const names = ['\\ud800', 'a\\u0000b', '__proto__', 'constructor', 'é'.repeat(64), '𝒳'.repeat(32)]
  const readings = names.map((name) => `{"ts":"${iso(1)}","metric":"${name}","value":1,"__proto__":{"value":2}}`)
  t.match(await send(device, message(acme, device, readings.join())), {
    accepted: 4,
    rejections: [{ reason: 'invalid_reading', count: 2 }],
  })
  t.notOk('value' in {}, 'no prototype was changed')
})
