// `npm test`: starts what the tests need, or takes what the environment names, checks, runs, counts.
//   CONTROL_DATABASE_URL  a server and a role that may create databases and roles
//   KAFKA_BROKERS, REDIS_URL
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client } from 'pg'
import { prepareServer, startPostgres } from '../../server/embedded/postgres.ts'
import { migrate, migrateAll } from '../../server/migrations.ts'
import { startWorkers } from '../../server/workers.ts'
import { migrateJobs } from '../../workers/jobs.ts'
import { createTopics, openMockBroker } from '../../workers/kafka.ts'
import { topicDeclarations } from '../../workers/topics.ts'
import { check } from './check.ts'
import type { TestServices } from './services.ts'
import { openSmtpServer } from './smtp.ts'
import { checkStatements } from './statements.ts'
import { proveStock } from './stock-proof.ts'

const root = path.join(import.meta.dirname, '..', '..')
const files = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const say = (text: string) => process.stdout.write(`${text}\n`)

if (files.length === 0 && !process.argv.includes('--no-check')) {
  const wrong = await check()
  if (wrong > 0) process.exit(1)
}

const work = mkdtempSync(path.join(tmpdir(), 'tenantry-test-'))
chmodSync(work, 0o755) // PostgreSQL started by root runs as another user
const closing: (() => Promise<unknown>)[] = []

async function services(): Promise<TestServices> {
  const given = process.env.CONTROL_DATABASE_URL
  let url = (database: string, role?: string) => {
    const at = new URL(given!)
    at.pathname = `/${database}`
    if (role) at.username = at.password = role
    return at.href
  }
  if (given) {
    say(`PostgreSQL: ${new URL(given).host}`)
  } else {
    const postgres = await startPostgres(path.join(work, 'postgres'), { fast: true })
    closing.push(() => postgres.stop())
    url = postgres.url
    say('PostgreSQL: embedded')
  }
  const admin = given ? given : url('postgres')
  const names = ['tenantry_test_control', 'tenantry_test_data', 'tenantry_test_telemetry']
  const client = new Client({ connectionString: admin })
  await client.connect()
  for (const name of names) await client.query(`drop database if exists ${name} with (force)`)
  await client.end()
  await prepareServer(admin, names)
  const urls = (role?: string) => ({ control: url(names[0]!, role), data: url(names[1]!, role), telemetry: url(names[2]!, role) })
  const owner = urls()
  const results = await migrateAll([
    { name: 'control', plane: 'control', url: owner.control },
    { name: 'data', plane: 'data', url: owner.data },
    { name: 'telemetry', plane: 'telemetry', url: owner.telemetry },
  ])
  // A second server of the data plane, in every run: what moves between servers must find another one.
  const other = await startPostgres(path.join(work, 'postgres-second'), { fast: true })
  closing.push(() => other.stop())
  await prepareServer(other.url('postgres'), ['tenantry_test_data'])
  results.push(await migrate({ name: 'data:second', plane: 'data', url: other.url('tenantry_test_data') }))
  for (const { target, error } of results) if (error) throw new Error(`${target}: ${error}`)
  await migrateJobs(owner.control)

  let brokers = process.env.KAFKA_BROKERS
  if (brokers) {
    await createTopics({ brokers }, topicDeclarations, 1)
  } else {
    const broker = await openMockBroker(topicDeclarations.map(({ topic }) => topic))
    closing.push(() => broker.stop())
    brokers = broker.brokers
  }
  say(`Kafka:      ${process.env.KAFKA_BROKERS ?? 'embedded'}`)
  say(`Redis:      ${process.env.REDIS_URL ?? 'none: in-process counters'}`)
  const smtp = await openSmtpServer(path.join(work, 'mail'))
  closing.push(() => smtp.close())
  return {
    admin: { ...owner, second: other.url('tenantry_test_data') },
    app: { ...urls('tenantry_app'), second: other.url('tenantry_test_data', 'tenantry_app') },
    brokers,
    realBroker: process.env.KAFKA_BROKERS !== undefined,
    redis: process.env.REDIS_URL ?? null,
    smtp: { url: smtp.url, folder: smtp.folder },
  }
}

/** Runs tap and counts the assertions of its TAP stream. */
async function runTap(environment: NodeJS.ProcessEnv): Promise<{ passed: number; failed: number; skipped: number; code: number }> {
  const child = spawn(path.join(root, 'node_modules', '.bin', 'tap'), ['run', '--reporter=tap', ...files], {
    cwd: root,
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const counts = { passed: 0, failed: 0, skipped: 0 }
  let rest = ''
  let failing = false
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const point = line.match(/^( *)(not )?ok \d+(.*)/)
      // A subtest's own line repeats what its assertions said: only leaves count.
      if (point && !/# Subtest|# time=/.test(line)) {
        if (/# SKIP/i.test(line)) {
          counts.skipped++
          say(line.trim().replace(/^ok \d+ - /, 'SKIPPED: '))
        } else if (point[2]) counts.failed++
        else counts.passed++
      }
      if (/^(not )?ok \d+ - test\//.test(line)) say(line.replace(/ # time=([\d.]+)(m?s).*/, '  $1 $2'))
      failing = point?.[2] ? true : /^ *ok /.test(line) ? false : failing
      if (failing || /^ *# Subtest.*failed/.test(line)) say(line)
    }
  })
  const code = await new Promise<number>((resolve) => child.on('close', (status) => resolve(status ?? 1)))
  return { ...counts, code }
}

/** One worker sends the mails of all tests: a job knows nothing of the file that wanted it. */
async function startMailWorker(): Promise<() => Promise<void>> {
  const { quietLog, testRuntime } = await import('./services.ts')
  const runtime = await testRuntime()
  const workers = await startWorkers(runtime, quietLog, ['mail'])
  return async () => {
    await workers.stop()
    await runtime.close()
  }
}

let exitCode = 1
try {
  const started = await services()
  const { CONTROL_DATABASE_URL: _c, REDIS_URL: _r, KAFKA_BROKERS: _k, NODE_ENV: _n, ...clean } = process.env
  const statements = path.join(work, 'statements')
  mkdirSync(statements)
  process.env.TENANTRY_TEST_SERVICES = JSON.stringify(started)
  closing.push(await startMailWorker())
  const { passed, failed, skipped, code } = await runTap({
    ...clean,
    UV_THREADPOOL_SIZE: '16', // as `npm run worker` has it
    TENANTRY_TEST_SERVICES: JSON.stringify(started),
    TENANTRY_TEST_STATEMENTS: statements,
  })
  const { checked, wrong } = await checkStatements(statements, [started.admin.control, started.admin.data, started.admin.telemetry])
  say(
    `${checked} statements that the tests ran: ${wrong.length === 0 ? 'each names the tenant' : `${wrong.length} do not name the tenant`}`,
  )
  const stock = await proveStock([started.admin.data, started.admin.second])
  say(`stock of ${stock.proven} products: ${stock.wrong.length === 0 ? 'each is what its moves say' : `${stock.wrong.length} differ`}`)
  wrong.push(...stock.wrong)
  for (const sentence of wrong) say(`not ok - ${sentence}`)
  const unfinished = code !== 0 && failed === 0 ? 1 : 0
  say(
    `${passed + (wrong.length === 0 ? 2 : 0)} passed, ${failed + unfinished + wrong.length} failed${skipped ? `, ${skipped} skipped` : ''}`,
  )
  exitCode = code === 0 && failed === 0 && wrong.length === 0 && passed > 0 ? 0 : 1
} finally {
  for (const close of closing.reverse()) await close().catch(() => {})
  rmSync(work, { recursive: true, force: true })
}
process.exit(exitCode)
