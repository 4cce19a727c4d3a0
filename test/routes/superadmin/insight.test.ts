// What staff sees of how tenants use the platform.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { startWorkers } from '../../../server/workers.ts'
import { testApp, times, upload } from '../../support/app.ts'
import { ownControlPlane, quietLog } from '../../support/services.ts'

const plane = await ownControlPlane(t)
const { tenant, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const { activity } = runtime.services

t.test('what a tenant used, by whom and when last, is counted by feature; trials are reported with it', async (t) => {
  const [acme, idle] = [await tenant({ terms: 'trial', plan: 'professional' }), await tenant({ terms: 'trial' })]
  await Promise.all(
    times(7, (n) => acme.admin.post('/erp/parties', { code: `P${n}`, name: 'P', roles: ['client'] })).concat(
      times(5, () => acme.viewer.get('/erp/parties')),
    ),
  )
  t.equal((await acme.viewer.post('/erp/parties', { code: 'X', name: 'X', roles: ['client'] })).status, 403)
  await activity.write()
  const { data } = await root.get(`/superadmin/tenants/${acme.id}/activity?days=7`)
  const parties = data.features.find(({ feature }: { feature: string }) => feature === 'erp.parties')
  t.match(parties, { requests: 13, changes: 7, users: 2, last_at: String }, 'what is refused changes nothing')
  t.same(
    new Set(data.users.map(({ email, changes }: { email: string; changes: number }) => `${email} ${changes}`)),
    new Set([`${acme.admin.email} 7`, `${acme.viewer.email} 0`]),
  )
  const trials = async () => (await root.get('/superadmin/trials?limit=200')).data
  t.match(
    (await trials()).find(({ tenant_id }: { tenant_id: string }) => tenant_id === acme.id),
    { plan: 'professional', changes: 7, users: 2, active_days: 1, features: ['erp.parties'], last_at: String },
  )
  t.match(
    (await trials()).find(({ tenant_id }: { tenant_id: string }) => tenant_id === idle.id),
    { requests: 0, users: 0, features: [], last_at: null },
  )
  const page = await root.get('/superadmin/trials?limit=1')
  t.equal((await root.get(`/superadmin/trials?limit=1&cursor=${page.body.pagination.next_cursor}`)).data.length, 1)
  t.equal((await root.post(`/superadmin/tenants/${acme.id}/convert`, { plan: 'professional' })).status, 200)
  t.notOk(
    (await trials()).some(({ tenant_id }: { tenant_id: string }) => tenant_id === acme.id),
    'a converted one is no trial',
  )
  t.equal((await root.get(`/superadmin/tenants/${newId()}/activity`)).status, 404)
  t.match(await acme.admin.get('/superadmin/trials'), { status: 404 })
})

t.test('staff sees how much of its plan a tenant uses, storage among it', async (t) => {
  const acme = await tenant()
  await upload(acme.admin, 'x'.repeat(1_000))
  const own = (await acme.admin.get('/tenant/usage')).data
  const { data } = await root.get(`/superadmin/tenants/${acme.id}/usage`)
  const without = (rows: { metric: string }[]) => rows.filter(({ metric }) => metric !== 'api_calls')
  t.same(without(data), without(own))
  t.ok(data.find(({ metric, used }: { metric: string; used: number }) => metric === 'storage' && used >= 1_000))
  t.equal((await root.get(`/superadmin/tenants/${newId()}/usage`)).status, 404)
  const deny = { permission: 'platform.tenant_activity.read', effect: 'deny', reason: 'Not for this viewer' }
  t.equal((await root.post(`/users/${staff.viewer.userId}/overrides`, deny)).status, 201)
  t.match(await staff.viewer.get(`/superadmin/tenants/${acme.id}/usage`), { status: 403, body: { detail: 'permission_denied' } })
  t.equal((await acme.admin.get(`/superadmin/tenants/${acme.id}/usage`)).status, 404)
})

t.test('tenants are listed by requests, errors and time, and many processes add up to the same', async (t) => {
  const busy = await tenant()
  await Promise.all(times(40, () => busy.viewer.get('/erp/parties')))
  await Promise.all(times(4, () => activity.write()))
  await Promise.all(times(10, () => busy.viewer.get('/erp/parties')))
  await activity.write()
  const { data } = await root.get('/superadmin/performance?hours=2&sort=requests&limit=200')
  const found = data.find(({ tenant_id }: { tenant_id: string }) => tenant_id === busy.id)
  t.match(found, { slug: busy.slug, requests: 50, errors: 0, duration_ms: Number, database_ms: Number, mean_ms: Number })
  t.ok(found.duration_ms > 0 && found.database_ms > 0 && found.database_ms <= found.duration_ms * 2)
  t.equal((await root.get('/superadmin/performance?sort=database_ms')).status, 200)
  t.match(await root.get('/superadmin/performance?sort=slug'), { status: 400, body: { detail: 'invalid_query' } })
})

t.test('staff finds whom to act for, and sees which impersonations run', async (t) => {
  const acme = await tenant()
  const users = `/superadmin/tenants/${acme.id}/users`
  t.match((await root.get(`${users}?q=${acme.slug}`)).data[0], { id: acme.admin.userId, email: acme.admin.email, administrator: true })
  t.match((await root.get(`${users}?q=${acme.viewer.email.toUpperCase()}`)).data, [{ id: acme.viewer.userId, administrator: false }])
  t.same((await root.get(`${users}?q=%25`)).data, [], 'a text is no pattern')
  t.match(await root.get(users), { status: 400, body: { detail: 'invalid_query' } })
  const impersonations = `/superadmin/tenants/${acme.id}/impersonations`
  const opened = await root.post(impersonations, { user_id: acme.viewer.userId, reason: 'Ticket 4711: totals' })
  t.equal(opened.status, 201, opened.text)
  t.match((await root.get(impersonations)).data, [
    { session_id: opened.data.session_id, user_id: acme.viewer.userId, staff_id: root.userId, reason: 'Ticket 4711: totals' },
  ])
  t.equal((await root.delete(`${impersonations}/${opened.data.session_id}`)).status, 204)
  t.same((await root.get(impersonations)).data, [])
  t.match(await staff.viewer.get(`${users}?q=a`), { status: 403, body: { detail: 'permission_denied' } })
})

t.test('metrics tell of failed and unfinished work', async (t) => {
  const workers = await startWorkers(runtime, quietLog, ['relay'])
  t.teardown(() => workers.stop())
  await tenant({ terms: 'trial' })
  const text = await workers.metrics.metrics()
  t.match(text, /^trials_running [1-9]/m)
  for (const name of [
    'event_retries_waiting',
    'jobs_failed',
    'dead_letters_open',
    'provisioning_failed',
    'moves_under_way',
    'trials_active',
  ])
    t.match(text, new RegExp(`^${name} \\d`, 'm'), name)
  for (const name of ['outbox_failed_events', 'outbox_unreachable_databases']) t.match(text, new RegExp(`^${name}\\{`, 'm'), name)
})
