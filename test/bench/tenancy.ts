// Many tenants: making them, finding them, migrating them, serving each from a database of its own.
import { Client } from 'pg'
import { newId } from '../../domain/kernel/index.ts'
import { register } from '../../domain/tenancy/index.ts'
import { migrateEverything } from '../../server/migrate-all.ts'
import { ownedStorage } from '../../server/storage.ts'
import { provision } from '../../workers/provisioner.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { admin, first, note, ours, percentile, quick, results, runtime, tenant, tenants, timed } from './harness.ts'

const GOALS = { shared: 1_000, schema: 3_000, database: 10_000 }
const ROUNDS = quick ? 3 : 10
const OWN = quick ? 20 : 200
const SCHEMAS = quick ? 30 : 500
const SHARED = quick ? 100 : 1_000
const owners = { main: admin.data, second: admin.data }

async function inParallel(count: number, work: () => Promise<unknown>, at = 4): Promise<void> {
  let left = count
  await Promise.all(
    Array.from({ length: at }, async () => {
      while (left-- > 0) await work()
    }),
  )
}

export async function tenancy() {
  note('tenancy …')
  const { planes, tenants: directory } = runtime.services
  const { control } = planes
  const storage = ownedStorage(owners)
  const owner = new Client({ connectionString: admin.control })
  await owner.connect()

  // Making one, approved: every step, without the queue's own waiting.
  for (const [mode, goal] of Object.entries(GOALS)) {
    const took: number[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const slug = `b${newId().slice(-12)}`
      const asked = { slug, name: slug, email: `a@${slug}.example`, person: 'A', plan: 'professional' }
      const id = await register(control, asked, `10.${round}.0.${mode.length}`, '')
      await owner.query(`update tenant_registrations set decision = 'approved' where tenant_id = $1`, [id])
      const name = `t_${id.replaceAll('-', '')}`
      await owner.query(
        `update tenant_connection_profiles set mode = $2, schema_name = $3, database_name = $4, state = 'provisioning' where tenant_id = $1`,
        [id, mode, mode === 'schema' ? name : null, mode === 'database' ? `tenantry_${name}` : null],
      )
      took.push(await timed(() => provision(control, storage, id)))
    }
    const worst = percentile(took, 0.99)
    results.push({ name: `provision, ${mode}`, ratio: goal / worst, ours: worst, limit: goal, unit: 'ms max' })
  }

  const found: number[] = []
  for (let i = 0; i < 200_000; i++) {
    const start = process.hrtime.bigint()
    directory.byHost(first.host)
    found.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  const p99 = percentile(found, 0.99)
  results.push({ name: 'tenant resolution, warm', ratio: 10 / p99, ours: p99, limit: 10, unit: 'µs p99' })

  // Everybody in a database of his own, asking for the first time, one after the other, then all at once.
  const own: { host: string; token: string }[] = []
  await inParallel(OWN, async () => {
    const one = await tenant({ home: { mode: 'database', catalog_key: 'main' } })
    own.push({ host: one.host, token: one.admin.token })
  })
  const ask = async ({ host, token }: (typeof own)[number]) => {
    const answer = await fetchAs(host, `${ours.url}/api/v1/erp/parties`, {
      headers: { authorization: `Bearer ${token}` },
    })
    await answer.text()
    if (!answer.ok) throw new Error(`a tenant with its own database got ${answer.status}`)
  }
  const cold: number[] = []
  await ask({ host: first.host, token: first.admin.token }) // the process's own first request is not what is measured
  for (const one of own) cold.push(await timed(() => ask(one)))
  for (const share of [0.5, 0.99]) {
    const took = percentile(cold, share)
    results.push({
      name: `cold tenant of ${OWN} with own databases, p${share * 100}`,
      ratio: 150 / took,
      ours: took,
      limit: 150,
      unit: 'ms',
    })
  }
  await Promise.all(own.map(ask))
  const { rows } = await owner.query(
    `select count(*)::int as n from pg_stat_activity where application_name = 'tenantry' and datname like 'tenantry_t_%'`,
  )
  results.push({
    name: `connections to ${OWN} own databases`,
    ratio: 200 / Math.max(1, rows[0].n),
    ours: rows[0].n,
    limit: 200,
    unit: 'open',
  })

  // Many who live together: what they cost beyond ten, in memory and connections of the API.
  const ten = tenants.map(({ host, admin: { token } }) => ({ host, token }))
  const askAll = async (all: typeof own, times: number) => {
    for (let n = 0; n < times; n++) for (let at = 0; at < all.length; at += 10) await Promise.all(all.slice(at, at + 10).map(ask))
  }
  const connections = async () =>
    (await owner.query(`select count(*)::int as n from pg_stat_activity where application_name = 'tenantry' and datname = 'bench_data'`))
      .rows[0].n
  await askAll(ten, 300)
  const few = { rss: (await ours.usage()).rss, connections: await connections() }
  const many: typeof own = []
  await inParallel(SHARED, async () => {
    const one = await tenant()
    many.push({ host: one.host, token: one.admin.token })
  })
  await askAll(many, Math.ceil(3_000 / SHARED))
  const all = { rss: (await ours.usage()).rss, connections: await connections() }
  results.push(
    {
      name: `memory with ${SHARED} shared tenants, against 10`,
      ratio: few.rss / all.rss,
      ours: all.rss / 1e6,
      limit: few.rss / 1e6,
      unit: 'MB',
    },
    {
      name: `connections with ${SHARED} shared tenants, against 10`,
      ratio: few.connections / all.connections,
      ours: all.connections,
      limit: few.connections,
      unit: 'open',
    },
  )

  // A migration across tenants' schemas: the time for each, of the first half and of the second.
  await inParallel(SCHEMAS, () => tenant({ home: { mode: 'schema', catalog_key: 'main' } }))
  const data = new Client({ connectionString: admin.data })
  await data.connect()
  const schemas = (await owner.query(`select schema_name from tenant_connection_profiles where mode = 'schema' and state = 'ready'`)).rows
  for (const { schema_name } of schemas)
    await data.query(`delete from ${schema_name}.schema_migrations where name = 'data/007_own_schema.sql'`)
  const at: number[] = []
  const began = performance.now()
  const config = {
    ...runtime.config,
    CONTROL_DATABASE_URL: admin.control,
    DATA_CATALOG: owners,
    TELEMETRY_CATALOG: { main: admin.telemetry },
  }
  const migrated = await migrateEverything(config, { progress: () => at.push(performance.now() - began) })
  const failed = migrated.filter(({ error }) => error)
  if (failed.length > 0) throw new Error(failed[0]!.error)
  const half = at[Math.floor(at.length / 2)]!
  results.push({
    name: `migration of ${schemas.length} schemas: second half against first`,
    ratio: half / (at.at(-1)! - half),
    ours: at.at(-1)! / at.length,
    limit: half / (at.length / 2),
    unit: 'ms each',
  })
  await Promise.all([data.end(), owner.end()])
}
