// Services that go away while requests are under way, and processes that are killed.
import { once } from 'node:events'
import t from 'tap'
import { Type } from 'typebox'
import { Database, failure, Listener, newId, sql, type Tx } from '../../domain/kernel/index.ts'
import { openMockBroker } from '../../workers/kafka.ts'
import { topicDeclarations } from '../../workers/topics.ts'
import { startApi } from '../support/api-process.ts'
import { eventually, type TestTenant, tally, testApp, times } from '../support/app.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { openGate } from '../support/gate.ts'
import { testServices } from '../support/services.ts'

const services = testServices()
const Count = Type.Object({ n: Type.Integer() })

/** Parties whose creation is under way at once, each under a key of its own. */
const createParties = (acme: TestTenant, keys: readonly string[]) =>
  Promise.all(
    keys.map((key, at) =>
      acme.admin.post('/erp/parties', { code: `P-${at}`, name: 'Party', roles: ['client'] }, { 'idempotency-key': key }),
    ),
  )

t.test('the data database goes away under 20 writes and comes back: refused or done, never half, never 500', async (t) => {
  const gate = await openGate(t, services.app.data)
  const { tenant, request } = await testApp(t, { DATA_CATALOG: JSON.stringify({ main: gate.url }) })
  const acme = await tenant()
  t.equal((await acme.admin.get('/erp/parties')).status, 200)

  const keys = times(20, () => newId())
  const underWay = createParties(acme, keys)
  let answered = 0
  gate.watch = () => {
    answered++
    if (answered === 40) void gate.shut() // in the midst of the transactions
    return false
  }
  const first = await underWay
  gate.watch = undefined
  await gate.shut()
  const statuses = tally(first)
  t.equal((statuses[201] ?? 0) + (statuses[503] ?? 0), 20, JSON.stringify(statuses))
  t.ok(statuses[503], 'the gate shut in time to be noticed')
  for (const answer of first.filter((a) => a.status === 503)) t.match(answer, { body: { detail: 'database_unavailable' } })

  t.match(await acme.admin.get('/erp/parties'), { status: 503, headers: { 'retry-after': '1' } })
  t.match((await request('x', { method: 'GET', url: '/ready' })).body, { checks: { 'data:main': 'down', control: 'up' } })
  t.equal((await acme.admin.get('/auth/me')).status, 200, 'what needs no data plane goes on')

  await gate.open()
  await eventually(
    () => acme.admin.get('/erp/parties'),
    (a) => a.status === 200,
  )
  t.same(tally(await createParties(acme, keys)), { 201: 20 }, 'the same keys again: done now, or answered as they were')
  const { data } = await acme.admin.get('/erp/parties?limit=200')
  t.equal(data.length, 20, 'each once')
})

t.test('the control database goes away and comes back: nothing is let in from memory meanwhile', async (t) => {
  const gate = await openGate(t, services.app.control)
  const { tenant, request } = await testApp(t, { CONTROL_DATABASE_URL: gate.url })
  const acme = await tenant()
  t.equal((await acme.admin.get('/auth/me')).status, 200)
  await gate.shut()
  const away = await eventually(
    () => acme.admin.get('/auth/me'),
    (a) => a.status !== 200,
  )
  t.match(away, { status: 503, body: { detail: 'database_unavailable' }, headers: { 'retry-after': '1' } })
  t.match(await request('x', { method: 'GET', url: '/ready' }), { status: 503, body: { checks: { control: 'down', 'data:main': 'up' } } })
  t.equal((await request('x', { method: 'GET', url: '/health' })).status, 200)
  await gate.open()
  await eventually(
    () => acme.admin.get('/auth/me'),
    (a) => a.status === 200,
  )
  t.equal((await acme.admin.get('/erp/parties')).status, 200)
})

t.test('the control database is away at the start: the process starts, refuses, and serves once it is there', async (t) => {
  const ready = await (await testApp(t)).tenant()
  const gate = await openGate(t, services.app.control)
  await gate.shut()
  const late = await testApp(t, { CONTROL_DATABASE_URL: gate.url })
  const me = () =>
    late.request(ready.host, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${ready.admin.token}` } })
  t.match(await me(), { status: 503, body: { detail: 'database_unavailable' } })
  await gate.open()
  await eventually(me, (a) => a.status === 200)
})

t.test('a database host that freezes, and closes nothing, is given up in time and found again', async (t) => {
  const gate = await openGate(t, services.app.data)
  const { tenant } = await testApp(t)
  const { scope } = await tenant()
  const database = new Database(gate.url, { max: 2, deadlineMs: 400 })
  t.teardown(() => database.close())
  const count = (tx: Tx) => tx.one(sql.type(Count)`select count(*) as n from erp_party where tenant_id = ${tx.tenantId}`)
  await database.read(scope, count)
  gate.watch = () => true // every answer is swallowed
  const asked = [database.read(scope, count), database.write(scope, count)]
  for (const answer of await Promise.allSettled(asked)) t.match(answer, { status: 'rejected', reason: { detail: 'database_unavailable' } })
  gate.watch = undefined
  t.same(await database.write(scope, count), { n: 0 })
  t.same(
    await Promise.all(times(4, () => database.read(scope, count))),
    times(4, () => ({ n: 0 })),
  )
  const long = (tx: Tx) => tx.query(sql.run`select pg_sleep(0.6)`)
  await t.rejects(database.write(scope, long), failure('database_unavailable'))
  await database.write({ ...scope, deadlineMs: 20_000 }, long) // what is known to be long may be
})

t.test('a listener on a host that froze stops being trusted, and is again once it answers', async (t) => {
  const gate = await openGate(t, services.app.control)
  const listener = new Listener(gate.url, 100)
  t.teardown(() => listener.close())
  await listener.start()
  t.ok(listener.up)
  gate.watch = () => true
  await eventually(
    async () => listener.up,
    (up) => !up,
  )
  gate.watch = undefined
  await eventually(
    async () => listener.up,
    (up) => up,
  )
})

t.test('whoever raises the barrier goes on when all have heard, and waits for nobody who fell silent', async (t) => {
  const gate = await openGate(t, services.app.control)
  const { runtime } = await testApp(t)
  const [speaker, near, far] = [new Listener(services.app.control), new Listener(services.app.control), new Listener(gate.url, 300)]
  const heard: string[] = []
  for (const listener of [near, far]) {
    listener.on('tenantry_test', (payload) => heard.push(payload))
    t.teardown(() => listener.close())
    await listener.start()
  }
  t.teardown(() => speaker.close())
  await speaker.start()
  for (let round = 1; round <= 50; round++) {
    await runtime.services.planes.control.platform((queries) => queries.query(sql.run`select pg_notify('tenantry_test', ${String(round)})`))
    await speaker.everyoneHeard()
    t.equal(heard.length, 2 * round, `round ${round}`)
  }
  gate.watch = () => true // its host froze: it will not trust itself for long, and then it is gone
  const start = Date.now()
  await speaker.everyoneHeard()
  t.ok(Date.now() - start < 10_500, `${Date.now() - start} ms`)
  t.notOk(far.up, 'it knew before it was given up')
})

t.test('connections that the server ends are replaced without a word to the caller', async (t) => {
  const { tenant, runtime } = await testApp(t)
  const acme = await tenant()
  const Pid = Type.Object({ pid: Type.Integer() })
  const data = runtime.services.planes.data.get('main')!
  const pids = await Promise.all(
    times(5, () =>
      data.read(acme.scope, async (tx) => (await tx.one(sql.type(Pid)`select pg_backend_pid() as pid from pg_sleep(0.05)`)).pid),
    ),
  )
  const { Client } = await import('pg')
  const admin = new Client({ connectionString: services.admin.data })
  await admin.connect()
  for (const pid of pids) await admin.query('select pg_terminate_backend($1)', [pid])
  await admin.end()
  await eventually(
    () => acme.admin.get('/erp/parties'),
    (a) => a.status === 200,
  )
  t.same(tally(await Promise.all(times(20, () => acme.admin.get('/erp/parties')))), { 200: 20 })
})

t.test(
  'Redis goes away and comes back: limits are counted here meanwhile',
  { skip: services.redis ? false : 'this run has no Redis' },
  async (t) => {
    const gate = await openGate(t, services.redis!)
    const { tenant, request } = await testApp(t, { REDIS_URL: gate.url, RATE_LIMIT_PER_MINUTE: '15' })
    const acme = await tenant()
    t.equal((await acme.viewer.get('/auth/me')).headers['ratelimit-remaining'], '14')
    await gate.shut()
    const ready = await eventually(
      () => request('x', { method: 'GET', url: '/ready' }),
      (a) => a.body.checks.redis === 'down',
    )
    t.match(ready, { status: 200, body: { status: 'degraded' } })
    const away = tally(await Promise.all(times(20, () => acme.viewer.get('/auth/me'))))
    t.same(Object.keys(away).sort(), ['200', '429'], JSON.stringify(away))
    await gate.open()
    await eventually(
      () => request('x', { method: 'GET', url: '/ready' }),
      (a) => a.body.checks.redis === 'up',
    )
    t.equal((await acme.manager.get('/auth/me')).status, 200)
  },
)

t.test('Kafka goes away while events are published: writes go on and the outbox waits', async (t) => {
  const broker = await openMockBroker(topicDeclarations.map(({ topic }) => topic))
  const { tenant, request, runtime } = await testApp(t, { KAFKA_BROKERS: broker.brokers })
  const acme = await tenant()
  const isReady = () => request('x', { method: 'GET', url: '/ready' })
  t.match((await isReady()).body, { checks: { kafka: 'up' } })
  await broker.stop()
  await eventually(isReady, (a) => a.body.checks.kafka === 'down')
  t.same(
    tally(
      await createParties(
        acme,
        times(5, () => newId()),
      ),
    ),
    { 201: 5 },
  )
  const { n } = await runtime.services.planes.data
    .get('main')!
    .read(acme.scope, (tx) => tx.one(sql.type(Count)`select count(*) as n from plane.event_outbox where tenant_id = ${tx.tenantId}`))
  t.equal(n, 5, 'none lost')
})

t.test('kill -9 after the commit and before the answer: the same key gets the answer that was never sent', async (t) => {
  const gate = await openGate(t, services.app.data)
  const here = await testApp(t)
  const acme = await here.tenant()
  const { url, child } = await startApi({ ...here.runtime.config, DATA_CATALOG: { main: gate.url } })
  t.teardown(() => child.kill('SIGKILL'))
  const key = newId()
  const party = { code: 'ONCE', name: 'Once', roles: ['client'] }
  // PostgreSQL's answer to COMMIT is the sign that it is durable: the process dies before it hears it.
  gate.watch = (bytes) => bytes.includes('COMMIT\0') && child.kill('SIGKILL')
  const headers = {
    authorization: `Bearer ${acme.admin.token}`,
    'content-type': 'application/json',
    'idempotency-key': key,
  }
  const died = once(child, 'exit')
  const answer = await fetchAs(acme.host, `${url}/api/v1/erp/parties`, { method: 'POST', headers, body: JSON.stringify(party) }).catch(
    () => null,
  )
  t.equal(answer, null, 'no answer came')
  t.same((await died)[1], 'SIGKILL')

  const again = await acme.admin.post('/erp/parties', party, { 'idempotency-key': key })
  t.match(again, { status: 201, headers: { 'idempotency-replayed': 'true' }, data: { code: 'ONCE', version: 1 } })
  t.equal((await acme.admin.get('/erp/parties?code=ONCE')).data.length, 1)
})
