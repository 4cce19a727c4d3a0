// Hours that are summed up before: the same as the readings say, before, between and after, whatever comes late.
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { sumUpHours } from '../../../domain/telemetry/index.ts'
import { type TestTenant, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { type Probe, probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const probe = probes(runtime)
const telemetry = runtime.services.planes.telemetry.get('main')!
const owner = new Client({ connectionString: testServices().admin.telemetry })
await owner.connect()
t.teardown(() => owner.end())
const timescale = (await owner.query(`select 1 from schema_migrations where name like '%.timescale.sql'`)).rowCount! > 0
const skip = timescale && 'TimescaleDB sums up by itself'

const HOUR = 3_600_000
const start = Math.floor(Date.now() / HOUR) * HOUR - 60 * HOUR
const at = (hour: number, value: number) => ({ ts: new Date(start + hour * HOUR).toISOString(), value })

/** What hours and days come to by our views, and by the readings themselves. */
async function agree(t: Test, acme: TestTenant, when: string) {
  const { rows } = await owner.query(
    `with told as (
      select 'hour' as unit, series_id, bucket, count, min, max, round(avg::numeric, 9) as avg, first, last from tel_hourly where tenant_id = $1
      union all select 'day', series_id, bucket, count, min, max, round(avg::numeric, 9), first, last from tel_daily where tenant_id = $1
    ), counted as (
      select unit, series_id, date_trunc(unit, ts, 'UTC'), count(*), min(value), max(value), round(avg(value)::numeric, 9),
        (array_agg(value order by ts))[1], (array_agg(value order by ts desc))[1]
      from tel_measurement cross join unnest('{hour,day}'::text[]) as unit where tenant_id = $1 group by 1, 2, 3
    )
    select (select count(*)::int from told) as told, (select count(*)::int from counted) as counted,
      (select count(*)::int from (table told except table counted) as d) as wrong`,
    [acme.id],
  )
  t.ok(rows[0].told > 0, when)
  t.same(rows[0], { told: rows[0].counted, counted: rows[0].counted, wrong: 0 }, when)
}
const bound = (acme: TestTenant) => owner.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
const summedHours = async (acme: TestTenant) =>
  (await owner.query('select count(*)::int as n from tel_hour_sum where tenant_id = $1', [acme.id])).rows[0].n as number
const lateHours = async (acme: TestTenant) =>
  (await owner.query('select count(*)::int as n from tel_hour_late where tenant_id = $1', [acme.id])).rows[0].n as number
const some = (device: Probe, from: number, to: number) => device.send(times((to - from) * 4, (n) => at(from + n / 4, (n * 7) % 11)))

t.test('hours are right before they are summed up, after it, and when something comes late', { skip }, async (t) => {
  const acme = await tenant()
  await bound(acme)
  const [one, two] = [await probe(acme), await probe(acme)]
  await some(one, 0, 60)
  await some(two, 30, 60)
  await agree(t, acme, 'nothing was summed up yet')
  t.equal(await summedHours(acme), 0)
  await sumUpHours(telemetry, acme.id)
  t.equal(await summedHours(acme), 90)
  await agree(t, acme, 'summed up')
  await one.send([at(60, 5)])
  t.equal(await lateHours(acme), 0, 'an hour that is not over is not late')
  await agree(t, acme, 'an hour begins')
  await two.send([at(10, 1), at(10.5, 3), at(35.1, 1000), at(60, 8)])
  t.equal(await lateHours(acme), 2)
  await agree(t, acme, 'two hours got something late')
  await sumUpHours(telemetry, acme.id)
  t.equal(await lateHours(acme), 0)
  t.equal(await summedHours(acme), 91)
  await agree(t, acme, 'summed up anew')
  const { data } = await acme.viewer.get(`/telemetry/latest?device=${two.code}`)
  t.equal(data[0].value, 8, 'the latest is found from where it may be')
  const { rows } = await owner.query('select count(*)::int as n from tel_series where tenant_id = $1 and last_hour = $2', [
    acme.id,
    at(59, 0).ts,
  ])
  t.equal(rows[0].n, 2)
})

t.test('a year ago is late too', { skip }, async (t) => {
  const acme = await tenant()
  await bound(acme)
  const device = await probe(acme)
  await some(device, 50, 60)
  await sumUpHours(telemetry, acme.id)
  await device.send([at(-9_000, 4), at(-9_000.5, 2)])
  await agree(t, acme, 'late by a year')
  await sumUpHours(telemetry, acme.id)
  await agree(t, acme, 'summed up')
  t.equal(await summedHours(acme), 12)
  t.equal((await acme.viewer.get(`/telemetry/latest?device=${device.code}`)).data[0].ts, at(59.75, 0).ts)
})

t.test('while hours are summed up again and again, twenty devices write into them, and none is lost', { skip }, async (t) => {
  const acme = await tenant()
  await bound(acme)
  const devices = await Promise.all(times(20, () => probe(acme)))
  let writing = true
  const summing = (async () => {
    for (let n = 0; writing || n < 2; n++) await sumUpHours(telemetry, acme.id)
  })()
  await Promise.all(
    devices.map(async (device, n) => {
      for (let round = 0; round < 8; round++)
        await device.send(times(12, (k) => at(((round * 12 + k + n) * 37) % 60, round + k / 100 + 0.001)))
    }),
  )
  writing = false
  await summing
  await agree(t, acme, 'while it went on')
  await sumUpHours(telemetry, acme.id)
  t.equal(await lateHours(acme), 0)
  await agree(t, acme, 'at the end')
})

t.test('a question has the same answer, whatever it is worked out from', { skip }, async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await some(device, 0, 60)
  const ask = async (time_zone: string, bucket: string, from = 0.4, to = 58.3) => {
    const query = { device: device.code, metric: 'm', from: at(from, 0).ts, to: at(to, 0).ts, bucket, time_zone }
    const { body } = await acme.viewer.get(`/telemetry/readings?${new URLSearchParams(query)}`)
    return body
  }
  const zones = ['UTC', 'Europe/Madrid', 'Asia/Kolkata', 'Asia/Kathmandu', 'America/St_Johns', 'Australia/Lord_Howe'] as const
  const offByHalves: readonly string[] = ['Asia/Kolkata', 'Asia/Kathmandu', 'America/St_Johns'] // Lord Howe is in winter alone
  const questions = zones.flatMap((zone) => ['1h', '6h', '1d', '1w', '1mo'].map((bucket) => [zone, bucket] as const))
  const before = await Promise.all(questions.map(([zone, bucket]) => ask(zone, bucket)))
  await sumUpHours(telemetry, acme.id)
  const after = await Promise.all(questions.map(([zone, bucket]) => ask(zone, bucket)))
  t.same(after, before)
  for (const [n, [zone, bucket]] of questions.entries()) {
    const long = ['1d', '1w', '1mo'].includes(bucket)
    const source = offByHalves.includes(zone) && !long ? 'raw' : zone === 'UTC' && long ? 'daily' : 'hourly'
    t.equal(after[n]!.source, source, `${zone} ${bucket}`)
    t.equal(
      after[n]!.data.reduce((sum: number, { count }: { count: number }) => sum + count, 0),
      232,
      `${zone} ${bucket}: every reading once, from then to then`,
    )
  }
  t.equal((await ask('UTC', '1h', 5.1, 5.6)).data[0].count, 2, 'within an hour')
})

t.test('what is older than it is kept goes by whole months, and comes no more', { skip }, async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const old = { ts: '2017-02-03T04:05:06Z', value: 1 }
  await device.send([old, at(0, 2)])
  await sumUpHours(telemetry, acme.id)
  const kept = async () => (await owner.query('select ts from tel_measurement where tenant_id = $1 order by ts', [acme.id])).rows.length
  await telemetry.platform(async (connection) => {
    await connection.query(sql.run`select plane.make_measurement_partitions()`)
  })
  t.equal((await owner.query(`select to_regclass('tel_measurement_2017_02') is not null as made`)).rows[0].made, true, 'a month of its own')
  t.equal(await kept(), 2)
  await owner.query('select plane.keep_readings(3000)')
  t.equal(await kept(), 1)
  t.equal(await summedHours(acme), 1)
})
