import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { sharedFor } from '../domain/kernel/index.ts'
import { consumerCounts } from '../domain/platform/index.ts'
import { namedDatabases } from '../domain/tenancy/index.ts'

const Probe = Type.Unsafe<'up' | 'down' | 'off'>({ type: 'string', enum: ['up', 'down', 'off'] })
const PROBE_MS = 2_000
/** How long an answer of /ready is reused, in ms. */
const READY_MS = 1_000

const probe = async (work: () => Promise<unknown>): Promise<'up' | 'down'> => {
  const late = new Promise<never>((_, reject) => setTimeout(reject, PROBE_MS, new Error('late')).unref())
  return Promise.race([work(), late]).then(
    () => 'up' as const,
    () => 'down' as const,
  )
}

/** `/health`: the process is alive. `/ready`: each dependency by name; 503 while the control plane is down, `degraded` while anything else is. */
export default async function health(app: FastifyInstance) {
  const { planes, redis, pingBroker } = app.services
  const open = { public: true, tenantless: true } as const
  const probed = { ...open, config: { probe: true } } as const
  app.get(
    '/health',
    {
      ...probed,
      schema: { tags: ['operations'], summary: 'Is the process alive', response: { 200: Type.Object({ status: Type.Literal('ok') }) } },
    },
    async () => ({ status: 'ok' as const }),
  )

  const Ready = Type.Object({
    status: Type.Unsafe<'ready' | 'degraded' | 'unavailable'>({ type: 'string', enum: ['ready', 'degraded', 'unavailable'] }),
    checks: Type.Record(Type.String(), Probe),
  })
  app.get(
    '/ready',
    { ...probed, schema: { tags: ['operations'], summary: 'Which dependencies answer', response: { 200: Ready, 503: Ready } } },
    async (_request, reply) => {
      const answer = await ready()
      reply.status(answer.status === 'unavailable' ? 503 : 200)
      return answer
    },
  )

  /** The state of the dependencies within the last second; parallel requests cost one check. */
  const ready = sharedFor(READY_MS, ask)

  /** Down while a Kafka consumer of any worker makes no progress; off while no worker reports. */
  async function consumers(): Promise<'up' | 'down' | 'off'> {
    let counts = { reporting: 0, stalled: 0 }
    // A control plane that is away is told on its own.
    await probe(async () => {
      counts = await planes.control.platform(consumerCounts)
    })
    return counts.stalled > 0 ? 'down' : counts.reporting > 0 ? 'up' : 'off'
  }

  async function ask(): Promise<Static<typeof Ready>> {
    const databases = namedDatabases(planes)
    const entries = await Promise.all([
      ...databases.map(async ([name, db]) => [name, await probe(() => db.ping())] as const),
      (async () => ['kafka', await probe(pingBroker)] as const)(),
      (async () => ['consumers', await consumers()] as const)(),
      (async () => ['redis', redis ? await probe(() => redis.ping()) : ('off' as const)] as const)(),
    ])
    const checks = Object.fromEntries(entries)
    // Without the control plane no request is answered. Everything else stops some tenants or some work: taking the process out
    // of service for it would stop all of them.
    const status = checks.control === 'down' ? 'unavailable' : Object.values(checks).includes('down') ? 'degraded' : 'ready'
    return { status, checks }
  }

  app.get(
    '/.well-known/jwks.json',
    {
      ...open,
      schema: {
        tags: ['auth'],
        summary: 'Public keys of the access tokens, by kid',
        response: { 200: Type.Object({ keys: Type.Array(Type.Object({}, { additionalProperties: true })) }) },
      },
    },
    async (_request, reply) => {
      reply.header('cache-control', 'public, max-age=300')
      return app.services.keys.jwks
    },
  )
}
