// Makes what API and workers stand on from the configuration, and takes it down again.
import { createHmac, createSecretKey } from 'node:crypto'
import { Resolver } from 'node:dns/promises'
import type { Interceptor } from 'slonik'
import { AccessCache } from '../domain/access/index.ts'
import { Announcements, LiveEvents } from '../domain/events/index.ts'
import { OpenIdClient, SigningKeys } from '../domain/identity/index.ts'
import { Database, failure, Listener } from '../domain/kernel/index.ts'
import { Activity, ApiCalls, Catalogue } from '../domain/platform/index.ts'
import { OwnDatabases, type Planes, TenantDirectory, Vault } from '../domain/tenancy/index.ts'
import type { Services } from '../plugins/services.ts'
import { JobQueue } from '../workers/jobs.ts'
import { type KafkaOptions, Producer } from '../workers/kafka.ts'
import { announceOwn } from '../workers/relay.ts'
import type { Config } from './config.ts'
import { keeperOf } from './files.ts'
import type { Log } from './log.ts'
import { dataVersion } from './migrations.ts'
import { outboundFetch } from './outbound.ts'
import { openRedis } from './redis.ts'
import { onServer } from './storage.ts'
import { trustedProxies } from './trusted-proxies.ts'

export interface Runtime {
  config: Config
  services: Services
  producer: Producer
  kafka: KafkaOptions
  close(): Promise<void>
}

export const kafkaOptions = (config: Config): KafkaOptions => ({
  brokers: config.KAFKA_BROKERS,
  tls: config.KAFKA_TLS,
  tlsCa: config.KAFKA_TLS_CA,
  saslMechanism: config.KAFKA_SASL_MECHANISM,
  saslUsername: config.KAFKA_SASL_USERNAME,
  saslPassword: config.KAFKA_SASL_PASSWORD,
})

/** A tenant's own database has one tenant's load: a few connections are enough. */
const OWN_POOL_MAX = 4

/** A key of its own for each purpose, from the master key. */
const keyFor = (config: Config, purpose: string) =>
  createSecretKey(createHmac('sha256', Buffer.from(config.MASTER_KEY, 'base64')).update(purpose).digest())

/** Which databases may be used. */
export interface Admission {
  passed(url: string): boolean
  untilPassed(url: string): Promise<void>
}

/** For commands that work as the owner, and for tests. */
const EVERY_DATABASE: Admission = { passed: () => true, untilPassed: async () => {} }

/**
 * Opens databases lazily, so that a process starts while one is unreachable and reconnects without a restart.
 * @param admission which databases have passed their checks (server/safety.ts); the others are not used
 */
export async function createRuntime(
  config: Config,
  log: Log,
  interceptors: Interceptor[] = [],
  admission: Admission = EVERY_DATABASE,
): Promise<Runtime> {
  const opened = new Map<string, Database>()
  const listener = new Listener(config.CONTROL_DATABASE_URL)
  const jobs = new JobQueue(config.CONTROL_DATABASE_URL, { mailRetrySeconds: config.MAIL_RETRY_SECONDS })
  /** One pool a database, however many names it goes by. */
  const open = (url: string) => {
    const known =
      opened.get(url) ??
      new Database(url, {
        max: config.DATABASE_POOL_MAX,
        interceptors,
        admitted: () => admission.passed(url),
        announce: (tenantId) => announcements.say('events', tenantId),
        ...(url === config.CONTROL_DATABASE_URL ? { enqueue: jobs.enqueue, settle: () => listener.everyoneHeard() } : {}),
      })
    opened.set(url, known)
    return known
  }
  const own = new OwnDatabases((key, name, open) => {
    const url = config.DATA_CATALOG[key]
    if (!url) throw failure('database_unavailable')
    return new Database(onServer(url, name), {
      max: Math.min(config.DATABASE_POOL_MAX, OWN_POOL_MAX),
      interceptors,
      admitted: () => admission.passed(url), // the same server and the same role
      open,
      announce: (tenantId) => announcements.say('events', tenantId),
      wake: () => announceOwn(planes.control, `${key}/${name}`),
    })
  }, config.DATABASE_OWN_POOLS)
  const catalog = (urls: Record<string, string>) => new Map(Object.entries(urls).map(([key, url]) => [key, open(url)] as const))
  const planes: Planes = {
    control: open(config.CONTROL_DATABASE_URL),
    data: catalog(config.DATA_CATALOG),
    telemetry: catalog(config.TELEMETRY_CATALOG),
    own,
    dataVersion: dataVersion(),
  }

  const tenants = new TenantDirectory(planes.control, listener, config.BASE_DOMAIN.toLowerCase())
  const apiCalls = new ApiCalls(planes.control)
  const activity = new Activity(planes.control)
  const access = new AccessCache(planes.control, listener)
  const vault = new Vault(planes.control, config.MASTER_KEY)
  const keys = new SigningKeys(config.JWT_KEYS, planes.control, listener, vault)
  // The keys are read whenever the listener connects: it must not before they can be.
  if (admission.passed(config.CONTROL_DATABASE_URL)) await listener.start()
  else void admission.untilPassed(config.CONTROL_DATABASE_URL).then(() => listener.start())
  if (listener.up) await keys.load()
  else log.root.warn('The control database is away: nothing is cached until it is back')

  const dns = new Resolver({ timeout: 2_000, tries: 2 })
  const redis = config.REDIS_URL ? openRedis(config.REDIS_URL) : null
  if (redis) {
    redis.on('error', () => {}) // said where it matters: /ready, and the rate limit's own warning
    await redis.connect().catch(() => log.root.warn('Redis is away: counters are kept by this process until it is back'))
  } else {
    log.root.info('No REDIS_URL: counters are kept by this process alone')
  }

  const announcements = new Announcements(redis)
  const live = new LiveEvents(planes, tenants, announcements)
  const kafka = kafkaOptions(config)
  const producer = new Producer(kafka)
  await producer.connect(3_000).catch(() => log.root.warn('Kafka is away: events wait in the outbox'))

  const services: Services = {
    planes,
    listener,
    tenants,
    access,
    resolveTxt: dns.resolveTxt.bind(dns),
    redis,
    announcements,
    live,
    catalogue: new Catalogue(planes.control, listener),
    apiCalls,
    activity,
    keys,
    vault,
    files: keeperOf(config, vault.of),
    openId: new OpenIdClient(outboundFetch(config.NODE_ENV !== 'production') as never, config.NODE_ENV !== 'production'),
    publish: (messages) => producer.send(messages),
    pingBroker: () => producer.ping(),
    settings: {
      development: config.NODE_ENV !== 'production',
      staffMfa: config.STAFF_SECOND_FACTOR,
      baseDomain: config.BASE_DOMAIN.toLowerCase(),
      publicUrl: config.PUBLIC_URL,
      cursorKey: keyFor(config, 'cursor'),
      sealKey: keyFor(config, 'audit seals'),
      rateLimit: config.RATE_LIMIT_PER_MINUTE,
      overloadDelayMs: config.OVERLOAD_DELAY_MS,
      rateLimitAuth: config.RATE_LIMIT_AUTH_PER_MINUTE,
      trustedProxies: trustedProxies(config.TRUSTED_PROXIES ?? 'none') ?? false,
      mailIntervalSeconds: config.MAIL_INTERVAL_SECONDS,
      keepReadingsDays: config.TELEMETRY_KEEP_DAYS,
    },
  }
  return {
    config,
    services,
    producer,
    kafka,
    close: async () => {
      live.close()
      announcements.close()
      await Promise.allSettled([
        access.close(),
        apiCalls.close(),
        activity.close(),
        producer.close(),
        listener.close(),
        redis?.disconnect(),
        jobs.close(),
      ])
      await Promise.allSettled([own.closeAll(), ...[...opened.values()].map((database) => database.close())])
    },
  }
}
