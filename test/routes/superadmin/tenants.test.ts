// What one tenant has of what is sold: plan, grants, trials, flags.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { hasFlag } from '../../../domain/platform/index.ts'
import { buildApp } from '../../../server/app.ts'
import { type Client, eventually, testApp, times } from '../../support/app.ts'
import { ownControlPlane, quietLog } from '../../support/services.ts'

const plane = await ownControlPlane(t)
const here = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const { tenant } = here
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const soon = (ms: number) => new Date(Date.now() + ms).toISOString()
const registry = async (client: Client) =>
  Object.fromEntries(
    (await client.get('/module-registry')).data.map((m: { code: string; availability: string }) => [m.code, m.availability]),
  )

t.test('the list of tenants has the manners of every list, and a sheet says what each has and from where', async (t) => {
  const made = []
  for (const name of ['Alpha', 'Beta', 'Gamma']) made.push(await tenant({ name: `${name} ${newId()}` }))
  const page = await root.get('/superadmin/tenants?limit=2&sort=slug&kind=customer&fields=id,slug,name')
  t.match(page, { status: 200, body: { data: [{ slug: String }, { slug: String }], pagination: { limit: 2, next_cursor: String } } })
  const next = await root.get(`/superadmin/tenants?limit=2&sort=slug&kind=customer&cursor=${page.body.pagination.next_cursor}`)
  t.ok(next.data.length > 0)
  t.match((await root.get('/superadmin/tenants?name.like=Beta')).data, [{ id: made[1]!.id, status: 'active' }])
  t.match(await root.get('/superadmin/tenants?unknown=1'), { status: 400, body: { detail: 'invalid_query' } })
  t.match((await root.get(`/superadmin/tenants/${made[0]!.id}`)).data, {
    plan: 'enterprise',
    modules: { 'erp.parties': 'enabled' },
    products: [{ code: 'erp', plan: 'enterprise', source: 'plan' }, { code: 'telemetry' }],
    module_offers: [],
  })
  t.equal((await root.get(`/superadmin/tenants/${newId()}`)).status, 404)
  t.equal((await root.put(`/superadmin/tenants/${newId()}/plan`, { plan: 'starter' })).status, 404)
  t.match(await staff.viewer.put(`/superadmin/tenants/${made[0]!.id}/plan`, { plan: 'starter' }), { status: 403 })
})

t.test('a trial of a module: at once, until its moment, then readable; a grant stays', async (t) => {
  const acme = await tenant({ plan: 'starter' })
  const path = `/superadmin/tenants/${acme.id}/modules/telemetry.devices`
  const device = () => acme.admin.post('/telemetry/devices', { code: `d-${newId()}`, name: 'D' })
  t.match(await device(), { status: 403, body: { detail: 'module_unavailable' } })
  t.match(await root.put(path, { availability: 'enabled', source: 'trial', expires_at: soon(1_500) }), {
    status: 200,
    data: { modules: { 'telemetry.devices': 'enabled' }, module_offers: [{ code: 'telemetry.devices', source: 'trial' }] },
  })
  t.equal((await device()).status, 201)
  await eventually(
    () => registry(acme.viewer),
    (r) => r['telemetry.devices'] === 'read_only',
    5,
  )
  t.match(await device(), { status: 403, body: { error: { details: { availability: 'read_only' } } } })
  t.equal((await acme.admin.get('/telemetry/devices')).data.length >= 1, true)
  t.equal((await root.put(path, { availability: 'enabled', source: 'grant' })).status, 200)
  t.equal((await device()).status, 201)
  t.match(await root.delete(path), { status: 200, data: { modules: { 'telemetry.devices': 'read_only' } } })
  t.equal((await root.delete(path)).status, 404)
  t.equal((await acme.admin.get('/telemetry/devices')).status, 200)
  t.equal((await device()).status, 403)
  const trail = (await acme.admin.get('/audit?plane=control&entity=tenant_platform_product_modules')).data
  t.ok(trail.length >= 3)
  t.ok(trail.every((e: { actor_name: string }) => e.actor_name === 'platform staff'))
})

t.test('a module is not given without those that it needs, and goes with them', async (t) => {
  const acme = await tenant({ plan: 'starter' })
  const module = (code: string, body: object) => root.put(`/superadmin/tenants/${acme.id}/modules/${code}`, body)
  t.equal((await module('erp.parties', { availability: 'disabled', source: 'grant' })).status, 200)
  t.match(await acme.admin.get('/erp/parties'), { status: 403, body: { error: { details: { availability: 'disabled' } } } })
  t.notMatch((await acme.admin.get('/menu')).text, /erp\.parties/, 'what is disabled is not shown')
  t.match(await module('erp.procurement', { availability: 'enabled', source: 'grant' }), {
    status: 409,
    body: { detail: 'module_requires', error: { details: { module: 'erp.procurement', requires: ['erp.parties'] } } },
  })
  t.equal((await module('erp.parties', { availability: 'enabled', source: 'grant' })).status, 200)
  t.equal((await module('erp.procurement', { availability: 'enabled', source: 'grant' })).status, 200)
  t.match(await registry(acme.viewer), { 'erp.procurement': 'enabled' })
  t.equal((await module('erp.inventory', { availability: 'blocked', source: 'grant' })).status, 200)
  t.match(await registry(acme.viewer), { 'erp.inventory': 'read_only', 'erp.procurement': 'read_only', 'erp.products': 'enabled' })
  t.match(await module('erp.none', { availability: 'enabled', source: 'grant' }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await module('erp.parties', { availability: 'enabled', source: 'plan' }), { status: 400, body: { detail: 'invalid_body' } })
})

t.test('a product is blocked, hidden and given back', async (t) => {
  const acme = await tenant()
  const product = (body: object) => root.put(`/superadmin/tenants/${acme.id}/products/telemetry`, body)
  t.equal((await product({ availability: 'blocked', source: 'grant' })).status, 200)
  t.match(await registry(acme.viewer), { 'telemetry.devices': 'read_only', 'erp.parties': 'enabled' })
  t.equal((await product({ availability: 'disabled', source: 'grant' })).status, 200)
  t.match(await registry(acme.viewer), { 'telemetry.devices': 'disabled' })
  t.equal((await product({ availability: 'enabled', source: 'trial', expires_at: soon(1_000) })).status, 200)
  t.match(await registry(acme.viewer), { 'telemetry.devices': 'enabled' })
  t.match(
    await eventually(
      () => registry(acme.viewer),
      (r) => r['telemetry.devices'] !== 'enabled',
      5,
    ),
    { 'telemetry.devices': 'read_only' },
  )
})

t.test('flags: for all, for a share that stays the same, for some by name, until a moment', async (t) => {
  const acme = await tenant()
  const set = (name: string, body: object) => root.put(`/superadmin/tenants/${acme.id}/flags/${name}`, body)
  const flags = async (client: Client) => (await client.get('/auth/me')).data.flags
  t.equal((await set('new-editor', { value: { theme: 'dark' } })).status, 200)
  t.same(await flags(acme.viewer), { 'new-editor': { theme: 'dark' } })
  t.equal((await set('new-editor', { value: true, user_ids: [acme.manager.userId] })).status, 200)
  t.same(await flags(acme.viewer), {})
  t.same(await flags(acme.manager), { 'new-editor': true })
  t.equal((await set('new-editor', { value: true, percentage: 0, user_ids: [acme.manager.userId] })).status, 200)
  t.same(await flags(acme.manager), { 'new-editor': true })
  t.equal((await set('new-editor', { value: true, expires_at: soon(1_200) })).status, 200)
  t.same(await flags(acme.viewer), { 'new-editor': true })
  t.same(
    await eventually(
      () => flags(acme.viewer),
      (f) => !('new-editor' in f),
      5,
    ),
    {},
  )
  t.equal((await root.delete(`/superadmin/tenants/${acme.id}/flags/new-editor`)).status, 200)
  t.equal((await root.delete(`/superadmin/tenants/${acme.id}/flags/new-editor`)).status, 404)
  t.match(await set('new-editor', { value: true, percentage: 101 }), { status: 400, body: { detail: 'invalid_body' } })

  const users = times(2_000, () => newId())
  const on = (percentage: number, name = 'wide') => {
    const flag = { value: true, percentage, user_ids: [], expires_at: null }
    return new Set(users.filter((id) => hasFlag({ flags: { [name]: flag } } as never, name, id, Date.now())))
  }
  const [ten, thirty] = [on(10), on(30)]
  t.ok(ten.size > 130 && ten.size < 270, `${ten.size} of 2,000 at ten per cent`)
  t.ok(ten.isSubsetOf(thirty), 'whoever has it at ten has it at thirty')
  t.same(on(10), ten, 'and the same ones each time')
  t.notSame(on(10, 'other'), ten, 'others for another flag')
  t.equal(on(100).size, 2_000)
  t.equal(on(0).size, 0)
})

t.test('a route behind a flag is there for those who have it', async (t) => {
  const app = await buildApp(here.runtime.services, quietLog)
  t.teardown(() => app.close())
  app.get('/api/v1/preview', { authenticated: true, flag: 'preview' }, async () => ({ data: true }))
  const acme = await tenant()
  const ask = (client: Client) =>
    app.inject({ url: '/api/v1/preview', headers: { host: acme.host, authorization: `Bearer ${client.token}` } })
  const refused = await ask(acme.viewer)
  t.match(refused.json(), { detail: 'module_unavailable', error: { details: { flag: 'preview' } } })
  t.equal((await root.put(`/superadmin/tenants/${acme.id}/flags/preview`, { value: true, user_ids: [acme.viewer.userId] })).status, 200)
  t.equal((await ask(acme.viewer)).statusCode, 200)
  t.equal((await ask(acme.manager)).statusCode, 403)
})
