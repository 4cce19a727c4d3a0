// Migrations across tenants: at once, taken up again, one failure alone.
import { Client } from 'pg'
import t from 'tap'
import { prepareServer } from '../../server/embedded/postgres.ts'
import { migrateEverything } from '../../server/migrate-all.ts'
import { dataVersion, migrate } from '../../server/migrations.ts'
import { eventually, type TestTenant, tally, testApp, times } from '../support/app.ts'
import { dataOwners, ownControlPlane, testConfig, testServices } from '../support/services.ts'

const plane = await ownControlPlane(t)
const { tenant, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const owner = new Client({ connectionString: dataOwners().main! })
await owner.connect()
t.teardown(() => owner.end())
const control = new Client({ connectionString: plane.admin })
await control.connect()
t.teardown(() => control.end())
const config = {
  ...testConfig({ CONTROL_DATABASE_URL: plane.admin }),
  DATA_CATALOG: dataOwners(),
  TELEMETRY_CATALOG: { main: testServices().admin.telemetry },
}

const tenants: TestTenant[] = []
for (let n = 0; n < 6; n++) tenants.push(await tenant({ home: { mode: n === 5 ? 'database' : 'schema', catalog_key: 'main' } }))
const homes = await Promise.all(tenants.map(async ({ id }) => (await runtime.services.tenants.byId(id))!))
const LAST = 'data/007_own_schema.sql'
/** As if the last migration were new: it is forgotten, and the tenants are behind. */
async function setBack(): Promise<void> {
  for (const { schema_name } of homes.slice(0, 5)) await owner.query(`delete from ${schema_name}.schema_migrations where name = $1`, [LAST])
  const own = new Client({ connectionString: Object.assign(new URL(dataOwners().main!), { pathname: `/${homes[5]!.database_name}` }).href })
  await own.connect()
  await own.query('delete from schema_migrations where name = $1', [LAST])
  await own.end()
  await control.query(`update tenant_connection_profiles set migration_version = $1 where mode <> 'shared'`, [dataVersion() - 1])
}
const asked = async () => tally(await Promise.all(tenants.map((one) => one.admin.get('/erp/parties'))))

t.test('a first migration that was interrupted after its extensions is taken up', async (t) => {
  const { admin } = testServices()
  const name = `tenantry_test_interrupted_${process.pid}`
  await prepareServer(admin.control, [name])
  const url = Object.assign(new URL(admin.control), { pathname: `/${name}` }).href
  const run = async (statement: string, where: string) => {
    const client = new Client({ connectionString: where })
    await client.connect()
    await client.query(statement)
    await client.end()
  }
  t.teardown(() => run(`drop database if exists ${name} with (force)`, admin.control))
  await run('create schema extensions; create extension pg_trgm schema extensions', url)
  t.equal((await migrate({ name: 'control', plane: 'control', url })).error, undefined)
})

t.test('what would be applied is said, and nothing is', async (t) => {
  await setBack()
  await eventually(asked, (answers) => answers[503] === 6, 5)
  const results = await migrateEverything(config, { dryRun: true })
  const pending = results.filter(({ applied }) => applied.length > 0)
  t.same(pending.map(({ target }) => target).sort(), homes.map(({ slug }) => `tenant:${slug}`).sort())
  for (const { applied } of pending) t.same(applied, [LAST])
  t.same(await asked(), { 503: 6 })
})

t.test('one that fails half way keeps its tenant out, and nobody else; mended, the next run takes it up', async (t) => {
  await setBack()
  const [broken] = homes
  await owner.query(`alter function ${broken!.schema_name}.erp_apply_moves() rename to erp_gone`)
  const seen: number[] = []
  const results = await migrateEverything(config, { concurrency: 3, progress: (done, total) => seen.push(done / total) })
  const failed = results.filter(({ error }) => error)
  t.match(failed, [{ target: `tenant:${broken!.slug}`, error: /erp_apply_moves.*does not exist/ }])
  t.equal(seen.at(-1), 1)
  await eventually(asked, (answers) => answers[200] === 5 && answers[503] === 1, 5)
  t.match(await tenants[0]!.admin.get('/erp/parties'), { status: 503, body: { detail: 'tenant_migrating' } })
  t.match((await staff.admin.get('/superadmin/migrations?state=failed')).data, [
    { target: `tenant:${broken!.slug}`, tenant_id: broken!.id, state: 'failed', error: /erp_apply_moves/ },
  ])
  t.ok((await staff.admin.get('/superadmin/migrations')).data.length >= 9)
  t.match(await staff.operator.get('/superadmin/migrations'), { status: 200 })
  await owner.query(`alter function ${broken!.schema_name}.erp_gone() rename to erp_apply_moves`)
  t.same(
    (await migrateEverything(config)).filter(({ error }) => error),
    [],
  )
  await eventually(asked, (answers) => answers[200] === 6, 5)
  t.same((await staff.admin.get('/superadmin/migrations?state=failed')).data, [])
})

t.test('two runs at once do it once', async (t) => {
  await setBack()
  const runs = await Promise.all(times(3, () => migrateEverything(config)))
  t.same(
    runs.flat().filter(({ error }) => error),
    [],
  )
  const applied = runs.flat().filter((result) => result.applied.length > 0)
  t.equal(applied.length, 6, 'each target by one of them')
  await eventually(asked, (answers) => answers[200] === 6, 5)
})

t.test('the list of migrations goes on by its cursor', async (t) => {
  const first = await staff.admin.get('/superadmin/migrations?limit=2')
  t.equal(first.data.length, 2)
  const second = await staff.admin.get(`/superadmin/migrations?limit=200&cursor=${first.body.pagination.next_cursor}`)
  t.ok(second.data.length > 0)
  t.notOk(second.data.some((m: { target: string }) => first.data.some((f: { target: string }) => f.target === m.target)))
})
