import t from 'tap'
import { newSigningKey } from '../../domain/identity/index.ts'
import { ConfigError, readConfig } from '../../server/config.ts'
import { createLog } from '../../server/log.ts'

const catalog = JSON.stringify({ main: 'postgres://u:p@db/data' })
const good = {
  NODE_ENV: 'production',
  BASE_DOMAIN: 'tenantry.example',
  CONTROL_DATABASE_URL: 'postgres://u:p@db/control',
  DATA_CATALOG: catalog,
  TELEMETRY_CATALOG: catalog,
  REDIS_URL: 'redis://cache',
  SMTP_URL: 'smtps://mail',
  FILES_DIRECTORY: '/srv/files',
  KAFKA_BROKERS: 'kafka:9092',
  MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64'),
  JWT_KEYS: JSON.stringify([newSigningKey()]),
}

t.test('a complete environment is read with its defaults, and frozen', async (t) => {
  const config = readConfig(good)
  t.match(config, { PORT: 3000, METRICS_PORT: 9464, DATABASE_POOL_MAX: 20, KAFKA_TLS: false })
  t.throws(() => Object.assign(config, { PORT: 1 }))
})

t.test('a missing or unsafe value stops the start and says which', async (t) => {
  for (const [change, says] of [
    [{ CONTROL_DATABASE_URL: '' }, /CONTROL_DATABASE_URL/],
    [{ CONTROL_DATABASE_URL: 'mysql://x' }, /CONTROL_DATABASE_URL/],
    [{ DATA_CATALOG: '{' }, /DATA_CATALOG is not valid JSON/],
    [{ DATA_CATALOG: '{"eu":"postgres://x"}' }, /DATA_CATALOG: must have the key main/],
    [{ PORT: 'x' }, /PORT/],
    [{ REDIS_URL: '' }, /REDIS_URL: needed in production/],
    [{ SMTP_URL: '' }, /SMTP_URL: needed in production/],
    [{ FILES_DIRECTORY: '' }, /FILES_DIRECTORY: this or FILES_S3_BUCKET/],
    [{ PUBLIC_URL: 'http://{host}' }, /PUBLIC_URL: .*https/],
    [{ BASE_DOMAIN: 'localhost' }, /BASE_DOMAIN/],
    [{ MASTER_KEY: Buffer.alloc(32).toString('base64') }, /MASTER_KEY: is not random/],
    [{ MASTER_KEY: 'short' }, /MASTER_KEY/],
    [{ JWT_KEYS: '[]' }, /JWT_KEYS/],
    [{ KAFKA_SASL_MECHANISM: 'PLAIN' }, /KAFKA_TLS: a SASL password/],
  ] as const) {
    try {
      readConfig({ ...good, ...change })
      t.fail(JSON.stringify(change))
    } catch (error) {
      t.ok(error instanceof ConfigError)
      t.match((error as Error).message, says)
      t.notMatch((error as Error).message, /PRIVATE KEY/)
    }
  }
  t.ok(readConfig({ ...good, NODE_ENV: 'development', REDIS_URL: '', BASE_DOMAIN: 'localhost' }))
})

t.test('every log line has the required fields once, and no secret', async (t) => {
  const lines: string[] = []
  const log = createLog('api', 'info', { write: (line) => void lines.push(line) })
  log.root.info('plain')
  log.root.warn({ port: 1, password: 'canary-1', body: { password: 'canary-2', token: 'canary-3' } }, 'with data')
  log.ofRequest('c-1', 't-1').info({ headers: { authorization: 'canary-4', cookie: 'canary-5' } }, 'request')
  log
    .ofRequest('c-2')
    .child({ user_id: 'u-1' })
    .error({ err: new Error('x') }, 'failed')
  const ring: Record<string, unknown> = { at: new Date(0), url: new URL('http://x/'), deep: { deeper: [{ token: 'canary-6' }] } }
  ring.self = ring
  log.root.info({ ring }, 'a ring')
  t.equal(lines.length, 5)
  for (const line of lines) {
    const fields = ['timestamp', 'level', 'service', 'message', 'correlation_id', 'tenant_id', 'context', 'data']
    t.same(
      fields.filter((field) => !(field in JSON.parse(line))),
      [],
      line,
    )
    for (const field of fields.slice(0, 7).filter((name) => name !== 'message'))
      t.equal(line.split(`"${field}":`).length, 2, `${field} once`)
    t.notMatch(line, /canary/)
  }
  t.match(JSON.parse(lines[2]!), { correlation_id: 'c-1', tenant_id: 't-1', level: 'info', service: 'api' })
  t.match(JSON.parse(lines[4]!).data.ring, { at: '1970-01-01T00:00:00.000Z', url: 'http://x/', deep: { deeper: [{ token: '***' }] } })
  t.match(JSON.parse(lines[3]!), { correlation_id: 'c-2', user_id: 'u-1', err: { message: 'x' } })
})
