// Services that freeze: they answer nothing and close nothing. What waits for them is bounded, and the API goes on.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Client } from 'pg'
import t from 'tap'
import { freePort } from '../../server/embedded/postgres.ts'
import { startWorkers } from '../../server/workers.ts'
import { eventually, tally, testApp, times, upload } from '../support/app.ts'
import { blackHole, environmentOf, freezableBroker, freezableRedis, startProcess } from '../support/frozen.ts'
import { openGate } from '../support/gate.ts'
import { ownControlPlane, ownPlanes, quietLog, testConfig, testServices } from '../support/services.ts'
import { mailTo } from '../support/smtp.ts'

const services = testServices()

t.test('frozen Redis: limits go on in the process, the first request waits for a moment and no other waits', async (t) => {
  const redis = await freezableRedis(t)
  t.comment(redis.real ? 'a real Redis' : 'NO redis-server HERE: a stand-in that freezes')
  const { tenant, runtime } = await testApp(t, { REDIS_URL: redis.url, RATE_LIMIT_PER_MINUTE: '40' })
  const acme = await tenant()
  const timed = async () => {
    const start = performance.now()
    const { status } = await acme.viewer.get('/auth/me')
    return { status, ms: performance.now() - start }
  }
  t.equal((await timed()).status, 200)
  redis.freeze()
  const first = await timed()
  t.equal(first.status, 200)
  t.ok(first.ms < 2_000, `${first.ms} ms: one wait of 100 ms, on a busy machine`)
  const calm = await Promise.all(times(5, timed))
  t.same([...new Set(calm.map(({ status }) => status))], [200])
  await eventually(
    async () => runtime.services.redis!.status,
    (status) => status !== 'ready',
  )
  const series: number[] = []
  for (const _ of times(20, () => 0)) series.push((await timed()).ms)
  series.sort((a, b) => a - b)
  t.ok(series[10]! < 100, `the middle request took ${series[10]} ms`)
  t.same(
    tally(await Promise.all(times(40, () => acme.viewer.get('/auth/me'))))[429],
    26,
    'the limit holds in this process: 26 of 40 were one too many',
  )
  redis.thaw()
  await eventually(
    async () => runtime.services.redis!.status,
    (status) => status === 'ready',
  )
})

t.test('Redis that is frozen at the start holds up no start', async (t) => {
  const start = performance.now()
  const { tenant } = await testApp(t, { REDIS_URL: `redis://${await blackHole(t)}` })
  t.equal((await (await tenant()).viewer.get('/auth/me')).status, 200)
  t.ok(performance.now() - start < 20_000)
})

t.test(
  'frozen Kafka: writes go on, readings sent by HTTP get broker_unavailable, other requests do not wait',
  { timeout: 120_000 },
  async (t) => {
    const broker = await freezableBroker(t)
    const { tenant, request } = await testApp(t, { KAFKA_BROKERS: broker.brokers })
    const acme = await tenant()
    const device = (await acme.admin.post('/telemetry/devices', { code: 'd', name: 'D' })).data.id
    const { key } = (await acme.admin.post(`/telemetry/devices/${device}/keys`)).data
    const send = () =>
      request(acme.host, {
        method: 'POST',
        url: '/api/v1/telemetry/readings',
        headers: { authorization: `Bearer ${key}` },
        payload: { tenant: acme.slug, device: 'd', readings: [{ ts: new Date().toISOString(), metric: 'm', value: 1 }] },
      })
    t.equal((await send()).status, 202)
    broker.freeze()
    const start = performance.now()
    const sent = send()
    const meanwhile = await Promise.all(times(10, (n) => acme.admin.post('/erp/parties', { code: `F${n}`, name: 'F', roles: ['client'] })))
    t.same(tally(meanwhile), { 201: 10 })
    const written = performance.now() - start
    t.match(await sent, { status: 503, body: { detail: 'broker_unavailable' } })
    const refused = performance.now() - start
    t.ok(refused < 30_000, `${refused} ms`)
    t.ok(written < refused, 'the writes did not wait for it')
    broker.thaw()
    await eventually(send, (answer) => answer.status === 202, 40)
  },
)

t.test('a frozen mail server: the request is answered, the mail waits for another try', { timeout: 120_000 }, async (t) => {
  const gate = await openGate(t, services.smtp.url)
  const { tenant, runtime } = await testApp(t, { SMTP_URL: gate.url, MAIL_INTERVAL_SECONDS: '0' })
  const acme = await tenant()
  const { mailer } = await import('../../workers/mailer.ts')
  const options = {
    smtpUrl: `smtp://${await blackHole(t)}`,
    directory: undefined,
    from: 'a@b.example',
    publicUrl: 'https://{host}',
    baseDomain: 'localhost',
  }
  const send = mailer(runtime.services.planes.control, options, quietLog.root)
  const start = performance.now()
  const job = {
    kind: 'password_changed' as const,
    tenant_id: acme.id,
    user_id: acme.viewer.userId,
    facts: { time: new Date().toISOString() },
  }
  await t.rejects(send(job), /timeout|Greeting/i)
  const ms = performance.now() - start
  t.ok(ms < 40_000, `${ms} ms`)
  t.equal((await acme.viewer.get('/auth/me')).status, 200)
  const email = `frozen-${acme.slug}@x.example`
  t.equal((await acme.admin.post('/users', { email, name: 'F' })).status, 201, 'no request waits for a mail')
  t.match(await mailTo(email), { to: email })
})

t.test('a frozen clamd: the file stays in quarantine with a typed refusal', { timeout: 60_000 }, async (t) => {
  const { tenant } = await testApp(t, { CLAMD_ADDRESS: await blackHole(t), CLAMD_TIMEOUT_MS: '1000' })
  const acme = await tenant()
  const start = performance.now()
  const [uploaded, other] = await Promise.all([upload(acme.admin, 'hello'), acme.viewer.get('/auth/me')])
  t.equal(other.status, 200)
  t.equal(uploaded.status, 201, uploaded.text)
  t.ok(performance.now() - start < 20_000)
  t.match(await acme.admin.get(`/files/${uploaded.data.id}/content`), { status: 503, body: { detail: 'scanner_unavailable' } })
})

t.test('a worker ends within its deadline after SIGTERM while Kafka is frozen', { timeout: 180_000 }, async (t) => {
  const broker = await freezableBroker(t)
  const planes = await ownPlanes(t)
  const config = environmentOf(testConfig({ ...planes, KAFKA_BROKERS: broker.brokers, STOP_DEADLINE_SECONDS: '4', LOG_LEVEL: 'info' }))
  const worker = startProcess(t, 'worker', config, ['--only=relay,events,telemetry'])
  await eventually(
    async () => worker.output(),
    (text) => text.includes('"working"'),
    60,
  )
  await new Promise((resolve) => setTimeout(resolve, 4_000)) // the groups give their partitions
  broker.freeze()
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  const start = performance.now()
  const gone = once(worker.child, 'exit')
  worker.child.kill('SIGTERM')
  const [code, signal] = await gone
  const ms = performance.now() - start
  t.ok(ms < 20_000, `gone after ${Math.round(ms)} ms with ${code ?? signal}`)
})

t.test('a relay that hangs is replaced, and metrics show by whom', { timeout: 120_000 }, async (t) => {
  // A database of its own: relays of other tests would take the lock, and their events would be counted.
  const plane = await ownControlPlane(t)
  const { runtime, tenant } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const acme = await tenant()
  // Holds the lock as a relay does whose thread is blocked: connected, and silent.
  const hung = new Client({ connectionString: plane.app, application_name: 'tenantry-relay' })
  let ended = false
  hung.on('error', () => {})
  hung.on('end', () => {
    ended = true
  })
  await hung.connect()
  await hung.query('select pg_advisory_lock(7262)')
  const workers = await startWorkers(runtime, quietLog, ['relay'])
  t.teardown(() => workers.stop())
  const name = plane.app.replace(/^.*@/, '')
  const value = async (metric: string) => {
    const line = (await workers.metrics.metrics()).split('\n').find((text) => text.startsWith(`${metric}{outbox="${name}"}`))
    return Number(line?.split(' ')[1] ?? Number.NaN)
  }
  t.equal(await value('outbox_relay_active'), 0)
  t.equal((await acme.admin.post('/organizations', { code: 'h', name: 'H' })).status, 201)
  t.ok((await value('outbox_pending_events')) >= 1)
  await eventually(
    () => value('outbox_relay_active'),
    (active) => active === 1,
    60,
  )
  t.ok(ended, 'the silent connection was ended')
  t.equal(await value('outbox_relay_takeovers_total'), 1)
  await eventually(
    () => value('outbox_pending_events'),
    (events) => events === 0,
    60,
  )
  t.equal(await value('outbox_oldest_seconds'), 0)
  // One that works is not ended, however long it has been active.
  const second = await startWorkers(runtime, quietLog, ['relay'])
  t.teardown(() => second.stop())
  await new Promise((resolve) => setTimeout(resolve, 14_000))
  t.equal(await value('outbox_relay_active'), 1)
})

t.test(
  'a process that starts while a database is away serves nothing from it before it has passed the checks',
  { timeout: 180_000 },
  async (t) => {
    const gate = await openGate(t, services.app.control)
    await gate.shut()
    const config = testConfig({ CONTROL_DATABASE_URL: gate.url, LOG_LEVEL: 'info' })
    const [PORT, METRICS_PORT] = [String(await freePort()), String(await freePort())]
    const safe = startProcess(t, 'api', { ...environmentOf(config), PORT, METRICS_PORT })
    await eventually(
      async () => safe.output(),
      (text) => text.includes('"listening"'),
      60,
    )
    const url = `http://127.0.0.1:${PORT}`
    const status = async (at: string) => (await fetch(`${url}${at}`)).status
    t.equal(await status('/health'), 200)
    t.match(await (await fetch(`${url}/api/v1/registrations/${'0'.repeat(8)}-0000-7000-8000-000000000000`)).json(), {
      detail: 'database_unavailable',
    })
    await gate.open()
    await eventually(
      () => status('/ready'),
      (code) => code === 200,
      60,
    )
    t.equal(await status(`/api/v1/registrations/${'0'.repeat(8)}-0000-7000-8000-000000000000`), 404, 'answered by the database')

    // The same start as a superuser: it never serves, and ends once the database says so.
    await gate.shut()
    gate.lead(services.admin.control)
    const superuser = Object.assign(new URL(gate.url), {
      username: new URL(services.admin.control).username,
      password: new URL(services.admin.control).password,
    })
    const unsafePort = String(await freePort())
    const unsafe = startProcess(t, 'api', {
      ...environmentOf({ ...config, CONTROL_DATABASE_URL: superuser.href }),
      PORT: unsafePort,
      METRICS_PORT: String(await freePort()),
    })
    await eventually(
      async () => unsafe.output(),
      (text) => text.includes('"listening"'),
      60,
    )
    t.equal((await fetch(`http://127.0.0.1:${unsafePort}/api/v1/registrations/${'0'.repeat(8)}-0000-7000-8000-000000000000`)).status, 503)
    const ended = once(unsafe.child, 'exit')
    await gate.open()
    t.same(await ended, [1, null])
    t.match(unsafe.output(), /Refusing to start:\n.*could bypass row security/)
  },
)

t.test('npm run up refuses in production', async (t) => {
  const up = startProcess(t, 'up', { NODE_ENV: 'production' })
  t.same(await once(up.child, 'exit'), [1, null])
  t.match(up.output(), /is for development/)
})

t.test('a main thread that hangs in a native call while it stops is killed after the deadline', { timeout: 60_000 }, async (t) => {
  const lifetime = new URL('../../server/lifetime.ts', import.meta.url).href
  const log = '{ root: { info() {}, error() {} } }'
  const hang = 'async () => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) }'
  const script = `
    import { onStop } from '${lifetime}'
    onStop(${log}, [${hang}], 1)
    setInterval(() => {}, 1000)
    process.stdout.write('up')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  t.same(await gone, [null, 'SIGKILL'])
})
