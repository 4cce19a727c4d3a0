// What happens, as it happens: who is told what, that nothing is lost between two connections, and who is let go.
import t from 'tap'
import { newId, sql, systemScope } from '../../domain/kernel/index.ts'
import { type TestTenant, testApp, times } from '../support/app.ts'
import { EventReader } from '../support/event-stream.ts'
import { probes } from '../support/telemetry.ts'

const { tenant, app, runtime } = await testApp(t)
await app.listen({ host: '127.0.0.1', port: 0 })
const second = await testApp(t)
await second.app.listen({ host: '127.0.0.1', port: 0 })
const probe = probes(runtime)

const readers: EventReader[] = []
t.afterEach(() => {
  for (const reader of readers.splice(0)) reader.close()
})
function reader(acme: TestTenant, { token = acme.viewer.token, query = '', lastId = '', on = app } = {}) {
  const made = new EventReader(on, acme.host, { token, query, lastId })
  readers.push(made)
  return made.ready()
}
let serial = 0
const party = (acme: TestTenant, name = 'Rosa') => acme.admin.post('/erp/parties', { code: `P-${++serial}`, name, roles: ['client'] })
const sleep = (seconds: number) => sql.run`select pg_sleep(${seconds})`
const types = (from: EventReader) => from.told.map(({ event }) => event)

t.test('who may read a record is told of it within a second, and nobody else', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const [all, some, theirs] = await Promise.all([reader(acme), reader(acme, { query: '?types=erp.uom.*,*.deleted' }), reader(globex)])
  t.equal(all.status, 200)
  const began = Date.now()
  const { data } = await party(acme)
  await all.until(() => all.told.length > 0)
  t.ok(Date.now() - began < 1_000)
  t.match(all.told[0], {
    event: 'erp.party.created',
    data: { type: 'erp.party.created', entity_id: data.id, version: 1, data: { code: data.code, name: 'Rosa' } },
  })
  await acme.admin.post('/erp/uoms', { code: 'KG', name: 'Kilogram', dimension: 'mass' })
  await acme.admin.delete(`/erp/parties/${data.id}`, { 'if-match': '"1"' })
  await acme.admin.post('/telemetry/metrics', { code: 'm' })
  await all.until(() => types(all).includes('telemetry.metric.created'))
  t.same(types(all).toSorted(), ['erp.party.created', 'erp.party.deleted', 'erp.uom.created', 'telemetry.metric.created'], 'of all planes')
  await some.until(() => some.told.length === 2)
  t.same(types(some).toSorted(), ['erp.party.deleted', 'erp.uom.created'])
  t.same(theirs.told, [])
  // An organization's own events are for those who are there.
  const elsewhere = (await acme.login(acme.viewer.email)).data
  const moved = await acme
    .as(elsewhere.access_token)
    .post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id, workspace_id: null })
  const other = await reader(acme, { token: moved.data?.access_token ?? elsewhere.access_token })
  t.equal(moved.status, 200)
  await party(acme, 'In the first one')
  await all.until(() => all.told.length === 5)
  t.same(other.told, [])
})

t.test('without the right, a session or a good question there is no stream', async (t) => {
  const acme = await tenant()
  t.equal((await acme.as('nonsense').get('/events/stream')).status, 401)
  t.match(await acme.viewer.get(`/events/stream?types=${'x'.repeat(3_000)}`), { status: 400 })
  const { data: role } = await acme.admin.post('/rbac/roles', {
    code: 'watcher',
    name: 'Watcher',
    permissions: ['events.stream.read', 'erp.uom.read'],
  })
  const user = await acme.user('viewer')
  const assignments = (await acme.admin.get(`/users/${user.userId}/roles`)).data
  t.equal(assignments.length, 1)
  await acme.admin.post(`/users/${user.userId}/roles`, { role: role.code })
  await acme.admin.delete(`/users/${user.userId}/roles/${assignments[0].id}`)
  const narrow = await reader(acme, { token: user.token })
  t.equal(narrow.status, 200)
  await party(acme)
  await acme.admin.post('/erp/uoms', { code: 'KG', name: 'Kilogram', dimension: 'mass' })
  await narrow.until(() => narrow.told.length > 0)
  t.same(types(narrow), ['erp.uom.created'], 'of what he may read')
})

t.test('rights and sessions that end meanwhile end what they gave', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const watching = await reader(acme, { token: user.token })
  await party(acme)
  await watching.until(() => watching.told.length === 1)
  t.equal((await acme.as(user.token).post('/auth/logout', {})).status < 300, true)
  await party(acme)
  await watching.until(() => watching.ended)
  t.equal(watching.told.length, 1)
})

t.test('P48: a stream closes at once when its session ends, and others go on', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const [ending, other] = [await reader(acme, { token: user.token }), await reader(acme)]
  const began = Date.now()
  await acme.as(user.token).post('/auth/logout', {})
  await ending.until(() => ending.ended)
  t.ok(Date.now() - began < 5_000, 'before the next heartbeat')
  await party(acme)
  await other.until(() => other.told.length === 1)
})

t.test('a reader goes on where he left: each event once, whatever commits when', async (t) => {
  const acme = await tenant()
  const first = await reader(acme)
  await party(acme)
  await first.until(() => first.told.length === 1)
  first.close()
  const missed = await Promise.all(times(5, () => party(acme)))
  const again = await reader(acme, { lastId: first.lastId })
  await again.until(() => again.told.length === 5)
  t.same(new Set(again.told.map(({ data }) => data.entity_id)), new Set(missed.map(({ data }) => data.id)))
  again.close()

  // Twenty who write, some in long transactions; one who reads and is cut again and again.
  const data = runtime.services.planes.data.get('main')!
  const scope = { ...systemScope(acme.id, 'test', newId()), context: acme.scope.context }
  const emitted: string[] = []
  let writing = true
  const writers = Promise.all(
    times(20, async (n) => {
      for (let round = 0; round < 15; round++) {
        const id = newId()
        await data.write(scope, async (tx) => {
          tx.emit({ type: 'erp.party.updated', entity_id: id, version: 1, data: {} })
          await tx.query(sleep(((n * 7 + round * 3) % 20) / 200))
        })
        emitted.push(id)
      }
    }),
  ).then(() => {
    writing = false
  })
  const seen: string[] = []
  let lastId = again.lastId
  for (let n = 0; writing || seen.length < emitted.length; n++) {
    if (n > 200) break
    const one = await reader(acme, { lastId, on: n % 2 === 0 ? app : second.app })
    await new Promise((resolve) => setTimeout(resolve, 30 + (n % 5) * 20))
    one.close()
    // What came after the last id comes again.
    lastId = one.lastId
    seen.push(...one.toldUntilLastId().map(({ data }) => data.entity_id))
  }
  await writers
  t.equal(emitted.length, 300)
  t.same(seen.toSorted(), emitted.toSorted(), 'all of them, none twice')
})

t.test('what cannot be gone on from, or is too much, says so', async (t) => {
  const acme = await tenant()
  const place = (await reader(acme)).lastId
  const [home, at, ...snapshots] = place.split('~')
  const old = [home, (Date.now() - 7 * 86_400_000).toString(36), ...snapshots].join('~')
  for (const lastId of [
    'nonsense',
    '~~~~',
    `${place}9`,
    ['other', at, ...snapshots].join('~'),
    old,
    [home, at, '9:1:', '1:1:', '1:1:'].join('~'),
  ]) {
    const lost = await reader(acme, { lastId })
    t.equal(lost.status, 200)
    await lost.until(() => lost.told.length === 1)
    t.same(types(lost), ['reset'], lastId)
    await party(acme)
    await lost.until(() => lost.told.length === 2)
    lost.close()
  }
  const watching = await reader(acme)
  await acme.admin.post('/erp/parties/bulk', { rows: times(1_000, (n) => ({ code: `B-${n}`, name: 'Bulk', roles: ['client'] })) })
  await watching.until(() => watching.told.length >= 1_000)
  t.equal(types(watching).filter((type) => type === 'erp.party.created').length, 1_000, 'a thousand are told')
  watching.close()
  const scope = { ...systemScope(acme.id, 'test', newId()), context: acme.scope.context }
  const late = await reader(acme)
  await runtime.services.planes.data.get('main')!.write(scope, async (tx) => {
    for (let n = 0; n < 1_001; n++) tx.emit({ type: 'erp.party.updated', entity_id: newId(), version: 1, data: {} })
  })
  await late.until(() => late.told.length > 0)
  t.same(types(late), ['reset'], 'one more is not')
})

t.test('a user has ten streams at once', async (t) => {
  const acme = await tenant()
  const ten = await Promise.all(times(10, () => reader(acme)))
  t.same([...new Set(ten.map(({ status }) => status))], [200])
  const more = await reader(acme)
  t.equal(more.status, 429)
  await more.until(() => more.refusal.includes('rate_limited'))
  t.equal((await reader(acme, { token: acme.operator.token })).status, 200, 'another user has his own')
  ten[0]!.close()
  let next = more
  for (let n = 0; n < 100 && next.status !== 200; n++) next = await reader(acme)
  t.equal(next.status, 200)
})

t.test('a reader who does not read is let go, and others are told all the same', async (t) => {
  const acme = await tenant()
  const [slow, quick] = [await reader(acme), await reader(acme, { token: acme.operator.token })]
  await slow.pause()
  const scope = { ...systemScope(acme.id, 'test', newId()), context: acme.scope.context }
  const data = runtime.services.planes.data.get('main')!
  const text = 'x'.repeat(4_000)
  for (let round = 0; round < 40 && !slow.ended; round++) {
    await data.write(scope, async (tx) => {
      for (let n = 0; n < 100; n++) tx.emit({ type: 'erp.party.updated', entity_id: newId(), version: 1, data: { text } })
    })
  }
  await quick.until(() => quick.told.length === 4_000)
  const counts = await new Promise<number>((resolve) => app.server.getConnections((_error, n) => resolve(n)))
  t.ok(counts < 3, 'his connection is gone')
})

t.test('the latest readings of devices come as they are written', async (t) => {
  const acme = await tenant()
  const [one, two] = [await probe(acme), await probe(acme)]
  const at = (second: number) => new Date(Date.UTC(2026, 4, 1) + second * 1000).toISOString()
  await one.send([{ ts: at(0), value: 1 }])
  const watching = await reader(acme, { query: `?readings=${one.code}&types=none` })
  await watching.until(() => watching.told.length === 1)
  t.match(watching.told, [{ event: 'reading', data: { device: one.code, metric: 'm', value: 1 } }])
  await two.send([{ ts: at(0), value: 1 }])
  await one.send([
    { ts: at(1), value: 2 },
    { ts: at(2), value: 3 },
  ])
  runtime.services.announcements.say('readings', acme.id)
  await watching.until(() => watching.told.length === 2)
  t.match(watching.told[1], { event: 'reading', data: { device: one.code, value: 3 } })
})

t.test('what one process does is told by another', async (t) => {
  const acme = await tenant()
  const watching = await reader(acme, { on: second.app })
  const began = Date.now()
  await party(acme)
  await watching.until(() => watching.told.length === 1)
  // Without Redis nobody tells the other process, which looks by itself.
  t.ok(Date.now() - began < (runtime.services.redis ? 1_000 : 7_000))
})

t.test('when the server stops, streams end', async (t) => {
  const third = await testApp(t)
  await third.app.listen({ host: '127.0.0.1', port: 0 })
  const acme = await tenant()
  const watching = await reader(acme, { on: third.app })
  await third.app.close()
  await watching.until(() => watching.ended)
})
