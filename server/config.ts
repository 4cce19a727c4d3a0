// Configuration: read once from the environment, validated, frozen, passed in. docs/configuration.md is generated from here.
import { createPrivateKey } from 'node:crypto'
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { trustedProxies } from './trusted-proxies.ts'

const Url = (scheme: string, description: string) => Type.String({ pattern: `^${scheme}://`, description })
const Port = (port: number, description: string) => Type.Integer({ minimum: 0, maximum: 65_535, default: port, description })

export const ConfigSchema = Type.Object({
  NODE_ENV: Type.Unsafe<'development' | 'test' | 'production'>({
    type: 'string',
    enum: ['development', 'test', 'production'],
    default: 'production',
    description: 'Anything but production relaxes cookies and allows demo data.',
  }),
  HOST: Type.String({ default: '0.0.0.0', description: 'Address to listen on.' }),
  PORT: Port(3000, 'Port of the API.'),
  METRICS_PORT: Port(9464, 'Port of /metrics, kept apart so that it need not be public; 0 picks a free one.'),
  METRICS_HOST: Type.String({
    default: '127.0.0.1',
    description: 'Address that /metrics listens on; production refuses one that is not loopback without METRICS_TOKEN.',
  }),
  METRICS_TOKEN: Type.Optional(
    Type.String({ minLength: 24, description: 'Bearer token that /metrics asks for; without it none is asked for. Secret.' }),
  ),
  WORKER_METRICS_PORT: Port(0, 'Port of /metrics of a worker process; 0 picks a free one, which its log names.'),
  TRUSTED_PROXIES: Type.Optional(
    Type.String({
      description:
        'Proxies whose X-Forwarded-For counts: `none`, addresses and networks (`10.0.0.0/8,2001:db8::1`), or a number of hops where nothing else reaches the port. Production refuses to start without; elsewhere `none`.',
    }),
  ),
  ALLOW_PLAINTEXT: Type.Optional(
    Type.String({
      pattern: '^(postgres|kafka|redis)(,(postgres|kafka|redis))*$',
      description:
        'Connections that production may leave without TLS, comma-separated: `postgres`, `kafka`, `redis`. Only where the network between is trusted.',
    }),
  ),
  STOP_DEADLINE_SECONDS: Type.Integer({
    minimum: 1,
    maximum: 600,
    default: 20,
    description: 'After SIGTERM a process that has not ended within this time is killed, even where its main thread hangs.',
  }),
  BASE_DOMAIN: Type.String({ minLength: 1, description: 'Tenants answer at slug.BASE_DOMAIN.' }),
  CONTROL_DATABASE_URL: Url(
    'postgres(ql)?',
    'Control plane. The API and workers connect as a member of tenantry_app, `npm run migrate` as a member of tenantry_owner.',
  ),
  DATA_CATALOG: Type.Record(Type.String(), Url('postgres(ql)?', ''), {
    description: 'JSON: key → URL of each data-plane database; `main` must be there.',
  }),
  TELEMETRY_CATALOG: Type.Record(Type.String(), Url('postgres(ql)?', ''), {
    description: 'JSON: key → URL of each telemetry database; `main` must be there.',
  }),
  DATABASE_POOL_MAX: Type.Integer({
    minimum: 2,
    maximum: 500,
    default: 20,
    description: 'Connections at most, for each database and process.',
  }),
  DATABASE_OWN_POOLS: Type.Integer({
    minimum: 1,
    maximum: 10_000,
    default: 40,
    description: 'Tenants’ own databases that a process keeps open at once, with up to four connections each; idle ones are let go.',
  }),
  DATA_OWNER_CATALOG: Type.Optional(
    Type.Record(Type.String(), Url('postgres(ql)?', ''), {
      description:
        'JSON: the keys of DATA_CATALOG → URLs that may create schemas and databases there. Only for the workers `tenants`, which makes tenants, and `moves`, which moves them, and for `npm run migrate`. Secret.',
    }),
  ),
  REDIS_URL: Type.Optional(Url('rediss?', 'Shared counters. Without it a process counts for itself, which production refuses.')),
  KAFKA_BROKERS: Type.String({ minLength: 1, description: 'host:port, comma-separated.' }),
  KAFKA_TLS: Type.Boolean({ default: false, description: 'Encrypt the connection to the brokers.' }),
  KAFKA_TLS_CA: Type.Optional(Type.String({ description: 'File with the certificate authority of the brokers (PEM).' })),
  KAFKA_SASL_MECHANISM: Type.Optional(
    Type.Unsafe<string>({
      type: 'string',
      enum: ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'],
      description: 'How to sign in to the brokers.',
    }),
  ),
  KAFKA_SASL_USERNAME: Type.Optional(Type.String({ description: 'User at the brokers.' })),
  KAFKA_SASL_PASSWORD: Type.Optional(Type.String({ description: 'Password at the brokers. Secret.' })),
  KAFKA_REPLICATION: Type.Integer({
    minimum: 1,
    maximum: 9,
    default: 3,
    description: 'Copies of each topic that `npm run migrate` creates.',
  }),
  MASTER_KEY: Type.String({
    pattern: '^[A-Za-z0-9+/]{43}=$',
    description: '32 random bytes in base64: signs cursors, wraps the tenants’ keys. Secret.',
  }),
  JWT_KEYS: Type.Array(Type.String({ pattern: 'PRIVATE KEY' }), {
    minItems: 1,
    description: 'JSON array of RSA private keys in PEM, newest first: the first signs, all verify. Secret.',
  }),
  SMTP_URL: Type.Optional(
    Url('smtps?', 'Where mails are handed over: smtp://user:password@host:587. Production refuses to start without. Secret.'),
  ),
  MAIL_FROM: Type.String({ default: 'Tenantry <no-reply@localhost>', description: 'Sender of mails to users.' }),
  MAIL_DIRECTORY: Type.Optional(Type.String({ description: 'Without SMTP_URL mails are written into this folder.' })),
  MAIL_RETRY_SECONDS: Type.Integer({
    minimum: 1,
    maximum: 3600,
    default: 15,
    description: 'Wait before a mail that the server did not take is tried again; doubles each time, up to an hour.',
  }),
  MAIL_INTERVAL_SECONDS: Type.Integer({
    minimum: 0,
    maximum: 86_400,
    default: 300,
    description:
      'Between two mails of one kind to one account that are asked for by request: password resets, address changes, invitations.',
  }),
  PUBLIC_URL: Type.String({
    default: 'https://{host}',
    pattern: '^https?://',
    description:
      'Where a tenant’s pages are, for links in mails; {host} is its host name. Its scheme and port are those of the origins that CORS and the check of cookies accept.',
  }),
  FILES_DIRECTORY: Type.Optional(
    Type.String({ description: 'Folder for files, shared by all processes of the API. This or FILES_S3_BUCKET.' }),
  ),
  FILES_S3_BUCKET: Type.Optional(Type.String({ description: 'Bucket for files, in a store that speaks S3.' })),
  FILES_S3_ENDPOINT: Type.Optional(Url('https?', 'The store’s address; Amazon’s when nothing is said.')),
  FILES_S3_REGION: Type.String({ default: 'us-east-1', description: 'Region of the bucket.' }),
  FILES_S3_ACCESS_KEY: Type.Optional(Type.String({ description: 'Key id at the store.' })),
  FILES_S3_SECRET_KEY: Type.Optional(Type.String({ description: 'Secret key at the store. Secret.' })),
  FILES_INCOMING: Type.Optional(
    Type.String({
      description: 'Folder for files that are just coming in; beside FILES_DIRECTORY, or the system’s, when nothing is said.',
    }),
  ),
  FILES_MAX_BYTES: Type.Integer({ minimum: 1, default: 25 * 1024 * 1024, description: 'Bytes of one file at most.' }),
  FILES_TYPES: Type.Optional(
    Type.String({
      pattern: '^[a-z0-9.+*/-]+(,[a-z0-9.+*/-]+)*$',
      description: 'Media types of files that are taken, separated by commas; pictures, PDF, text, XML and office documents by default.',
    }),
  ),
  EXPORT_KEEP_DAYS: Type.Integer({
    minimum: 1,
    maximum: 365,
    default: 7,
    description: 'Days after which the file of an export is removed.',
  }),
  CLAMD_ADDRESS: Type.Optional(
    Type.String({
      pattern: ':\\d{1,5}$',
      description: 'host:port of clamd, which sees every file before it is served; without it files are served unscanned.',
    }),
  ),
  CLAMD_TIMEOUT_MS: Type.Integer({
    minimum: 100,
    default: 30_000,
    description: 'A file stays in quarantine when clamd is silent for this long, in milliseconds.',
  }),
  TELEMETRY_KEEP_DAYS: Type.Integer({
    minimum: 31,
    maximum: 36_500,
    default: 3_653,
    description: 'Readings are kept for so many days, whole months of them; older ones are refused.',
  }),
  OVERLOAD_DELAY_MS: Type.Integer({
    minimum: 0,
    default: 2_000,
    description: 'Requests are refused with `overloaded` while the event loop is later than this; 0 never refuses for that.',
  }),
  STAFF_SECOND_FACTOR: Type.Boolean({
    default: true,
    description: 'Platform staff needs a second factor. Production refuses to start without.',
  }),
  LOG_LEVEL: Type.Unsafe<string>({
    type: 'string',
    enum: ['fatal', 'error', 'warn', 'info', 'debug', 'silent'],
    default: 'info',
    description: 'How much is logged.',
  }),
  RATE_LIMIT_PER_MINUTE: Type.Integer({
    minimum: 1,
    default: 6000,
    description: 'Requests a minute for one user, or for one address without a session.',
  }),
  RATE_LIMIT_AUTH_PER_MINUTE: Type.Integer({
    minimum: 1,
    default: 30,
    description: 'Sign-in attempts a minute for one address in one tenant.',
  }),
})

export type Config = Readonly<Static<typeof ConfigSchema>>

export class ConfigError extends Error {}

/** Reads one variable as its schema's type; objects and arrays are JSON. */
function read(name: string, schema: TSchema, text: string): unknown {
  const { type } = schema as { type?: string }
  if (type !== 'object' && type !== 'array') return Value.Convert(schema, text)
  try {
    return JSON.parse(text)
  } catch {
    throw new ConfigError(`${name} is not valid JSON`)
  }
}

/** Whether a text is an RSA private key in PEM, without a passphrase. */
function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'rsa'
  } catch {
    return false
  }
}

/** The configuration of this process. Throws `ConfigError` with one line for every wrong or unsafe value. */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const given: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(ConfigSchema.properties)) {
    const text = environment[name]
    if (text !== undefined && text !== '') given[name] = read(name, schema, text)
  }
  const config = Value.Default(ConfigSchema, given)
  const wrong = Value.Errors(ConfigSchema, config).map(
    (e) => `${e.instancePath.slice(1) || (e.params as { requiredProperties?: string[] }).requiredProperties?.join(', ')}: ${e.message}`,
  )
  if (wrong.length > 0) throw new ConfigError(wrong.join('\n'))
  const checked = config as Static<typeof ConfigSchema>
  const unsafe = [
    ...['DATA_CATALOG', 'TELEMETRY_CATALOG']
      .filter((name) => !(checked as unknown as Record<string, Record<string, string>>)[name]!.main)
      .map((name) => `${name}: must have the key main`),
    ...(checked.TRUSTED_PROXIES !== undefined && trustedProxies(checked.TRUSTED_PROXIES) === null
      ? ['TRUSTED_PROXIES: is none, a number of hops from 1 to 16, or addresses and networks, comma-separated']
      : []),
    ...(checked.JWT_KEYS.every(isRsaKey)
      ? []
      : ['JWT_KEYS: must be RSA private keys in PEM; make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`']),
    ...(checked.NODE_ENV === 'production' ? production(checked) : []),
  ]
  if (unsafe.length > 0) throw new ConfigError(unsafe.join('\n'))
  return Object.freeze(checked)
}

/** What is fine on a laptop and dangerous with customers. */
function production(config: Static<typeof ConfigSchema>): string[] {
  const refusals: string[] = []
  if (!config.STAFF_SECOND_FACTOR) refusals.push('STAFF_SECOND_FACTOR: platform staff needs a second factor in production')
  if (!config.REDIS_URL) refusals.push('REDIS_URL: needed in production, where limits must hold across processes')
  if (!config.SMTP_URL) refusals.push('SMTP_URL: needed in production, where people get their invitations by mail')
  if (!config.FILES_DIRECTORY && !config.FILES_S3_BUCKET)
    refusals.push('FILES_DIRECTORY: this or FILES_S3_BUCKET is needed in production, where files must outlive the process')
  if (config.PUBLIC_URL.startsWith('http:')) refusals.push('PUBLIC_URL: links in mails carry secrets and must be https')
  if (config.BASE_DOMAIN === 'localhost') refusals.push('BASE_DOMAIN: localhost is for development')
  if (new Set(Buffer.from(config.MASTER_KEY, 'base64')).size < 8)
    refusals.push('MASTER_KEY: is not random; make one with `openssl rand -base64 32`')
  if (config.TRUSTED_PROXIES === undefined)
    refusals.push('TRUSTED_PROXIES: needed in production: none, a number of hops, or the addresses of the proxies in front')
  if (!LOOPBACK.test(config.METRICS_HOST) && !config.METRICS_TOKEN)
    refusals.push('METRICS_TOKEN: needed in production where METRICS_HOST is not loopback')
  refusals.push(...plaintext(config))
  if (config.KAFKA_SASL_MECHANISM && !config.KAFKA_TLS) refusals.push('KAFKA_TLS: a SASL password must not travel in the clear')
  return refusals
}

const LOOPBACK = /^(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1|localhost)$/

/** Whether a connection to PostgreSQL is encrypted and the server's certificate verified, or never leaves the machine. */
function isSealed(url: string): boolean {
  if (!URL.canParse(url)) return false
  const { host, searchParams } = new URL(url)
  // `require` verifies too in both of our clients; one of them does not know the other spellings.
  if (searchParams.get('sslmode') === 'require') return true
  const server = searchParams.get('host') || decodeURIComponent(host)
  return server === '' || server.startsWith('/')
}

/** Connections that would travel in the clear, and are not named in ALLOW_PLAINTEXT. */
function plaintext(config: Static<typeof ConfigSchema>): string[] {
  const allowed = new Set(config.ALLOW_PLAINTEXT?.split(','))
  const refuse = (what: string, name: string, instead: string) =>
    allowed.has(what) ? [] : [`${name}: ${instead}, or ALLOW_PLAINTEXT must name ${what}`]
  const urls = {
    CONTROL_DATABASE_URL: [config.CONTROL_DATABASE_URL],
    DATA_CATALOG: Object.values(config.DATA_CATALOG),
    TELEMETRY_CATALOG: Object.values(config.TELEMETRY_CATALOG),
    DATA_OWNER_CATALOG: Object.values(config.DATA_OWNER_CATALOG ?? {}),
  }
  return [
    ...Object.entries(urls)
      .filter(([, list]) => !list.every(isSealed))
      .flatMap(([name]) => refuse('postgres', name, 'needs ?sslmode=require in production')),
    ...(config.REDIS_URL && !config.REDIS_URL.startsWith('rediss:') ? refuse('redis', 'REDIS_URL', 'needs rediss:// in production') : []),
    ...(config.KAFKA_TLS ? [] : refuse('kafka', 'KAFKA_TLS', 'needs to be true in production')),
  ]
}
