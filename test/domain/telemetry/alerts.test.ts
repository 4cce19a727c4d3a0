// Alerts against changes of rules and devices, against readings that do not count, and against time.
import t from 'tap'
import { Database, newId, sql } from '../../../domain/kernel/index.ts'
import { TelemetryIngest, watchTime } from '../../../domain/telemetry/index.ts'
import { type Client, type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { connectTo, testServices } from '../../support/services.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const telemetry = runtime.services.planes.telemetry.get('main')!
const start = Math.floor(Date.now() / 1000) * 1000 - 86_400_000
const timeOf = (second: number) => new Date(start + second * 1000).toISOString()
const at = (second: number, value: number, more: object = {}) => ({ ts: timeOf(second), metric: 'm', value, ...more })
const ahead = (seconds: number, value: number, more: object = {}) => ({
  ts: new Date(Date.now() + seconds * 1000).toISOString(),
  metric: 'm',
  value,
  ...more,
})

const above = (limit: number, more: object = {}) => ({ kind: 'threshold', metric: 'm', above: limit, ...more })
const ruleOf = async (acme: TestTenant, condition: object, extra: object = {}) => {
  const created = await acme.admin.post('/telemetry/rules', { name: 'Rule', condition, ...extra })
  if (created.status !== 201) throw new Error(JSON.stringify(created.body))
  return created.data
}
// biome-ignore lint/suspicious/noExplicitAny: tests read whatever shape the contract promises
const alerts = async (acme: TestTenant, query = ''): Promise<any[]> =>
  (await acme.viewer.get(`/telemetry/alerts?sort=raised_at${query}`)).data
const open = async (acme: TestTenant) => (await alerts(acme, '&status=raised,acknowledged')).length
/** Waits until the ingest has read rules that changed. */
const noticed = () => new Promise((resolve) => setTimeout(resolve, 1_100))
const states = (acme: TestTenant) =>
  telemetry.read(acme.scope, async (tx) => (await tx.query(sql.run`select from tel_rule_state where tenant_id = ${acme.id}`)).rowCount)
const lastSeen = (acme: TestTenant, secondsAgo: number) =>
  telemetry.write(acme.scope, (tx) =>
    tx.query(sql.run`update tel_device set last_seen_at = now() - make_interval(secs => ${secondsAgo}) where tenant_id = ${acme.id}`),
  )

t.test('T8: a change of the rule ends the alerts that it no longer applies to, at once', async (t) => {
  const acme = await tenant()
  const [one, two] = [await probe(acme, { site_id: newId() }), await probe(acme)]
  const changes: [string, object][] = [
    ['another device', { device_id: two.id }],
    ['another site', { site_id: newId() }],
    ['a batch', { batch_id: newId() }],
    ['another metric', { condition: { kind: 'threshold', metric: 'other', above: 1 } }],
    ['silence instead of a metric', { condition: { kind: 'silence', seconds: 3600 } }],
    ['disabled', { enabled: false }],
  ]
  const rules = []
  for (const [name] of changes) rules.push(await ruleOf(acme, above(30), { name, device_id: one.id }))
  const kept = await ruleOf(acme, above(30), { name: 'kept' })
  await one.send([at(0, 40)])
  t.equal(await open(acme), changes.length + 1)
  for (const [n, [name, patch]] of changes.entries()) {
    t.equal((await acme.admin.patch(`/telemetry/rules/${rules[n].id}`, { ...patch, version: 1 })).status, 200, name)
    t.match(await alerts(acme, `&rule_id=${rules[n].id}`), [{ status: 'cleared', cleared_cause: 'rule', cleared_by: null }], name)
  }
  t.equal(await open(acme), 1)
  t.equal(await states(acme), 1, 'the state of evaluation is gone, too')
  t.equal((await acme.admin.patch(`/telemetry/rules/${kept.id}`, { name: 'renamed', version: 1 })).status, 200)
  await noticed()
  await one.send([at(10, 41)])
  t.equal((await alerts(acme, `&rule_id=${kept.id}`)).length, 1, 'a new name neither ends nor raises')
  await one.send([at(20, 10)])
  t.match(await alerts(acme, `&rule_id=${kept.id}`), [{ status: 'cleared', cleared_cause: 'condition' }])
})

t.test('T16: a device that moves to another site, batch or profile ends the alerts of rules that no longer apply to it', async (t) => {
  const acme = await tenant()
  const profile = (await acme.admin.post('/telemetry/device-profiles', { code: 'P', name: 'P' })).data.id
  const before = { site_id: newId(), batch_id: newId(), profile_id: profile }
  const device = await probe(acme, before)
  for (const [name, id] of Object.entries(before)) await ruleOf(acme, above(30), { name, [name]: id })
  await ruleOf(acme, above(30), { name: 'kept' })
  await device.send([at(0, 40)])
  t.equal(await open(acme), 4)
  for (const [n, name] of Object.keys(before).entries()) {
    const { version } = (await acme.viewer.get(`/telemetry/devices/${device.id}`)).data
    const moved = await acme.admin.patch(`/telemetry/devices/${device.id}`, { [name]: n === 1 ? null : n === 0 ? newId() : null, version })
    t.equal(moved.status, 200)
    t.equal(await open(acme), 3 - n, name)
  }
  t.match(
    (await alerts(acme, '&status=cleared')).map(({ cleared_cause }) => cleared_cause),
    ['device', 'device', 'device'],
  )
  t.equal(await states(acme), 1)
})

t.test('T16: of a device that moves while its readings are written no alert of its old site stays open', async (t) => {
  const acme = await tenant()
  const sites = [newId(), newId()]
  const device = await probe(acme, { site_id: sites[0] })
  for (const site_id of sites) await ruleOf(acme, above(30), { site_id })
  const sent = (async () => {
    for (let n = 0; n < 40; n++) await device.send([at(n, n % 2 ? 10 : 40)])
    await device.send([at(41, 40)])
  })()
  for (let n = 1; n <= 20; n++) {
    const { version } = (await acme.viewer.get(`/telemetry/devices/${device.id}`)).data
    t.equal((await acme.admin.patch(`/telemetry/devices/${device.id}`, { site_id: sites[n % 2], version })).status, 200)
  }
  await sent
  const { site_id, version } = (await acme.viewer.get(`/telemetry/devices/${device.id}`)).data
  t.ok((await open(acme)) <= 1)
  t.equal(
    (await acme.admin.patch(`/telemetry/devices/${device.id}`, { site_id: site_id === sites[0] ? sites[1] : sites[0], version })).status,
    200,
  )
  t.equal(await open(acme), 0)
})

t.test('T8: users clear an alert with a reason; the next reading beyond the limit raises another one', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const device = await probe(acme)
  await ruleOf(acme, above(30))
  await device.send([at(0, 40)])
  const [{ id }] = await alerts(acme)
  const clear = (who: Client, body: object, headers = {}) => who.post(`/telemetry/alerts/${id}/clear`, body, headers)
  const reason = 'the sensor was replaced'
  t.match(await clear(acme.viewer, { reason, version: 1 }), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await clear(acme.operator, { reason, version: 1 }), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await clear(globex.admin, { reason, version: 1 }), { status: 404, body: { detail: 'not_found' } })
  t.match(await clear(acme.manager, { reason, version: 7 }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await clear(acme.manager, { version: 1 }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await clear(acme.manager, { reason: 'x', version: 1 }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await acme.manager.post(`/telemetry/alerts/${id}/clear`, undefined, { 'if-match': '"1"' }), {
    status: 400,
    body: { detail: 'invalid_body' },
  })
  t.match(await clear(acme.manager, { reason }), { status: 400, body: { detail: 'version_required' } })
  const answers = await Promise.all(times(20, () => clear(acme.manager, { reason, version: 1 })))
  t.same(tally(answers), { 200: 1, 409: 19 }, 'twenty who clear it clear it once')
  const shown = (await acme.viewer.get(`/telemetry/alerts/${id}`)).data
  t.match(shown, { status: 'cleared', cleared_by: acme.manager.userId, cleared_cause: 'user', clear_reason: reason, version: 2 })
  t.match(await clear(acme.manager, { reason, version: 2 }), { status: 409, body: { detail: 'invalid_transition' } })
  const history = (await acme.viewer.get(`/telemetry/alerts/${id}/history`)).data
  t.match(
    history.find(({ actor_id }: { actor_id: string }) => actor_id === acme.manager.userId),
    { action: 'update' },
    'the audit trail says who',
  )
  await device.send([at(10, 41)])
  t.match(await alerts(acme, '&status=raised'), [{ value: 41 }])

  await ruleOf(acme, { kind: 'silence', seconds: 30 }, { name: 'Silent' })
  await lastSeen(acme, 3_600)
  await watchTime(telemetry, acme.id)
  const silent = (await alerts(acme, '&status=raised')).find(({ name }) => name === 'Silent')
  t.equal((await acme.manager.post(`/telemetry/alerts/${silent.id}/clear`, { reason, version: 1 })).status, 200)
  await watchTime(telemetry, acme.id)
  t.equal((await alerts(acme, '&status=raised')).length, 1, 'silence is raised again only after the device was heard')
  await noticed()
  await device.send([at(20, 41)])
  await lastSeen(acme, 3_600)
  await watchTime(telemetry, acme.id)
  t.equal((await alerts(acme, '&status=raised')).length, 2)
})

t.test('T9: a duration with hysteresis raises only for readings beyond the limit itself', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, above(30, { hysteresis: 2, for_seconds: 60 }))
  await device.send([at(0, 31), at(30, 29), at(60, 29)])
  t.same(await alerts(acme), [])
  await device.send([at(70, 31), at(130, 31), at(140, 29)])
  t.match(await alerts(acme), [{ status: 'raised', raised_at: timeOf(130) }], 'once raised, 29 is not below the hysteresis')
  await device.send([at(150, 28)])
  t.match(await alerts(acme), [{ status: 'cleared', cleared_at: timeOf(150) }])
})

t.test('T10: of two readings with one time only the stored one is weighed', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, above(30))
  await device.send([at(3_600, 20), at(3_600, 95)])
  t.match((await acme.viewer.get(`/telemetry/readings?device=${device.code}&metric=m`)).data, [{ value: 20 }])
  t.same(await alerts(acme), [])
})

t.test('T11: readings of quality bad neither raise nor clear', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, above(30))
  await ruleOf(acme, { kind: 'change', metric: 'm', within_seconds: 100, above: 50 }, { name: 'Change' })
  await device.send([at(0, 10), at(1, 95, { quality: 'bad' })])
  t.same(await alerts(acme), [])
  await device.send([at(0.5, 40, { quality: 'uncertain' })])
  t.match(await alerts(acme), [{ status: 'raised', value: 40 }], 'a bad reading makes no good one late')
  await device.send([at(2, 0, { quality: 'bad' })])
  t.equal(await open(acme), 1)
  await device.send([at(101, 45)])
  t.equal(await open(acme), 1, 'nor is it what a change is measured from')
})

t.test('T22: a reading from ahead does not mute rules', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, above(30))
  await device.send([ahead(290, 20)])
  await device.send([ahead(-1, 90)])
  t.match(await alerts(acme), [{ status: 'raised', value: 90 }])
  await device.send([ahead(280, 10)])
  t.equal(await open(acme), 1, 'one from ahead is late against another from ahead')
  await device.send([ahead(0, 12)])
  t.equal(await open(acme), 0)
  await device.send([ahead(295, 50)])
  const [, second] = await alerts(acme)
  t.ok(Date.parse(second.raised_at) <= Date.now(), 'it counts from when it was received')
})

t.test('T17: a device that sends known readings again is heard', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await device.send([at(0, 1)])
  await ruleOf(acme, { kind: 'silence', seconds: 30 })
  await lastSeen(acme, 100)
  await watchTime(telemetry, acme.id)
  t.equal(await open(acme), 1)
  await noticed()
  await device.send([at(0, 1)])
  t.equal(await open(acme), 0)
  t.match(await alerts(acme), [{ status: 'cleared' }])
  await lastSeen(acme, 100)
  await watchTime(telemetry, acme.id)
  t.equal(await open(acme), 1)
  await device.send([{ ts: '2010-01-01T00:00:00Z', value: 1 }])
  t.equal(await open(acme), 0, 'so is one whose readings are all refused')
  const [alert] = await alerts(acme)
  t.ok(Math.abs(Date.parse(alert.cleared_at) - Date.now()) < 10_000, 'silence ends when the device is heard')
})

t.test('T28: silence is decided as of the time until which readings are written', async (t) => {
  const acme = await tenant()
  await probe(acme)
  await ruleOf(acme, { kind: 'silence', seconds: 30 })
  await lastSeen(acme, 100)
  await watchTime(telemetry, acme.id, new Date(Date.now() - 70_000))
  t.equal(await open(acme), 0, 'the messages of the last 70 seconds may wait')
  await watchTime(telemetry, acme.id, new Date(Date.now() - 20_000))
  t.equal(await open(acme), 1)
})

t.test('a limit that is exceeded for some seconds raises without a further reading, once, unless the device is silent', async (t) => {
  const acme = await tenant()
  const [hot, silent, cool] = [await probe(acme), await probe(acme), await probe(acme)]
  await ruleOf(acme, above(30, { for_seconds: 60, hysteresis: 2 }))
  await ruleOf(acme, { all: [above(30, { for_seconds: 60 }), { kind: 'threshold', metric: 'other', above: 1 }] }, { name: 'Both' })
  const now = Date.now()
  for (const device of [hot, silent]) await device.send([{ ts: new Date(now - 30_000).toISOString(), value: 31 }])
  await cool.send([{ ts: new Date(now - 30_000).toISOString(), value: 29 }])
  await telemetry.write(acme.scope, (tx) =>
    tx.query(sql.run`update tel_device set last_seen_at = now() - interval '2 hours' where tenant_id = ${acme.id} and id = ${silent.id}`),
  )
  await watchTime(telemetry, acme.id)
  t.same(await alerts(acme), [], 'thirty seconds')
  await Promise.all(times(20, () => watchTime(telemetry, acme.id, new Date(now + 31_000))))
  t.match(await alerts(acme), [
    { status: 'raised', device_id: hot.id, metric: 'm', value: 31, raised_at: new Date(now + 30_000).toISOString() },
  ])
  await hot.send([{ ts: new Date(now - 10_000).toISOString(), value: 29 }])
  t.equal(await open(acme), 1, 'on, and not past its hysteresis: a reading that is younger than the wait ends nothing')
  await hot.send([{ ts: new Date(now - 5_000).toISOString(), value: 27 }])
  t.equal(await open(acme), 0)
})

t.test('T27: a change rule over 24 hours reads one row a reading from 40,000, by the index', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await device.send(times(40_000, (n) => at(2 * n - 80_000, n % 7)))
  await ruleOf(acme, { kind: 'change', metric: 'm', within_seconds: 86_400, above: 5 })
  const asked: { sql: string; values: readonly unknown[]; rows: number }[] = []
  const capture = {
    name: 'capture',
    afterQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }, { rowCount }: { rowCount: number }) => {
      asked.push({ ...query, rows: rowCount })
      return null
    },
  }
  const services = testServices()
  const database = new Database(services.app.telemetry, { max: 1, interceptors: [capture as never] })
  t.teardown(() => database.close())
  const planes = { ...runtime.services.planes, telemetry: new Map([['main', database]]) }
  const ingest = new TelemetryIngest(planes, runtime.services.tenants)
  const readings = [...times(99, (n) => at(2 * n + 10, 4)), at(300, 40)]
  const message = { tenant: acme.slug, device: device.code, readings }
  await ingest.ingest([{ value: Buffer.from(JSON.stringify(message)), key: device.key, device: device.code }], newId())
  t.match(await alerts(acme), [{ status: 'raised', value: 40 }])
  t.ok(Math.max(...asked.map(({ rows }) => rows)) <= 100, 'no statement returned more rows than there were readings')
  const statement = asked.find(({ sql }) => sql.includes('order by m.ts limit 1'))!
  const reader = await connectTo(t, services.app.telemetry)
  await reader.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const { rows } = await reader.query(`explain (analyze, format json) ${statement.sql}`, [...statement.values])
  const scanned: number[] = []
  JSON.stringify(rows[0]['QUERY PLAN'], (key, value) => {
    if (value?.['Relation Name']?.startsWith('tel_measurement') || value?.['Index Name']?.includes('measurement'))
      scanned.push(value['Actual Rows'] * value['Actual Loops'] + (value['Rows Removed by Filter'] ?? 0) * value['Actual Loops'])
    if (key === 'Node Type') t.not(value, 'Seq Scan')
    return value
  })
  t.ok(scanned.length > 0 && Math.max(...scanned) <= 100, `rows read: ${scanned}`)
})

t.test('T23: a rule over a metric that was never received says so; one that its profile does not take is refused', async (t) => {
  const acme = await tenant()
  const profile = async (code: string, extra: object) =>
    (await acme.admin.post('/telemetry/device-profiles', { code, name: code, metrics: [{ metric: 'm' }], ...extra })).data.id
  const [strict, loose] = [await profile('STRICT', {}), await profile('LOOSE', { other_metrics: true })]
  const [device, other] = [await probe(acme, { profile_id: strict }), await probe(acme, { profile_id: loose })]
  await device.send([at(0, 1)])
  const typo = { kind: 'threshold', metric: 'temprature', above: 1 }
  const warning = { code: 'metric_not_received', metric: 'temprature' }
  t.same((await ruleOf(acme, { any: [above(1), { all: [typo, { kind: 'silence', seconds: 30 }] }] })).warnings, [warning])
  t.same((await ruleOf(acme, above(1))).warnings, [])
  t.same((await ruleOf(acme, above(1), { device_id: device.id })).warnings, [])
  t.same(
    (await ruleOf(acme, above(1), { device_id: other.id })).warnings,
    [{ code: 'metric_not_received', metric: 'm' }],
    'the other device has it',
  )
  for (const extra of [{ device_id: device.id }, { profile_id: strict }])
    t.match(await acme.admin.post('/telemetry/rules', { name: 'R', condition: typo, ...extra }), {
      status: 400,
      body: { detail: 'invalid_value', error: { details: { path: '/condition', rule: 'metric' } } },
    })
  const rule = await ruleOf(acme, typo, { profile_id: loose })
  t.match(await acme.admin.patch(`/telemetry/rules/${rule.id}`, { profile_id: strict, version: 1 }), { status: 400 })
  const profileNow = (await acme.viewer.get(`/telemetry/device-profiles/${loose}`)).data
  await acme.admin.patch(`/telemetry/device-profiles/${loose}`, { other_metrics: false, version: profileNow.version })
  t.match(
    await acme.admin.patch(`/telemetry/rules/${rule.id}`, { enabled: false, version: 1 }),
    { status: 200 },
    'it can still be disabled',
  )
  await acme.admin.patch(`/telemetry/device-profiles/${loose}`, { other_metrics: true, version: profileNow.version + 1 })
  await other.send([{ ...at(1, 1), metric: 'temprature' }])
  t.same((await acme.viewer.get(`/telemetry/rules/${rule.id}`)).data.warnings, [], 'the warning ends with the first reading')
  t.same(
    (await acme.viewer.get('/telemetry/rules?limit=10')).data.map(({ warnings }: { warnings: object[] }) => warnings.length).sort(),
    [0, 0, 0, 0, 1],
  )
})
