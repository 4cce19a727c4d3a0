// The attacks of the security review on single sign-on, end to end against real providers.
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { assignRole } from '../../../domain/access/index.ts'
import { createUser, hashPassword } from '../../../domain/identity/index.ts'
import { newId, systemScope } from '../../../domain/kernel/index.ts'
import { type Client, PASSWORD, type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { authenticator } from '../../support/authenticator.ts'
import { openIdentityProvider } from '../../support/identity-provider.ts'
import { CLIENT_SECRET, callbackOf, singleSignOn } from '../../support/single-sign-on.ts'
import { mailsTo, mailTo } from '../../support/smtp.ts'

const testing = await testApp(t)
const { tenant, request, runtime } = testing
const { withSso, breakGlass, signIn, prove, linkAccount, linksOf, change, post } = singleSignOn(testing)

/** A user with a role of these permissions alone, for the whole tenant. */
async function userWith(acme: TestTenant, permissions: string[]): Promise<Client> {
  const code = `r-${newId().slice(-8)}`
  const role = await acme.admin.post('/rbac/roles', { code, name: code, permissions })
  if (role.status !== 201) throw new Error(role.text)
  const email = `${code}@${acme.slug}.example`
  const hash = await hashPassword(PASSWORD)
  const id = await runtime.services.planes.control.write(systemScope(acme.id, 'test', newId()), async (tx) => {
    const userId = await createUser(tx, { email, name: code, password: '', hash })
    await assignRole(tx, userId, role.data.id)
    return userId
  })
  return { ...acme.as((await acme.login(email)).data.access_token), userId: id, email }
}

const EDITOR = ['tenant.identity_provider.*', 'erp.party.read']

t.test('F4: an editor of providers does not become an administrator by an issuer of their own', async (t) => {
  const acme = await tenant()
  const editor = await userWith(acme, EDITOR)
  const idp = await openIdentityProvider(t, [callbackOf(acme)])
  const created = await editor.post('/tenant/identity-providers', {
    name: 'Mine',
    issuer: idp.issuer,
    client_id: 'tenantry',
    domains: [`${acme.slug}.example`],
  })
  t.match(created, { status: 201, data: { proven_domains: [], findings: ['domain_unproven'] } })
  const sso = { acme, idp, provider: created.data.id }
  t.equal((await editor.put(`/tenant/identity-providers/${sso.provider}/secret`, { client_secret: CLIENT_SECRET })).status, 204)
  idp.people.set('boss', { sub: 'boss', email: acme.admin.email, name: 'Boss' })
  idp.people.set('new', { sub: 'new', email: `new@${acme.slug}.example`, name: 'New' })
  for (const login of ['boss', 'new'])
    t.match(await signIn(sso, login), { status: 401, body: { detail: 'sso_failed', error: { details: { reason: 'domain_not_proven' } } } })
  const { data } = await editor.get(`/tenant/identity-providers/${sso.provider}/domains`)
  t.match(await editor.post(`/tenant/identity-providers/${sso.provider}/domains/${data[0].id}/verify`, {}), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { rule: 'dns', record: `_tenantry.${acme.slug}.example` } } },
  })
  t.equal((await acme.login(acme.viewer.email)).status, 200, 'nor is anyone locked out by enforcing an unproven domain')

  await prove(acme.admin, sso.provider)
  t.match(await signIn(sso, 'boss'), {
    status: 401,
    body: { detail: 'sso_link_required', error: { details: { provider: 'Mine', links: '/api/v1/auth/sso/links' } } },
  })
  t.match(await linksOf(acme.admin), [{ status: 'pending', reason: 'requested', subject: 'boss' }])
  t.match(await signIn(sso, 'boss'), { status: 401, body: { detail: 'sso_link_required' } }, 'asking again changes nothing')
  t.equal((await linksOf(acme.admin)).length, 1)
})

t.test('F4: only the owner, by password or factor, or an administrator who holds what the account holds confirms a link', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('boss', { sub: 'boss', email: acme.admin.email, name: 'Boss' })
  await signIn(sso, 'boss')
  const [request_] = await linksOf(acme.admin)
  const helper = await userWith(acme, ['identity.sso_link.*', 'identity.user.read'])
  const path = `/users/${acme.admin.userId}/sso-links/${request_!.id}`
  t.match(await helper.get(`/users/${acme.admin.userId}/sso-links`), { status: 200, data: [{ id: request_!.id, status: 'pending' }] })
  t.match(await helper.post(`${path}/confirm`, {}), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await helper.delete(path), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await acme.viewer.post(`${path}/confirm`, {}), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.viewer.post(`/auth/sso/links/${request_!.id}/confirm`, {}), { status: 404 }, 'it belongs to another user')
  const key = await acme.admin.post('/api-keys', { name: 'K', permissions: ['*'] })
  t.match(await acme.as(key.data.key).post(`${path}/confirm`, {}), { status: 403, body: { detail: 'session_required' } })

  t.match(await acme.admin.post(`/auth/sso/links/${request_!.id}/confirm`, {}), {
    status: 200,
    data: { status: 'active', reason: 'confirmed_by_owner' },
  })
  t.match(await signIn(sso, 'boss'), { status: 200, data: { user: { id: acme.admin.userId } } })
  t.match(await mailTo(acme.admin.email, 2), { subject: 'Sign-in through Company was linked to your account' })
  await linkAccount(sso, acme.manager, 'manager')
  idp.people.set('op', { sub: 'op', email: acme.operator.email, name: 'Op' })
  await signIn(sso, 'op')
  const [pending] = await linksOf(acme.operator)
  t.match(await acme.admin.post(`/users/${acme.operator.userId}/sso-links/${pending!.id}/confirm`, {}), {
    status: 200,
    data: { status: 'active', reason: 'confirmed_by_administrator' },
  })
  t.match(await signIn(sso, 'op'), { status: 200, data: { user: { id: acme.operator.userId } } })
})

t.test('F4: a session of another provider alone confirms nothing', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.viewer, 'viewer')
  const session = acme.as((await signIn(sso, 'viewer')).data.access_token)
  const other = await openIdentityProvider(t, [callbackOf(acme)])
  await change(sso, acme.admin, { issuer: other.issuer })
  const [link] = await linksOf(acme.viewer)
  t.match(await session.get('/auth/me'), { status: 401 }, 'the session ended with the link')
  t.match(link, { status: 'suspended' })
  // The administrator who changed the issuer keeps their session; by single sign-on alone it does not confirm their own link.
  const again = await withSso(t)
  await linkAccount(again, again.acme.admin, 'admin')
  const { access_token, refresh_token } = (await signIn(again, 'admin')).data
  const admin = again.acme.as(access_token)
  await change(again, admin, { issuer: other.issuer })
  const [own] = await linksOf(admin)
  t.match(await admin.post(`/auth/sso/links/${own!.id}/confirm`, {}), { status: 403, body: { detail: 'step_up_required' } })
  t.equal((await admin.post('/auth/step-up', { password: PASSWORD })).status, 204)
  t.equal((await admin.post(`/auth/sso/links/${own!.id}/confirm`, {})).status, 200)
  await change(again, admin, { client_id: 'yet-another' })
  t.match(await post(again.acme.host, '/auth/refresh?token=body', { refresh_token }), {
    status: 401,
    body: { detail: 'session_revoked' },
  })
  t.equal((await admin.get('/auth/me')).status, 401, 'a kept session ends at its refresh')
})

t.test('F4: a changed issuer or client id suspends every link until its owner or an administrator confirms again', async (t) => {
  const sso = await withSso(t, { name: 'Works' })
  const { acme } = sso
  for (const [client, login] of [
    [acme.admin, 'admin'],
    [acme.viewer, 'viewer'],
    [acme.operator, 'operator'],
  ] as const)
    await linkAccount(sso, client, login)
  await breakGlass(acme)
  t.equal((await change(sso, acme.admin, { enforced: true })).status, 200)
  const signed = await signIn(sso, 'viewer')
  const open = acme.as(signed.data.access_token)
  t.equal((await open.get('/auth/me')).status, 200)

  const evil = await openIdentityProvider(t, [callbackOf(acme)])
  t.match(await change(sso, acme.admin, { issuer: evil.issuer, enforced: true }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await change(sso, acme.admin, { issuer: evil.issuer }), {
    status: 200,
    data: { enforced: false, has_client_secret: false, findings: ['links_suspended'] },
  })
  t.match(await open.get('/auth/me'), { status: 401, body: { detail: 'session_revoked' } }, 'sessions through it end')
  const changed = { acme, idp: evil, provider: sso.provider }
  await acme.admin.put(`/tenant/identity-providers/${sso.provider}/secret`, { client_secret: CLIENT_SECRET })
  // The attack: the new issuer asserts the same subjects and addresses.
  for (const [login, email] of [
    ['viewer', acme.viewer.email],
    ['admin', acme.admin.email],
  ] as const) {
    evil.people.set(login, { sub: `sub-${login}`, email, name: login })
    t.match(await signIn(changed, login), { status: 401, body: { detail: 'sso_link_suspended' } }, login)
  }
  evil.people.set('other', { sub: 'another', email: acme.admin.email, name: 'x' })
  t.match(await signIn(changed, 'other'), { status: 401, body: { detail: 'sso_link_required' } }, 'another subject is no way around')

  for (const client of [acme.viewer, acme.operator]) {
    const mails = await mailTo(client.email, 2)
    t.match(mails, { subject: 'Sign-in through Works is suspended' })
  }
  const [link] = await linksOf(acme.viewer)
  t.match(link, { status: 'suspended', reason: 'provider_changed' })
  t.equal((await acme.viewer.post(`/auth/sso/links/${link!.id}/confirm`, {})).status, 200)
  t.match(await signIn(changed, 'viewer'), { status: 200, data: { user: { id: acme.viewer.userId } } })
  const [operators] = await linksOf(acme.operator)
  evil.people.set('operator', { sub: 'sub-operator', email: acme.operator.email, name: 'o' })
  t.equal((await acme.admin.post(`/users/${acme.operator.userId}/sso-links/${operators!.id}/confirm`, {})).status, 200)
  t.equal((await signIn(changed, 'operator')).status, 200)

  t.equal((await change(sso, acme.admin, { client_id: 'another' })).status, 200)
  t.match(await linksOf(acme.viewer), [{ status: 'suspended' }], 'a client id likewise')
})

t.test('F4: the resulting role map is checked on every change, not the body alone', async (t) => {
  const sso = await withSso(t, { role_map: { bosses: 'admin' } })
  const { acme } = sso
  const editor = await userWith(acme, EDITOR)
  const evil = await openIdentityProvider(t, [callbackOf(acme)])
  for (const patch of [
    { issuer: evil.issuer },
    { groups_claim: 'roles' },
    { domains: ['x.example'] },
    { enabled: false },
    { role_map: { a: 'manager' } },
  ])
    t.match(await change(sso, editor, patch), { status: 403, body: { detail: 'grant_exceeds' } }, JSON.stringify(patch))
  t.match(await change(sso, acme.admin, { role_map: {}, default_role: 'admin' }), {
    status: 200,
    data: { role_map: {}, default_role: 'admin' },
  })
  t.match(await change(sso, editor, { name: 'X' }), { status: 403, body: { detail: 'grant_exceeds' } }, 'the default role counts too')
  t.equal((await change(sso, acme.admin, { default_role: null })).status, 200)
  t.match(await change(sso, editor, { name: 'X' }), { status: 200, data: { name: 'X' } })
  const input = { name: 'Y', issuer: evil.issuer, client_id: 'x', domains: ['y.example'] }
  t.match(await editor.post('/tenant/identity-providers', { ...input, default_role: 'admin' }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
})

t.test('F4: swapping the codes of two roles changes nothing at the next sign-in', async (t) => {
  const sso = await withSso(t, { role_map: { growers: 'operator' }, default_role: null })
  const { acme, idp } = sso
  idp.people.set('eve', { sub: 'eve', email: `eve@${acme.slug}.example`, name: 'Eve', groups: ['growers'] })
  const entered = await signIn(sso, 'eve')
  const role = async (id: string) => (await acme.admin.get(`/rbac/roles/${id}`)).data
  const rename = async (id: string, code: string) => acme.admin.patch(`/rbac/roles/${id}`, { code, version: (await role(id)).version })
  for (const [id, code] of [
    [acme.roles.admin, 'spare'],
    [acme.roles.operator, 'admin'],
    [acme.roles.admin, 'operator'],
  ] as const)
    t.equal((await rename(id, code)).status, 200)
  t.match(
    (await acme.admin.get(`/tenant/identity-providers/${sso.provider}`)).data,
    { role_map: { growers: 'admin' } },
    'shown by its new code',
  )
  const again = await signIn(sso, 'eve')
  t.match(again, { status: 200, data: { user: { id: entered.data.user.id } } })
  const eve = acme.as(again.data.access_token)
  t.match(await eve.post('/rbac/roles', { code: 'x', name: 'X', permissions: [] }), { status: 403 }, 'not an administrator')
  t.equal((await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data.length, 1, 'and the role is kept')
})

t.test('F4: a local second factor is asked after single sign-on unless the policy says otherwise', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  const { data } = await acme.operator.post('/auth/mfa/enroll', {})
  const totp = new TOTP({ secret: Secret.fromBase32(data.secret) })
  const at = (steps: number) => totp.generate({ timestamp: Date.now() + steps * 30_000 })
  t.equal((await acme.operator.post('/auth/mfa/verify', { id: data.id, code: at(-1) })).status, 200)
  await linkAccount(sso, acme.operator, 'operator')
  const waiting = await signIn(sso, 'operator')
  t.match(waiting, { status: 401, body: { detail: 'mfa_required', error: { details: { methods: ['totp', 'recovery_code'] } } } })
  t.notOk(
    [waiting.headers['set-cookie']].flat().some((c) => String(c).startsWith('refresh_token=')),
    'no session yet',
  )
  const { challenge } = waiting.body.error.details
  t.match(await post(acme.host, '/auth/mfa?token=body', { challenge, code: '000000' }), { status: 401, body: { detail: 'invalid_code' } })
  const entered = await post(acme.host, '/auth/mfa?token=body', { challenge, code: at(1) })
  t.match(entered, { status: 200, data: { user: { id: acme.operator.userId } } })
  t.same((await acme.as(entered.data.access_token).get('/auth/sessions')).data[0].methods.toSorted(), ['mfa', 'otp', 'sso'])

  const suspended = await signIn(sso, 'operator')
  await change(sso, acme.admin, { client_id: 'other' })
  const late = { challenge: suspended.body.error.details.challenge, code: at(0) }
  t.equal((await post(acme.host, '/auth/mfa?token=body', late)).status, 401, 'a link that was suspended between the steps opens nothing')
})

t.test('F4: a passkey answers the challenge after single sign-on', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  const device = authenticator(`https://${acme.host}`)
  const begun = await acme.operator.post('/auth/passkeys/registration/options')
  await acme.operator.post('/auth/passkeys/registration', {
    ceremony: begun.data.ceremony,
    credential: device.register(begun.data.options),
  })
  await linkAccount(sso, acme.operator, 'operator')
  const { challenge } = (await signIn(sso, 'operator')).body.error.details
  const options = await post(acme.host, '/auth/passkeys/options', { challenge })
  const credential = device.authenticate({ ...options.data.options, rpId: acme.host }, true)
  const entered = await post(acme.host, '/auth/passkeys/login?token=body', { ceremony: options.data.ceremony, credential, challenge })
  t.equal(entered.status, 200)
  t.same((await acme.as(entered.data.access_token).get('/auth/sessions')).data[0].methods.toSorted(), ['hwk', 'mfa', 'sso'])
})

t.test('F4: single sign-on is a second factor only by policy', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.operator, 'operator')
  const policy = await acme.admin.patch('/tenant/security', { mfa_roles: ['operator'] })
  t.match(policy, { status: 200, data: { sso_counts_as_mfa: false } })
  const operator = acme.as((await signIn(sso, 'operator')).data.access_token)
  t.match(await operator.get('/erp/parties'), { status: 403, body: { detail: 'mfa_enrollment_required' } })
  t.match(await acme.admin.patch('/tenant/security', { sso_counts_as_mfa: true }), { status: 200, data: { sso_counts_as_mfa: true } })
  t.equal((await operator.get('/erp/parties')).status, 200)
})

t.test('F4: of twenty confirmations at once one links, by owner and administrator alike', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('viewer', { sub: 'viewer', email: acme.viewer.email, name: 'V' })
  await signIn(sso, 'viewer')
  const [link] = await linksOf(acme.viewer)
  const answers = await Promise.all(
    times(20, (n) =>
      n % 2
        ? acme.viewer.post(`/auth/sso/links/${link!.id}/confirm`, {})
        : acme.admin.post(`/users/${acme.viewer.userId}/sso-links/${link!.id}/confirm`, {}),
    ),
  )
  t.same(tally(answers), { 200: 1, 409: 19 })
  t.match(await linksOf(acme.viewer), [{ status: 'active' }])
  await mailTo(acme.viewer.email)
  t.equal(mailsTo(acme.viewer.email).filter(({ subject }) => subject.includes('linked')).length, 1, 'one mail')
})

t.test('F4: a confirmation that races a change of the issuer leaves no active link of the old provider', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  const evil = await openIdentityProvider(t, [callbackOf(acme)])
  idp.people.set('viewer', { sub: 'viewer', email: acme.viewer.email, name: 'V' })
  await signIn(sso, 'viewer')
  const [link] = await linksOf(acme.viewer)
  const [confirmed, changed] = await Promise.all([
    acme.viewer.post(`/auth/sso/links/${link!.id}/confirm`, {}),
    change(sso, acme.admin, { issuer: evil.issuer }),
  ])
  t.equal(changed.status, 200)
  t.ok([200, 404].includes(confirmed.status))
  t.notOk((await linksOf(acme.viewer)).some(({ status }) => status === 'active'))
})

t.test('F4: a second subject with the address of a linked user is not signed in as that user', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('bo', { sub: 'bo', email: `bo@${acme.slug}.example`, name: 'Bo', groups: ['growers'] })
  const bo = await signIn(sso, 'bo')
  idp.people.set('bo', { sub: 'bo', email: `bobo@${acme.slug}.example`, name: 'Bo', groups: ['growers'] })
  idp.people.set('eve', { sub: 'eve', email: `bo@${acme.slug}.example`, name: 'Eve' })
  t.match(await signIn(sso, 'eve'), { status: 401, body: { detail: 'sso_failed', error: { details: { reason: 'already_linked' } } } })
  t.match((await acme.admin.get(`/users/${bo.data.user.id}/roles`)).data, [{ role: 'operator' }])
  t.equal((await signIn(sso, 'bo')).data.user.id, bo.data.user.id, 'the first subject goes on, by a new address')
})

t.test('F4: administrators get a mail of a new provider, its issuer, its domains and its end', async (t) => {
  const sso = await withSso(t)
  const { acme, provider } = sso
  t.match(await mailTo(acme.admin.email), { subject: `Single sign-on of ${acme.slug} was changed`, text: /Company.*created/ })
  await change(sso, acme.admin, { issuer: 'https://login.example', domains: ['other.example'] })
  t.match(await mailTo(acme.admin.email, 2), { text: /issuer, domains/ })
  const { version } = (await acme.admin.get(`/tenant/identity-providers/${provider}`)).data
  t.equal((await acme.admin.delete(`/tenant/identity-providers/${provider}`, { 'if-match': `"${version}"` })).status, 204)
  t.match(await mailTo(acme.admin.email, 3), { text: /deleted/ })
})

t.test('F6: the client secret never reaches the issuer that it was not set for', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim' })
  await signIn(sso, 'kim')
  t.equal(idp.tokenRequests.at(-1)?.client_secret, CLIENT_SECRET, 'the real provider receives it')
  const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  const evil = await openIdentityProvider(t, [callbackOf(acme)])
  evil.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim' })
  t.match(await change(sso, acme.admin, { issuer: evil.issuer }), { status: 200, data: { has_client_secret: false } })
  t.match(await signIn({ ...sso, idp: evil }, 'kim'), { status: 401, body: { detail: 'sso_failed' } })
  t.ok(evil.tokenRequests.length > 0, 'the attacker’s token endpoint was asked')
  for (const body of evil.tokenRequests) t.notMatch(JSON.stringify(body), CLIENT_SECRET)

  const back = new URL(await idp.visit(String(started.headers.location), 'kim'))
  const cookie = String([started.headers['set-cookie']].flat().find((c) => String(c).startsWith('sso_state='))).split(';')[0]!
  const seen = evil.tokenRequests.length
  t.match(await request(acme.host, { method: 'GET', url: back.pathname + back.search, headers: { cookie } }), {
    status: 401,
    body: { detail: 'invalid_challenge' },
  })
  t.equal(evil.tokenRequests.length, seen, 'a code of the old issuer is not sent to the new one')

  await acme.admin.put(`/tenant/identity-providers/${provider}/secret`, { client_secret: CLIENT_SECRET })
  t.match(
    await change(sso, acme.admin, { client_id: 'mine' }),
    { status: 200, data: { has_client_secret: false } },
    'a client id clears it too',
  )
  await acme.admin.put(`/tenant/identity-providers/${provider}/secret`, { client_secret: CLIENT_SECRET })
  t.match(await change(sso, acme.admin, { name: 'Renamed' }), { status: 200, data: { has_client_secret: true } }, 'a name does not')
})
