// The real services that the whole run shares; test/support/run.ts starts them and hands their addresses on.
import { createHash } from 'node:crypto'
import path from 'node:path'
import { Client } from 'pg'
import { newSigningKey } from '../../domain/identity/index.ts'
import type { Plane } from '../../domain/tenancy/index.ts'
import { type Config, readConfig } from '../../server/config.ts'
import { prepareServer } from '../../server/embedded/postgres.ts'
import { createLog } from '../../server/log.ts'
import { migrateAll } from '../../server/migrations.ts'
import { createRuntime, type Runtime } from '../../server/runtime.ts'
import { migrateJobs } from '../../workers/jobs.ts'
import { recordStatements } from './statements.ts'

export interface TestServices {
  /** URLs with a role that may do anything, for arranging what the application could not do. */
  admin: { control: string; data: string; telemetry: string; second: string }
  /** `second` is a data plane on another server. */
  app: { control: string; data: string; telemetry: string; second: string }
  brokers: string
  /** Whether that is Apache Kafka itself, which keeps more than a few megabytes. */
  realBroker?: boolean
  redis: string | null
  /** A real SMTP server, and the folder where what it took is laid, a file a mail. */
  smtp: { url: string; folder: string }
}

export function testServices(): TestServices {
  const text = process.env.TENANTRY_TEST_SERVICES
  if (!text) throw new Error('run the tests with npm test: it starts the services they need')
  return JSON.parse(text) as TestServices
}

/** A connection of its own, closed at the end of the test. */
export async function connectTo(t: { teardown(work: () => unknown): void }, connectionString: string): Promise<Client> {
  const client = new Client({ connectionString })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** A folder for files that the whole run shares: a job of one test may be done by the worker of another. */
export const sharedFilesDirectory = (): string => path.join(path.dirname(testServices().smtp.folder), 'files')

// One key for all files of a run would need a file; a key a process proves nothing less.
const signingKey = newSigningKey()

/** A database of its own on the shared server; dropped at the end. */
async function ownDatabase(t: { teardown(work: () => unknown): void }, plane: Plane): Promise<{ admin: string; app: string }> {
  const shared = testServices()
  const name = `tenantry_test_${plane}_${process.pid}`
  const at = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href
  await prepareServer(shared.admin.control, [name])
  const admin = at(shared.admin.control)
  const [result] = await migrateAll([{ name: plane, plane, url: admin }])
  if (result?.error) throw new Error(result.error)
  t.teardown(async () => {
    const client = new Client({ connectionString: shared.admin.control })
    await client.connect()
    await client.query(`drop database if exists ${name} with (force)`)
    await client.end()
  })
  return { admin, app: at(shared.app.control) }
}

/** A control plane of its own, for tests that change what belongs to everybody; dropped at the end. */
export async function ownControlPlane(t: { teardown(work: () => unknown): void }): Promise<{ admin: string; app: string }> {
  const plane = await ownDatabase(t, 'control')
  await migrateJobs(plane.admin)
  return plane
}

/** A telemetry plane of its own, for tests whose readings no other test's upkeep may move or let go of; dropped at the end. */
export async function ownTelemetryPlane(t: { teardown(work: () => unknown): void }): Promise<{ TELEMETRY_CATALOG: string }> {
  return { TELEMETRY_CATALOG: JSON.stringify({ main: (await ownDatabase(t, 'telemetry')).app }) }
}

/**
 * Databases of its own for all planes, for a relay that publishes to a broker of its own: on the shared databases it would
 * publish the events of other tests where nobody reads them.
 */
export async function ownPlanes(t: { teardown(work: () => unknown): void }) {
  const control = await ownControlPlane(t)
  const data = await ownDatabase(t, 'data')
  const telemetry = await ownDatabase(t, 'telemetry')
  return {
    CONTROL_DATABASE_URL: control.app,
    DATA_CATALOG: JSON.stringify({ main: data.app }),
    TELEMETRY_CATALOG: JSON.stringify({ main: telemetry.app }),
  }
}

/** A configuration on the shared services. */
export function testConfig(overrides: Partial<Record<keyof Config, string>> = {}): Config {
  const { app, brokers, redis, smtp } = testServices()
  return readConfig({
    NODE_ENV: 'test',
    BASE_DOMAIN: 'localhost',
    HOST: '127.0.0.1',
    PORT: '0',
    METRICS_PORT: '0',
    LOG_LEVEL: 'silent',
    SMTP_URL: smtp.url,
    MAIL_RETRY_SECONDS: '1',
    PUBLIC_URL: 'http://{host}',
    CONTROL_DATABASE_URL: app.control,
    DATA_CATALOG: JSON.stringify({ main: app.data, second: app.second }),
    TELEMETRY_CATALOG: JSON.stringify({ main: app.telemetry }),
    DATABASE_POOL_MAX: '12',
    KAFKA_BROKERS: brokers,
    KAFKA_REPLICATION: '1',
    MASTER_KEY: createHash('sha256').update('test').digest('base64'),
    JWT_KEYS: JSON.stringify([signingKey]),
    // Tests share few cores with the services they test.
    OVERLOAD_DELAY_MS: '0',
    STAFF_SECOND_FACTOR: 'false',
    RATE_LIMIT_PER_MINUTE: '1000000',
    RATE_LIMIT_AUTH_PER_MINUTE: '1000000',
    ...(redis ? { REDIS_URL: redis } : {}),
    ...overrides,
  })
}

/** URLs that may make schemas and databases on the servers of the data plane. */
export const dataOwners = (): Record<string, string> => {
  const { admin } = testServices()
  return { main: admin.data, second: admin.second }
}

/** Silent, unless TENANTRY_TEST_LOG names a level: then it goes to stderr. */
export const quietLog = createLog(
  'test',
  process.env.TENANTRY_TEST_LOG ?? 'silent',
  process.env.TENANTRY_TEST_LOG ? process.stderr : undefined,
)

export const testRuntime = (overrides: Partial<Record<keyof Config, string>> = {}): Promise<Runtime> =>
  createRuntime(testConfig(overrides), quietLog, recordStatements())
