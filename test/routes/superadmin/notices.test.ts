// Announcements and maintenance windows: made by staff, known to every process at once.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { eventually, testApp } from '../../support/app.ts'
import { ownControlPlane } from '../../support/services.ts'

const plane = await ownControlPlane(t)
// Two processes: what one of them caches must not outlive the other's change.
const [here, there] = [await testApp(t, { CONTROL_DATABASE_URL: plane.app }), await testApp(t, { CONTROL_DATABASE_URL: plane.app })]
const staff = await here.tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const [acme, flora] = await Promise.all([here.tenant({ plan: 'professional' }), here.tenant({ plan: 'starter' })])
const soon = (ms: number) => new Date(Date.now() + ms).toISOString()
const HOUR = 3_600_000

/** What a tenant's user is told, by a process of choice. */
const me = async (one: typeof acme, app = there) =>
  (await app.request(one.host, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${one.viewer.token}` } })).data
const writes = async (one: typeof acme) => {
  const headers = { authorization: `Bearer ${one.admin.token}` }
  const payload = { code: newId(), name: 'P', roles: ['client'] }
  return (await there.request(one.host, { method: 'POST', url: '/api/v1/erp/parties', headers, payload })).status
}

t.test(
  'D7, D9: a maintenance window reaches every process at once, ends when it is deleted or over, and never shuts staff out',
  async (t) => {
    t.equal(await writes(acme), 201)
    const window = { message: 'Servers are replaced', starts_at: soon(-1_000), ends_at: soon(HOUR) }
    const made = await root.post('/superadmin/maintenance-windows', window)
    t.match(made, { status: 201, data: { message: window.message, target_tenant_id: null }, headers: { etag: '"1"', location: String } })
    const { id } = made.data
    for (const one of [acme, flora]) {
      t.equal(await writes(one), 403, 'at the next request of another process')
      t.match(await me(one), {
        access_mode: { mode: 'read_only', reason: 'maintenance' },
        notices: [{ id, kind: 'maintenance', message: window.message }],
      })
    }
    t.match(await root.get('/auth/me'), { status: 200, data: { access_mode: { mode: 'active' } } }, 'the staff host is open')
    const narrowed = await root.patch(`/superadmin/maintenance-windows/${id}`, { target_plan: 'starter' }, { 'if-match': '"1"' })
    t.match(narrowed, { status: 200, data: { target_plan: 'starter', version: 2 } })
    t.same([await writes(acme), await writes(flora)], [201, 403], 'of one plan')
    t.equal(
      (await root.patch(`/superadmin/maintenance-windows/${id}`, { target_plan: null, target_tenant_id: acme.id, version: 2 })).status,
      200,
    )
    t.same([await writes(acme), await writes(flora)], [403, 201], 'of one tenant')
    t.match(await root.delete(`/superadmin/maintenance-windows/${id}`, { 'if-match': '"2"' }), {
      status: 409,
      body: { detail: 'version_conflict' },
    })
    t.equal((await root.delete(`/superadmin/maintenance-windows/${id}`, { 'if-match': '"3"' })).status, 204)
    t.equal(await writes(acme), 201, 'deleted, it is over')
    const short = await root.post('/superadmin/maintenance-windows', { ...window, ends_at: soon(1_500) })
    t.equal(await writes(acme), 403)
    await eventually(
      () => writes(acme),
      (status) => status === 201,
      5,
    )
    t.match((await me(acme)).access_mode, { mode: 'active' }, 'its time is over')
    t.equal((await root.get(`/superadmin/maintenance-windows/${short.data.id}`)).status, 200)
    const later = await root.post('/superadmin/maintenance-windows', { ...window, starts_at: soon(24 * HOUR), ends_at: soon(25 * HOUR) })
    t.equal(await writes(acme), 201)
    t.match(await me(acme), { access_mode: { mode: 'active' }, notices: [{ id: later.data.id, kind: 'maintenance' }] }, 'announced before')
    t.equal((await root.delete(`/superadmin/maintenance-windows/${later.data.id}`, { 'if-match': '"1"' })).status, 204)
  },
)

t.test('announcements are created, searched, filtered, changed and deleted; their tenants see them while they are current', async (t) => {
  const path = '/superadmin/announcements'
  const body = { title: 'Stock counts', body: 'Counting is here: 100 %_new', starts_at: soon(-1_000) }
  const all = (await root.post(path, body)).data
  const one = (await root.post(path, { ...body, title: 'For flora', level: 'warning', target_tenant_id: flora.id })).data
  const future = (await root.post(path, { ...body, title: 'Later', starts_at: soon(HOUR) })).data
  t.match(await me(acme), { notices: [{ id: all.id, kind: 'announcement', level: 'info', title: 'Stock counts' }] })
  t.same(new Set((await me(flora)).notices.map(({ id }: { id: string }) => id)), new Set([all.id, one.id]))
  t.same((await root.get('/auth/me')).data.notices, [])
  const found = async (query: string) => (await root.get(`${path}?${query}`)).data.map(({ id }: { id: string }) => id)
  t.same(await found('q=FLORA'), [one.id])
  t.same(await found('q=100%20%25_n&sort=created_at'), [all.id, one.id, future.id])
  t.same(await found(`level=warning&target_tenant_id=${flora.id}`), [one.id])
  t.same(await found(`starts_at.gt=${encodeURIComponent(soon(0))}`), [future.id])
  const page = await root.get(`${path}?limit=2&sort=-starts_at`)
  t.equal(page.data.length, 2)
  t.equal((await root.get(`${path}?limit=2&sort=-starts_at&cursor=${page.body.pagination.next_cursor}`)).data.length, 1)
  t.match(await root.post(path, { ...body, ends_at: body.starts_at }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { path: '/ends_at' } } },
  })
  t.match(await root.post(path, { ...body, target_plan: 'starter', target_tenant_id: flora.id }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.match(await root.post(path, { ...body, target_plan: 'nothing' }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await root.post(path, { ...body, target_tenant_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await root.patch(`${path}/${all.id}`, { title: 'Changed' }), { status: 400, body: { detail: 'version_required' } })
  t.equal((await root.patch(`${path}/${all.id}`, { title: 'Changed', version: 1 })).status, 200)
  t.match((await me(acme)).notices, [{ title: 'Changed' }])
  t.equal((await root.delete(`${path}/${all.id}`, { 'if-match': '"2"' })).status, 204)
  t.same((await me(acme)).notices, [])
  t.equal((await root.get(`${path}/${all.id}`)).status, 404)
  t.equal((await root.patch(`${path}/${newId()}`, { title: 'X', version: 1 })).status, 404)
  t.equal((await staff.viewer.get(path)).status, 200)
  t.match(await staff.viewer.post(path, body), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.admin.get(path), { status: 404 })
  t.match((await root.get('/audit?plane=control&entity=platform_announcements&action=delete')).data, [{ actor_id: root.userId }])
})
