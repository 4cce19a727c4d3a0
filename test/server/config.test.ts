import { generateKeyPairSync } from 'node:crypto'
import { Registry } from 'prom-client'
import t from 'tap'
import { newSigningKey } from '../../domain/identity/index.ts'
import { failure } from '../../domain/kernel/index.ts'
import { ConfigError, readConfig } from '../../server/config.ts'
import { createLog } from '../../server/log.ts'
import { serveMetrics } from '../../server/metrics-server.ts'

const curveKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
const catalog = JSON.stringify({ main: 'postgres://u:p@db/data?sslmode=require' })
const good = {
  NODE_ENV: 'production',
  BASE_DOMAIN: 'tenantry.example',
  CONTROL_DATABASE_URL: 'postgres://u:p@db/control?sslmode=require',
  TRUSTED_PROXIES: '10.0.0.0/8',
  KAFKA_TLS: 'true',
  DATA_CATALOG: catalog,
  TELEMETRY_CATALOG: catalog,
  REDIS_URL: 'rediss://cache',
  SMTP_URL: 'smtps://mail',
  FILES_DIRECTORY: '/srv/files',
  KAFKA_BROKERS: 'kafka:9092',
  MASTER_KEY: Buffer.from(Array.from({ length: 32 }, (_, i) => i)).toString('base64'),
  JWT_KEYS: JSON.stringify([newSigningKey()]),
}

t.test('a complete environment is read with its defaults, and frozen', async (t) => {
  const config = readConfig(good)
  t.match(config, {
    PORT: 3000,
    METRICS_PORT: 9464,
    DATABASE_POOL_MAX: 20,
    KAFKA_TLS: true,
    METRICS_HOST: '127.0.0.1',
    STOP_DEADLINE_SECONDS: 20,
  })
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
    [{ JWT_KEYS: '["-----BEGIN PRIVATE KEY-----\\nabc"]' }, /^JWT_KEYS: must be RSA private keys/],
    [{ JWT_KEYS: JSON.stringify([newSigningKey(), curveKey]) }, /^JWT_KEYS: must be RSA private keys/],
    [{ KAFKA_SASL_MECHANISM: 'PLAIN', KAFKA_TLS: 'false', ALLOW_PLAINTEXT: 'kafka' }, /KAFKA_TLS: a SASL password/],
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

const refusal = (change: Record<string, string>): string => {
  try {
    readConfig({ ...good, ...change })
    return ''
  } catch (error) {
    return (error as Error).message
  }
}

t.test('F20: production does not start before TRUSTED_PROXIES says what stands in front', async (t) => {
  t.match(refusal({ TRUSTED_PROXIES: '' }), /TRUSTED_PROXIES: needed in production/)
  for (const text of ['none', '1', '16', '10.0.0.1', '10.0.0.0/8, 2001:db8::/32', '::1'])
    t.equal(refusal({ TRUSTED_PROXIES: text }), '', text)
  for (const text of [
    'true',
    'loopback',
    '0',
    '17',
    '-1',
    '10.0.0.0/33',
    '2001:db8::/129',
    '10.0.0.0/8,',
    '10.0.0/8',
    'proxy.example',
    '1.5',
  ])
    t.match(refusal({ TRUSTED_PROXIES: text }), /TRUSTED_PROXIES: is none, a number/, text)
  t.equal(readConfig({ ...good, NODE_ENV: 'development', TRUSTED_PROXIES: '' }).TRUSTED_PROXIES, undefined)
})

t.test('R8: production encrypts what leaves the machine, unless a variable names what may not be', async (t) => {
  const plain = 'postgres://u:p@db/x'
  for (const [change, name, waiver] of [
    [{ CONTROL_DATABASE_URL: plain }, 'CONTROL_DATABASE_URL', 'postgres'],
    [{ CONTROL_DATABASE_URL: `${plain}?sslmode=disable` }, 'CONTROL_DATABASE_URL', 'postgres'],
    [{ CONTROL_DATABASE_URL: `${plain}?sslmode=no-verify` }, 'CONTROL_DATABASE_URL', 'postgres'],
    [{ DATA_CATALOG: JSON.stringify({ main: `${plain}?sslmode=require`, eu: plain }) }, 'DATA_CATALOG', 'postgres'],
    [{ TELEMETRY_CATALOG: JSON.stringify({ main: plain }) }, 'TELEMETRY_CATALOG', 'postgres'],
    [{ DATA_OWNER_CATALOG: JSON.stringify({ main: plain }) }, 'DATA_OWNER_CATALOG', 'postgres'],
    [{ REDIS_URL: 'redis://cache' }, 'REDIS_URL', 'redis'],
    [{ KAFKA_TLS: 'false' }, 'KAFKA_TLS', 'kafka'],
  ] as const) {
    t.match(refusal(change), new RegExp(`^${name}: needs .*ALLOW_PLAINTEXT must name ${waiver}$`), JSON.stringify(change))
    t.equal(refusal({ ...change, ALLOW_PLAINTEXT: waiver }), '')
    t.match(refusal({ ...change, ALLOW_PLAINTEXT: waiver === 'redis' ? 'kafka' : 'redis' }), new RegExp(`^${name}:`))
  }
  t.match(refusal({ ALLOW_PLAINTEXT: 'all' }), /ALLOW_PLAINTEXT/)
  for (const url of ['postgres:///control?host=/run/postgresql', 'postgres://u@%2Frun%2Fpostgresql/control', 'postgres:///control'])
    t.equal(refusal({ CONTROL_DATABASE_URL: url }), '', `${url}: a socket of this machine`)
  for (const url of ['postgres:///control?host=db.example', 'postgres://u@db.example/control?host='])
    t.match(refusal({ CONTROL_DATABASE_URL: url }), /^CONTROL_DATABASE_URL: needs/, url)
  t.match(refusal({ METRICS_HOST: '0.0.0.0' }), /METRICS_TOKEN: needed in production/)
  t.equal(refusal({ METRICS_HOST: '0.0.0.0', METRICS_TOKEN: 'a'.repeat(24) }), '')
  t.match(refusal({ METRICS_TOKEN: 'short' }), /METRICS_TOKEN/)
})

t.test('R8: /metrics asks for its token', async (t) => {
  const registry = new Registry()
  const server = await serveMetrics(registry, { METRICS_HOST: '127.0.0.1', METRICS_TOKEN: 'correct-horse-battery-staple' }, 0)
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as { port: number }).port}/metrics`
  const status = async (authorization?: string) => (await fetch(url, authorization ? { headers: { authorization } } : {})).status
  t.equal(await status(), 401)
  t.equal(await status('Bearer wrong'), 401)
  t.equal(await status('Bearer correct-horse-battery-staple'), 200)
})

t.test('F25: no bind value of an error reaches the log, however deep it is nested', async (t) => {
  const lines: string[] = []
  const log = createLog('api', 'info', { write: (line) => void lines.push(line) })
  const driver = Object.assign(new Error('duplicate key value violates unique constraint "res_users__email_key"'), {
    code: '23505',
    constraint: 'res_users__email_key',
    detail: 'Key (email)=(canary-1@person.example) already exists.',
    where: 'canary-2',
  })
  const wrapped = Object.assign(new Error('Query violates a constraint.', { cause: driver }), {
    sql: 'insert into res_users values ($1, $2)',
    values: ['$argon2id$canary-3', 'canary-4'],
  })
  const input = Object.assign(new Error('invalid input syntax for type uuid: "canary-5"'), { code: '22P02' })
  const many = Object.assign(new AggregateError([wrapped, input], 'both'), { cause: { values: ['x'], password: 'canary-6' } })
  log.root.error({ err: wrapped }, 'failed')
  log.ofRequest('c', 't').error(many, 'failed')
  log.root.warn({ reason: wrapped, deeper: [{ error: input }] }, 'failed')
  log.root.error(failure('already_exists'), 'failed')
  for (const line of lines) t.notMatch(line, /canary|argon2/)
  t.match(JSON.parse(lines[0]!).err, {
    type: 'Error',
    message: 'Query violates a constraint.',
    stack: /^\s+at /,
    cause: { code: '23505', constraint: 'res_users__email_key', message: /duplicate key value/ },
  })
  t.match(JSON.parse(lines[1]!).err, { type: 'AggregateError', errors: [{ type: 'Error' }, { code: '22P02' }] })
  t.match(JSON.parse(lines[3]!).err, { type: 'Failure', detail: 'already_exists' })
})
