import { gzipSync } from 'node:zlib'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { startWorkers } from '../../server/workers.ts'
import { Consumer, type Message } from '../../workers/kafka.ts'
import { TOPICS } from '../../workers/topics.ts'
import { eventually, type TestTenant, testApp, times } from '../support/app.ts'
import { quietLog } from '../support/services.ts'

const { tenant, runtime, request } = await testApp(t)
const workers = await startWorkers(runtime, quietLog, ['telemetry'])
t.teardown(() => workers.stop())

const rejected: { device: string; reason: string; count: number }[] = []
const consumer = new Consumer({
  ...runtime.kafka,
  group: `test-${newId()}`,
  topics: [TOPICS.telemetryRejected],
  handle: async (batch: readonly Message[]) => void rejected.push(...batch.map((m) => JSON.parse(m.value!.toString()))),
})
await consumer.start()
t.teardown(() => consumer.stop())

async function device(tenant: TestTenant, code = `probe-${newId().slice(-8)}`) {
  const { id } = (await tenant.admin.post('/telemetry/devices', { code, name: 'Probe' })).data
  const { key, id: keyId } = (await tenant.admin.post(`/telemetry/devices/${id}/keys`, {})).data
  const send = (body: object | string, headers: Record<string, string> = { 'device-key': key }) =>
    runtime.producer.send([{ topic: TOPICS.telemetry, key: code, value: typeof body === 'string' ? body : JSON.stringify(body), headers }])
  return { id, code, key, keyId, send }
}
const at = (secondsAgo: number) => new Date(Math.floor(Date.now() / 1000) * 1000 - secondsAgo * 1000).toISOString()
const readings = (tenant: TestTenant, code: string, metric: string, extra = '') =>
  tenant.viewer.get(`/telemetry/readings?device=${code}&metric=${metric}${extra}`)

t.test('a reading sent to Kafka is read within two seconds, raw and by bucket', async (t) => {
  const acme = await tenant()
  const probe = await device(acme)
  const message = {
    tenant: acme.slug,
    device: probe.code,
    readings: times(10, (i) => ({ ts: at(i * 60), metric: 'temperature', value: 20 + i, quality: 'good' })),
  }
  await probe.send(message)
  const answer = await eventually(
    () => readings(acme, probe.code, 'temperature'),
    (a) => a.status === 200 && a.data.length === 10,
    10,
  )
  t.match(answer.data[0], { ts: message.readings[0]!.ts, value: 20, quality: 0 })
  const daily = (await readings(acme, probe.code, 'temperature', '&bucket=1d')).data
  t.equal(
    daily.reduce((n: number, b: { count: number }) => n + b.count, 0),
    10,
  )
  // Redelivered and out of order: nothing doubles.
  await probe.send(message)
  await probe.send({
    ...message,
    readings: [...message.readings].reverse().concat([{ ts: at(7200), metric: 'temperature', value: 1, quality: 'good' }]),
  })
  await eventually(
    () => readings(acme, probe.code, 'temperature'),
    (a) => a.data.length === 11,
    10,
  )
  t.not((await acme.admin.get(`/telemetry/devices/${probe.id}`)).data.last_seen_at, null)
})

t.test('what is wrong is refused with its reason and never holds up a good reading beside it', async (t) => {
  const acme = await tenant()
  const probe = await device(acme)
  const good = { ts: at(1), metric: 'm', value: 1 }
  const bad = [
    { ts: new Date(Date.now() + 3_600_000).toISOString(), metric: 'm', value: 2 },
    { ts: 'yesterday', metric: 'm', value: 2 },
    { ts: at(2), metric: 'm', value: 'NaN' },
    { ts: at(3), metric: 'm' },
    null,
  ]
  await probe.send({ tenant: acme.slug, device: probe.code, readings: [bad[0], good, ...bad.slice(1)] })
  await probe.send('not json')
  await probe.send({ tenant: acme.slug, device: probe.code, readings: [good] }, { 'device-key': 'dk_wrong' })
  await probe.send({ tenant: acme.slug, device: probe.code, readings: [good] }, {})
  await probe.send({ tenant: 'no-such-tenant', device: probe.code, readings: [good] })
  const reasons = () => Object.fromEntries(rejected.filter((r) => r.device === probe.code).map((r) => [r.reason, r.count]))
  await eventually(
    async () => reasons(),
    (r) => Object.keys(r).length >= 5,
    15,
  )
  t.match(reasons(), { in_future: 1, invalid_reading: 4, malformed: 1, unauthorized: 1, unknown_tenant: 1 })
  // What an operator sees of it.
  const metrics = await workers.metrics.metrics()
  const value = (name: string) => Number(metrics.match(new RegExp(`^${name.replace(/[{}]/g, '\\$&')} (.*)$`, 'm'))?.[1])
  t.ok(value('telemetry_readings_total') >= 11)
  t.ok(value('telemetry_rejected_total{reason="invalid_reading"}') >= 4)
  t.ok(value('telemetry_batch_seconds_count') >= 2)
  t.equal(
    await eventually(async () => (await workers.metrics.getSingleMetricAsString('telemetry_lag_messages')).endsWith(' 0'), Boolean),
    true,
  )
  t.equal((await readings(acme, probe.code, 'm')).data.length, 1)
})

t.test('a message whose key is as long as a message holds up nobody', async (t) => {
  const acme = await tenant()
  const probe = await device(acme)
  const key = `${newId()}${'k'.repeat(600_000)}`
  await runtime.producer.send([{ topic: TOPICS.telemetry, key, value: 'not json', headers: { 'device-key': probe.key } }])
  await eventually(async () => rejected.some((r) => r.device === key.slice(0, 64)), Boolean, 15)
  await probe.send({ tenant: acme.slug, device: probe.code, readings: [{ ts: at(1), metric: 'm', value: 1 }] })
  await eventually(
    () => readings(acme, probe.code, 'm'),
    (a) => a.status === 200,
    15,
  )
  t.equal(rejected.filter((r) => r.device === key.slice(0, 64)).length, 1)
})

t.test('a revoked key bites at the next batch; another tenant’s device stays unseen', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const probe = await device(acme)
  t.equal((await acme.viewer.delete(`/telemetry/devices/${probe.id}/keys/${probe.keyId}`)).status, 403)
  t.equal((await globex.admin.delete(`/telemetry/devices/${probe.id}/keys/${probe.keyId}`)).status, 404)
  await probe.send({ tenant: globex.slug, device: probe.code, readings: [{ ts: at(1), metric: 'm', value: 1 }] })
  t.equal((await acme.admin.delete(`/telemetry/devices/${probe.id}/keys/${probe.keyId}`)).status, 204)
  await probe.send({ tenant: acme.slug, device: probe.code, readings: [{ ts: at(1), metric: 'm', value: 1 }] })
  await eventually(
    async () => rejected.filter((r) => r.device === probe.code && r.reason === 'unauthorized').length,
    (n) => n >= 1,
    15,
  )
  t.equal((await readings(acme, probe.code, 'm')).status, 404)
  t.equal((await readings(globex, probe.code, 'm')).status, 404)
})

t.test('readings by HTTP: the device’s key, the host’s tenant, 202 once Kafka has them', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const probe = await device(acme)
  const body = { tenant: acme.slug, device: probe.code, readings: [{ ts: at(5), metric: 'm', value: 3.5 }] }
  const post = (payload: object, authorization?: string, host = acme.host) =>
    request(host, { method: 'POST', url: '/api/v1/telemetry/readings', payload, headers: authorization ? { authorization } : {} })
  t.match(await post(body, `Bearer ${probe.key}`), { status: 202, data: { accepted: 1 } })
  t.match(await post(body), { status: 401, body: { detail: 'missing_token' } })
  t.match(await post(body, 'Bearer dk_wrong'), { status: 401, body: { detail: 'invalid_token' } })
  t.match(await post({ ...body, device: 'nobody' }, `Bearer ${probe.key}`), { status: 401, body: { detail: 'invalid_token' } })
  t.match(await post(body, `Bearer ${probe.key}`, globex.host), { status: 401, body: { detail: 'tenant_mismatch' } })
  t.match(await post({ ...body, readings: [] }, `Bearer ${probe.key}`), { status: 400, body: { detail: 'invalid_body' } })
  // A bad reading is told at once, as on the topic the others are accepted, and further properties are ignored.
  const mixed = [
    { ts: at(4), metric: 'mixed', value: 1, unit: '°C' },
    { ts: 'yesterday', metric: 'mixed', value: 1 },
    { ts: at(3), metric: 'mixed', value: '12' },
    { ts: at(3), metric: 'mixed', value: 1e101 },
    { ts: at(3), metric: '\ud800', value: 1 },
  ]
  t.match(await post({ ...body, readings: mixed }, `Bearer ${probe.key}`), {
    status: 202,
    data: {
      accepted: 1,
      rejected: [
        { reason: 'invalid_reading', count: 3, sample: /yesterday/ },
        { reason: 'out_of_range', count: 1 },
      ],
    },
  })
  const packed = (bytes: Buffer) =>
    request(acme.host, {
      method: 'POST',
      url: '/api/v1/telemetry/readings',
      payload: bytes,
      headers: { authorization: `Bearer ${probe.key}`, 'content-type': 'application/json', 'content-encoding': 'gzip' },
    })
  t.match(await packed(gzipSync(JSON.stringify(body))), { status: 202, data: { accepted: 1 } })
  t.match(await packed(Buffer.from('not gzip')), { status: 400 })
  t.match(await packed(gzipSync(Buffer.alloc(10_000_000, ' '))), { status: 413, body: { detail: 'body_too_large' } })
  await eventually(
    () => readings(acme, probe.code, 'm'),
    (a) => a.status === 200 && a.data[0]?.value === 3.5,
    10,
  )
  t.pass('read back')
})
