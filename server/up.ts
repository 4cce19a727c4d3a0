// `npm run up`: everything on this machine, in one command, for development.
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Registry } from 'prom-client'
import { newSigningKey } from '../domain/identity/index.ts'
import { migrateJobs } from '../workers/jobs.ts'
import { openMockBroker } from '../workers/kafka.ts'
import { topicDeclarations } from '../workers/topics.ts'
import { buildApp } from './app.ts'
import { ConfigSchema, readConfig } from './config.ts'
import { DEMO_PASSWORD, seedDemo } from './demo.ts'
import { dataDirectory, prepareServer, startPostgres } from './embedded/postgres.ts'
import { onStop } from './lifetime.ts'
import { createLog } from './log.ts'
import { serveMetrics } from './metrics-server.ts'
import { migrateEverything } from './migrate-all.ts'
import { createRuntime } from './runtime.ts'
import { explainListenError } from './start.ts'
import { startWorkers } from './workers.ts'

// Known passwords, keys in a file and a broker without a password: for one machine of one developer.
if (process.env.NODE_ENV !== undefined && !['', 'development', 'test'].includes(process.env.NODE_ENV)) {
  process.stderr.write('`npm run up` makes demo data with known passwords and is for development: unset NODE_ENV, or use `npm run api`.\n')
  process.exit(1)
}

const home = path.join(import.meta.dirname, '..', '.tenantry')
const say = (text: string) => process.stdout.write(`${text}\n`)

const data = dataDirectory(path.join(home, 'postgres'))
if (process.argv.includes('--fresh')) for (const folder of [home, data]) rmSync(folder, { recursive: true, force: true })
mkdirSync(home, { recursive: true })

/** Keys of this machine, made once, so that tokens and cursors outlive a restart. */
function localKeys(): { MASTER_KEY: string; JWT_KEYS: string } {
  const file = path.join(home, 'keys.json')
  if (!existsSync(file)) {
    writeFileSync(file, JSON.stringify({ MASTER_KEY: randomBytes(32).toString('base64'), JWT_KEYS: JSON.stringify([newSigningKey()]) }), {
      mode: 0o600,
    })
  }
  return JSON.parse(readFileSync(file, 'utf8'))
}

say('Starting PostgreSQL and the broker …')
const postgres = await startPostgres(data).catch((error: Error) => {
  process.stderr.write(
    `PostgreSQL does not start: ${error?.message ?? 'see .tenantry/postgres'}. If another \`npm run up\` runs here, stop it first; \`npm run up -- --fresh\` starts over.\n`,
  )
  process.exit(1)
})
const broker = process.env.KAFKA_BROKERS
  ? { brokers: process.env.KAFKA_BROKERS, stop: async () => {} }
  : await openMockBroker(topicDeclarations.map(({ topic }) => topic))
await prepareServer(postgres.url('postgres'), ['tenantry_control', 'tenantry_data', 'tenantry_data_second', 'tenantry_telemetry'])
const urls = (role: string) => ({
  CONTROL_DATABASE_URL: postgres.url('tenantry_control', role),
  DATA_CATALOG: JSON.stringify({ main: postgres.url('tenantry_data', role), second: postgres.url('tenantry_data_second', role) }),
  TELEMETRY_CATALOG: JSON.stringify({ main: postgres.url('tenantry_telemetry', role) }),
  DATA_OWNER_CATALOG: JSON.stringify({ main: postgres.url('tenantry_data'), second: postgres.url('tenantry_data_second') }),
})
const environment = {
  NODE_ENV: 'development',
  HOST: '127.0.0.1',
  BASE_DOMAIN: 'localhost',
  KAFKA_BROKERS: broker.brokers,
  KAFKA_REPLICATION: '1',
  LOG_LEVEL: 'warn',
  METRICS_PORT: '0',
  MAIL_DIRECTORY: path.join(home, 'mail'),
  FILES_DIRECTORY: path.join(home, 'files'),
  PUBLIC_URL: `http://{host}:${process.env.PORT ?? 3000}`,
  ...localKeys(),
  ...process.env,
}
const owner = readConfig({ ...environment, ...urls('postgres') })
const config = readConfig({ ...environment, ...urls('tenantry_app') })

const failed = (await migrateEverything(owner)).filter((result) => result.error)
if (failed.length > 0) {
  process.stderr.write(`${failed.map((f) => `${f.target}: ${f.error}`).join('\n')}\n`)
  await postgres.stop()
  process.exit(1)
}
await migrateJobs(owner.CONTROL_DATABASE_URL)

const log = createLog('up', config.LOG_LEVEL)
const runtime = await createRuntime(config, log)
const workers = await startWorkers(runtime, log)
await seedDemo(runtime.services.planes, async (slug) => (await runtime.services.tenants.bySlug(slug)) !== null)
const app = await buildApp(runtime.services, log)
const metrics = await serveMetrics(Registry.merge([app.metrics, workers.metrics]), config, config.METRICS_PORT).catch((error) =>
  explainListenError(error, config.METRICS_PORT, 'METRICS_PORT'),
)
await app.listen({ host: config.HOST, port: config.PORT }).catch(async (error) => {
  await postgres.stop()
  return explainListenError(error, config.PORT, 'PORT')
})
onStop(
  log,
  [() => app.close(), () => workers.stop(), async () => metrics.close(), () => runtime.close(), () => broker.stop(), () => postgres.stop()],
  config.STOP_DEADLINE_SECONDS,
)

await workers.assigned(6_000)

const { port } = app.server.address() as { port: number }
const { port: metricsPort } = metrics.address() as { port: number }
writeFileSync(path.join(home, 'up.json'), JSON.stringify({ port, brokers: broker.brokers, control: config.CONTROL_DATABASE_URL }))
/* For other commands on this machine, such as `npm run script`, which work as the owner. */
const shared = Object.entries({ ...environment, ...urls('postgres'), KAFKA_BROKERS: broker.brokers })
  .filter(([key]) => key in ConfigSchema.properties)
  .map(([key, value]) => `${key}='${String(value).replaceAll("'", "'\\''")}'\n`)
writeFileSync(path.join(home, 'env'), shared.join(''), { mode: 0o600 })
const url = `http://acme.localhost:${port}`
say(`
Tenantry is up:  ${url}   and http://globex.localhost:${port}
API reference:   http://localhost:${port}/docs
Kafka broker:    ${broker.brokers}
PostgreSQL:      ${config.CONTROL_DATABASE_URL}
Metrics:         http://localhost:${metricsPort}/metrics

Sign in as admin@acme.example, manager@, operator@ or viewer@ (the same at globex.example), password ${DEMO_PASSWORD}

  TOKEN=$(curl -s '${url}/api/v1/auth/login?token=body' -H 'content-type: application/json' -d '{"email":"admin@acme.example","password":"${DEMO_PASSWORD}"}' | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
  curl -s ${url}/api/v1/auth/me -H "authorization: Bearer $TOKEN"
  curl -s ${url}/api/v1/erp/products -H "authorization: Bearer $TOKEN"

Mails to users are written under .tenantry/mail. Ctrl-C stops everything and keeps the data.`)
