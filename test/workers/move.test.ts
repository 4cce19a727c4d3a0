// A tenant is moved in every direction while it is written to, and nobody notices more than a pause.
import t from 'tap'
import { Type } from 'typebox'
import { newId, sql, Uuid } from '../../domain/kernel/index.ts'
import { homeOf } from '../../domain/tenancy/index.ts'
import { createRuntime } from '../../server/runtime.ts'
import { startWorkers } from '../../server/workers.ts'
import { Consumer } from '../../workers/kafka.ts'
import { TOPICS } from '../../workers/topics.ts'
import { type Answer, eventually, type TestApp, type TestTenant, tally, testApp, times } from '../support/app.ts'
import { catalogue, type Stocked, stockUp } from '../support/erp.ts'
import { dataOwners, ownControlPlane, quietLog, testConfig } from '../support/services.ts'

const plane = await ownControlPlane(t)
// Two processes that answer requests: what one knows of where a tenant lives, the other must not miss.
const apis = [await testApp(t, { CONTROL_DATABASE_URL: plane.app }), await testApp(t, { CONTROL_DATABASE_URL: plane.app })]
const { tenant, runtime } = apis[0]!
const { planes, tenants } = runtime.services
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const config = { ...testConfig({ CONTROL_DATABASE_URL: plane.app }), DATA_OWNER_CATALOG: dataOwners() }
const working = await createRuntime(config, quietLog)
const workers = await startWorkers(working, quietLog, ['relay', 'moves'])
await workers.assigned(20_000)
t.teardown(async () => {
  await workers.stop()
  await working.close()
})

/** Everything that was published while this file runs. */
const published: { event_id: string; tenant_id: string; type: string; entity_id: string }[] = []
const events = new Consumer({
  ...working.kafka,
  group: `test.move.${newId()}`,
  topics: [TOPICS.events],
  handle: async (messages) => {
    // Other tests put garbage there on purpose.
    for (const text of messages.map(({ value }) => value!.toString())) if (text.includes('"event_id"')) published.push(JSON.parse(text))
  },
})
await events.start()
t.teardown(() => events.stop())
const Id = Type.Object({ id: Uuid })
const Waiting = Type.Object({}, { additionalProperties: true })

interface Destination {
  mode: 'shared' | 'schema' | 'database'
  catalog_key: 'main' | 'second'
}
const ask = (acme: TestTenant, path: string, body?: object) => root.post(`/superadmin/tenants/${acme.id}/move${path}`, body)
const last = async (acme: TestTenant) => (await root.get(`/superadmin/tenants/${acme.id}/moves`)).data[0]
const until = (acme: TestTenant, state: string) =>
  eventually(
    () => last(acme),
    (move) => {
      if (state === 'switched' && ['rolled_back', 'cancelling'].includes(move.state)) throw new Error(`${move.state}: ${move.error}`)
      return move.state === state && (state !== 'switched' || move.step === 'kept')
    },
    60,
  )
async function move(acme: TestTenant, to: Destination) {
  const asked = await ask(acme, '', to)
  if (asked.status !== 200) throw new Error(asked.text)
  return until(acme, 'switched')
}
async function end(acme: TestTenant, how: 'confirm' | 'roll-back') {
  const asked = await ask(acme, `/${how}`)
  if (asked.status !== 200) throw new Error(asked.text)
  return until(acme, how === 'confirm' ? 'confirmed' : 'rolled_back')
}
/** Sends a request of a tenant's user through one of the processes. */
const send = (api: TestApp, acme: TestTenant, method: 'GET' | 'POST', path: string, payload?: object, key?: string): Promise<Answer> =>
  api.request(acme.host, {
    method,
    url: `/api/v1${path}`,
    headers: { authorization: `Bearer ${acme.admin.token}`, ...(key ? { 'idempotency-key': key } : {}) },
    ...(payload ? { payload } : {}),
  })

interface Written {
  key: string
  body: object
  id: string
}

/** Writers that go on until they are told to stop; every answer is kept. */
function load(acme: TestTenant, c: Stocked, writers: number) {
  let stopped = false
  const parties: Written[] = []
  const answers: Answer[] = []
  let longest = 0
  let issued = 0
  const work = times(writers, async (n) => {
    for (let i = 0; !stopped; i++) {
      const api = apis[(n + i) % apis.length]!
      const began = performance.now()
      let answer: Answer
      if (i % 3 === 2) {
        answer = await send(api, acme, 'POST', '/erp/stock/issues', { location_id: c.store, product_id: c.product, quantity: '1' })
        if (answer.status === 201) issued++
      } else {
        const key = newId()
        const body = { code: `L-${key.slice(-12)}`, name: `Loaded ${key}`, roles: ['client'] }
        answer = await send(api, acme, 'POST', '/erp/parties', body, key)
        if (answer.status === 201) parties.push({ key, body, id: answer.data.id })
      }
      longest = Math.max(longest, performance.now() - began)
      answers.push(answer)
      await new Promise((resolve) => setTimeout(resolve, 10)) // the two cores have other work too
    }
  })
  return {
    parties,
    answers,
    issued: () => issued,
    longest: () => longest,
    stop: async () => {
      stopped = true
      await Promise.all(work)
    },
  }
}

const WAY: Destination[] = [
  { mode: 'schema', catalog_key: 'main' },
  { mode: 'database', catalog_key: 'main' },
  { mode: 'shared', catalog_key: 'second' },
  { mode: 'shared', catalog_key: 'main' },
  { mode: 'database', catalog_key: 'second' },
  { mode: 'schema', catalog_key: 'second' },
  { mode: 'schema', catalog_key: 'main' },
  { mode: 'shared', catalog_key: 'second' },
  { mode: 'database', catalog_key: 'main' },
  { mode: 'database', catalog_key: 'second' },
]

t.test('in every direction under load: nothing lost, nothing doubled, and a neighbour feels nothing', async (t) => {
  const acme = await tenant()
  const neighbour = await tenant()
  const c = await catalogue(acme)
  const n = await catalogue(neighbour)
  await stockUp(acme, c, '100000')
  const quiet = load(neighbour, n, 1)
  const busy = load(acme, c, 3)
  await eventually(
    async () => busy.parties.length,
    (count) => count > 20,
  )
  const page = await acme.viewer.get('/erp/parties?limit=5&sort=code')
  for (const to of WAY) {
    const { state: _, mode: __, ...before } = (await tenants.byId(acme.id))!
    const moved = await move(acme, to)
    t.comment(`${before.catalog_key} → ${to.mode} on ${to.catalog_key}: writers waited ${moved.read_only_ms} ms`)
    t.match((await root.get(`/superadmin/tenants/${acme.id}`)).data, { ...to, state: 'ready', writable: true })
    t.ok(moved.tables.erp_party.rows > 20, 'compared')
    const known = busy.parties.length
    await eventually(
      async () => busy.parties.length,
      (count) => count > known + 5,
    )
    await end(acme, 'confirm')
  }
  await busy.stop()
  await quiet.stop()
  t.same(Object.keys(tally(busy.answers)), ['201'], `each of ${busy.answers.length} writes was done`)
  t.same(
    Object.keys(tally(quiet.answers)).filter((status) => status !== '201' && status !== '409'),
    [],
  )
  t.comment(`slowest write: ${Math.round(busy.longest())} ms, the neighbour's ${Math.round(quiet.longest())} ms`)

  const found = await homeOf(planes, 'data', (await tenants.byId(acme.id))!).read(acme.scope, (tx) =>
    tx.any(sql.type(Id)`select id from erp_party where tenant_id = ${tx.tenantId} and code like 'L-%'`),
  )
  t.equal(found.length, busy.parties.length)
  t.same(new Set(found.map(({ id }) => id)), new Set(busy.parties.map(({ id }) => id)))
  const [stock] = (await acme.admin.get(`/erp/stock?product_id=${c.product}&location_id=${c.store}`)).data
  t.equal(Number(stock.quantity), 100_000 - busy.issued())
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
  // What is not published yet, with what its outbox says.
  const unpublished = async () => {
    const seen = new Set(published.map(({ entity_id }) => entity_id))
    const missing = busy.parties.map(({ id }) => id).filter((id) => !seen.has(id))
    return homeOf(planes, 'data', (await tenants.byId(acme.id))!).read(acme.scope, (tx) =>
      tx.any(sql.type(Waiting)`
        select p.id, o.status, o.available_at::text, o.attempts, o.error, o.dispatched_at::text
        from unnest(${sql.array(missing, 'uuid')}) as p (id) left join plane.event_outbox o on o.tenant_id = ${tx.tenantId} and o.entity_id = p.id`),
    )
  }
  await eventually(unpublished, (events) => events.length === 0, 60)
  const created = published.filter(({ tenant_id, type }) => tenant_id === acme.id && type === 'erp.party.created')
  t.equal(created.length, new Set(created.map(({ event_id }) => event_id)).size, 'no event was published twice')

  for (const { key, body, id } of [busy.parties[0]!, busy.parties.at(-1)!]) {
    const again = await send(apis[1]!, acme, 'POST', '/erp/parties', body, key)
    t.match(again, { status: 201, data: { id }, headers: { 'idempotency-replayed': 'true' } }, 'a key still answers what it answered')
  }
  t.equal(
    (await acme.viewer.get(`/erp/parties?limit=5&sort=code&cursor=${page.body.pagination.next_cursor}`)).status,
    200,
    'a cursor goes on',
  )
  t.equal((await acme.admin.get('/audit/verify')).status, 200)
})
