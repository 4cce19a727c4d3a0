// What the platform sells can be changed while it is sold.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Answer, type Client, tally, testApp, times } from '../../support/app.ts'
import { catalogue } from '../../support/erp.ts'
import { ownControlPlane } from '../../support/services.ts'

const plane = await ownControlPlane(t)
const here = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const elsewhere = await testApp(t, { CONTROL_DATABASE_URL: plane.app }) // another process, as far as caches go
const { tenant } = here
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin

const BASIC = ['erp.parties', 'erp.products', 'erp.inventory']
const offer = (extra: object = {}) => ({
  name: 'Test',
  price: '10',
  currency: 'EUR',
  interval: 'month',
  trial_days: 14,
  sort: 50,
  modules: BASIC,
  limits: {},
  ...extra,
})
/** A plan of the test's own. */
async function planOf(extra: object = {}): Promise<string> {
  const code = `p-${newId().slice(-12)}`
  const made = await root.put(`/superadmin/plans/${code}`, offer(extra))
  if (made.status !== 201) throw new Error(made.text)
  return code
}
/** The same user on the other process. */
const there = (host: string, client: Client) => ({
  get: (path: string) =>
    elsewhere.request(host, { method: 'GET', url: `/api/v1${path}`, headers: { authorization: `Bearer ${client.token}` } }),
  post: (path: string, payload: object) =>
    elsewhere.request(host, { method: 'POST', url: `/api/v1${path}`, payload, headers: { authorization: `Bearer ${client.token}` } }),
})

t.test('the console is the platform’s, on the platform’s host', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.get('/superadmin/plans'), { status: 404, body: { detail: 'route_not_found' } })
  const me = (await acme.admin.get('/auth/me')).data
  t.notOk(
    me.permissions.some((p: string) => p.startsWith('platform.')),
    'an administrator’s * does not reach into the platform',
  )
  t.match(await acme.admin.get('/rbac/explain?permission=platform.plan.read'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.admin.get('/menu'), { status: 200 })
  t.notMatch((await acme.admin.get('/menu')).text, /superadmin/)
  t.match((await root.get('/menu')).text, /superadmin\/plans/)
  t.equal((await root.get('/superadmin/plans')).status, 200)
})

t.test('every mutation of the console is refused to a viewer', async (t) => {
  const document = (await here.request('x', { method: 'GET', url: '/api/openapi.json' })).body
  const walk = async (client: Client, detail: string) => {
    let walked = 0
    for (const [path, operations] of Object.entries(document.paths as Record<string, object>)) {
      if (!path.startsWith('/api/v1/superadmin')) continue
      const url = path.replace('{id}', staff.id).replace(/\{\w+\}/g, 'x')
      for (const method of Object.keys(operations)) {
        if (method === 'get') continue
        const answer = await here.request(staff.host, {
          method: method.toUpperCase() as 'PUT',
          url,
          payload: {},
          headers: { authorization: `Bearer ${client.token}`, 'if-match': '"1"' },
        })
        t.match(answer, { status: 403, body: { detail } }, `${method} ${path}: ${answer.text.slice(0, 100)}`)
        walked++
      }
    }
    t.ok(walked >= 9)
  }
  await walk(staff.viewer, 'permission_denied')
})

t.test('a plan is made, replaced, and taken off the list when nobody has it', async (t) => {
  const code = await planOf({ limits: { users: 3, records: null } })
  const path = `/superadmin/plans/${code}`
  t.match(await root.get(path), {
    status: 200,
    headers: { etag: '"1"' },
    data: { code, price: '10.0000', modules: [...BASIC].sort(), limits: { users: 3, records: null } },
  })
  t.match(await root.put(path, offer()), { status: 400, body: { detail: 'version_required' } })
  t.match(await root.put(path, offer({ price: '12' }), { 'if-match': '"1"' }), { status: 200, data: { version: 2, limits: {} } })
  t.match(await root.put(path, offer(), { 'if-match': '"1"' }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await root.put('/superadmin/plans/not-there', offer(), { 'if-match': '"1"' }), { status: 404 })
  t.match(await root.put(path, offer({ modules: ['erp.none'] }), { 'if-match': '"2"' }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(await root.put(path, offer({ modules: ['erp.procurement', ...BASIC.slice(1)] }), { 'if-match': '"2"' }), {
    status: 409,
    body: {
      detail: 'module_requires',
      error: { details: { plans: [{ plan: code, module: 'erp.procurement', requires: ['erp.parties'] }] } },
    },
  })
  t.match(await root.put(path, offer({ price: '-1' }), { 'if-match': '"2"' }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await root.put('/superadmin/plans/Bad Code', offer()), { status: 400, body: { detail: 'invalid_params' } })
  t.equal((await root.get(path)).data.version, 2, 'nothing of what was refused is left')
  const acme = await tenant({ plan: code })
  t.match(await root.delete(path, { 'if-match': '"2"' }), { status: 409, body: { detail: 'in_use' } })
  t.equal((await root.put(`/superadmin/tenants/${acme.id}/plan`, { plan: 'starter' })).status, 200)
  t.equal((await root.delete(path, { 'if-match': '"2"' })).status, 204)
  t.equal((await root.get(path)).status, 404)
  const trail = (await root.get('/audit?plane=control&entity=platform_plans&limit=200')).data as {
    action: string
    diff: Record<string, unknown>
  }[]
  const own = trail.filter(({ diff }) => diff.code === code).map(({ action, diff }) => [action, diff.price])
  t.same(
    own,
    [
      ['delete', 12],
      ['update', [10, 12]],
      ['insert', 10],
    ],
    'the platform’s trail has each change',
  )
})

t.test('twenty of the staff replace one version of a plan: one does', async (t) => {
  const code = await planOf()
  const answers = await Promise.all(
    times(20, (i) => root.put(`/superadmin/plans/${code}`, offer({ name: `N${i}` }), { 'if-match': '"1"' })),
  )
  t.same(tally(answers), { 200: 1, 409: 19 })
  const fresh = `p-${newId().slice(-12)}`
  const makers = await Promise.all(times(20, () => root.put(`/superadmin/plans/${fresh}`, offer())))
  t.equal(makers.filter((a) => a.status === 201).length, 1, JSON.stringify(tally(makers)))
  t.ok(makers.every((a) => [201, 400, 409].includes(a.status)))
})

t.test('tenants follow their plan at once, in every process; what they lose stays readable', async (t) => {
  const code = await planOf()
  const acme = await tenant({ plan: code })
  const c = await catalogue(acme)
  const order = { supplier_id: c.supplier, currency: 'EUR', lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }] }
  const other = there(acme.host, acme.admin)
  t.match(await other.get('/erp/purchase-orders'), {
    status: 403,
    body: { detail: 'module_unavailable', error: { details: { availability: 'blocked' } } },
  })
  const edit = (version: number, modules: string[]) =>
    root.put(`/superadmin/plans/${code}`, offer({ modules }), { 'if-match': `"${version}"` })
  t.equal((await edit(1, [...BASIC, 'erp.procurement'])).status, 200)
  const made = await other.post('/erp/purchase-orders', order)
  t.equal(made.status, 201, made.text)
  t.equal((await edit(2, BASIC)).status, 200)
  t.equal((await other.get(`/erp/purchase-orders/${made.data.id}`)).status, 200, 'an open order is there still')
  t.match(await other.post('/erp/purchase-orders', order), {
    status: 403,
    body: { detail: 'module_unavailable', error: { details: { module: 'erp.procurement', availability: 'read_only' } } },
  })
  t.match(await acme.admin.post(`/erp/purchase-orders/${made.data.id}/cancel`, { version: 1 }), {
    status: 403,
    body: { detail: 'module_unavailable' },
  })
  t.match((await acme.admin.get('/rbac/explain?permission=erp.purchase_order.create')).data, { allowed: false, decided_by: 'module' })
  t.match((await acme.admin.get('/rbac/explain?permission=erp.purchase_order.read')).data, { allowed: true, decided_by: 'role' })
  const entry = (await acme.admin.get('/menu')).data[0].children.find((n: { code: string }) => n.code === 'erp.procurement')
  t.match(entry, { blocked: false, children: [{ path: '/erp/purchase-orders' }] }, 'and can be found')
  t.equal((await edit(3, [...BASIC, 'erp.procurement'])).status, 200)
  t.equal((await other.post('/erp/purchase-orders', order)).status, 201, 'bought again')
})

t.test('a product that is blocked or hidden until a moment is the plan’s again after it', async (t) => {
  const acme = await tenant({ plan: 'enterprise' })
  const path = `/superadmin/tenants/${acme.id}`
  const devices = () => there(acme.host, acme.admin).get('/telemetry/devices')
  for (const availability of ['blocked', 'disabled']) {
    const ends = Date.now() + 500
    const body = { availability, source: 'grant', expires_at: new Date(ends).toISOString() }
    t.match(await root.put(`${path}/products/telemetry`, body), { status: 200 })
    if (availability === 'disabled') t.match(await devices(), { status: 403, body: { detail: 'module_unavailable' } })
    await new Promise((resolve) => setTimeout(resolve, ends - Date.now() + 20))
    t.equal((await there(acme.host, acme.admin).post('/telemetry/devices', { code: availability, name: 'D' })).status, 201, availability)
  }
  t.equal((await root.put(`${path}/plan`, { plan: 'starter' })).status, 200)
  t.match(await devices(), { status: 200, data: { length: 2 } }, 'what was written is readable without the plan')
})

t.test('a plan below what is used: nothing is lost, nothing more is let in', async (t) => {
  const acme = await tenant()
  const rows = times(8, (i) => ({ code: `C${i}`, name: 'C', roles: ['client'] }))
  t.equal((await acme.admin.post('/erp/parties/bulk', { rows })).status, 201)
  const small = await planOf({ limits: { users: 2, records: 5 } })
  t.equal((await root.put(`/superadmin/tenants/${acme.id}/plan`, { plan: small })).status, 200)
  t.match((await acme.admin.get('/tenant/usage')).body, {
    plan: small,
    data: [
      { metric: 'users', used: 4, limit: 2 },
      { metric: 'records', used: 8, limit: 5 },
    ],
  })
  t.equal((await acme.admin.get('/erp/parties')).data.length, 8)
  t.equal((await acme.viewer.get('/auth/me')).status, 200, 'all four users are there')
  t.match(await acme.admin.post('/erp/parties', { code: 'X', name: 'X', roles: ['client'] }), {
    status: 403,
    body: { detail: 'plan_limit', error: { details: { metric: 'records', limit: 5, used: 8 } } },
  })
  t.match(await acme.admin.post('/users', { email: `x-${newId()}@x.example`, name: 'X' }), { status: 403, body: { detail: 'plan_limit' } })
})

t.test('modules that would need one another in a ring are refused, also from both ends at once', async (t) => {
  const modules = async () => Object.fromEntries((await root.get('/superadmin/modules')).data.map((m: { code: string }) => [m.code, m]))
  const before = await modules()
  const patch = (code: string, requires: string[], version: number) =>
    root.patch(`/superadmin/modules/${code}`, { requires }, { 'if-match': `"${version}"` })
  t.match(await patch('erp.products', ['erp.inventory'], before['erp.products'].version), {
    status: 409,
    body: { detail: 'dependency_cycle', error: { details: { module: 'erp.products', needs: ['erp.inventory', 'erp.products'] } } },
  })
  t.match(await patch('erp.products', ['erp.products'], 1), { status: 409, body: { detail: 'dependency_cycle' } })
  t.match(await patch('erp.products', ['erp.none'], 1), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await patch('erp.none', [], 1), { status: 404 })
  t.match(await patch('erp.parties', ['erp.procurement'], 1), { status: 409, body: { detail: 'dependency_cycle' } })
  t.match(
    await patch('erp.parties', ['telemetry.devices'], 1),
    { status: 409, body: { detail: 'module_requires' } },
    'starter would not work',
  )
  t.same(await modules(), before)
  const both: Answer[] = await Promise.all([patch('erp.parties', ['erp.products'], 1), patch('erp.products', ['erp.parties'], 1)])
  t.same(tally(both), { 200: 1, 409: 1 })
  const [at, code] = both[0]!.status === 200 ? [0, 'erp.parties'] : [1, 'erp.products']
  t.equal((await patch(code as string, [], both[at as number]!.data.version)).status, 200)
  t.match(await root.patch('/superadmin/modules/erp.parties', { name: 'Partners' }, { 'if-match': '"1"' }), {
    status: both[0]!.status === 200 ? 409 : 200,
  })
})
