// A tenant with a long outbox is moved: writers are shut out for a bounded time, whatever waits to be published.
import t from 'tap'
import { createRuntime } from '../../server/runtime.ts'
import { ownedStorage } from '../../server/storage.ts'
import { carryOut } from '../../workers/mover.ts'
import { type Answer, eventually, testApp, times } from '../support/app.ts'
import { connectTo, dataOwners, ownControlPlane, quietLog, testConfig, testServices } from '../support/services.ts'

// 40,000 were tried by hand: catching up with them takes minutes, while writers work; they are shut out no longer than here.
const PENDING = 8_000
/** The longest time that writers may be shut out. */
const MAX_SHUT_MS = 2_000

const plane = await ownControlPlane(t)
const { tenant } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const root = (await tenant({ kind: 'platform', slug: 'admin' })).admin
const config = { ...testConfig({ CONTROL_DATABASE_URL: plane.app }), DATA_OWNER_CATALOG: dataOwners() }
const working = await createRuntime(config, quietLog)
t.teardown(() => working.close())
/** As a worker that Kafka gives the job: workers of other tests have the same group, and would be given it. */
const carry = (tenantId: string, moveId: string) =>
  carryOut(
    {
      planes: working.services.planes,
      storage: ownedStorage(dataOwners()),
      controlUrl: config.CONTROL_DATABASE_URL,
      log: quietLog.root,
    },
    tenantId,
    moveId,
    new AbortController().signal,
  )

t.test('D8: a move with thousands of pending events shuts writers out for at most 2 s and carries every event', async (t) => {
  const acme = await tenant()
  const owner = await connectTo(t, testServices().admin.data)
  await owner.query(
    `insert into plane.event_outbox (event_id, tenant_id, type, entity_id, version, occurred_at, data, available_at)
     select gen_random_uuid(), $1, 'test.backlog.waits', gen_random_uuid(), 1, now(), '{}', now() + interval '1 hour' from generate_series(1, $2)`,
    [acme.id, PENDING],
  )
  let isDone = false
  let longest = 0
  const answers: Answer[] = []
  const writers = times(2, async (n) => {
    for (let i = 0; !isDone; i++) {
      const began = performance.now()
      answers.push(await acme.admin.post('/erp/parties', { code: `B-${n}-${i}`, name: 'Backlog', roles: ['client'] }))
      longest = Math.max(longest, performance.now() - began)
      await new Promise((resolve) => setTimeout(resolve, 40))
    }
  })
  const last = async () => (await root.get(`/superadmin/tenants/${acme.id}/moves`)).data[0]
  t.equal((await root.post(`/superadmin/tenants/${acme.id}/move`, { mode: 'database', catalog_key: 'second' })).status, 200)
  await carry(acme.id, (await last()).id)
  const moved = await eventually(last, (move) => (move.state === 'switched' && move.step === 'kept') || move.state === 'rolled_back', 20)
  isDone = true
  await Promise.all(writers)
  t.match(moved, { state: 'switched' }, moved.error)
  t.ok(moved.read_only_ms <= MAX_SHUT_MS, `writers were shut out for ${moved.read_only_ms} ms`)
  t.ok(longest <= MAX_SHUT_MS + 500, `the slowest write took ${Math.round(longest)} ms`)
  t.same(new Set(answers.map(({ status }) => status)), new Set([201]), 'no write was refused')
  t.comment(`shut out ${moved.read_only_ms} ms, slowest write ${Math.round(longest)} ms, ${answers.length} writes`)

  const place = {
    mode: 'database',
    catalog_key: 'second',
    schema_name: null,
    database_name: `tenantry_t_${acme.id.replaceAll('-', '')}`,
  } as const
  const target = await ownedStorage(dataOwners()).connect(place)
  t.teardown(() => target.end())
  const { rows } = await target.query(
    `select count(*) filter (where type = 'test.backlog.waits')::int as backlog, count(*) filter (where status = 'pending' and available_at = 'infinity')::int as held,
       count(distinct entity_id) filter (where type = 'erp.party.created')::int as parties from plane.event_outbox where tenant_id = $1`,
    [acme.id],
  )
  t.same(rows, [{ backlog: PENDING, held: 0, parties: answers.length }], 'every event came with the tenant')
  t.equal((await root.post(`/superadmin/tenants/${acme.id}/move/confirm`, {})).status, 200)
  await carry(acme.id, moved.id)
  t.match(await last(), { state: 'confirmed' })
})
