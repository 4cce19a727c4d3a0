// Calibrations: by device and metric, each valid from a time until the next one begins.
import { Client } from 'pg'
import t from 'tap'
import { Database, newId, systemScope } from '../../../domain/kernel/index.ts'
import { KnownCalibrations } from '../../../domain/telemetry/calibration.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const PATH = '/telemetry/calibrations'
const day = (n: number, hour = 0) => `2026-05-0${n}T${String(hour).padStart(2, '0')}:00:00.000Z`
const values = async (acme: TestTenant, device: string, metric = 'm') =>
  (await acme.viewer.get(`/telemetry/readings?device=${device}&metric=${metric}&from=${day(1)}&to=${day(9)}`)).data.map(
    ({ value }: { value: number }) => value,
  )

t.test('calibrations: each reading gets the one that was valid at its own time, also a late one', async (t) => {
  const acme = await tenant()
  const [device, other] = [await probe(acme), await probe(acme)]
  const calibrate = (body: object) => acme.admin.post(PATH, { device_id: device.id, metric: 'm', ...body })
  t.match(await calibrate({ valid_from: day(2), offset: 0.5, note: 'Certificate 1' }), {
    status: 201,
    data: { factor: 1, offset: 0.5, note: 'Certificate 1', version: 1 },
  })
  const second = (await calibrate({ valid_from: day(4), factor: 1.1 })).data
  const at = (n: number, value = 10) => ({ ts: day(n, 1), value })
  await device.send([at(5), at(3), at(1), { ts: day(4), value: 20 }, { ts: day(3, 2), metric: 'n', value: 10 }])
  await other.send([at(5)])
  t.same(await values(acme, device.code), [11, 22, 10.5, 10], 'the second one begins at its moment, before the first there is none')
  t.same(await values(acme, device.code, 'n'), [10], 'another metric')
  t.same(await values(acme, other.code), [10], 'another device')

  // A change holds from the next batch on; what is stored stays.
  t.match(await acme.admin.patch(`${PATH}/${second.id}`, { version: 1, factor: 2 }), { status: 200 })
  await device.send([at(6)])
  t.same(await values(acme, device.code), [20, 11, 22, 10.5, 10])
  t.equal((await acme.admin.delete(`${PATH}/${second.id}`, { 'if-match': '"2"' })).status, 204)
  await device.send([at(7)])
  t.same(await values(acme, device.code), [10.5, 20, 11, 22, 10.5, 10], 'the one before goes on where one is deleted')
  t.equal((await acme.admin.post(`${PATH}/${second.id}/recover`, {})).status, 200)
  await device.send([{ ts: day(7, 2), value: 10 }])
  t.equal((await values(acme, device.code))[0], 20)

  // Moved to another device: the one before has it no more.
  t.match(await acme.admin.patch(`${PATH}/${second.id}`, { version: 4, device_id: other.id }), { status: 200 })
  await device.send([{ ts: day(8, 2), value: 10 }])
  await other.send([{ ts: day(8, 2), value: 10 }])
  t.equal((await values(acme, device.code))[0], 10.5)
  t.equal((await values(acme, other.code))[0], 20)
})

t.test('calibrations: they come after the conversion of the profile and before its limits', async (t) => {
  const acme = await tenant()
  const metrics = [{ metric: 'm', factor: 0.1, maximum: 100 }]
  const profile = (await acme.admin.post('/telemetry/device-profiles', { code: 'pt', name: 'Probe', metrics })).data
  const [device, bare] = [await probe(acme, { profile_id: profile.id }), await probe(acme)]
  const rows = [
    { device_id: device.id, metric: 'm', valid_from: day(1), offset: -1 },
    { device_id: bare.id, metric: 'm', valid_from: day(1), factor: 1e60 },
  ]
  t.equal((await acme.admin.post(`${PATH}/bulk`, { rows })).status, 201)
  const sent = await device.send([
    { ts: day(2), value: 1010 }, // 101 is above the limit, 100 is not
    { ts: day(3), value: 1020 },
    { ts: day(4), metric: 'n', value: 1 },
  ])
  t.same([sent.accepted, sent.rejections.map(({ reason }) => reason).sort()], [1, ['out_of_limits', 'unknown_metric']])
  t.same(await values(acme, device.code), [100])
  const beyond = await bare.send([
    { ts: day(2), value: 1e50 },
    { ts: day(3), value: 3 },
  ])
  t.match(beyond, { accepted: 1, rejections: [{ reason: 'out_of_limits', count: 1 }] }, 'beyond ±1e100')
  t.same(await values(acme, bare.code), [3e60])
})

t.test('calibrations: of twenty at once for one period one is created, and ingest goes on meanwhile', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const body = { device_id: device.id, metric: 'm', valid_from: day(1), offset: 1 }
  const [answers, ...sent] = await Promise.all([
    Promise.all(times(20, () => acme.admin.post(PATH, body))),
    ...times(5, (n) => device.send([{ ts: day(2, n + 1), value: n }])),
  ])
  t.same(tally(answers), { 201: 1, 409: 19 })
  t.ok(answers.every(({ status, body }) => status === 201 || body.detail === 'already_exists'))
  t.same(
    sent.map(({ accepted }) => accepted),
    [1, 1, 1, 1, 1],
  )
  await device.send([{ ts: day(3), value: 1 }])
  t.equal((await values(acme, device.code))[0], 2)
})

t.test('calibrations: who may see and change them, and what is refused', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const device = await probe(acme)
  const body = { device_id: device.id, metric: 'm', valid_from: day(1) }
  const made = (await acme.admin.post(PATH, body)).data
  const refused = (detail: string, status = 400) => ({ status, body: { detail } })
  t.match(await acme.admin.post(PATH, { ...body, valid_from: day(2), factor: 0 }), refused('invalid_value'))
  t.match(await acme.admin.patch(`${PATH}/${made.id}`, { version: 1, factor: 0 }), refused('invalid_value'))
  t.match(await acme.admin.patch(`${PATH}/${made.id}`, { version: 9, factor: 2 }), refused('version_conflict', 409))
  t.match(await acme.admin.post(PATH, { ...body, metric: '' }), { status: 400 })
  t.match(await acme.admin.post(PATH, { ...body, factor: 1e101, valid_from: day(2) }), { status: 400 })
  t.match(await acme.viewer.post(PATH, { ...body, valid_from: day(2) }), refused('permission_denied', 403))
  t.match(await acme.viewer.get(`${PATH}?device_id=${device.id}&metric=m&sort=valid_from`), { status: 200, data: [{ id: made.id }] })
  t.match(await globex.admin.get(`${PATH}/${made.id}`), refused('not_found', 404))
  t.match(await globex.admin.post(PATH, body), refused('invalid_reference'))
  const crowd = await probe(acme)
  const rows = times(1_000, (n) => ({ ...body, device_id: crowd.id, valid_from: new Date(Date.parse(day(2)) + n * 1_000).toISOString() }))
  t.equal((await acme.admin.post(`${PATH}/bulk`, { rows })).status, 201)
  t.match(await acme.admin.post(PATH, { ...body, device_id: crowd.id }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { rule: 'calibrations' } } },
  })
  const switched = await acme.admin.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
  const elsewhere = acme.as(switched.data.access_token)
  t.match(await elsewhere.get(`${PATH}/${made.id}`), refused('not_found', 404))
  t.match(await elsewhere.patch(`${PATH}/${made.id}`, { version: 1, factor: 2 }), refused('not_found', 404))
  t.match(await elsewhere.post(PATH, { ...body, valid_from: day(2) }), refused('invalid_reference'))
})

t.test('calibrations: devices without any cost no statement, and the others are found by index, once a version', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const services = testServices()
  const owner = new Client({ connectionString: services.admin.telemetry })
  await owner.connect()
  t.teardown(() => owner.end())
  await owner.query(
    `insert into tel_calibration (id, tenant_id, organization_id, device_id, metric, valid_from)
     select gen_random_uuid(), $1, $2, $3, 'm' || n % 100, now() - n * interval '1 minute' from generate_series(1, 20000) n`,
    [acme.id, acme.organizations[0]!.id, (await probe(acme)).id],
  )
  await owner.query('analyze tel_calibration')
  const asked: { sql: string; values: readonly unknown[] }[] = []
  const capture = {
    name: 'capture',
    beforeQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }) => {
      if (query.sql.includes('tel_calibration')) asked.push(query)
    },
  }
  const database = new Database(services.app.telemetry, { max: 1, interceptors: [capture as never] })
  t.teardown(() => database.close())
  const known = new KnownCalibrations()
  const of = (version: number) =>
    database.read(systemScope(acme.id, 'telemetry', newId()), (tx) => known.of(tx, new Map([[device.id, version]])))
  t.equal((await of(0)).size, 0)
  t.equal(asked.length, 0)
  for (const version of [1, 1, 2]) await of(version)
  t.equal(asked.length, 2)
  const { sql, values } = asked[0]!
  await owner.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const { rows } = await owner.query(`explain ${sql}`, [...values])
  const plan = rows.map((line) => line['QUERY PLAN']).join('\n')
  t.match(plan, /using tel_calibration__device_id__metric__valid_from_key/, plan)
})
