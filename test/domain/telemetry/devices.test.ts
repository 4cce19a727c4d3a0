// Devices: what they are, the keys by which they are believed, and what becomes of what they send.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Rejection, TelemetryIngest } from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'

const { tenant, runtime } = await testApp(t)
const owner = new Client({ connectionString: testServices().admin.telemetry })
await owner.connect()
t.teardown(() => owner.end())
const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)

let serial = 0
const code = () => `probe-${++serial}-${newId().slice(-6)}`
const deviceOf = async (acme: TestTenant, extra: object = {}) =>
  (await acme.admin.post('/telemetry/devices', { code: code(), name: 'Probe', ...extra })).data
const profileOf = async (acme: TestTenant, extra: object = {}) =>
  (await acme.admin.post('/telemetry/device-profiles', { code: code(), name: 'Kind', ...extra })).data
const keyOf = async (acme: TestTenant, id: string) => (await acme.admin.post(`/telemetry/devices/${id}/keys`, {})).data
const at = (secondsAgo: number) => new Date(Math.floor(Date.now() / 1000) * 1000 - secondsAgo * 1000).toISOString()
interface Sent {
  ts?: string
  metric: string
  value: number
}
const send = (acme: TestTenant, device: string, key: string, readings: readonly Sent[]) => {
  const body = { tenant: acme.slug, device, readings: readings.map((reading, n) => ({ ts: at(n), ...reading })) }
  return ingest.ingest([{ value: Buffer.from(JSON.stringify(body)), key, device }], newId())
}
const counts = (rejections: readonly Rejection[]) => Object.fromEntries(rejections.map(({ reason, count }) => [reason, count]))
const values = async (acme: TestTenant, device: string, metric: string) =>
  (await acme.viewer.get(`/telemetry/readings?device=${device}&metric=${metric}`)).data.map(({ value }: { value: number }) => value)

t.test('what a device sends is kept in the unit of its metric, and what cannot be is refused', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.post('/telemetry/metrics', { code: 'temperature', unit: '°C' }), {
    status: 201,
    data: { code: 'temperature', unit: '°C', kind: 'gauge' },
  })
  const profile = await profileOf(acme, {
    metrics: [
      { metric: 'temperature', factor: 5 / 9, offset: -160 / 9, minimum: -40, maximum: 85 },
      { metric: 'humidity', minimum: 0, maximum: 100 },
    ],
    other_metrics: false,
  })
  const device = await deviceOf(acme, { profile_id: profile.id })
  const { key } = await keyOf(acme, device.id)
  const result = await send(acme, device.code, key, [
    { metric: 'temperature', value: 77 },
    { metric: 'temperature', value: 32 },
    { metric: 'temperature', value: 500 },
    { metric: 'humidity', value: 100 },
    { metric: 'humidity', value: 100.1 },
    { metric: 'noise', value: 1 },
  ])
  t.equal(result.accepted, 3)
  t.same(counts(result.rejections), { out_of_limits: 2, unknown_metric: 1 })
  t.same(await values(acme, device.code, 'temperature'), [25, 0])
  t.same(await values(acme, device.code, 'humidity'), [100])

  // A profile that is changed is another one from the next batch on.
  const path = `/telemetry/device-profiles/${profile.id}`
  t.equal((await acme.admin.patch(path, { metrics: [{ metric: 'humidity', factor: 100 }], other_metrics: true, version: 1 })).status, 200)
  await send(acme, device.code, key, [
    { metric: 'humidity', value: 0.5, ts: at(60) },
    { metric: 'noise', value: 7 },
  ])
  t.same(await values(acme, device.code, 'humidity'), [100, 50])
  t.same(await values(acme, device.code, 'noise'), [7])
  t.equal((await acme.admin.patch(`/telemetry/devices/${device.id}`, { profile_id: null, version: device.version })).status, 200)
  await send(acme, device.code, key, [{ metric: 'humidity', value: 0.5, ts: at(120) }])
  t.same(await values(acme, device.code, 'humidity'), [100, 50, 0.5], 'without a profile as it was sent')
})

t.test('profiles that make no sense', async (t) => {
  const acme = await tenant()
  for (const [metrics, path, rule] of [
    [[{ metric: 'm' }, { metric: 'm' }], '/metrics/1/metric', 'unique'],
    [[{ metric: 'm', factor: 0 }], '/metrics/0/factor', 'not_zero'],
    [[{ metric: 'm', minimum: 2, maximum: 1 }], '/metrics/0/minimum', 'range'],
  ] as const) {
    t.match(
      await acme.admin.post('/telemetry/device-profiles', { code: code(), name: 'Kind', metrics }),
      { status: 400, body: { detail: 'invalid_value', error: { details: { path, rule } } } },
      rule,
    )
  }
  const bad = [{ expected_interval_seconds: 0 }, { metrics: [{ metric: '' }] }, { metrics: [{ metric: 'm', factor: 'x' }] }]
  for (const extra of bad) t.equal((await acme.admin.post('/telemetry/device-profiles', { code: code(), name: 'K', ...extra })).status, 400)
  const profile = await profileOf(acme)
  const device = await deviceOf(acme, { profile_id: profile.id })
  t.match(await acme.admin.delete(`/telemetry/device-profiles/${profile.id}`, { 'if-match': '"1"' }), {
    status: 409,
    body: { detail: 'in_use' },
  })
  t.equal((await acme.admin.delete(`/telemetry/devices/${device.id}`, { 'if-match': '"1"' })).status, 204)
  t.equal((await acme.admin.delete(`/telemetry/device-profiles/${profile.id}`, { 'if-match': '"1"' })).status, 204)
  t.match(await acme.admin.post('/telemetry/devices', { code: code(), name: 'P', profile_id: profile.id }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  const globex = await tenant()
  const stranger = await profileOf(globex)
  t.match(await acme.admin.post('/telemetry/devices', { code: code(), name: 'P', profile_id: stranger.id }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
})

t.test('online, late, silent: by the interval that is expected', async (t) => {
  const acme = await tenant()
  const slow = await profileOf(acme, { expected_interval_seconds: 3600 })
  const made = [
    await deviceOf(acme),
    await deviceOf(acme, { profile_id: slow.id }),
    await deviceOf(acme, { expected_interval_seconds: 10 }),
  ]
  const usual = made[0]!
  const statusOf = async () =>
    Promise.all(made.map(async ({ id }) => (await acme.viewer.get(`/telemetry/devices/${id}`)).data.status as string))
  t.equal(usual.status, 'silent', 'never heard of')
  const heard = (secondsAgo: number) =>
    owner.query(`update tel_device set last_seen_at = now() - $2 * interval '1 second' where tenant_id = $1`, [acme.id, secondsAgo])
  for (const [secondsAgo, expected] of [
    [5, ['online', 'online', 'online']],
    [30, ['online', 'online', 'late']],
    [700, ['late', 'online', 'silent']],
    [3_100, ['silent', 'online', 'silent']],
    [10_000, ['silent', 'late', 'silent']],
    [40_000, ['silent', 'silent', 'silent']],
  ] as const) {
    await heard(secondsAgo)
    t.same(await statusOf(), expected, `${secondsAgo} seconds ago`)
  }
  await heard(700)
  const listed = async (query: string) =>
    (await acme.viewer.get(`/telemetry/devices?sort=code&${query}`)).data.map(({ id }: { id: string }) =>
      made.findIndex((d) => d.id === id),
    )
  t.same(await listed('status=late'), [0])
  t.same((await listed('status=online,silent')).sort(), [1, 2])
  t.same(await listed(`profile_id=${slow.id}`), [1])
  t.match(await acme.viewer.get('/telemetry/devices?status=broken'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.viewer.get('/telemetry/devices?sort=status'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.admin.post('/telemetry/devices', { code: code(), name: 'P', status: 'online' }), { status: 400 }, 'nobody says it')
  // It is heard of again, and the trail of the device says nothing of that.
  const { key } = await keyOf(acme, usual.id)
  await send(acme, usual.code, key, [{ metric: 'm', value: 1 }])
  t.equal((await statusOf())[0], 'online')
  t.equal((await acme.viewer.get(`/telemetry/devices/${usual.id}/history`)).data.length, 1)
})

t.test('keys: for many at once, shown once, replaced without a gap', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const { data: fleet } = await acme.admin.post('/telemetry/devices/bulk', {
    rows: times(50, () => ({ code: code(), name: 'Probe', tags: ['fleet'] })),
  })
  const ids = fleet.map(({ id }: { id: string }) => id)
  const issued = await acme.admin.post('/telemetry/devices/keys', { device_ids: ids }, { 'idempotency-key': 'keys' })
  t.equal(issued.status, 201)
  t.equal(issued.headers['cache-control'], 'no-store')
  t.same(
    issued.data.map((k: { device_id: string }) => k.device_id),
    ids,
  )
  t.equal(new Set(issued.data.map((k: { key: string }) => k.key)).size, 50)
  t.match(await acme.admin.post('/telemetry/devices/keys', { device_ids: [...ids, newId()] }), { status: 404 })
  t.match(await globex.admin.post('/telemetry/devices/keys', { device_ids: ids }), { status: 404 })
  t.match(await acme.viewer.post('/telemetry/devices/keys', { device_ids: ids }), { status: 403 })

  const [device] = fleet
  const path = `/telemetry/devices/${device.id}/keys`
  const [first] = issued.data
  const rotated = (await acme.admin.post(`${path}/rotate`, { grace_seconds: 3600 })).data
  const reading = [{ metric: 'm', value: 1 }]
  t.equal((await send(acme, device.code, first.key, reading)).accepted, 1, 'the earlier one is good for an hour yet')
  t.equal((await send(acme, device.code, rotated.key, reading)).accepted, 1)
  const last = (await acme.admin.post(`${path}/rotate`, { grace_seconds: 0 })).data
  t.same(counts((await send(acme, device.code, first.key, reading)).rejections), { unauthorized: 1 })
  t.same(counts((await send(acme, device.code, rotated.key, reading)).rejections), { unauthorized: 1 })
  t.equal((await send(acme, device.code, last.key, reading)).accepted, 1)
  const listed = (await acme.viewer.get(path)).data
  t.same(
    listed.map((k: { id: string; expires_at: string | null }) => [k.id, k.expires_at === null]),
    [
      [last.id, true],
      [rotated.id, false],
      [first.id, false],
    ],
  )
  t.notOk(JSON.stringify(listed).includes(last.key.slice(8)))
  t.match(await acme.admin.post(`${path}/rotate`, { grace_seconds: -1 }), { status: 400 })
  t.match(await acme.viewer.post(`${path}/rotate`, {}), { status: 403 })
  t.match(await globex.admin.get(path), { status: 404 })
  t.match(await globex.admin.post(`${path}/rotate`, {}), { status: 404 })
})

t.test('what was refused is listed by device, reason and hour', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const profile = await profileOf(acme, { metrics: [{ metric: 'm', maximum: 1 }], other_metrics: false })
  const device = await deviceOf(acme, { profile_id: profile.id })
  const { key } = await keyOf(acme, device.id)
  for (let round = 0; round < 2; round++)
    await send(acme, device.code, key, [
      { metric: 'm', value: 2 },
      { metric: 'n', value: 2 },
    ])
  await send(acme, 'nobody', 'dk_wrong', [{ metric: 'm', value: 2 }])
  const listed = async (client: TestTenant['viewer'], query = '') => client.get(`/telemetry/rejections?${query}`)
  const summary = (rows: { device: string; reason: string; count: number }[]) => rows.map((r) => [r.device, r.reason, r.count])
  const all = [
    ['nobody', 'unauthorized', 1],
    [device.code, 'out_of_limits', 2],
    [device.code, 'unknown_metric', 2],
  ]
  t.same(summary((await listed(acme.viewer)).data), all)
  t.same(summary((await listed(acme.viewer, `device=${device.code}`)).data), all.slice(1))
  t.same((await listed(acme.viewer, 'from=2100-01-01T00:00:00Z')).data, [])
  t.same((await listed(globex.viewer)).data, [])
  const first = await listed(acme.viewer, 'limit=2')
  t.equal(first.data.length, 2)
  const rest = await listed(acme.viewer, `limit=2&cursor=${first.body.pagination.next_cursor}`)
  t.same(summary([...first.data, ...rest.data]), all)
  t.match(await listed(globex.viewer, `limit=2&cursor=${first.body.pagination.next_cursor}`), {
    status: 400,
    body: { detail: 'invalid_cursor' },
  })
  t.match(await listed(acme.viewer, 'limit=0'), { status: 400 })
  // A device of another organization is none of this one's.
  await owner.query('update tel_device set organization_id = gen_random_uuid() where id = $1', [device.id])
  t.same(summary((await listed(acme.viewer)).data), all.slice(0, 1))
})

t.test('strangers may call themselves anything: an hour remembers a thousand names and counts the rest', async (t) => {
  const acme = await tenant()
  const knock = (names: string[]) =>
    ingest.ingest(
      names.map((device) => ({
        value: Buffer.from(JSON.stringify({ tenant: acme.slug, device, readings: [{ ts: at(1), metric: 'm', value: 1 }] })),
        key: 'dk_wrong',
        device,
      })),
      newId(),
    )
  const counted = async () =>
    (
      await owner.query(
        `select count(*)::int as names, sum(count)::int as readings, coalesce(sum(count) filter (where device = ''), 0)::int as nameless
         from tel_rejection where tenant_id = $1`,
        [acme.id],
      )
    ).rows[0]
  await knock(times(1_000, (n) => `stranger-${n}`))
  t.same(await counted(), { names: 1_000, readings: 1_000, nameless: 0 })
  await knock([...times(100, (n) => `late-${n}`), 'stranger-7', 'stranger-7'])
  t.same(await counted(), { names: 1_001, readings: 1_102, nameless: 100 })
  t.match((await acme.viewer.get('/telemetry/rejections?device=stranger-7')).data, [{ count: 3 }])
})

t.test('twenty bring a metric and its series for the first time: there is one of each', async (t) => {
  const acme = await tenant()
  const device = await deviceOf(acme)
  const { key } = await keyOf(acme, device.id)
  const base = Date.parse(at(0)) // asked once: a second that ends meanwhile would make two readings of one moment
  const results = await Promise.all(
    times(20, async (n) => {
      const one = new TelemetryIngest(runtime.services.planes, runtime.services.tenants) // a process each, that knows no series yet
      const body = {
        tenant: acme.slug,
        device: device.code,
        readings: [{ ts: new Date(base - n * 1000).toISOString(), metric: 'fresh', value: n }],
      }
      const result = await one.ingest([{ value: Buffer.from(JSON.stringify(body)), key, device: device.code }], newId())
      return result.accepted
    }),
  )
  t.ok(results.every((accepted) => accepted === 1))
  t.equal((await values(acme, device.code, 'fresh')).length, 20)
  const { rows } = await owner.query('select count(*)::int as n from tel_series where tenant_id = $1', [acme.id])
  t.equal(rows[0].n, 1)
})
