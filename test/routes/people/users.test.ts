// Bringing people in, locking them out, letting them go.
import t from 'tap'
import { Type } from 'typebox'
import { override } from '../../../domain/access/index.ts'
import { newId, sql } from '../../../domain/kernel/index.ts'
import { type Answer, eventually, PASSWORD, tally, testApp, times } from '../../support/app.ts'
import { mailsTo, mailTo, tokenIn } from '../../support/smtp.ts'

const { tenant, request, runtime } = await testApp(t)
const post = (host: string, path: string, payload: object, headers: Record<string, string> = {}) =>
  request(host, { method: 'POST', url: `/api/v1${path}`, payload, headers })
const accept = (host: string, token: string, more: object = {}) =>
  post(host, '/auth/invitations/accept?token=body', { token, password: 'tulips in the morning', ...more })

t.test('somebody is invited, follows the link, and works', async (t) => {
  const acme = await tenant()
  const email = `ana-${newId()}@acme.example`
  const [organization] = acme.organizations
  const invited = await acme.admin.post('/users', {
    email: email.toUpperCase(),
    name: 'Ana',
    locale: 'es',
    roles: [{ role: 'operator', organization_id: organization!.id }],
  })
  t.match(invited, {
    status: 201,
    data: { email, name: 'Ana', kind: 'worker', status: 'invited', verified_at: null, invited_by: acme.admin.userId },
  })
  t.equal(invited.headers.location, `/api/v1/users/${invited.data.id}`)
  t.match(await acme.login(email), { status: 401 }, 'not yet')

  const mail = await mailTo(email)
  t.match(mail, { subject: `Te han invitado a ${acme.slug}`, text: /Hola, Ana:/, html: /<a href="http:\/\/.*\/invitation\?token=/ })
  t.ok(mail.text.includes(`http://${acme.host}/invitation?token=`), 'the link leads to the tenant’s own host')
  const token = tokenIn(mail)
  t.match(await accept(acme.host, token, { password: 'short' }), {
    status: 400,
    body: { detail: 'weak_password', error: { details: { rule: 'min_length' } } },
  })
  const entered = await accept(acme.host, token, { name: 'Ana María' })
  t.match(entered, { status: 200, data: { user: { name: 'Ana María', locale: 'es' }, context: { organization_id: organization!.id } } })
  const ana = acme.as(entered.data.access_token)
  t.equal((await ana.get('/erp/parties')).status, 200)
  t.match(await ana.post('/erp/uoms', { code: 'X', name: 'X', dimension: 'count' }), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await accept(acme.host, token), { status: 400, body: { detail: 'invalid_link' } }, 'twice')
  t.match(await accept(acme.host, 'x'.repeat(43)), { status: 400, body: { detail: 'invalid_link' } })
  t.match(await acme.admin.post('/users', { email, name: 'Again' }), { status: 409, body: { detail: 'already_exists' } })
  const { data: changes } = await acme.admin.get(`/users/${invited.data.id}/history`)
  t.same(changes.map((c: { action: string }) => c.action).sort(), ['insert', 'invitation.accepted', 'sign_in.failed', 'update'])
  t.notMatch(JSON.stringify(changes), email, 'the trail knows ids and no addresses')
})

t.test('of ten who accept one invitation at once one is in', async (t) => {
  const acme = await tenant()
  const email = `race-${newId()}@acme.example`
  await acme.admin.post('/users', { email, name: 'Race' })
  const token = tokenIn(await mailTo(email))
  const answers = await Promise.all(times(10, () => accept(acme.host, token)))
  t.same(tally(answers), { 200: 1, 400: 9 })
  for (const { body } of answers.filter((a) => a.status === 400)) t.equal(body.detail, 'invalid_link')
})

t.test('an invitation sent again ends the one before; one of another tenant is worth nothing here', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const email = `twice-${newId()}@acme.example`
  const { data } = await acme.admin.post('/users', { email, name: 'Twice' })
  const first = tokenIn(await mailTo(email))
  t.equal((await acme.admin.post(`/users/${data.id}/invite`)).status, 204)
  const second = tokenIn(await mailTo(email, 2))
  t.match(await accept(acme.host, first), { status: 400, body: { detail: 'invalid_link' } })
  t.match(await accept(globex.host, second), { status: 400, body: { detail: 'invalid_link' } })
  t.equal((await accept(acme.host, second)).status, 200)
  t.match(await acme.admin.post(`/users/${data.id}/invite`), { status: 409, body: { detail: 'invalid_transition' } })
})

t.test('nobody gives what he does not hold', async (t) => {
  const acme = await tenant()
  const inviter = await acme.user('viewer')
  await acme.admin.post(`/users/${inviter.userId}/roles`, { role: 'manager', organization_id: acme.organizations[0]!.id })
  t.match(await inviter.post('/users', { email: 'x@acme.example', name: 'X' }), { status: 403, body: { detail: 'permission_denied' } })
  // Rights over people alone: he may invite and assign, and gives no more than he has.
  await runtime.services.planes.control.write(acme.scope, async (tx) => {
    for (const permission of ['identity.user.invite', 'rbac.assignment.create'])
      await override(tx, inviter.userId, permission, 'allow', 'test')
  })
  await eventually(
    async () => (await inviter.get('/auth/me')).data.permissions,
    (permissions) => permissions.includes('rbac.assignment.create'),
  )
  const invite = (role: object) => inviter.post('/users', { email: `g-${newId()}@acme.example`, name: 'G', roles: [role] })
  t.match(await invite({ role: 'admin' }), { status: 403, body: { detail: 'grant_exceeds', error: { details: { role: 'admin' } } } })
  t.match(
    await invite({ role: 'manager' }),
    { status: 403, body: { detail: 'grant_exceeds' } },
    'a manager of one organization is none of the tenant',
  )
  t.equal((await invite({ role: 'viewer' })).status, 201)
  t.equal((await invite({ role: 'manager', organization_id: acme.organizations[0]!.id })).status, 201)
  t.match(await invite({ role: 'nothing' }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await invite({ role: 'viewer', organization_id: newId() }), { status: 400, body: { detail: 'invalid_reference' } })
  t.equal(
    (await acme.admin.get('/users?q=G&limit=200')).data.filter((u: { name: string }) => u.name === 'G').length,
    2,
    'nothing half done',
  )
})

t.test('look-alike and impossible addresses are refused', async (t) => {
  const acme = await tenant()
  for (const email of [
    'аdmin@acme.example',
    'ａdmin@acme.example',
    'a b@acme.example',
    'a@b',
    '@acme.example',
    'a..b@acme.example',
    'a@-acme.example',
    `${'a'.repeat(250)}@a.example`,
  ]) {
    t.match(await acme.admin.post('/users', { email, name: 'X' }), { status: 400 }, email)
    t.equal((await post(acme.host, '/auth/login', { email, password: 'x' })).status < 500, true)
  }
  const punycode = await acme.admin.post('/users', { email: 'ana@bücher.example', name: 'X' })
  t.match(punycode, { status: 201, data: { email: 'ana@xn--bcher-kva.example' } })
})

t.test('a user is locked, unlocked, switched off and on; sessions stop at once; nobody does it to himself', async (t) => {
  const acme = await tenant()
  const user = await acme.user('operator')
  const get = async () => (await acme.admin.get(`/users/${user.userId}`)).headers.etag as string
  const move = async (name: string) => acme.admin.post(`/users/${user.userId}/${name}`, {}, { 'if-match': await get() })
  t.match(await acme.admin.post(`/users/${user.userId}/lock`), { status: 400, body: { detail: 'version_required' } })
  t.match(await move('lock'), { status: 200, data: { status: 'locked' } })
  t.match(await user.get('/auth/me'), { status: 401, body: { detail: 'session_revoked' } })
  t.match(await acme.login(user.email), { status: 401, body: { detail: 'invalid_credentials' } })
  t.match(await move('lock'), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(await move('unlock'), { status: 200, data: { status: 'active' } })
  t.equal((await acme.login(user.email)).status, 200)
  t.match(await move('disable'), { status: 200, data: { status: 'disabled' } })
  t.match(await acme.login(user.email), { status: 401 })
  t.match(await move('enable'), { status: 200, data: { status: 'active' } })
  const self = await acme.admin.get(`/users/${acme.admin.userId}`)
  t.match(await acme.admin.post(`/users/${acme.admin.userId}/disable`, {}, { 'if-match': self.headers.etag as string }), {
    status: 409,
    body: { detail: 'own_account' },
  })
  t.match(await acme.viewer.post(`/users/${user.userId}/lock`, {}, { 'if-match': '"1"' }), {
    status: 403,
    body: { detail: 'permission_denied' },
  })
})

t.test('two administrators who remove each other at once: one stays', async (t) => {
  const acme = await tenant()
  const other = await acme.user('admin')
  const answers = await Promise.all([
    acme.admin.post(`/users/${other.userId}/disable`, { version: 1 }),
    other.post(`/users/${acme.admin.userId}/disable`, { version: 1 }),
  ])
  t.same(tally(answers)[200], 1)
  const refused = answers.find((a) => a.status !== 200) as Answer
  t.ok(['last_administrator', 'session_revoked'].includes(refused.body.detail), refused.body.detail)
  const last = answers[0]!.status === 200 ? acme.admin : other
  const roles = (await last.get(`/users/${last.userId}/roles`)).data
  t.match(await last.delete(`/users/${last.userId}/roles/${roles[0].id}`), { status: 409, body: { detail: 'last_administrator' } })
})

t.test('a person is let go: his data are gone, the fact stays', async (t) => {
  const acme = await tenant()
  const user = await acme.user('admin')
  await user.post('/erp/parties', { code: 'HIS', name: 'His work', roles: ['client'] })
  const key = (await user.post('/api-keys', { name: 'His', permissions: ['erp.party.read'] })).data.key
  t.match(await acme.admin.delete(`/users/${user.userId}`), { status: 400, body: { detail: 'version_required' } })
  t.equal((await acme.admin.delete(`/users/${user.userId}`, { 'if-match': '"1"' })).status, 204)
  t.equal((await user.get('/auth/me')).status, 401)
  t.equal((await acme.as(key).get('/erp/parties')).status, 401)
  t.equal((await acme.admin.get(`/users/${user.userId}`)).status, 404)
  t.equal((await acme.admin.get(`/users?email=${user.email}`)).data.length, 0)
  const party = (await acme.admin.get('/erp/parties?code=HIS')).data[0]
  t.match((await acme.admin.get(`/erp/parties/${party.id}/history`)).data[0], { actor_id: user.userId, actor_name: 'Erased' })
  const { Client } = await import('pg')
  const { testServices } = await import('../../support/services.ts')
  const client = new Client({ connectionString: testServices().admin.control })
  await client.connect()
  t.teardown(() => client.end())
  const { rows } = await client.query(
    `select (select string_agg(u::text, '') from res_users u where tenant_id = $1) || (select string_agg(a::text, '') from plane.audit_events a where tenant_id = $1) as everything`,
    [acme.id],
  )
  t.notOk(rows[0].everything.includes(user.email), 'neither the table nor the trail knows the address')
  const again = await acme.admin.post('/users', { email: user.email, name: 'New' })
  t.equal(again.status, 201, 'the address is free again')
})

t.test('people are found by name, status and kind; a viewer sees none of them; read-only lets nobody in', async (t) => {
  const acme = await tenant()
  await acme.admin.post('/users', { email: `c-${newId()}@client.example`, name: 'Clara Client', kind: 'client' })
  t.same(
    (await acme.admin.get('/users?q=clara')).data.map((u: { name: string }) => u.name),
    ['Clara Client'],
  )
  t.equal((await acme.admin.get('/users?kind=client&status=invited')).data.length, 1)
  t.equal((await acme.admin.get('/users?sort=name&limit=2')).data.length, 2)
  t.equal((await acme.viewer.get('/users')).status, 403)
  t.equal((await acme.viewer.post('/users', { email: 'v@acme.example', name: 'V' })).status, 403)
  t.match(await acme.admin.patch(`/users/${acme.viewer.userId}`, { name: 'Vera', timezone: 'Mars/Olympus' }, { 'if-match': '"1"' }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { path: '/timezone' } } },
  })
  t.match(await acme.admin.patch(`/users/${acme.viewer.userId}`, { name: 'Vera', timezone: 'Europe/Madrid' }, { 'if-match': '"1"' }), {
    status: 200,
    data: { name: 'Vera', timezone: 'Europe/Madrid', version: 2 },
  })
  t.match(await acme.admin.patch(`/users/${acme.viewer.userId}`, { name: 'Vera' }, { 'if-match': '"1"' }), {
    status: 409,
    body: { detail: 'version_conflict' },
  })
  t.match((await acme.viewer.get('/auth/me')).data, { user: { name: 'Vera' } })
  t.match(await acme.viewer.patch('/auth/me', { name: 'Vera Viewer', locale: 'tr' }), {
    status: 200,
    data: { name: 'Vera Viewer', locale: 'tr' },
  })
})

t.test('a mail server that is busy gets the mail in the end, and each try carries its own link', async (t) => {
  const acme = await tenant()
  const email = `away-2-${newId()}@acme.example`
  await acme.admin.post('/users', { email, name: 'Patient' })
  const mail = await mailTo(email)
  t.equal(mailsTo(email).length, 1, 'once')
  t.equal((await accept(acme.host, tokenIn(mail))).status, 200)
})

t.test('P19, P43: erasing leaves no name, address, reason or label in answers, mail jobs and the trail', async (t) => {
  const acme = await tenant()
  const mark = `zq${newId().slice(-10)}`
  const key = { 'idempotency-key': newId() }
  const email = `${mark}@erase.example`
  const { data } = await acme.admin.post('/users', { email, name: `Name ${mark}` }, key)
  t.equal((await accept(acme.host, tokenIn(await mailTo(email)))).status, 200)
  await acme.admin.post(`/users/${data.id}/overrides`, { permission: 'erp.party.read', effect: 'deny', reason: `${mark} is ill` })
  const { version } = (await acme.admin.get(`/users/${data.id}`)).data
  t.equal((await acme.admin.delete(`/users/${data.id}`, { 'if-match': `"${version}"` })).status, 204)
  const found = await runtime.services.planes.control.read(acme.scope, (tx) =>
    tx.any(sql.type(Type.Object({ place: Type.String() }))`
      select 'answers' as place from plane.idempotency_keys k where tenant_id = ${acme.id} and strpos(k::text, ${mark}) > 0
      union all select 'jobs' from pgboss.job j where j.data ->> 'user_id' = ${data.id}
      union all select 'trail ' || entity || e.diff from plane.audit_events e where tenant_id = ${acme.id} and strpos(e.diff::text, ${mark}) > 0`),
  )
  t.same(found, [])
})

t.test('P50, P29: a password is not changed to itself; shorter sessions end open ones', async (t) => {
  const acme = await tenant()
  t.match(await acme.viewer.post('/auth/password/change', { current_password: PASSWORD, password: PASSWORD }), {
    status: 400,
    body: { detail: 'weak_password', error: { details: { rule: 'same' } } },
  })
  const policy = await acme.admin.patch('/tenant/security', { session_absolute_hours: 1 })
  t.equal(policy.status, 200, policy.text)
  const [session] = (await acme.viewer.get('/auth/sessions')).data
  t.ok(Date.parse(session.expires_at) - Date.parse(session.created_at) <= 3_600_000)
})
