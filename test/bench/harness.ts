// What every measurement stands on: services, ten tenants, our API and the bare one in processes of their own, and the loads on them.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import type { Config } from '../../server/config.ts'
import { freePort, prepareServer, startPostgres } from '../../server/embedded/postgres.ts'
import { migrateAll } from '../../server/migrations.ts'
import { migrateJobs } from '../../workers/jobs.ts'
import { openMockBroker } from '../../workers/kafka.ts'
import { topicDeclarations } from '../../workers/topics.ts'
import { startApi } from '../support/api-process.ts'
import type { TestTenant } from '../support/app.ts'
import type { BareTenant } from './bare.ts'
import { type Load, load, type Plan } from './load.ts'

export const json = process.argv.includes('--json')
export const quick = process.argv.includes('--quick')
const TENANTS = 10
const PRODUCTS = quick ? 5_000 : 200_000
const SECONDS = quick ? 3 : 10
const CONNECTIONS = 20
export const READINGS = 400_000

interface Result {
  name: string
  ratio: number
  ours: number
  limit: number
  unit: string
}
export const note = (text: string) => (json ? process.stderr : process.stdout).write(`${text}\n`)
const work = mkdtempSync(path.join(tmpdir(), 'tenantry-bench-'))
chmodSync(work, 0o755)
export const results: Result[] = []
export const detail: string[] = []
const line = (name: string, { rate, p50, p99 }: Load, cpu: number, rss: number) =>
  detail.push(`| ${name} | ${rate.toFixed(0)} | ${p50.toFixed(1)} | ${p99.toFixed(1)} | ${cpu.toFixed(2)} | ${(rss / 1e6).toFixed(0)} |`)

interface Usage {
  /** Seconds of CPU since the start. */
  cpu: number
  /** Bytes. */
  rss: number
}

/** A server in a process of its own, so that its CPU time and size are its own. */
interface Server {
  url: string
  usage(): Promise<Usage>
  stop(): Promise<void>
}

const stopped = async (child: ChildProcess) => {
  child.kill()
  await once(child, 'exit')
}

async function startBare(url: string, tenant: BareTenant, me: object): Promise<Server> {
  const port = await freePort()
  const child = fork(path.join(import.meta.dirname, 'bare.ts'), {
    env: { ...process.env, PORT: String(port), BENCH_BARE: JSON.stringify({ url, tenant, me }) },
  })
  await once(child, 'message')
  const usage = async () => {
    child.send('usage')
    const [{ cpu, rss }] = (await once(child, 'message')) as [{ cpu: NodeJS.CpuUsage; rss: number }]
    return { cpu: (cpu.user + cpu.system) / 1e6, rss }
  }
  return { url: `http://127.0.0.1:${port}`, usage, stop: () => stopped(child) }
}

/** The API as it is deployed, on the configuration that the bench made its tenants with. */
async function startOurs(config: Config): Promise<Server> {
  const { url, metricsUrl, child } = await startApi({ ...config, LOG_LEVEL: 'info', TRUSTED_PROXIES: '127.0.0.0/8' })
  const usage = async () => {
    const text = await (await fetch(metricsUrl)).text()
    const gauge = (name: string) => Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))![1])
    return { cpu: gauge('process_cpu_seconds_total'), rss: gauge('process_resident_memory_bytes') }
  }
  return { url, usage, stop: () => stopped(child) }
}

/** Loads a server and returns what it did; notes the CPU seconds that it spent per 1,000 requests, and its size. */
export async function measured(
  name: string,
  server: Server,
  where: string,
  plan: Omit<Plan, 'url' | 'connections' | 'seconds'> & { connections?: number },
): Promise<Load> {
  const url = `${server.url}${where}`
  const all = { connections: CONNECTIONS, ...plan }
  await load(url, { ...all, seconds: 2 })
  const before = await server.usage()
  const done = await load(url, { ...all, seconds: SECONDS })
  const after = await server.usage()
  if (done.errors > 0) throw new Error(`${name}: ${done.errors} answers were errors: ${done.firstError}`)
  line(name, done, (after.cpu - before.cpu) / (done.requests / 1000), after.rss)
  return done
}

/** Run last to first at the end, however it ends. */
const closing: (() => unknown)[] = [() => rmSync(work, { recursive: true, force: true })]
export async function close() {
  for (const one of closing.reverse()) await one()
}
process.once('uncaughtException', (error) => {
  process.stderr.write(`${error.stack}\n`)
  void close().finally(() => process.exit(1))
})

const postgres = await startPostgres(path.join(work, 'postgres'))
closing.push(() => postgres.stop())
const broker = await openMockBroker(topicDeclarations.map(({ topic }) => topic))
closing.push(() => broker.stop())
const names = { control: 'bench_control', data: 'bench_data', telemetry: 'bench_telemetry' }
await prepareServer(postgres.url('postgres'), Object.values(names))
const urls = (role?: string) => ({
  control: postgres.url(names.control, role),
  data: postgres.url(names.data, role),
  telemetry: postgres.url(names.telemetry, role),
  second: postgres.url(names.data, role),
})
export const admin = urls()
await migrateAll((['control', 'data', 'telemetry'] as const).map((plane) => ({ name: plane, plane, url: admin[plane] })))
await migrateJobs(admin.control)
process.env.TENANTRY_TEST_SERVICES = JSON.stringify({
  admin,
  app: urls('tenantry_app'),
  brokers: broker.brokers,
  redis: null,
  smtp: { url: 'smtp://127.0.0.1:9', folder: work },
})

export const { PASSWORD, testApp } = await import('../support/app.ts')
export const { quietLog } = await import('../support/services.ts')
export const { tenant, runtime } = await testApp({ teardown: (close) => closing.push(close) }, { DATABASE_POOL_MAX: '20' })

note(`loading ${TENANTS} tenants × ${PRODUCTS} products …`)
export const tenants: (TestTenant & { organization: string; uom: string; supplier: string; product: string })[] = []
export const data = new Client({ connectionString: admin.data })
await data.connect()
closing.push(() => data.end())
await data.query('set session_replication_role = replica') // the load itself needs no trail
for (let i = 0; i < TENANTS; i++) {
  const one = await tenant()
  const organization = one.organizations[0]!.id
  const uom = (await one.admin.post('/erp/uoms', { code: 'PCS', name: 'Piece', dimension: 'count' })).data.id
  const supplier = (await one.admin.post('/erp/parties', { code: 'S', name: 'Supplier', roles: ['supplier'] })).data.id
  await data.query(
    `insert into erp_product (id, tenant_id, organization_id, code, name, uom_id, created_at)
    select gen_random_uuid(), $1, $2, 'P-' || n, 'Plant number ' || n, $3, now() - n * interval '1 second' from generate_series(1, $4::int) n`,
    [one.id, organization, uom, PRODUCTS],
  )
  const product = (await data.query('select id from erp_product where tenant_id = $1 limit 1', [one.id])).rows[0].id as string
  tenants.push({ ...one, organization, uom, supplier, product })
}
// Not the empty tables: analysed while empty, their first plans would scan them whole until the next autovacuum.
await data.query('vacuum analyze erp_product, erp_uom, erp_party')
export const first = tenants[0]!
export const auth = (one: (typeof tenants)[number]) => ({ host: one.host, authorization: `Bearer ${one.admin.token}` })

await data.query('set session_replication_role = origin')
export const ours = await startOurs(runtime.config)
closing.push(ours.stop)
// The same tables with their keys, checks and indexes; no row security and no audit. The API refuses to start beside such tables.
await data.query('create table bare_order (like erp_purchase_order including all)')
await data.query('create table bare_line (like erp_purchase_order_line including all)')
await data.query('create table bare_move (like erp_stock_move including all)')
await data.query('create table bare_quant as select 1000000::numeric as quantity')
export const bare = await startBare(admin.data, { ...first, user: first.admin.userId }, (await first.admin.get('/auth/me')).body)
closing.push(bare.stop)

export const percentile = (took: number[], share: number) => took.sort((a, b) => a - b)[Math.floor(took.length * share)] ?? 0
export const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return performance.now() - start
}

export const headers = () => ({ ...auth(first), 'content-type': 'application/json' })
async function ask(method: string, path: string, body?: object): Promise<{ status: number; data: never }> {
  // The tenant is known by its host name, which a header of fetch cannot say.
  const { host, ...rest } = headers()
  const url = new URL(`/api/v1${path}`, ours.url)
  return new Promise((resolve, reject) => {
    const call = request(url, { method, headers: { ...rest, host } }, (response) => {
      let text = ''
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, data: text ? (JSON.parse(text).data as never) : (null as never) }))
    })
    call.on('error', reject)
    call.end(body ? JSON.stringify(body) : undefined)
  })
}
/** Asks as the first tenant's admin, and throws for what was refused. */
export const must = async (method: string, path: string, body?: object): Promise<never> => {
  const { status, data } = await ask(method, path, body)
  if (status >= 300) throw new Error(`${path}: ${status}`)
  return data
}
/** Notes a time against the one that it should not be above. */
export const goal = (name: string, ours: number, limit: number, unit = 'ms p99') =>
  results.push({ name, ratio: limit / ours, ours, limit, unit })
export const took = async (rounds: number, work: (round: number) => Promise<unknown>) => {
  const times: number[] = []
  for (let round = 0; round < rounds; round++) times.push(await timed(() => work(round)))
  return times
}
