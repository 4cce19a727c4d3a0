import t from 'tap'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { sql } from '../../domain/kernel/index.ts'
import { freePort } from '../../server/embedded/postgres.ts'
import { startWorkers } from '../../server/workers.ts'
import { eventually, tally, testApp, times } from '../support/app.ts'
import { quietLog, testConfig } from '../support/services.ts'

interface Operation {
  summary?: string
  tags?: string[]
  responses: object
  requestBody?: { content: Record<string, { example?: unknown; schema: { examples?: unknown[] } }> }
}

t.test('a user has his bucket, sign-in a stricter one; both say when to come back', async (t) => {
  const { tenant, request } = await testApp(t, { RATE_LIMIT_PER_MINUTE: '20', RATE_LIMIT_AUTH_PER_MINUTE: '12' })
  const acme = await tenant()
  const answers = await Promise.all(times(30, () => acme.viewer.get('/auth/me')))
  t.same(tally(answers), { 200: 20, 429: 10 })
  const refused = answers.find((a) => a.status === 429)!
  t.match(refused.body, { error: { code: 'RATE_LIMIT' }, detail: 'rate_limited' })
  t.ok(Number(refused.headers['retry-after']) > 0)
  t.equal(refused.headers['ratelimit-limit'], '20')
  t.equal((await acme.admin.get('/auth/me')).status, 200, 'another user has his own')
  const attempt = (at: number) =>
    request(acme.host, { method: 'POST', url: '/api/v1/auth/login', payload: { email: `x${at}@y.example`, password: 'z' } })
  const attempts = await Promise.all(times(20, attempt))
  t.same(tally(attempts)[429], 12, 'four of the twelve were the test’s own sign-ins')
})

t.test('Redis away: limits go on in the process, /ready says it, nothing else notices', async (t) => {
  const { tenant, request } = await testApp(t, { REDIS_URL: `redis://127.0.0.1:${await freePort()}`, RATE_LIMIT_PER_MINUTE: '20' })
  const acme = await tenant()
  t.same(tally(await Promise.all(times(25, () => acme.viewer.get('/auth/me')))), { 200: 20, 429: 5 })
  t.match(await request('x', { method: 'GET', url: '/ready' }), {
    status: 200,
    body: { status: 'degraded', checks: { redis: 'down', control: 'up' } },
  })
})

t.test('Kafka away at the start: writes go on, the outbox waits; a process that reaches it sends them', async (t) => {
  const lonely = await testApp(t, { KAFKA_BROKERS: '127.0.0.1:1' }) // a port that nobody is given meanwhile
  const acme = await lonely.tenant()
  t.equal((await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).status, 201)
  t.match(await lonely.request('x', { method: 'GET', url: '/ready' }), {
    status: 200,
    body: { status: 'degraded', checks: { kafka: 'down' } },
  })
  const device = (await acme.admin.post('/telemetry/devices', { code: 'd', name: 'D' })).data.id
  const { key } = (await acme.admin.post(`/telemetry/devices/${device}/keys`)).data
  const reading = await lonely.request(acme.host, {
    method: 'POST',
    url: '/api/v1/telemetry/readings',
    headers: { authorization: `Bearer ${key}` },
    payload: { tenant: acme.slug, device: 'd', readings: [{ ts: new Date().toISOString(), metric: 'm', value: 1 }] },
  })
  t.match(reading, { status: 503, body: { detail: 'broker_unavailable' } })
  t.ok(reading.headers['retry-after'])
  const Count = Type.Object({ n: Type.Integer() })
  const events = async (state: 'pending' | 'kept') =>
    (
      await lonely.runtime.services.planes.data.get('main')!.read(acme.scope, (tx) =>
        tx.one(sql.type(Count)`
    select count(*) as n from plane.event_outbox where tenant_id = ${tx.tenantId} and (${state} = 'kept' or status = 'pending')`),
      )
    ).n
  t.equal(await events('kept'), 1, 'kept, whether or not the relay of another test has sent it')
  const reaching = await testApp(t)
  const workers = await startWorkers(reaching.runtime, quietLog, ['relay'])
  t.teardown(() => workers.stop())
  t.equal(
    await eventually(
      () => events('pending'),
      (n) => n === 0,
      20,
    ),
    0,
  )
})

t.test('a database that is away is 503 with Retry-After, and /ready names it', async (t) => {
  const gone = await testApp(t, { DATA_CATALOG: JSON.stringify({ main: `postgres://x:x@127.0.0.1:${await freePort()}/x` }) })
  const acme = await gone.tenant()
  const answer = await acme.admin.get('/erp/parties')
  t.match(answer, { status: 503, body: { detail: 'database_unavailable' }, headers: { 'retry-after': '1' } })
  t.match(await gone.request('x', { method: 'GET', url: '/ready' }), {
    status: 200,
    body: { status: 'degraded', checks: { 'data:main': 'down', control: 'up' } },
  })
  t.equal((await acme.admin.get('/auth/me')).status, 200, 'what needs no data plane goes on')
  t.equal((await acme.admin.get('/menu')).status, 200)
  t.ok(testConfig())
})

t.test('/health, /docs and the OpenAPI document answer on any host', async (t) => {
  const { request, app } = await testApp(t)
  t.match(await request('anything', { method: 'GET', url: '/health' }), { status: 200, body: { status: 'ok' } })
  const document = (await request('x', { method: 'GET', url: '/api/openapi.json' })).body
  t.equal(document.openapi, '3.1.0')
  for (const [path, operations] of Object.entries(document.paths as Record<string, Record<string, Operation>>)) {
    for (const [method, operation] of Object.entries(operations)) {
      const content = operation.requestBody?.content['application/json']
      if (content) {
        const example = content.example ?? content.schema.examples?.[0]
        t.ok(
          Compile(content.schema as never).Check(example),
          `${method} ${path} has an example that it would accept: ${JSON.stringify(example)}`,
        )
      }
      t.ok(operation.summary && operation.tags?.length, `${method} ${path} says what it is`)
      if (path.startsWith('/api/v1'))
        t.ok('429' in operation.responses && '503' in operation.responses, `${method} ${path} declares what may go wrong`)
    }
  }
  t.match(await app.metrics.metrics(), /http_request_duration_seconds_count\{.*route="\/health".*\} 1/)
})
