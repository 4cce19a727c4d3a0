// Rules and alerts: what raises one, what ends it, and that each happens once.
import t from 'tap'
import { Type } from 'typebox'
import { newId, sql } from '../../../domain/kernel/index.ts'
import { TelemetryIngest, watchTime } from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const telemetry = runtime.services.planes.telemetry.get('main')!
const start = Math.floor(Date.now() / 1000) * 1000 - 86_400_000
const at = (second: number, value: number, metric = 'm') => ({ ts: new Date(start + second * 1000).toISOString(), metric, value })

const ruleOf = async (acme: TestTenant, condition: object, extra: object = {}) => {
  const made = await acme.admin.post('/telemetry/rules', { name: 'Rule', condition, ...extra })
  if (made.status !== 201) throw new Error(JSON.stringify(made.body))
  return made.data
}
interface Told {
  status: string
  value: number | null
  raised_at: string
  cleared_at: string | null
}
const alerts = async (acme: TestTenant, query = ''): Promise<Told[]> =>
  (await acme.viewer.get(`/telemetry/alerts?sort=raised_at${query}`)).data
/** Waits until whoever writes readings knows the rules as they are. */
const noticed = () => new Promise((resolve) => setTimeout(resolve, 1_100))
/** Status, value, and the seconds at which they were raised and cleared. */
const story = async (acme: TestTenant, query = '') =>
  (await alerts(acme, query)).map(({ status, value, raised_at, cleared_at }) => [
    status,
    value,
    (Date.parse(raised_at) - start) / 1000,
    cleared_at && (Date.parse(cleared_at) - start) / 1000,
  ])
const events = async (acme: TestTenant) =>
  telemetry.platform(async (queries) => {
    const found = await queries.any(sql.type(Type.Object({ type: Type.String() }))`
      select type from plane.event_outbox where tenant_id = ${acme.id} and type like 'telemetry.alert.%' order by type`)
    return found.map(({ type }) => type.split('.').at(-1))
  })

t.test('a threshold raises once, ends past its hysteresis, and tells of both', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, { kind: 'threshold', metric: 'm', above: 30, hysteresis: 2 }, { severity: 'critical', name: 'Too hot' })
  await device.send([at(0, 30), at(10, 30.5), at(20, 31), at(30, 29), at(40, 28.5)])
  t.same(await story(acme), [['raised', 30.5, 10, null]])
  await device.send([at(50, 28), at(60, 29), at(70, 30)])
  t.same(await story(acme), [['cleared', 30.5, 10, 50]])
  await device.send([at(80, 31), at(90, 20), at(100, 40)])
  t.same(await story(acme), [
    ['cleared', 30.5, 10, 50],
    ['cleared', 31, 80, 90],
    ['raised', 40, 100, null],
  ])
  t.same(await events(acme), ['cleared', 'cleared', 'raised', 'raised', 'raised'])
  t.match((await alerts(acme, '&status=raised'))[0], { name: 'Too hot', severity: 'critical', metric: 'm', device_id: device.id })
  t.equal((await acme.viewer.get('/telemetry/alerts?severity=info')).data.length, 0)
})

t.test('it must have been so for as long as is said', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, { kind: 'threshold', metric: 'm', below: 5, for_seconds: 60 })
  await device.send([at(0, 4)])
  await device.send([at(30, 4), at(40, 6)])
  await device.send([at(50, 4), at(109, 3)])
  t.same(await story(acme), [], 'it was fine in between')
  await device.send([at(110, 3)])
  t.same(await story(acme), [['raised', 3, 110, null]])
  await device.send([at(120, 5)])
  t.same(await story(acme), [['cleared', 3, 110, 120]])
})

t.test('a change within some time raises, up or down', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, { kind: 'change', metric: 'm', within_seconds: 60, above: 5, below: -5 })
  await device.send([at(0, 10), at(30, 14), at(60, 15)])
  await device.send([at(90, 18)])
  t.same(await story(acme), [], 'four from half a minute in')
  await device.send([at(100, 20.5)])
  t.same(await story(acme), [['raised', 20.5, 100, null]])
  await device.send([at(200, 20), at(201, 14)])
  t.same(await story(acme), [
    ['cleared', 20.5, 100, 200],
    ['raised', 14, 201, null],
  ])
})

t.test('what is true of several things at once, or of one of them', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const hot = { kind: 'threshold', metric: 'heat', above: 30 }
  const dry = { kind: 'threshold', metric: 'damp', below: 20 }
  const both = await ruleOf(acme, { all: [hot, dry] })
  const either = await ruleOf(acme, { any: [{ kind: 'threshold', metric: 'heat', above: 50 }, { all: [hot, dry] }] })
  await device.send([at(0, 31, 'heat')])
  t.same(await story(acme), [])
  await device.send([at(10, 10, 'damp')])
  t.same(await story(acme, `&rule_id=${both.id}`), [['raised', 10, 10, null]], 'what the other metric said is remembered')
  await device.send([at(20, 25, 'heat')])
  t.same(await story(acme, `&rule_id=${both.id}`), [['cleared', 10, 10, 20]])
  await device.send([at(30, 55, 'heat'), at(31, 70, 'damp')])
  t.same(await story(acme, `&rule_id=${either.id}&status=raised`), [['raised', 55, 30, null]])
})

t.test('a rule is of the devices that are all that it says', async (t) => {
  const acme = await tenant()
  const profile = (await acme.admin.post('/telemetry/device-profiles', { code: 'P', name: 'P' })).data
  const [site, batch] = [newId(), newId()]
  const one = await probe(acme, { profile_id: profile.id, site_id: site })
  const two = await probe(acme, { batch_id: batch })
  const condition = { kind: 'threshold', metric: 'm', above: 1 }
  const rules = {
    all: await ruleOf(acme, condition),
    one: await ruleOf(acme, condition, { device_id: one.id }),
    profile: await ruleOf(acme, condition, { profile_id: profile.id }),
    site: await ruleOf(acme, condition, { site_id: site }),
    batch: await ruleOf(acme, condition, { batch_id: batch }),
    none: await ruleOf(acme, condition, { site_id: site, batch_id: batch }),
    off: await ruleOf(acme, condition, { enabled: false }),
  }
  for (const device of [one, two]) await device.send([at(0, 2)])
  const of = async (device: string) => {
    const found = (await acme.viewer.get(`/telemetry/alerts?device_id=${device}`)).data.map(({ rule_id }: { rule_id: string }) => rule_id)
    return Object.entries(rules).flatMap(([name, { id }]) => (found.includes(id) ? [name] : []))
  }
  t.same(await of(one.id), ['all', 'one', 'profile', 'site'])
  t.same(await of(two.id), ['all', 'batch'])
})

t.test('what comes late, and what comes again, raises nothing', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, { kind: 'threshold', metric: 'm', above: 30 })
  await device.send([at(100, 20)])
  await device.send([at(50, 99)])
  t.same(await story(acme), [], 'it was over when it was told')
  await device.send([at(90, 99), at(110, 10), at(95, 98)])
  t.same(await story(acme), [])
  await device.send([at(120, 40), at(130, 10)])
  t.equal((await alerts(acme)).length, 1)
  await device.send([at(120, 40), at(130, 10)])
  await device.send([at(120, 40), at(130, 10), at(140, 11)])
  t.equal((await alerts(acme)).length, 1, 'sent again')
  await device.send([at(150, 50)])
  await device.send([at(145, 1)])
  t.equal((await alerts(acme, '&status=raised')).length, 1, 'what is late ends nothing either')
})

t.test('silence is noticed, and ends with the next word', async (t) => {
  const acme = await tenant()
  const [quiet, loud] = [await probe(acme, { tags: ['q'] }), await probe(acme)]
  const heardOf = (ago: number) =>
    telemetry.write(acme.scope, (tx) =>
      tx.query(
        sql.run`update tel_device set last_seen_at = now() - make_interval(secs => ${ago}) where tenant_id = ${acme.id} and id = ${quiet.id}`,
      ),
    )
  await quiet.send([at(0, 1)])
  await loud.send([at(0, 1)])
  const rule = await ruleOf(acme, { kind: 'silence', seconds: 60 })
  t.equal(await watchTime(telemetry, acme.id), 1)
  t.same(await alerts(acme), [])
  await heardOf(65)
  await watchTime(telemetry, acme.id)
  await noticed()
  t.same(await alerts(acme), [], 'a device’s word may be ten seconds old when it is noted')
  await heardOf(100)
  await Promise.all(times(20, () => watchTime(telemetry, acme.id)))
  const [raised, ...more] = await alerts(acme)
  t.match(raised, { status: 'raised', device_id: quiet.id, rule_id: rule.id, metric: null, value: null })
  t.equal(more.length, 0, 'twenty who look raise one')
  t.ok(Math.abs(Date.parse(raised!.raised_at) - (Date.now() - 40_000)) < 10_000, 'from when it was due')
  await quiet.send([at(-5_000, 1)])
  t.match(await alerts(acme), [{ status: 'cleared' }], 'whatever it says')
  await watchTime(telemetry, acme.id)
  t.equal((await alerts(acme)).length, 1)
})

t.test('silence with something else', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme, {
    all: [
      { kind: 'threshold', metric: 'm', above: 30 },
      { kind: 'silence', seconds: 30 },
    ],
  })
  const silent = async () => {
    await telemetry.write(acme.scope, (tx) =>
      tx.query(sql.run`update tel_device set last_seen_at = now() - interval '1 hour' where tenant_id = ${acme.id}`),
    )
    await watchTime(telemetry, acme.id)
  }
  await device.send([at(0, 20)])
  await silent()
  t.same(await alerts(acme), [])
  await device.send([at(10, 40)])
  t.same(await alerts(acme), [])
  await silent()
  t.match(await alerts(acme), [{ status: 'raised' }], 'hot, and then nothing')
  await device.send([at(20, 40)])
  t.match(await alerts(acme), [{ status: 'cleared' }])
})

t.test('somebody sees to an alert; what ends with its rule or device ends at once', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const device = await probe(acme)
  const rule = await ruleOf(acme, { kind: 'threshold', metric: 'm', above: 30 })
  await device.send([at(0, 40)])
  const [alert] = (await acme.viewer.get('/telemetry/alerts')).data
  const path = `/telemetry/alerts/${alert.id}`
  t.match(await acme.viewer.post(`${path}/acknowledge`, { version: 1 }), { status: 403 })
  t.match(await globex.admin.post(`${path}/acknowledge`, { version: 1 }), { status: 404 })
  t.match(await acme.operator.post(`${path}/acknowledge`, { version: 7 }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await acme.operator.post(`${path}/acknowledge`, { version: 1 }), {
    status: 200,
    data: { status: 'acknowledged', acknowledged_by: acme.operator.userId },
  })
  t.match(await acme.operator.post(`${path}/acknowledge`, { version: 2 }), { status: 409, body: { detail: 'invalid_transition' } })
  await device.send([at(10, 41)])
  t.equal((await alerts(acme)).length, 1, 'one that is seen to is not raised again')
  await device.send([at(20, 10)])
  t.match((await acme.viewer.get(path)).data, { status: 'cleared', acknowledged_by: acme.operator.userId })
  t.ok((await acme.viewer.get(`${path}/history`)).data.length >= 3)

  await device.send([at(30, 40)])
  t.equal((await alerts(acme, '&status=raised')).length, 1)
  const off = await acme.admin.patch(`/telemetry/rules/${rule.id}`, { enabled: false, version: 1 })
  t.equal(off.status, 200)
  t.equal((await alerts(acme, '&status=raised')).length, 0, 'switched off')
  await acme.admin.patch(`/telemetry/rules/${rule.id}`, { enabled: true, version: 2 })
  await noticed()
  await device.send([at(40, 41)])
  t.equal((await alerts(acme, '&status=raised')).length, 1)
  const { version } = (await acme.viewer.get(`/telemetry/devices/${device.id}`)).data
  t.equal((await acme.admin.delete(`/telemetry/devices/${device.id}`, { 'if-match': `"${version}"` })).status, 204)
  t.equal((await alerts(acme, '&status=raised')).length, 0, 'the device is gone')
})

t.test('a changed rule begins anew, and ends what it would not have raised', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const rule = await ruleOf(acme, { kind: 'threshold', metric: 'm', above: 30 })
  await device.send([at(0, 40)])
  const condition = { kind: 'threshold', metric: 'm', above: 50 }
  t.equal((await acme.admin.patch(`/telemetry/rules/${rule.id}`, { condition, version: 1 })).status, 200)
  await device.send([at(10, 45)]) // by the rule as it is, or, noticed later, by the next one
  await noticed()
  await device.send([at(20, 45)])
  t.same(await story(acme, '&status=raised'), [])
  await device.send([at(30, 55)])
  t.same(await story(acme, '&status=raised'), [['raised', 55, 30, null]])
  t.equal((await acme.admin.delete(`/telemetry/rules/${rule.id}`, { 'if-match': '"2"' })).status, 204)
  t.same(await story(acme, '&status=raised'), [])
  await device.send([at(40, 56)])
  t.same(await story(acme, '&status=raised'), [], 'a rule that was deleted a moment ago raises nothing')
})

t.test('a rule that makes no sense is refused', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const post = (condition: unknown, extra: object = {}) => acme.admin.post('/telemetry/rules', { name: 'R', condition, ...extra })
  for (const condition of [
    { kind: 'threshold', metric: 'm' },
    { kind: 'threshold', metric: 'm', above: 1, below: 2 },
    { kind: 'threshold', metric: 'm', above: 10, below: 0, hysteresis: 6 },
    { any: times(10, () => ({ all: times(3, () => ({ kind: 'threshold', metric: 'm', above: 1 })) })) },
  ])
    t.match(await post(condition), { status: 400, body: { detail: 'invalid_value' } }, JSON.stringify(condition).slice(0, 60))
  for (const condition of [
    {},
    { kind: 'noise' },
    { all: [] },
    { kind: 'silence', seconds: 1 },
    { kind: 'threshold', metric: 'm', above: 'x' },
    { all: [{ any: [{ all: [{ kind: 'silence', seconds: 60 }] }] }] },
    null,
  ])
    t.match(await post(condition), { status: 400, body: { detail: 'invalid_body' } }, JSON.stringify(condition))
  const theirs = await probe(globex)
  t.match(await post({ kind: 'silence', seconds: 60 }, { device_id: theirs.id }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await acme.viewer.post('/telemetry/rules', { name: 'R', condition: { kind: 'silence', seconds: 60 } }), { status: 403 })
})

t.test('batches in flight beside each other are weighed one after the other', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await device.send([at(0, 1)])
  await ruleOf(acme, { kind: 'threshold', metric: 'm', above: 30 })
  const ingest = new TelemetryIngest(runtime.services.planes, runtime.services.tenants)
  const message = (n: number) => ({
    value: Buffer.from(JSON.stringify({ tenant: acme.slug, device: device.code, readings: [at(n, n % 2 === 0 ? 40 : 10)] })),
    key: device.key,
    device: device.code,
  })
  let before = Promise.resolve(true)
  for (let n = 1; n <= 20; n++) {
    const turn = ingest.ingest([message(n)], newId(), { before }).then(() => true)
    before = turn
  }
  await before
  t.equal((await alerts(acme)).length, 10, 'each time it was too hot')
  t.equal((await alerts(acme, '&status=raised')).length, 1)
  await t.rejects(ingest.ingest([message(21)], newId(), { before: Promise.resolve(false) }), 'what follows on nothing is not written')
  // Twenty processes that do not know of each other: the alert is one.
  await device.send([at(30, 1)])
  const others = times(20, () => new TelemetryIngest(runtime.services.planes, runtime.services.tenants))
  await Promise.allSettled(others.map((one, n) => one.ingest([message(32 + 2 * n)], newId())))
  t.equal((await alerts(acme, '&status=raised')).length, 1)
})
