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
