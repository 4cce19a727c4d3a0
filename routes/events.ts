// What happens, as it happens: Server-Sent Events (WHATWG HTML, 9.2), gone on from where the reader left.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { checkContext, grantsOfKey, matches, mayHear } from '../domain/access/index.ts'
import type { StreamedEvent, Watcher } from '../domain/events/index.ts'
import { failure, systemScope } from '../domain/kernel/index.ts'
import { latestReadings } from '../domain/telemetry/index.ts'
import { accessMode, databaseOf } from '../domain/tenancy/index.ts'
import { guarded } from './http/envelope.ts'

const HEARTBEAT_MS = 15_000
/** So much may wait for a reader; who is slower is let go, and goes on where he left. */
const MOST_WAITING = 256 * 1024
const STREAMS_OF_A_USER = 10
/** New readings are looked for so often at most. */
const READINGS_MS = 1_000
const READ_SERIES = 1_000
/** A change of rights is looked at so soon. */
const CHECK_MS = 50

const Query = Type.Object(
  {
    types: Type.Optional(
      Type.String({
        maxLength: 2_000,
        description: 'Types of events with commas between, `erp.*` and `*.approved` for many; all that one may read when nothing is said',
        examples: ['erp.purchase_order.*,telemetry.alert.raised'],
      }),
    ),
    readings: Type.Optional(
      Type.String({ maxLength: 8_000, description: 'Codes of devices with commas between, whose latest readings are wanted as well' }),
    ),
    last_event_id: Type.Optional(
      Type.String({ maxLength: 8_000, description: 'For a first connection; a reader that reconnects sends the header `Last-Event-ID`' }),
    ),
  },
  { additionalProperties: false },
)

/** Whether a type is one of those asked for. */
function typeFilter(types: string | undefined): (type: string) => boolean {
  const patterns = types?.split(',').filter(Boolean)
  return (type) => patterns === undefined || patterns.some((pattern) => matches(pattern, type))
}

/** Who may see an event may read what it is of: `erp.purchase_order.approved` takes `erp.purchase_order.read`. */
const permissionFor = (type: string): string => `${type.slice(0, type.lastIndexOf('.'))}.read`

/** Whether the tenant has the module of a permission, in full or for reading. */
function isAvailable({ server, tenant }: FastifyRequest, permission: string): boolean {
  const module = server.permissions.get(permission)?.module
  const availability = module ? (tenant.modules[module] ?? 'disabled') : 'enabled'
  return availability === 'enabled' || availability === 'read_only'
}

/** Whether an event may be shown: what it is of may be read in its own scope. */
function maySeeEvent(request: FastifyRequest, { type, organization_id, data }: StreamedEvent): boolean {
  const permission = permissionFor(type)
  const { workspace_id = null } = data as { workspace_id?: string | null }
  const of = { organizationId: organization_id, workspaceId: workspace_id }
  return (
    isAvailable(request, permission) &&
    mayHear(request.grants, request.server.permissionsOf(request.tenant), permission, of, request.context, Date.now())
  )
}

/** Whether who asks is still who he was: then with what he may now. */
async function isStillAllowed(request: FastifyRequest): Promise<boolean> {
  const { access, tenants } = request.server.services
  const tenant = await tenants.byId(request.tenant.id)
  if (!tenant || accessMode(tenant, request.actor.kind, Date.now()).mode === 'blocked') return false
  request.tenant = tenant
  const { userId, sessionId } = request.actor
  if (request.apiKey) {
    const key = await access.key(tenant.id, request.apiKey.prefix)
    const grants = key && (await access.grants(tenant.id, key.user_id))
    if (!key || grants?.status !== 'active') return false
    request.apiKey = key
    request.grants = grantsOfKey(key, grants)
  } else {
    const idleMs = tenant.security.session_idle_minutes * 60_000
    const { session, grants } = await access.caller(tenant.id, userId!, sessionId!, idleMs, false)
    if (!session || grants?.status !== 'active') return false
    request.session = session
    request.grants = grants
  }
  return checkContext(request.grants, request.claimedContext, Date.now()) === 'ok'
}

export default async function events(app: FastifyInstance) {
  const { access, live, planes } = app.services
  const open = new Set<() => void>()
  /** What asks the streams of a tenant again whether they may go on. */
  const checks = new Map<string, Set<() => void>>()
  access.onChange((tenantId) => {
    for (const check of checks.get(tenantId) ?? []) check()
  })
  const perUser = new Map<string, number>()
  app.addHook('preClose', async () => {
    for (const end of [...open]) end()
  })

  app.get<{ Querystring: Static<typeof Query> }>(
    '/events/stream',
    {
      level: 'workspace',
      permission: 'events.stream.read',
      allowReadOnly: true,
      schema: {
        tags: ['events'],
        summary: 'What happens, as it happens: Server-Sent Events of the types that one may read',
        description: [
          'Each event has its type, and as data `event_id, type, entity_id, version, occurred_at, correlation_id, data`.',
          'Goes on by `Last-Event-ID`, for six days, without loss. `reset` says that too much has happened to be told one by one: read again what you show.',
          '`reading` is the latest of a device and metric, and is not gone on from. A reader that is too slow is let go.',
        ].join(' '),
        querystring: Query,
        response: { 200: Type.String({ description: 'text/event-stream' }), ...guarded('tenant_migrating') },
      },
    },
    async (request, reply) => {
      const user = `${request.tenant.id} ${request.actor.userId}`
      const streams = perUser.get(user) ?? 0
      if (streams >= STREAMS_OF_A_USER)
        throw failure(
          'rate_limited',
          { streams: STREAMS_OF_A_USER },
          `One user has at most ${STREAMS_OF_A_USER} streams at once: close one.`,
        )
      perUser.set(user, streams + 1)
      const isAsked = typeFilter(request.query.types)
      const devices = request.query.readings?.split(',').filter(Boolean) ?? []
      const { raw } = reply
      let leave = () => {}
      let ended = false
      const end = () => {
        if (ended) return
        ended = true
        leave()
        ofTenant.delete(check)
        if (ofTenant.size === 0 && checks.get(request.tenant.id) === ofTenant) checks.delete(request.tenant.id)
        clearTimeout(checking)
        clearInterval(heartbeat)
        clearTimeout(soon)
        open.delete(end)
        if (raw.headersSent) raw.end()
        const left = perUser.get(user)! - 1
        if (left > 0) perUser.set(user, left)
        else perUser.delete(user)
      }
      const write = (text: string) => {
        if (ended) return
        if (raw.writableLength > MOST_WAITING) {
          end()
          raw.destroy()
        } else raw.write(text)
      }
      let lastId = ''
      const told = (id: string) => {
        lastId = id
        return `id: ${id}\n\n`
      }
      const maySee = (event: StreamedEvent) => isAsked(event.type) && maySeeEvent(request, event)
      /** What is told waits its turn: it is asked first whether the reader may still see it. */
      const begun = Promise.withResolvers<void>()
      let turn: Promise<unknown> = begun.promise
      const inTurn = (work: () => void | Promise<void>) => {
        turn = turn
          .then(async () => {
            if (ended) return
            if (await isStillAllowed(request)) await work()
            else end()
          })
          .catch((error) => {
            request.log.warn({ err: error }, 'stream ended')
            end()
          })
      }
      // At once when the session ends, and not once for each of many changes that come together.
      let checking: NodeJS.Timeout | undefined
      const check = () => {
        checking ??= setTimeout(() => {
          checking = undefined
          inTurn(() => {})
        }, CHECK_MS)
      }
      const ofTenant = checks.get(request.tenant.id) ?? new Set()
      checks.set(request.tenant.id, ofTenant.add(check))
      const watcher: Watcher = {
        tell: (happened, id) =>
          inTurn(() => {
            const text = happened.filter(maySee).map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
            write(`${text.join('')}${told(id)}`)
          }),
        reset: (id) => inTurn(() => write(`event: reset\ndata: {}\n${told(id)}`)),
        readings: () => {
          if (devices.length > 0) soon ??= setTimeout(() => inTurn(sendReadings), READINGS_MS)
        },
      }
      let soon: NodeJS.Timeout | undefined
      const sent = new Map<string, string>()
      async function sendReadings() {
        soon = undefined
        if (!isAvailable(request, 'telemetry.reading.read') || !request.may('telemetry.reading.read')) return
        const scope = { ...systemScope(request.tenant.id, 'events', request.id), context: request.context }
        const found = await databaseOf(planes, 'telemetry', request.tenant).read(scope, (tx) =>
          latestReadings(tx, { devices, limit: READ_SERIES, after: null }),
        )
        const fresh = found.filter(({ device, metric, ts }) => sent.get(`${device} ${metric}`) !== ts)
        for (const { device, metric, ts } of fresh) sent.set(`${device} ${metric}`, ts)
        write(fresh.map((reading) => `event: reading\ndata: ${JSON.stringify(reading)}\n\n`).join(''))
      }
      const heartbeat = setInterval(() => inTurn(() => write(`:\n${lastId && `id: ${lastId}\n`}\n`)), HEARTBEAT_MS).unref()
      open.add(end)
      try {
        // What is refused is said as an error, so nothing is written until the place is known.
        const given = request.headers['last-event-id'] ?? request.query.last_event_id
        leave = await live.watch(request.tenant, watcher, typeof given === 'string' && given !== '' ? given : null)
      } catch (error) {
        end()
        throw error
      }
      reply.hijack()
      if (ended || raw.destroyed) {
        // He left, or was sent away, while he was let in.
        if (ended) leave()
        else end()
        raw.destroy()
        return
      }
      raw.on('close', end)
      raw.writeHead(200, {
        ...(reply.getHeaders() as Record<string, string>),
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      })
      raw.write('retry: 2000\n\n')
      begun.resolve()
      watcher.readings()
    },
  )
}
