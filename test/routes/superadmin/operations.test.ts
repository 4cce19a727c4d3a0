// What the platform's staff sees of what runs, and does about what failed.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { startWorkers } from '../../../server/workers.ts'
import { deadLetterConsumer } from '../../../workers/dead-letters.ts'
import { deadLetter, TOPICS } from '../../../workers/topics.ts'
import { eventually, testApp } from '../../support/app.ts'
import { dataOwners, quietLog, testServices } from '../../support/services.ts'

const { tenant, runtime } = await testApp(t)
const staff = await tenant({ kind: 'platform' })
const root = staff.admin

t.test('databases, and what waits in each', async (t) => {
  const { data } = await root.get('/superadmin/databases')
  t.same(
    data.map(({ name, up }: { name: string; up: boolean }) => [name, up]),
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
