// `npm run bench`: what our layers cost, as ratios against limits measured in the same run. `-- --json` prints one object a line.
//   list       an authorised list over HTTP        against the same SQL in bare Fastify + pg, without sign-in and row security
//   create     a purchase order of ten lines       against the bare transaction that writes the same rows
//   rbac       one warm decision, p99 in µs        against 20 µs
//   noop       an authenticated request that does nothing  against a bare Fastify route with the same answer
//   login      what argon2 takes of a sign-in; p99 of other requests alone against p99 while 200 sign in at once; how long an
//              unknown address and a wrong password take
//   rights     the matrix of 500 users against a second, explain against 20 ms
//   audit      rows of the trail verified a second, against 50,000
//   telemetry  Kafka → table                       against COPY of the same rows
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { assignRole, decide } from '../../domain/access/index.ts'
import { sealTrail, verifyTrail } from '../../domain/audit/index.ts'
import { createUser, verifyPassword } from '../../domain/identity/index.ts'
import { systemScope } from '../../domain/kernel/index.ts'
import type { Config } from '../../server/config.ts'
import { freePort, prepareServer, startPostgres } from '../../server/embedded/postgres.ts'
import { migrateAll } from '../../server/migrations.ts'
import { migrateJobs } from '../../workers/jobs.ts'
import { openMockBroker } from '../../workers/kafka.ts'
import { telemetryConsumer } from '../../workers/telemetry-consumer.ts'
import { TOPICS, topicDeclarations } from '../../workers/topics.ts'
import { startApi } from '../support/api-process.ts'
import type { TestTenant } from '../support/app.ts'
import type { BareTenant } from './bare.ts'
import { type Load, load, type Plan } from './load.ts'

const json = process.argv.includes('--json')
const quick = process.argv.includes('--quick')
const only = process.argv.find((argument) => argument.startsWith('--only='))?.slice(7)
const wanted = (name: string) => !only || only === name
const TENANTS = 10
const PRODUCTS = quick ? 5_000 : 200_000
const SECONDS = quick ? 3 : 10
const CONNECTIONS = 20
const READINGS = quick ? 50_000 : 400_000

interface Result {
  name: string
  ratio: number
  ours: number
  limit: number
  unit: string
}
const note = (text: string) => (json ? process.stderr : process.stdout).write(`${text}\n`)
const work = mkdtempSync(path.join(tmpdir(), 'tenantry-bench-'))
chmodSync(work, 0o755)
const results: Result[] = []
const detail: string[] = []
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
  const { url, metricsUrl, child } = await startApi({ ...config, LOG_LEVEL: 'info' })
  const usage = async () => {
    const text = await (await fetch(metricsUrl)).text()
    const gauge = (name: string) => Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))![1])
    return { cpu: gauge('process_cpu_seconds_total'), rss: gauge('process_resident_memory_bytes') }
  }
  return { url, usage, stop: () => stopped(child) }
}

/** Loads a server and returns what it did; notes the CPU seconds that it spent per 1,000 requests, and its size. */
async function measured(name: string, server: Server, where: string, plan: Omit<Plan, 'url' | 'connections' | 'seconds'>): Promise<Load> {
  const url = `${server.url}${where}`
  await load(url, { ...plan, connections: CONNECTIONS, seconds: 2 })
  const before = await server.usage()
  const done = await load(url, { ...plan, connections: CONNECTIONS, seconds: SECONDS })
  const after = await server.usage()
  if (done.errors > 0) throw new Error(`${name}: ${done.errors} answers were errors: ${done.firstError}`)
  line(name, done, (after.cpu - before.cpu) / (done.requests / 1000), after.rss)
  return done
}

/** Run last to first at the end, however it ends. */
const closing: (() => unknown)[] = [() => rmSync(work, { recursive: true, force: true })]
async function close() {
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
})
const admin = urls()
await migrateAll((['control', 'data', 'telemetry'] as const).map((plane) => ({ name: plane, plane, url: admin[plane] })))
await migrateJobs(admin.control)
process.env.TENANTRY_TEST_SERVICES = JSON.stringify({
  admin,
  app: urls('tenantry_app'),
  brokers: broker.brokers,
  redis: null,
  smtp: { url: 'smtp://127.0.0.1:9', folder: work },
})

const { PASSWORD, testApp } = await import('../support/app.ts')
const { quietLog } = await import('../support/services.ts')
const { tenant, runtime } = await testApp({ teardown: (close) => closing.push(close) }, { DATABASE_POOL_MAX: '20' })

note(`loading ${TENANTS} tenants × ${PRODUCTS} products …`)
const tenants: (TestTenant & { organization: string; uom: string; supplier: string; product: string })[] = []
const data = new Client({ connectionString: admin.data })
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
const [first] = tenants
const auth = (one: (typeof tenants)[number]) => ({ host: one.host, authorization: `Bearer ${one.admin.token}` })

await data.query('set session_replication_role = origin')
const ours = await startOurs(runtime.config)
closing.push(ours.stop)
// The same tables with their keys, checks and indexes; no row security and no audit. The API refuses to start beside such tables.
await data.query('create table bare_order (like erp_purchase_order including all)')
await data.query('create table bare_line (like erp_purchase_order_line including all)')
const bare = await startBare(admin.data, { ...first!, user: first!.admin.userId }, (await first!.admin.get('/auth/me')).body)
closing.push(bare.stop)

async function list() {
  note('list …')
  const listLimit = await measured('list: bare Fastify + pg', bare, '/list', { headers: {} })
  const listOurs = await measured('list: ours', ours, '/api/v1/erp/products', { headers: auth(first!) })
  results.push({ name: 'list', ratio: listOurs.rate / listLimit.rate, ours: listOurs.rate, limit: listLimit.rate, unit: 'req/s' })
}

async function create() {
  note('create …')
  // The tenants take turns: what is numbered and locked is an organization's own.
  const orders = tenants.map((one) =>
    JSON.stringify({
      supplier_id: one.supplier,
      currency: 'EUR',
      lines: Array.from({ length: 10 }, () => ({ product_id: one.product, quantity: '1', unit_price: '2' })),
    }),
  )
  const type = { 'content-type': 'application/json' }
  const createLimit = await measured('create: bare transaction', bare, '/create', { headers: type, body: orders[0]! })
  const everyone = tenants.map((one) => ({ ...auth(one), ...type, 'idempotency-key': '@unique' }))
  const createOurs = await measured('create: ours', ours, '/api/v1/erp/purchase-orders', { headers: everyone, body: orders })
  results.push({ name: 'create', ratio: createOurs.rate / createLimit.rate, ours: createOurs.rate, limit: createLimit.rate, unit: 'req/s' })
}

async function noop() {
  note('noop …')
  const limit = await measured('noop: bare Fastify', bare, '/noop', { headers: {} })
  const own = await measured('noop: ours', ours, '/api/v1/auth/me', { headers: auth(first!) })
  results.push({ name: 'noop', ratio: own.rate / limit.rate, ours: own.rate, limit: limit.rate, unit: 'req/s' })
}

const percentile = (took: number[], share: number) => took.sort((a, b) => a - b)[Math.floor(took.length * share)] ?? 0
const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return performance.now() - start
}

async function login() {
  note('login …')
  const people = 200
  const control = new Client({ connectionString: admin.control })
  await control.connect()
  const { password_hash: hash } = (await control.query('select password_hash from res_users where id = $1', [first!.admin.userId])).rows[0]
  await control.end()
  const emails = Array.from({ length: people }, (_, n) => `person-${n}@${first!.slug}.example`)
  await runtime.services.planes.control.write(systemScope(first!.id, 'bench', ''), async (tx) => {
    for (const email of emails) await createUser(tx, { email, name: 'Person', password: '', hash })
  })
  let address = 0
  const post = (email: string, password: string) =>
    fetch(`${ours.url}/api/v1/auth/login`, {
      method: 'POST',
      // Each from an address of its own: what is measured is signing in, not waiting for one's turn.
      headers: {
        'x-forwarded-host': first!.host,
        'x-forwarded-for': `10.9.${++address >> 8}.${address & 255}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({ email, password }),
    }).then(async (answer) => {
      await answer.text()
      return answer.status
    })
  const argon: number[] = []
  const whole: number[] = []
  for (const email of emails.slice(0, 50)) {
    argon.push(await timed(() => verifyPassword(hash, PASSWORD)))
    whole.push(await timed(() => post(email, PASSWORD)))
  }
  const [alone, all] = [percentile(argon, 0.5), percentile(whole, 0.5)]
  results.push({ name: 'login, share of argon2', ratio: alone / all, ours: all, limit: alone, unit: 'ms p50' })

  const others = { headers: auth(first!), connections: 4 }
  const calm = await load(`${ours.url}/api/v1/auth/me`, { ...others, seconds: 6 })
  const busy = load(`${ours.url}/api/v1/auth/me`, { ...others, seconds: 6 })
  await new Promise((resolve) => setTimeout(resolve, 500))
  const statuses = await Promise.all(emails.map((email) => post(email, PASSWORD)))
  const slowed = await busy
  const tally = Object.entries(Object.groupBy(statuses, String)).map(([status, list]) => `${list!.length} × ${status}`)
  results.push({
    name: `p99 of others beside 200 logins (${tally.join(', ')})`,
    ratio: slowed.p99 / calm.p99,
    ours: slowed.p99,
    limit: calm.p99,
    unit: 'ms p99',
  })

  const known: number[] = []
  const unknown: number[] = []
  for (const [n, email] of emails.entries()) {
    known.push(await timed(() => post(email, 'not the password')))
    unknown.push(await timed(() => post(`nobody-${n}@${first!.slug}.example`, 'not the password')))
  }
  for (const share of [0.5, 0.9, 0.99]) {
    const [there, not] = [percentile(known, share), percentile(unknown, share)]
    results.push({ name: `wrong password / unknown address, p${share * 100}`, ratio: there / not, ours: there, limit: not, unit: 'ms' })
  }
}

async function rights() {
  note('rights …')
  const second = tenants[1]!
  await runtime.services.planes.control.write(systemScope(second.id, 'bench', ''), async (tx) => {
    for (let n = 0; n < 500; n++) {
      const id = await createUser(tx, { email: `many-${n}@${second.slug}.example`, name: `Person ${n}`, password: '', hash: 'x' })
      await assignRole(tx, id, second.roles[n % 2 ? 'operator' : 'manager'])
    }
  })
  const get = async (url: string) => {
    const answer = await fetch(`${ours.url}/api/v1${url}`, {
      headers: { 'x-forwarded-host': second.host, authorization: `Bearer ${second.admin.token}` },
    })
    if (!answer.ok) throw new Error(await answer.text())
    return answer.text()
  }
  await get('/rbac/matrix')
  const took = await timed(() => get('/rbac/matrix'))
  results.push({ name: 'matrix, 500 users', ratio: 1000 / took, ours: took, limit: 1000, unit: 'ms' })
  const explained: number[] = []
  for (let n = 0; n < 50; n++)
    explained.push(await timed(() => get(`/rbac/explain?permission=erp.party.create&user=${second.viewer.userId}`)))
  const p99 = percentile(explained, 0.99)
  results.push({ name: 'explain', ratio: 20 / p99, ours: p99, limit: 20, unit: 'ms p99' })
}

async function audit() {
  note('audit …')
  const third = tenants[2]!
  const rows = quick ? 20_000 : 200_000
  await data.query(
    `insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, diff, correlation_id, created_at)
    select $1, 'erp_product', gen_random_uuid(), 'update', gen_random_uuid(), jsonb_build_object('name', jsonb_build_array('Plant ' || n, 'Plant number ' || n), 'price', jsonb_build_array(n, n + 1)),
      'bench-' || n, date_trunc('hour', now()) - make_interval(hours => 1 + n / 10000) + make_interval(secs => n % 3600)
    from generate_series(1, $2::int) n`,
    [third.id, rows],
  )
  await data.query('analyze plane.audit_events')
  const database = runtime.services.planes.data.get('main')!
  const { sealKey } = runtime.services.settings
  await sealTrail(database, third.id, sealKey, Date.now() + 3_600_000)
  let entries = 0
  const took = await timed(async () => {
    const result = await database.read(systemScope(third.id, 'bench', ''), (tx) => verifyTrail(tx, sealKey))
    if (result.problems.length > 0) throw new Error('the trail does not verify')
    entries = result.entries
  })
  const rate = entries / (took / 1000)
  results.push({ name: 'audit verify', ratio: rate / 50_000, ours: rate, limit: 50_000, unit: 'rows/s' })
}

async function rbac() {
  note('rbac …')
  const grants = (await runtime.services.access.grants(first!.id, first!.manager.userId))!
  const context = { organizationId: first!.organization, workspaceId: null }
  const took: number[] = []
  for (let i = 0; i < 200_000; i++) {
    const start = process.hrtime.bigint()
    decide(grants, 'erp.product.read', context, Date.now())
    took.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  took.sort((a, b) => a - b)
  const p99 = took[Math.floor(took.length * 0.99)]!
  results.push({ name: 'rbac', ratio: 20 / p99, ours: p99, limit: 20, unit: 'µs p99' })
}

async function telemetry() {
  note('telemetry …')
  const device = (await first!.admin.post('/telemetry/devices', { code: 'bench', name: 'Bench' })).data.id
  const { key } = (await first!.admin.post(`/telemetry/devices/${device}/keys`, {})).data
  const start = Date.now() - READINGS * 10
  const at = (i: number) => new Date(start + i * 10).toISOString()
  const perMessage = 100
  await runtime.producer.send(
    Array.from({ length: READINGS / perMessage }, (_, m) => ({
      topic: TOPICS.telemetry,
      key: `bench-${m % 16}`,
      headers: { 'device-key': key },
      value: JSON.stringify({
        tenant: first!.slug,
        device: 'bench',
        readings: Array.from({ length: perMessage }, (_, i) => ({ ts: at(m * perMessage + i), metric: 'm', value: i })),
      }),
    })),
  )
  let accepted = 0
  const done = Promise.withResolvers<void>()
  let began = 0n
  const consumer = telemetryConsumer({
    kafka: runtime.kafka,
    planes: runtime.services.planes,
    tenants: runtime.services.tenants,
    producer: runtime.producer,
    log: quietLog.root,
    onBatch: (result) => {
      accepted += result.accepted
      if (accepted >= READINGS) done.resolve()
    },
  })
  await consumer.start()
  await consumer.assigned(10_000)
  began = process.hrtime.bigint()
  await done.promise
  const kafka = READINGS / (Number(process.hrtime.bigint() - began) / 1e9)
  await consumer.stop()
  const telemetry = new Client({ connectionString: admin.telemetry })
  await telemetry.connect()
  const {
    rows: [counted],
  } = await telemetry.query('select count(*)::int as n, max(series_id) as series from tel_measurement')
  if (counted.n !== READINGS) throw new Error(`${counted.n} of ${READINGS} readings in the table`)
  await telemetry.query('truncate tel_measurement')
  const copyStart = process.hrtime.bigint()
  const stream = telemetry.query(copyFrom('copy tel_measurement (tenant_id, series_id, ts, value, quality) from stdin'))
  await pipeline(
    Readable.from(
      (function* () {
        for (let i = 0; i < READINGS; i += 1000)
          yield Array.from({ length: 1000 }, (_, j) => `${first!.id}\t${counted.series}\t${at(i + j)}\t${j}\t0\n`).join('')
      })(),
    ),
    stream,
  )
  const copy = READINGS / (Number(process.hrtime.bigint() - copyStart) / 1e9)
  await telemetry.end()
  results.push({ name: 'telemetry', ratio: kafka / copy, ours: kafka, limit: copy, unit: 'rows/s' })
}

if (wanted('list')) await list()
if (wanted('create')) await create()
if (wanted('noop')) await noop()
if (wanted('login')) await login()
if (wanted('rights')) await rights()
if (wanted('audit')) await audit()
if (wanted('rbac')) await rbac()
if (wanted('telemetry')) await telemetry()
await close()

if (json) for (const result of results) process.stdout.write(`${JSON.stringify(result)}\n`)
else {
  const goal: Record<string, number> = { list: 0.75, create: 0.5, noop: 0.8, rbac: 1, telemetry: 0.5 }
  note('\n| what | ratio | goal | ours | limit | unit |\n| --- | --- | --- | --- | --- | --- |')
  for (const r of results)
    note(`| ${r.name} | ${r.ratio.toFixed(2)} | ${goal[r.name] ?? ''} | ${r.ours.toFixed(1)} | ${r.limit.toFixed(1)} | ${r.unit} |`)
  note('\n| load | req/s | p50 ms | p99 ms | CPU s / 1,000 | RSS MB |\n| --- | --- | --- | --- | --- | --- |')
  for (const text of detail) note(text)
}
process.exit(0)
