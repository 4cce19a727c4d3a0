// What the plan allows.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Answer, tally, testApp, times } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'

const { tenant, app, request } = await testApp(t)

// A plan of the test's own: plans belong to the platform and are made by migration.
const plan = `test-${newId().slice(-8)}`
const owner = new Client({ connectionString: testServices().admin.control })
await owner.connect()
await owner.query(`insert into platform_plans (code, name, price, sort) values ($1, 'Test', 9999, 99)`, [plan])
await owner.query(`insert into platform_plan_modules (plan, module) select $1, code from platform_product_modules`, [plan])
await owner.query(`insert into platform_plan_limits (plan, metric, amount) values ($1, 'users', 6), ($1, 'devices', 3)`, [plan])
await owner.end()

t.test('of twenty who take the last places one after the other the plan’s number get them', async (t) => {
  const acme = await tenant({ plan: plan }) // four users are there
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
  const acme = await tenant({ plan: plan })
  const device = () => ({ code: `d-${newId()}`, name: 'D' })
  const made = await Promise.all(times(20, () => acme.admin.post('/telemetry/devices', device())))
  t.same(tally(made), { 201: 3, 403: 17 })
  const { id } = made.find((a) => a.status === 201)!.data
  t.equal((await acme.admin.delete(`/telemetry/devices/${id}`, { 'if-match': '"1"' })).status, 204)
  t.match(await acme.admin.post('/telemetry/devices/bulk', { rows: [device(), device()] }), { status: 403, body: { detail: 'plan_limit' } })
  t.equal((await acme.admin.post('/telemetry/devices/bulk', { rows: [device()] })).status, 201)
  t.match(await acme.admin.post(`/telemetry/devices/${id}/recover`), { status: 403, body: { detail: 'plan_limit' } })
})

const custom = async (metric: string, amount: number): Promise<string> => {
  const code = `test-${newId().slice(-8)}`
  const owner = new Client({ connectionString: testServices().admin.control })
  await owner.connect()
  await owner.query(`insert into platform_plans (code, name, price, sort) values ($1, 'Test', 9999, 99)`, [code])
  await owner.query(`insert into platform_plan_modules (plan, module) select $1, code from platform_product_modules`, [code])
  await owner.query(`insert into platform_plan_limits (plan, metric, amount) values ($1, $2, $3)`, [code, metric, amount])
  await owner.end()
  return code
}
const party = () => ({ code: `P-${newId()}`, name: 'P', roles: ['client'] })

t.test('records are counted where they are written: the last places go to as many as there are', async (t) => {
  const acme = await tenant({ plan: await custom('records', 12) })
  const used = async () => (await acme.admin.get('/tenant/usage')).data.find((u: { metric: string }) => u.metric === 'records').used
  const post = () => acme.admin.post('/erp/parties', party())
  t.equal((await acme.admin.post('/erp/parties/bulk', { rows: times(5, party) })).status, 201)
  const answers = await Promise.all(
    times(20, (i) =>
      i % 4 === 0 ? acme.admin.post('/erp/locations', { code: newId(), name: 'L', kind: 'internal', level: 'site' }) : post(),
    ),
  )
  t.same(tally(answers), { 201: 7, 403: 13 })
  t.match(answers.find((a) => a.status === 403)!.body, {
    detail: 'plan_limit',
    error: { details: { metric: 'records', limit: 12, used: 12 } },
  })
  t.equal(await used(), 12)
  const { id } = (await acme.admin.get('/erp/parties?limit=1')).data[0]
  t.equal((await acme.admin.delete(`/erp/parties/${id}`, { 'if-match': '"1"' })).status, 204)
  t.equal(await used(), 11)
  t.match(await acme.admin.post('/erp/parties/bulk', { rows: times(2, party) }), { status: 403, body: { detail: 'plan_limit' } })
  t.equal(await used(), 11, 'what was refused is not counted')
  t.equal((await post()).status, 201)
  t.match(await acme.admin.post(`/erp/parties/${id}/recover`, {}), { status: 403, body: { detail: 'plan_limit' } })
})

t.test('far from the limit nobody waits, near it nobody passes: many rows and few, at once', async (t) => {
  const acme = await tenant({ plan: await custom('records', 1_000) })
  const answers = await Promise.all(times(24, (i) => acme.admin.post('/erp/parties/bulk', { rows: times(i % 3 === 0 ? 120 : 3, party) })))
  t.ok(
    answers.every((a) => a.status === 201 || a.body.detail === 'plan_limit'),
    JSON.stringify(tally(answers)),
  )
  const made = answers.filter((a) => a.status === 201).reduce((n, a) => n + a.data.length, 0)
  const { used } = (await acme.admin.get('/tenant/usage')).data.find((u: { metric: string }) => u.metric === 'records')
  t.equal(used, made)
  t.ok(used <= 1_000 && used > 800, `${used} of 1,000`)
})

t.test('changes of what is used become one now and then, and the sum stays', async (t) => {
  const acme = await tenant()
  const owner = new Client({ connectionString: testServices().admin.data })
  await owner.connect()
  t.teardown(() => owner.end())
  await owner.query(`select plane.use($1, 'records', 1, null) from generate_series(1, 1200)`, [acme.id])
  const { rows } = await owner.query(`select count(*)::int as n from plane.usage_changes where tenant_id = $1`, [acme.id])
  t.ok(rows[0].n < 1_000, `${rows[0].n} rows are left of 1,200`)
  const { used } = (await acme.admin.get('/tenant/usage')).data.find((u: { metric: string }) => u.metric === 'records')
  t.equal(used, 1_200)
})

t.test('what can be made through the API is counted as a record', async (t) => {
  const owner = new Client({ connectionString: testServices().admin.data })
  await owner.connect()
  t.teardown(() => owner.end())
  const { rows } = await owner.query<{ name: string }>(`select tgrelid::regclass::text as name from pg_trigger where tgname = 'count_made'`)
  const counted = new Set(rows.map(({ name }) => name))
  const made = [...app.permissions.keys()].filter((code) => /^erp\.\w+\.create$/.test(code)).map((code) => `erp_${code.split('.')[1]}`)
  t.ok(made.length > 5)
  for (const table of made) t.ok(counted.has(table), table)
})

t.test('calls of the API are counted by all processes, and the month’s number is all there are', async (t) => {
  const other = await testApp(t)
  const acme = await tenant({ plan: await custom('api_calls', 60) })
  const ask = (n: number) =>
    (n % 2 ? other : { request }).request(acme.host, {
      method: 'GET',
      url: '/api/v1/erp/parties',
      headers: { authorization: `Bearer ${acme.viewer.token}` },
    })
  const used = async () => (await acme.admin.get('/tenant/usage')).data.find((u: { metric: string }) => u.metric === 'api_calls')
  const first = await Promise.all(times(40, ask))
  t.same(tally(first), { 200: 40 })
  await new Promise((resolve) => setTimeout(resolve, 2_500))
  t.match(await used(), { used: 40, limit: 60 }, 'each counted once')
  const rest = await Promise.all(times(60, ask))
  const allowed = rest.filter((a) => a.status === 200).length
  t.ok(allowed >= 19 && allowed <= 40, `${allowed} more: each process lets through what it knew to be left`)
  t.match(rest.find((a) => a.status === 403)?.body, { detail: 'plan_limit', error: { details: { metric: 'api_calls', limit: 60 } } })
  t.equal((await acme.viewer.get('/auth/me')).status, 200, 'who am I is answered still')
  t.match((await acme.admin.get('/rbac/explain?permission=erp.party.read')).data, { allowed: false, decided_by: 'plan_limit' })
})
