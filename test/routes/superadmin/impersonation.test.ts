// The platform's staff in somebody's place: for a while, told, written down.
import { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { eventually, testApp } from '../../support/app.ts'
import { testServices } from '../../support/services.ts'
import { mailTo } from '../../support/smtp.ts'

const { tenant } = await testApp(t)
const staff = await tenant({ kind: 'platform' })
const root = staff.admin

t.test('told to the user and the administrators, seen in the trail, without the user’s own secrets', async (t) => {
  const acme = await tenant()
  const path = `/superadmin/tenants/${acme.id}/impersonations`
  const reason = 'Ticket 4711: the totals are wrong'
  const opened = await root.post(path, { user_id: acme.operator.userId, reason, minutes: 5 })
  t.match(opened, { status: 201, data: { session_id: String, access_token: String, expires_at: String } })
  const there = acme.as(opened.data.access_token)
  t.match((await there.get('/auth/me')).data, { user: { id: acme.operator.userId }, impersonated: true })
  t.equal((await acme.operator.get('/auth/me')).data.impersonated, false)
  t.match((await mailTo(acme.operator.email)).text, new RegExp(reason))
  t.match((await mailTo(acme.admin.email)).text, /audit trail/)

  t.equal((await there.get('/erp/parties')).status, 200)
  t.match(
    await there.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] }),
    { status: 403, body: { detail: 'impersonation_read_only' } },
    'staff reads only',
  )
  const order = await there.post('/erp/locations', { code: 'A', name: 'A', kind: 'internal', level: 'site' })
  t.equal(order.status, 403)
  t.match(await there.post('/auth/password/change', { current_password: 'x', password: 'long enough words here' }), {
    status: 403,
    body: { detail: 'session_required' },
  })
  t.match(await there.post('/api-keys', { name: 'Mine', permissions: ['erp.party.read'] }), { status: 403 })

  const admin = await root.post(path, { user_id: acme.admin.userId, reason })
  const asAdmin = acme.as(admin.data.access_token)
  const consent = await acme.admin.post('/tenant/support-consents', {
    reason: 'Ticket 4711: correct the totals',
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  })
  t.equal(consent.status, 201)
  const made = await asAdmin.post('/erp/parties', { code: 'B', name: 'B', roles: ['client'] })
  t.equal(made.status, 201)
  t.match((await acme.admin.get(`/erp/parties/${made.data.id}/history`)).data, [
    { actor_id: acme.admin.userId, actor_name: 'platform staff' },
  ])
  const trail = (await acme.admin.get('/audit?plane=control&entity=res_sessions&action=session.impersonated')).data
  t.match(trail[0], { actor_name: 'platform staff', diff: { reason, user_id: acme.admin.userId } })

  t.equal((await root.delete(`${path}/${admin.data.session_id}`)).status, 204)
  t.match(await asAdmin.get('/auth/me'), { status: 401, body: { detail: 'session_revoked' } })
  t.equal((await root.delete(`${path}/${admin.data.session_id}`)).status, 404)
})

t.test('past its end it opens nothing, and nobody can make it longer', async (t) => {
  const acme = await tenant()
  const opened = await root.post(`/superadmin/tenants/${acme.id}/impersonations`, {
    user_id: acme.viewer.userId,
    reason: 'Ticket 4712: a look',
    minutes: 1,
  })
  const there = acme.as(opened.data.access_token)
  t.equal((await there.get('/auth/me')).status, 200)
  const owner = new Client({ connectionString: testServices().admin.control })
  await owner.connect()
  await owner.query(`update res_sessions set expires_at = now() where id = $1`, [opened.data.session_id])
  await owner.end()
  t.match(
    await eventually(
      () => there.get('/auth/me'),
      (a) => a.status === 401,
      5,
    ),
    { body: { detail: 'session_revoked' } },
  )
})

t.test('only staff that may, with a fresh proof, for a user that is there, with a reason', async (t) => {
  const acme = await tenant()
  const ask = (client: typeof root, body: object, id = acme.id) => client.post(`/superadmin/tenants/${id}/impersonations`, body)
  const good = { user_id: acme.viewer.userId, reason: 'Ticket 4713: a look' }
  t.match(await ask(staff.manager, good), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await ask(root, { ...good, user_id: newId() }), { status: 404 })
  t.match(await ask(root, { ...good, user_id: staff.viewer.userId }), { status: 404 }, 'a user of another tenant')
  t.match(await ask(root, good, newId()), { status: 404 })
  t.match(await ask(root, { ...good, user_id: staff.viewer.userId }, staff.id), { status: 404 }, 'not the platform’s own people')
  for (const body of [{ ...good, reason: 'short' }, { ...good, minutes: 61 }, { user_id: good.user_id }]) {
    t.match(await ask(root, body), { status: 400, body: { detail: 'invalid_body' } })
  }
  const owner = new Client({ connectionString: testServices().admin.control })
  await owner.connect()
  await owner.query(`update res_sessions set authenticated_at = now() - interval '1 hour' where user_id = $1`, [root.userId])
  await owner.end()
  await eventually(
    () => ask(root, good),
    (a) => a.body.detail === 'step_up_required',
    5,
  )
})

t.test(
  'F14: staff in a user’s place reads; with consent it changes data, and never rights, credentials, settings or exports',
  async (t) => {
    const acme = await tenant()
    const root = await staff.user('admin')
    const [one, two] = acme.organizations
    const opened = await root.post(`/superadmin/tenants/${acme.id}/impersonations`, {
      user_id: acme.admin.userId,
      reason: 'Ticket 4714: a look at the stock',
    })
    const there = acme.as(opened.data.access_token)
    const claims = JSON.parse(Buffer.from(opened.data.access_token.split('.')[1], 'base64url').toString())
    t.match(claims, { sub: acme.admin.userId, act: { sub: root.userId } })
    const party = (code: string) => there.post('/erp/parties', { code, name: code, roles: ['client'] })
    const readOnly = { status: 403, body: { detail: 'impersonation_read_only' } }
    const forbidden = { status: 403, body: { detail: /impersonation_forbidden|session_required/ } }
    t.match(await party('A'), readOnly)

    const soon = new Date(Date.now() + 3_600_000).toISOString()
    const consent = (who: typeof root, body: object = {}) =>
      who.post('/tenant/support-consents', { reason: 'Ticket 4714: correct it', expires_at: soon, ...body })
    t.match(await consent(there), forbidden, 'staff does not consent for the tenant')
    t.match(await consent(acme.manager), { status: 403, body: { detail: 'permission_denied' } })
    t.match(await consent(acme.admin, { expires_at: '2020-01-01T00:00:00Z' }), { status: 400, body: { detail: 'invalid_value' } })
    const elsewhere = await consent(acme.admin, { organization_id: two!.id })
    t.equal(elsewhere.status, 201)
    t.match(await party('A'), readOnly, 'the consent covers another organization')
    const given = await consent(acme.admin, { organization_id: one!.id })
    const made = await party('A')
    t.equal(made.status, 201)
    const entries = (await acme.admin.get(`/audit?entity=erp_party&entity_id=${made.data.id}`)).data
    t.match(entries, [
      { actor_id: acme.admin.userId, impersonator_id: root.userId, actor_name: 'platform staff', organization_id: one!.id },
    ])

    const device = (await acme.admin.post('/telemetry/devices', { code: 'probe', name: 'Probe' })).data
    for (const [what, answer] of Object.entries({
      invite: there.post('/users', { email: 'door@evil.example', name: 'D', roles: [{ role: 'admin' }] }),
      role: there.post(`/users/${acme.viewer.userId}/roles`, { role: 'admin' }),
      override: there.post(`/users/${acme.viewer.userId}/overrides`, { permission: '*', effect: 'allow', reason: 'r' }),
      'role edit': there.post('/rbac/roles', { code: 'x', name: 'X', permissions: ['*'] }),
      provider: there.post('/tenant/identity-providers', {}),
      policy: there.patch('/tenant/security', { session_idle_minutes: 60 }),
      settings: there.patch(`/organizations/${one!.id}/settings`, { mfa_required: false, version: 1 }),
      key: there.post('/api-keys', { name: 'K', permissions: ['*'] }),
      'device key': there.post(`/telemetry/devices/${device.id}/keys`, {}),
      export: there.post('/erp/exports', { entity: 'erp_party_contact', format: 'csv' }),
      CSV: there.get('/erp/party-contacts', { accept: 'text/csv' }),
      approval: there.post(`/erp/purchase-orders/${made.data.id}/approve`, { version: 1 }),
      password: there.post('/auth/password/change', { current_password: 'x', password: 'long enough words here' }),
    }))
      t.match(await answer, forbidden, what)

    t.equal((await acme.admin.delete(`/tenant/support-consents/${given.data.id}`)).status, 204)
    t.match(await party('B'), readOnly, 'withdrawn: from the next request on')
    t.equal((await acme.admin.delete(`/tenant/support-consents/${given.data.id}`)).status, 404)
    const trail = (await acme.admin.get('/audit?plane=control&entity=res_support_consents')).data
    t.equal(trail.filter((e: { entity_id: string }) => e.entity_id === given.data.id).length, 2, 'given and withdrawn are in the trail')
    const second = await acme.user('admin', { organizationId: two!.id })
    t.same(
      (await second.get('/tenant/support-consents')).data.map((c: { id: string }) => c.id),
      [elsewhere.data.id],
    )
    t.equal((await second.delete(`/tenant/support-consents/${given.data.id}`)).status, 404)
    t.match(await consent(second), { status: 403, body: { detail: 'permission_denied' } })
  },
)

t.test('R2: staff changes tenants in person, lately authenticated and never by key; staff needs a second factor', async (t) => {
  const acme = await tenant()
  const root = await staff.user('admin')
  const [place] = staff.organizations
  const key = staff.as((await root.post('/api-keys', { name: 'K', permissions: ['*'], organization_id: null })).data.key)
  t.ok(place)
  const change = (who: typeof root) => who.put(`/superadmin/tenants/${acme.id}/plan`, { plan: 'enterprise' })
  t.match(await change(key), { status: 403, body: { detail: 'session_required' } })
  t.equal((await key.get('/superadmin/tenants')).status, 200, 'a key reads')
  const strict = await testApp(t, { STAFF_SECOND_FACTOR: 'true' })
  const ask = (url: string) => strict.request(staff.host, { method: 'GET', url, headers: { authorization: `Bearer ${root.token}` } })
  t.match(await ask('/api/v1/superadmin/tenants'), { status: 403, body: { detail: 'mfa_enrollment_required' } })
  t.equal((await ask('/api/v1/auth/me')).status, 200, 'the factor can be added')
  const owner = new Client({ connectionString: testServices().admin.control })
  await owner.connect()
  await owner.query(`update res_sessions set authenticated_at = now() - interval '1 hour' where user_id = $1`, [root.userId])
  await owner.end()
  await eventually(
    () => change(root),
    (a) => a.body?.detail === 'step_up_required',
    5,
  )
})

t.test('F14: a consent covers the scope of what is changed, whatever the context is', async (t) => {
  const acme = await tenant()
  const root = await staff.user('admin')
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const inSouth = await acme.user('manager', { organizationId: one!.id, workspaceId: south!.id })
  const uom = (await acme.admin.post('/erp/uoms', { code: 'P', name: 'Piece', dimension: 'count' })).data
  const supplier = (await acme.admin.post('/erp/parties', { code: 'S', name: 'S', roles: ['supplier'] })).data
  const product = (await acme.admin.post('/erp/products', { code: 'R', name: 'Rose', uom_id: uom.id })).data
  const lines = [{ product_id: product.id, quantity: '1', unit_price: '1' }]
  const order = (await inSouth.post('/erp/purchase-orders', { supplier_id: supplier.id, currency: 'EUR', lines })).data
  await acme.admin.post('/tenant/support-consents', {
    reason: 'Ticket 4715: orders of north',
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    organization_id: one!.id,
    workspace_id: north!.id,
  })
  const opened = await root.post(`/superadmin/tenants/${acme.id}/impersonations`, {
    user_id: acme.admin.userId,
    reason: 'Ticket 4715: orders of north',
  })
  const there = acme.as(opened.data.access_token)
  t.equal((await there.get(`/erp/purchase-orders/${order.id}`)).status, 200, 'staff reads as the user does')
  t.equal((await there.patch(`/erp/purchase-orders/${order.id}`, { notes: 'x', version: 1 })).status, 404, 'an order of south')
  t.equal((await there.post('/erp/parties', { code: 'X', name: 'X', roles: ['client'] })).status, 403, 'master data of the organization')
  t.equal((await there.post('/telemetry/metrics', { code: 'm', unit: 'C' })).status, 403, 'data of the tenant')
  const own = await there.post('/erp/purchase-orders', { supplier_id: supplier.id, currency: 'EUR', lines })
  t.match(own, { status: 201, data: { workspace_id: north!.id } }, 'an order of north')
})
