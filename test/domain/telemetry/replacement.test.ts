// What stays as it is: the unit of readings, a device whose hardware is replaced, the history of a deleted one.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const start = Date.parse('2026-05-01T00:00:00Z')
const at = (minute: number, value: number) => ({ ts: new Date(start + minute * 60_000).toISOString(), value })
const between = 'metric=m&from=2026-05-01T00:00:00Z&to=2026-05-01T04:00:00Z'

t.test('P19 a metric with readings keeps its unit, one without may change it', async (t) => {
  const acme = await tenant()
  const { data: metric } = await acme.admin.post('/telemetry/metrics', { code: 'm', unit: 'Wh' })
  const change = (version: number, patch: object) => acme.admin.patch(`/telemetry/metrics/${metric.id}`, { version, ...patch })
  t.match(await change(1, { unit: 'kWh' }), { status: 200, data: { unit: 'kWh' } }, 'before the first reading')
  const device = await probe(acme)
  await device.send([at(0, 1)])
  const refused = { status: 409, body: { detail: 'in_use', error: { details: { path: '/unit', metric: 'm', unit: 'kWh' } } } }
  t.match(await change(2, { unit: 'Wh' }), refused)
  t.match(await change(2, { unit: null }), refused)
  t.match(await change(2, { unit: 'kWh', kind: 'counter' }), { status: 200, data: { kind: 'counter' } }, 'the same unit')

  await device.send([{ ...at(0, 1), metric: 'unnamed' }])
  const [unnamed] = (await acme.admin.get('/telemetry/metrics?code=unnamed')).data
  t.match(
    await acme.admin.patch(`/telemetry/metrics/${unnamed.id}`, { version: 1, unit: 'lx' }),
    { status: 200, data: { unit: 'lx' } },
    'a metric that its device made is given its unit',
  )
})

t.test('P19 a unit cannot be changed while the first reading is written', async (t) => {
  const acme = await tenant()
  const made = await Promise.all(times(10, (n) => acme.admin.post('/telemetry/metrics', { code: `m${n}`, unit: 'a' })))
  const devices = await Promise.all(times(10, () => probe(acme)))
  const changes = made.map(({ data }) => acme.admin.patch(`/telemetry/metrics/${data.id}`, { version: 1, unit: 'b' }))
  const sent = devices.map((device, n) => device.send([{ ...at(0, 1), metric: `m${n}` }]))
  const results = await Promise.all(changes)
  await Promise.all(sent)
  for (const { status } of results) t.ok([200, 409].includes(status), `${status}`)
  for (const { data } of made) {
    const now = (await acme.admin.get(`/telemetry/metrics/${data.id}`)).data
    t.match(await acme.admin.patch(`/telemetry/metrics/${data.id}`, { version: now.version, unit: 'c' }), { status: 409 })
  }
})

const ask = (acme: TestTenant, device: string, more = '') => acme.admin.get(`/telemetry/readings?device=${device}&${between}${more}`)

t.test('P21 replaced hardware goes on with the series: a new key, the old one ended, a record', async (t) => {
  const acme = await tenant()
  const device = await probe(acme, { serial_number: 'SN-1' })
  await device.send([at(0, 1)])
  const path = `/telemetry/devices/${device.id}`
  const first = await acme.admin.post(`${path}/replace`, { serial_number: 'SN-2', reason: 'Water in the housing' })
  t.match(first, {
    status: 201,
    data: {
      replacement: { previous_serial_number: 'SN-1', serial_number: 'SN-2', replaced_by: acme.admin.userId },
      key: { device_id: device.id },
    },
  })
  t.match(await device.send([at(1, 2)]), { accepted: 0, rejections: [{ reason: 'unauthorized' }] }, 'the old hardware')
  t.match(await device.send([at(1, 2)], first.data.key.key), { accepted: 1 }, 'the new one')
  t.same(
    (await ask(acme, device.code)).data.map(({ value }: { value: number }) => value),
    [2, 1],
  )
  t.match((await acme.admin.get(path)).data, { serial_number: 'SN-2', replaced_at: first.data.replacement.replaced_at, version: 2 })
  await Promise.all(times(20, (n) => acme.admin.post(`${path}/replace`, { serial_number: `N-${n}`, grace_seconds: 60 })))
  const { data } = await acme.viewer.get(`${path}/replacements`)
  t.equal(data.length, 21)
  const serials = new Set(data.map((one: { serial_number: string }) => one.serial_number))
  for (const { previous_serial_number } of data) t.ok(previous_serial_number === 'SN-1' || serials.has(previous_serial_number))
  t.equal(new Set(data.map((one: { previous_serial_number: string }) => one.previous_serial_number)).size, 21, 'each follows another one')
  t.match(await device.send([at(2, 3)], first.data.key.key), { accepted: 1 }, 'within its grace')
  const globex = await tenant()
  t.match(await globex.admin.post(`${path}/replace`, {}), { status: 404 })
  t.match(await globex.admin.get(`${path}/replacements`), { status: 404 })
  t.match(await acme.viewer.post(`${path}/replace`, {}), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.admin.post(`/telemetry/devices/${newId()}/replace`, {}), { status: 404 })
})

t.test('P21 the history of a deleted device is read by those who may recover it', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await device.send([at(0, 1), at(1, 2)])
  await acme.admin.delete(`/telemetry/devices/${device.id}?version=1`, { 'if-match': '"1"' })
  t.match(await ask(acme, device.code), { status: 404 })
  const deleted = '&include_deleted=true'
  t.equal((await ask(acme, device.code, deleted)).data.length, 2)
  const successor = await probe(acme, { code: device.code })
  await successor.send([at(2, 3)])
  t.same((await ask(acme, device.code)).data.length, 1, 'the device that has the code now')
  t.match(await ask(acme, device.code, deleted), { status: 400, body: { detail: 'invalid_value' } }, 'two had the code')
  t.equal((await ask(acme, device.id, deleted)).data.length, 2, 'named by its id')
  t.equal((await ask(acme, device.id, `${deleted}&bucket=1h`)).data[0].count, 2)
  const { series } = (await acme.admin.get(`/telemetry/series?device=${device.code}&${between}&bucket=1h${deleted}`)).data
  t.same(series.map((one: { device_id: string }) => one.device_id).sort(), [device.id, successor.id].sort())
  const csv = await acme.admin.get(`/telemetry/series/readings?device=${device.code}&${between}${deleted}`, { accept: 'text/csv' })
  t.equal(csv.text.trim().split('\r\n').length, 4)
  for (const path of ['readings', 'series', 'chart', 'latest'].map((name) => `/telemetry/${name}?device=${device.code}&metric=m${deleted}`))
    t.match(await acme.viewer.get(path), { status: 403, body: { detail: 'permission_denied' } }, path)
})
