// What the platform's staff sees of what runs, and does about what failed.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { startWorkers } from '../../../server/workers.ts'
import { deadLetterConsumer } from '../../../workers/dead-letters.ts'
import { deadLetter, TOPICS } from '../../../workers/topics.ts'
import { eventually, testApp } from '../../support/app.ts'
import { connectTo, dataOwners, quietLog, testServices } from '../../support/services.ts'

const { tenant, runtime } = await testApp(t)
const staff = await tenant({ kind: 'platform' })
const root = staff.admin

t.test('databases, and what waits in each', async (t) => {
  const { data } = await root.get('/superadmin/databases')
  t.same(
    data
      .filter(({ tenant_id }: { tenant_id: string | null }) => tenant_id === null)
      .map(({ name, up }: { name: string; up: boolean }) => [name, up]),
    [
      ['control', true],
      ['data:main', true],
      ['data:second', true],
      ['telemetry:main', true],
    ],
  )
  t.match(data[1].outbox, { pending: Number, failed: Number, oldest_seconds: Number })
  t.equal((await staff.viewer.get('/superadmin/databases')).status, 200)
  t.ok((await root.get('/superadmin/jobs')).data.every((job: object) => 'queue' in job && 'state' in job))
})

t.test('failed events are listed by database, read, and published again', async (t) => {
  const acme = await tenant()
  const own = await tenant({ home: { mode: 'database', catalog_key: 'second' } })
  const workers = await startWorkers(runtime, quietLog, ['relay'])
  t.teardown(() => workers.stop())
  for (const [one, database, url] of [
    [acme, 'data:main', testServices().admin.data],
    [own, own.id, Object.assign(new URL(dataOwners().second!), { pathname: `/tenantry_t_${own.id.replaceAll('-', '')}` }).href],
  ] as const) {
    const { id } = (await one.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).data
    const list = async (status: string) =>
      (await root.get(`/superadmin/outbox?database=${database}&status=${status}&tenant_id=${one.id}&limit=200`)).data as {
        event_id: string
        entity_id: string
      }[]
    const mine = async (status: string) => (await list(status)).find((event) => event.entity_id === id)
    const sent = await eventually(
      () => mine('dispatched'),
      (event) => event !== undefined,
      20,
    )
    const owner = new Client({ connectionString: url })
    await owner.connect()
    await owner.query(
      `update plane.event_outbox set status = 'failed', attempts = 12, error = 'on purpose', dispatched_at = null where event_id = $1`,
      [sent!.event_id],
    )
    await owner.end()
    t.match(await mine('failed'), { status: 'failed', error: 'on purpose', attempts: 12, data: { code: 'A' } })
    const other = newId()
    t.match(await root.post('/superadmin/outbox/replay', { database, event_ids: [sent!.event_id, other] }), {
      status: 200,
      data: { replayed: [sent!.event_id] },
    })
    await eventually(
      () => mine('dispatched'),
      (event) => event !== undefined,
      20,
    )
    t.same(
      (await root.post('/superadmin/outbox/replay', { database, event_ids: [sent!.event_id] })).data.replayed,
      [],
      'what did not fail is left alone',
    )
  }
  t.match(await root.get('/superadmin/outbox?database=data:nowhere'), { status: 404 })
  t.match(await root.get(`/superadmin/outbox?database=${newId()}`), { status: 404 })
  t.match(await root.get('/superadmin/outbox'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await root.get('/superadmin/outbox?database=data:main&cursor=x.y'), { status: 400, body: { detail: 'invalid_cursor' } })
  t.match(await staff.viewer.post('/superadmin/outbox/replay', { database: 'control', event_ids: [newId()] }), { status: 403 })
  for (const code of ['B', 'C']) t.equal((await acme.admin.post('/erp/parties', { code, name: code, roles: ['client'] })).status, 201)
  const page = await eventually(
    () => root.get('/superadmin/outbox?database=data:main&status=dispatched&limit=1'),
    (answer) => answer.body.pagination.next_cursor !== null,
    20,
  )
  const next = await root.get(`/superadmin/outbox?database=data:main&status=dispatched&limit=1&cursor=${page.body.pagination.next_cursor}`)
  t.ok(next.data[0].position > page.data[0].position)
})

t.test('dead letters are listed, read and sent again', async (t) => {
  const consumer = deadLetterConsumer(runtime.kafka, runtime.services.planes.control, quietLog.root)
  await consumer.start()
  t.teardown(() => consumer.stop())
  const key = newId()
  const value = JSON.stringify({ event_id: newId(), tenant_id: staff.id, entity_id: key, type: 'test.nothing.happened' })
  await runtime.producer.send([
    {
      topic: deadLetter(TOPICS.events),
      key,
      value,
      headers: { consumer: 'hopeless', error: 'no way', attempts: '6', 'first-at': new Date().toISOString(), 'last-at': 'never' },
    },
    { topic: deadLetter(TOPICS.jobs), key, value: 'not { json \u0000' },
  ])
  const mine = async () =>
    ((await root.get('/superadmin/dead-letters?limit=200')).data as { id: string; key: string; topic: string }[]).filter(
      (d) => d.key === key,
    )
  const found = await eventually(mine, (list) => list.length === 2, 30)
  const event = found.find(({ topic }) => topic === TOPICS.events)!
  t.match(event, { consumer: 'hopeless', error: 'no way', attempts: 6, tenant_id: staff.id, last_at: null, replayed_at: null })
  t.equal((await root.get(`/superadmin/dead-letters/${event.id}`)).data.value, value)
  t.match(await root.post(`/superadmin/dead-letters/${event.id}/replay`, {}), { status: 200, data: { replayed_at: String } })
  t.equal((await root.get(`/superadmin/dead-letters/${newId()}`)).status, 404)
  t.equal((await root.post(`/superadmin/dead-letters/${newId()}/replay`, {})).status, 404)
  t.match(await staff.viewer.post(`/superadmin/dead-letters/${event.id}/replay`, {}), { status: 403 })
  const page = await root.get('/superadmin/dead-letters?limit=1')
  t.equal((await root.get(`/superadmin/dead-letters?limit=1&cursor=${page.body.pagination.next_cursor}`)).status, 200)
})

t.test('databases of single tenants are checked, too, page by page', async (t) => {
  const own = await tenant({ home: { mode: 'database', catalog_key: 'second' } })
  const admin = await connectTo(t, testServices().admin.second)
  const health = async (): Promise<{ tenant_id: string | null; name: string; up: boolean } | undefined> => {
    for (let cursor = ''; ; ) {
      const page = await root.get(`/superadmin/databases?limit=200${cursor}`)
      const found = page.data.find(({ tenant_id }: { tenant_id: string }) => tenant_id === own.id)
      if (found || !page.body.pagination.next_cursor) return found
      cursor = `&cursor=${page.body.pagination.next_cursor}`
    }
  }
  t.match(await health(), { name: own.id, up: true, outbox: { pending: Number } })
  const name = `tenantry_t_${own.id.replaceAll('-', '')}`
  await admin.query(`alter database ${name} allow_connections false`)
  await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name])
  t.match(await health(), { up: false, outbox: null })
  await admin.query(`alter database ${name} allow_connections true`)
  t.match(await health(), { up: true })
})

t.test(
  'an event that a consumer cannot handle is listed with its error at once, tried now, or given up; each is in the trails',
  async (t) => {
    const acme = await tenant()
    let broken = true
    const handler = {
      consumer: `broken-${newId().slice(-8)}`,
      types: ['erp.party.created'],
      handle: async (_tx: unknown, event: { tenant_id: string }) => {
        if (broken && event.tenant_id === acme.id) throw new Error('the carrier refused the label')
      },
    }
    const workers = await startWorkers(runtime, quietLog, ['relay', 'events', 'jobs'], [handler])
    t.teardown(() => workers.stop())
    await workers.assigned(20_000)
    const list = async (): Promise<{ id: string; event_id: string }[]> =>
      (await root.get(`/superadmin/failing-jobs?tenant_id=${acme.id}&consumer=${handler.consumer}`)).data
    const party = async (code: string) =>
      t.equal((await acme.admin.post('/erp/parties', { code, name: code, roles: ['client'] })).status, 201)
    await party('A')
    const [job] = await eventually(list, (jobs) => jobs.length === 1, 20)
    t.match(job, {
      queue: 'event-retry',
      state: 'created',
      event_type: 'erp.party.created',
      error: /carrier refused/,
      attempts: 1,
      next_try_at: String,
      tenant_id: acme.id,
    })
    const path = `/superadmin/failing-jobs/${job!.id}`
    t.equal((await staff.viewer.post(`${path}/retry`, {})).status, 403)
    broken = false
    t.match(await root.post(`${path}/retry`, {}), { status: 200, data: { id: job!.id } })
    await eventually(list, (jobs) => jobs.length === 0, 20)
    broken = true
    await party('B')
    const [other] = await eventually(list, (jobs) => jobs.length === 1, 20)
    t.equal((await root.post(`/superadmin/failing-jobs/${other!.id}/dismiss`, {})).status, 200)
    t.same(await list(), [])
    t.equal((await root.post(`/superadmin/failing-jobs/${other!.id}/retry`, {})).status, 404)
    t.equal((await root.post(`/superadmin/failing-jobs/${newId()}/dismiss`, {})).status, 404)
    const trail = (await root.get(`/superadmin/tenants/${acme.id}/audit?entity=job`)).data
    t.match(trail, [
      {
        action: 'job.dismissed',
        actor_id: root.userId,
        actor_name: 'admin',
        diff: { consumer: handler.consumer, event_id: other!.event_id },
      },
      { action: 'job.retried', diff: { event_id: job!.event_id } },
    ])
    t.match((await root.get('/audit?plane=control&entity=job')).data, [{ action: 'job.dismissed' }, { action: 'job.retried' }])
    t.match((await acme.admin.get('/audit?plane=control&entity=job')).data, [{ actor_name: 'platform staff' }, {}])
  },
)

t.test('what is no event, no job or of an unknown kind is one dead letter, at once; it is dismissed', async (t) => {
  const key = newId()
  const handlers = ['one', 'two'].map((name) => ({ consumer: `${name}-${key}`, types: ['erp.party.created'], handle: async () => {} }))
  const workers = await startWorkers(runtime, quietLog, ['events', 'moves', 'exchange'], handlers)
  t.teardown(() => workers.stop())
  await workers.assigned(30_000)
  const unknown = {
    event_id: newId(),
    tenant_id: staff.id,
    type: 'job.make-coffee',
    entity_id: newId(),
    version: 1,
    occurred_at: new Date().toISOString(),
    correlation_id: null,
    data: {},
  }
  await runtime.producer.send([
    { topic: TOPICS.events, key, value: 'garbage' },
    { topic: TOPICS.jobs, key, value: 'no job' },
    { topic: TOPICS.jobs, key, value: JSON.stringify(unknown) },
  ])
  const mine = async (state = 'open'): Promise<{ id: string; key: string; error: string }[]> =>
    (await root.get(`/superadmin/dead-letters?state=${state}&limit=200`)).data.filter((letter: { key: string }) => letter.key === key)
  await eventually(mine, (letters) => letters.length >= 3, 30)
  await new Promise((resolve) => setTimeout(resolve, 1_500)) // the other consumers have met them by now
  const letters = await mine()
  t.same(letters.map(({ error }) => error).toSorted(), ['no such job: job.make-coffee', 'not a domain event', 'not a job'])
  const letter = letters.find(({ error }) => error.startsWith('no such'))!
  t.equal((await staff.viewer.post(`/superadmin/dead-letters/${letter.id}/dismiss`, {})).status, 403)
  t.match(await root.post(`/superadmin/dead-letters/${letter.id}/dismiss`, {}), { status: 200, data: { dismissed_by: root.userId } })
  t.equal((await mine()).length, 2)
  t.match(await mine('dismissed'), [{ id: letter.id }])
  t.equal((await root.post(`/superadmin/dead-letters/${newId()}/dismiss`, {})).status, 404)
  t.match((await root.get(`/audit?plane=control&entity_id=${letter.id}`)).data, [
    { action: 'dead_letter.dismissed', actor_id: root.userId },
  ])
})
