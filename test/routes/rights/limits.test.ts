// What the plan allows.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Answer, tally, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'

const { tenant, app } = await testApp(t)

// A plan of the test's own: plans belong to the platform and are made by migration.
const plan = `test-${newId().slice(-8)}`
const owner = new Client({ connectionString: testServices().admin.control })
await owner.connect()
await owner.query(`insert into platform_plans (code, name, sort) values ($1, 'Test', 99)`, [plan])
await owner.query(`insert into platform_plan_modules (plan, module) select $1, code from platform_product_modules`, [plan])
await owner.query(`insert into platform_plan_limits (plan, metric, amount) values ($1, 'users', 6), ($1, 'devices', 3)`, [plan])
await owner.end()

t.test('of twenty who take the last places one after the other the plan’s number get them', async (t) => {
  const acme = await tenant({ plan: plan as 'enterprise' }) // four users are there
  t.match((await acme.viewer.get('/auth/me')).data.limits, { users: 6, devices: 3 })
  const invite = () => acme.admin.post('/users', { email: `u-${newId()}@acme.example`, name: 'U' })
  const invited = await Promise.all(times(20, invite))
  t.same(tally(invited), { 201: 2, 403: 18 })
  const refused = invited.find((a) => a.status === 403) as Answer
  t.match(refused.body, { detail: 'plan_limit', error: { details: { metric: 'users', limit: 6, used: 6 } } })
  const { id, version } = invited.find((a) => a.status === 201)!.data
  t.equal((await acme.admin.delete(`/users/${id}`, { 'if-match': `"${version}"` })).status, 204)
  t.same(tally(await Promise.all(times(5, invite))), { 201: 1, 403: 4 }, 'whoever is let go makes room')
})

t.test('the registry says which modules there are, what they need, and which plan has them', async (t) => {
  const acme = await tenant({ plan: 'starter' })
  const { data } = await acme.viewer.get('/module-registry')
  const named = (code: string) => data.find((m: { code: string }) => m.code === code)
  t.match(named('erp.inventory'), { product: 'erp', requires: ['erp.products'], availability: 'enabled', unlocked_by: 'starter' })
  t.match(named('erp.procurement'), { availability: 'blocked', unlocked_by: 'professional' })
  const codes = data.map((m: { code: string }) => m.code)
  for (const { requires } of data) for (const needed of requires) t.ok(codes.includes(needed), `${needed} is there`)
  const asked = new Set([...app.permissions.values()].flatMap(({ module }) => module ?? []))
  for (const module of asked) t.ok(codes.includes(module), `${module}, which a route asks for, is registered`)
})

t.test('devices are counted one by one, in bulk and when they are brought back', async (t) => {
  const acme = await tenant({ plan: plan as 'enterprise' })
  const device = () => ({ code: `d-${newId()}`, name: 'D' })
  const made = await Promise.all(times(20, () => acme.admin.post('/telemetry/devices', device())))
  t.same(tally(made), { 201: 3, 403: 17 })
  const { id } = made.find((a) => a.status === 201)!.data
  t.equal((await acme.admin.delete(`/telemetry/devices/${id}`, { 'if-match': '"1"' })).status, 204)
  t.match(await acme.admin.post('/telemetry/devices/bulk', { rows: [device(), device()] }), { status: 403, body: { detail: 'plan_limit' } })
  t.equal((await acme.admin.post('/telemetry/devices/bulk', { rows: [device()] })).status, 201)
  t.match(await acme.admin.post(`/telemetry/devices/${id}/recover`), { status: 403, body: { detail: 'plan_limit' } })
})
