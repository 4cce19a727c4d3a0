// The table of readings, in whichever edition this run's server has: the same promises of both.
import { Client } from 'pg'
import t from 'tap'
import { testApp } from '../support/app.ts'
import { testServices } from '../support/services.ts'

const { tenant } = await testApp(t)
const services = testServices()

async function connect(url: string): Promise<Client> {
  const client = new Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

const admin = await connect(services.admin.telemetry)
const application = await connect(services.app.telemetry)
const { rows: ran } = await admin.query(`select 1 from schema_migrations where name like '%.timescale.sql'`)
const timescale = ran.length > 0

const bind = (tenantId: string) => application.query(`select set_config('tenantry.tenant_id', $1, false)`, [tenantId])
let series = Math.floor(Math.random() * 1e9) + 1e9
const write = (tenantId: string, id: number, ts: string, value: number) =>
  application.query(
    'insert into tel_measurement (tenant_id, series_id, ts, value) values ($1, $2, $3, $4) on conflict (series_id, ts) do nothing',
    [tenantId, id, ts, value],
  )
const counted = async (relation: string) => (await application.query(`select count(*)::int as n from ${relation}`)).rows[0].n as number

t.test('a tenant sees and writes its own readings, and nothing when unbound', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const id = series++
  await bind(acme.id)
  await write(acme.id, id, new Date().toISOString(), 1)
  await t.rejects(write(globex.id, series++, new Date().toISOString(), 1), { message: /row-level security|check option/ })
  t.equal(await counted('tel_measurement'), 1)
  for (const binding of [globex.id, '']) {
    await bind(binding)
    for (const relation of ['tel_measurement', 'tel_hourly', 'tel_daily']) t.equal(await counted(relation), 0, `${relation} ${binding}`)
    t.equal((await application.query('update tel_measurement set value = 9 where series_id = $1', [id])).rowCount, 0)
    t.equal((await application.query('delete from tel_measurement where series_id = $1', [id])).rowCount, 0)
  }
})

t.test('a redelivered reading changes nothing; a late one lands in its bucket', async (t) => {
  const acme = await tenant()
  const id = series++
  await bind(acme.id)
  const hour = '2026-03-29T01'
  await write(acme.id, id, `${hour}:10:00Z`, 10)
  await write(acme.id, id, `${hour}:10:00Z`, 99)
  await write(acme.id, id, `${hour}:50:00Z`, 30)
  await write(acme.id, id, `${hour}:05:00Z`, 20)
  if (timescale) await admin.query(`call refresh_continuous_aggregate('plane.measurement_hourly', '2026-03-01', '2026-04-01')`)
  const { rows } = await application.query('select count::int, min, max, avg, first, last from tel_hourly where series_id = $1', [id])
  t.same(rows, [{ count: 3, min: 10, max: 30, avg: 20, first: 20, last: 30 }])
})

t.test(
  'TimescaleDB: compressed readings stay a tenant’s own, and take late and redelivered ones',
  {
    skip: timescale ? false : 'THIS SERVER HAS NO TIMESCALEDB: its half was not tested',
  },
  async (t) => {
    const acme = await tenant()
    const id = series++
    await bind(acme.id)
    for (let minute = 10; minute < 60; minute++) await write(acme.id, id, `2025-06-01T00:${minute}:00Z`, minute)
    const { rows } = await admin.query(`select show_chunks('plane.measurement', older_than => '2025-07-01'::timestamptz)::text as chunk`)
    for (const { chunk } of rows) await admin.query(`call convert_to_columnstore('${chunk}', if_not_columnstore => true)`)
    const { rows: compressed } = await admin.query(
      `select 1 from timescaledb_information.chunks where hypertable_name = 'measurement' and is_compressed`,
    )
    t.ok(compressed.length > 0)
    await write(acme.id, id, '2025-06-01T00:10:00Z', 99)
    await write(acme.id, id, '2025-06-01T00:05:00Z', 5)
    const { rows: sums } = await application.query(
      'select count(*)::int as n, min(value), max(value) from tel_measurement where series_id = $1',
      [id],
    )
    t.same(sums, [{ n: 51, min: 5, max: 59 }])
    await bind((await tenant()).id)
    t.equal(await counted('tel_measurement'), 0)
    await t.rejects(application.query('select 1 from plane.measurement'), { message: /permission denied/ })
  },
)
