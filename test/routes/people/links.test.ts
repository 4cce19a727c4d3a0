// Links in mails end when they should, whichever mail is written first; and what the trail knows of users and roles.
import t from 'tap'
import { composeMail, type MailJob } from '../../../domain/identity/index.ts'
import { newId } from '../../../domain/kernel/index.ts'
import { PASSWORD, type TestTenant, testApp } from '../../support/app.ts'
import { mailTo, tokenIn } from '../../support/smtp.ts'

const { tenant, request, runtime } = await testApp(t)
const { control } = runtime.services.planes
const post = (acme: TestTenant, path: string, payload: object) => request(acme.host, { method: 'POST', url: `/api/v1${path}`, payload })
const NEW = 'harvest of the second greenhouse'
/** Writes the mail of a job as the worker does; null where nothing is written. */
const written = (acme: TestTenant, job: Omit<MailJob, 'tenant_id'>) =>
  control.write(acme.scope, (tx) => composeMail(tx, { ...job, tenant_id: acme.id }, 'localhost', (host) => `http://${host}`))

t.test('P9: an invitation that was asked for before it was sent again is not written any more, and its link has ended', async (t) => {
  const acme = await tenant()
  const email = `twice-${newId()}@acme.example`
  const asked = new Date(Date.now() - 1_000).toISOString()
  const { data } = await acme.admin.post('/users', { email, name: 'Twice' })
  const first = tokenIn(await mailTo(email))
  t.equal((await acme.admin.post(`/users/${data.id}/invite`)).status, 204)
  const second = tokenIn(await mailTo(email, 2))
  // The worker is late with the first mail: it comes after the second one.
  t.equal(await written(acme, { kind: 'invitation', user_id: data.id, asked_at: asked }), null)
  t.match(await post(acme, '/auth/invitations/accept', { token: first, password: NEW }), { status: 400, body: { detail: 'invalid_link' } })
  t.equal((await post(acme, '/auth/invitations/accept', { token: second, password: NEW })).status, 200)
})

t.test('P8: links that were mailed to the old address, or are about to be, end with it', async (t) => {
  const acme = await tenant()
  const user = acme.operator
  const [old, other] = [user.email, `moved-${newId().slice(-8)}@elsewhere.example`]
  const asked = new Date(Date.now() - 1_000).toISOString()
  t.equal((await post(acme, '/auth/password/forgot', { email: old })).status, 202)
  const reset = tokenIn(await mailTo(old))
  t.equal((await user.post('/auth/email/change', { email: other, password: PASSWORD })).status, 202)
  t.equal((await post(acme, '/auth/email/verify', { token: tokenIn(await mailTo(other)) })).status, 204)
  t.match(await post(acme, '/auth/password/reset', { token: reset, password: NEW }), { status: 400, body: { detail: 'invalid_link' } })
  t.equal(await written(acme, { kind: 'password_reset', user_id: user.userId, asked_at: asked }), null)
  t.ok(await written(acme, { kind: 'password_reset', user_id: user.userId, asked_at: new Date().toISOString() }), 'a new one is written')
})

t.test('P28, P39: the trail knows requests for links and changes of context, and answers about a user and a role', async (t) => {
  const acme = await tenant()
  const trail = async (query: string) =>
    (await acme.admin.get(`/audit?plane=control&limit=200&${query}`)).data as { action: string; entity: string; diff: object }[]
  const { data: invited } = await acme.admin.post('/users', { email: `t-${newId()}@acme.example`, name: 'T' })
  await acme.admin.post(`/users/${invited.id}/invite`)
  await post(acme, '/auth/password/forgot', { email: acme.viewer.email })
  await acme.viewer.post('/auth/email/change', { email: `n-${newId()}@elsewhere.example`, password: PASSWORD })
  await acme.viewer.post('/context/switch?token=body', { organization_id: acme.organizations[1]!.id })
  const role = (await acme.admin.post('/rbac/roles', { code: 'picker', name: 'Picker', permissions: ['erp.party.read'] })).data
  await acme.admin.patch(`/rbac/roles/${role.id}`, { permissions: ['erp.party.read', 'erp.product.read'], version: 1 })
  await acme.admin.post(`/users/${acme.viewer.userId}/roles`, { role: 'picker' })
  const [given] = (await acme.admin.get(`/rbac/roles/${role.id}/users`)).data
  await acme.admin.patch(`/users/${acme.viewer.userId}/roles/${given.id}`, { expires_at: '2099-01-01T00:00:00Z' })
  await acme.admin.delete(`/users/${acme.viewer.userId}/roles/${given.id}`)
  const actions = new Set((await trail('')).map(({ action }) => action))
  for (const action of ['invitation.sent_again', 'password.reset_requested', 'email.change_requested', 'session.context_changed'])
    t.ok(actions.has(action), action)
  t.notOk(
    (await trail('entity=tenants')).some(({ action }) => action === 'update'),
    'no entries of the epoch',
  )
  const ofUser = await trail(`about=${acme.viewer.userId}`)
  t.same(
    ofUser
      .filter(({ entity }) => entity === 'res_user_roles')
      .map(({ action }) => action)
      .toSorted(),
    ['delete', 'insert', 'insert', 'update'],
  )
  t.ok(ofUser.some(({ action }) => action === 'session.opened'))
  const ofRole = await trail(`about=${role.id}`)
  t.equal(ofRole.filter(({ entity }) => entity === 'res_user_roles').length, 3)
  const history = (await acme.admin.get(`/rbac/roles/${role.id}/history`)).data
  t.ok(
    history.some(({ diff }: { diff: object }) => JSON.stringify(diff).includes('erp.product.read')),
    'who widened it',
  )
  const csv = await acme.admin.get('/audit?plane=control&limit=5', { accept: 'text/csv, */*;q=0.1' })
  t.equal(csv.text.trim().split('\r\n').length, 6, 'P13: five and the names')
})
