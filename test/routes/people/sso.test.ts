// Single sign-on against a real provider.
import t from 'tap'
import { assignRole } from '../../../domain/access/index.ts'
import { isInside, outboundFetch } from '../../../server/outbound.ts'
import { tally, testApp, times } from '../../support/app.ts'
import { singleSignOn, stateOf } from '../../support/single-sign-on.ts'

const testing = await testApp(t)
const { tenant, request, runtime } = testing
const { withSso, breakGlass, signIn, linkAccount, change } = singleSignOn(testing)

t.test('a new user is provisioned with the roles of their groups, and a change of groups changes the roles', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  t.match((await request(acme.host, { method: 'GET', url: '/api/v1/auth/sso' })).data, [{ id: provider, name: 'Company' }])
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa', groups: ['growers', 'chess'] })
  const entered = await signIn(sso, 'rosa')
  t.match(entered, { status: 200, data: { user: { email: `rosa@${acme.slug}.example`, name: 'Rosa' } } })
  const rosa = acme.as(entered.data.access_token)
  t.same((await rosa.get('/auth/sessions')).data[0].methods, ['sso'])
  t.equal((await rosa.get('/erp/parties')).status, 200)
  const roles = async () => (await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data.map((r: { role: string }) => r.role).sort()
  t.same(await roles(), ['operator'])
  await acme.admin.post(`/users/${entered.data.user.id}/roles`, { role: 'viewer' })
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa', groups: ['bosses'] })
  t.equal((await signIn(sso, 'rosa')).data.user.id, entered.data.user.id, 'the same user')
  t.same(await roles(), ['manager', 'viewer'], 'roles given by hand stay')

  const browser = await signIn(sso, 'rosa', { query: '?return_to=/stock' })
  t.match(browser, { status: 302, headers: { location: '/stock' } })
  t.ok([browser.headers['set-cookie']].flat().some((c) => String(c).startsWith('refresh_token=')))
})

t.test('an existing user signs in once they confirmed the link; a disabled one does not', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.viewer, 'viewer')
  const entered = await signIn(sso, 'viewer')
  t.equal(entered.data.user.id, acme.viewer.userId)
  t.equal((await acme.login(acme.viewer.email)).status, 200, 'their password works on')
  await acme.admin.post(`/users/${acme.viewer.userId}/disable`, { version: 1 })
  t.match(await signIn(sso, 'viewer'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'account_closed' } } },
  })
})

t.test('a provider vouches for its own domains and verified addresses alone', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('eve', { sub: 'eve', email: 'eve@elsewhere.example', name: 'Eve' })
  t.match(await signIn(sso, 'eve'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'foreign_domain' } } },
  })
  idp.people.set('una', { sub: 'una', email: `una@${acme.slug}.example`, name: 'Una', email_verified: false })
  t.match(await signIn(sso, 'una'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'email_not_verified' } } },
  })
})

t.test('a callback works once, in the browser that started, with an unchanged code and state', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa' })
  t.match(await signIn(sso, 'rosa', { cookie: false }), { status: 401, body: { detail: 'invalid_challenge' } }, 'another browser')
  const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  const authorize = new URL(String(started.headers.location))
  t.equal(authorize.searchParams.get('code_challenge_method'), 'S256')
  const cookie = stateOf(started)
  const back = new URL(await idp.visit(authorize.href, 'rosa'))
  const come = () => request(acme.host, { method: 'GET', url: back.pathname + back.search, headers: { cookie } })
  t.equal((await come()).status, 302)
  t.match(await come(), { status: 401, body: { detail: 'invalid_challenge' } }, 'replayed')
  const forged = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  const state = stateOf(forged).split('=')[1]
  const answer = await request(acme.host, {
    method: 'GET',
    url: `/api/v1/auth/sso/callback?code=nonsense&state=${state}`,
    headers: { cookie: `sso_state=${state}` },
  })
  t.match(answer, { status: 401, body: { detail: 'sso_failed' } })
  for (const path of ['//evil.example', 'https://evil.example', '/\\evil.example']) {
    const started = await request(acme.host, {
      method: 'GET',
      url: `/api/v1/auth/sso/${provider}/start?return_to=${encodeURIComponent(path)}`,
    })
    t.match(started, { status: 400, body: { detail: 'invalid_query' } }, path)
  }
})

t.test('enforcement refuses passwords and locks out neither its administrator nor open sessions', async (t) => {
  const sso = await withSso(t)
  const { acme, provider } = sso
  t.match(
    await change(sso, acme.admin, { enforced: true }),
    { status: 409, body: { detail: 'sso_not_linked' } },
    'the administrator is not linked',
  )
  await linkAccount(sso, acme.admin, 'admin')
  await linkAccount(sso, acme.viewer, 'viewer')
  await breakGlass(acme)
  t.equal((await change(sso, acme.admin, { enforced: true })).status, 200)
  const refused = await acme.login(acme.viewer.email)
  t.match(refused, { status: 401, body: { detail: 'sso_required', error: { details: { start: `/api/v1/auth/sso/${provider}/start` } } } })
  const unknown = await acme.login(`nobody@${acme.slug}.example`)
  t.same(unknown.body.error, refused.body.error, 'it tells of the domain and not of the account')
  t.equal((await signIn(sso, 'viewer')).status, 200)
  t.equal((await acme.admin.get('/erp/parties')).status, 200, 'sessions that are open stay')
})

t.test('F5: a missing, false or other email_verified is refused; true and "true" are accepted', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  const claims: [string, boolean | string | undefined][] = [
    ['missing', undefined],
    ['text-false', 'false'],
    ['false', false],
    ['yes', 'yes'],
    ['one', '1'],
  ]
  for (const [name, email_verified] of claims) {
    idp.people.set(name, { sub: name, email: `${name}@${acme.slug}.example`, name, email_verified })
    t.match(
      await signIn(sso, name),
      { status: 401, body: { detail: 'sso_failed', error: { details: { reason: 'email_not_verified' } } } },
      name,
    )
  }
  // The attack of the review: the address of an existing administrator without a verified claim.
  idp.people.set('boss', { sub: 'x', email: acme.admin.email, name: 'Boss', email_verified: undefined })
  t.match(await signIn(sso, 'boss'), { status: 401, body: { detail: 'sso_failed' } })
  t.equal((await acme.admin.get('/users')).data.length, 4, 'no account was provisioned')
  for (const [name, email_verified] of [
    ['text-true', 'true'],
    ['true', true],
  ] as const) {
    idp.people.set(name, { sub: name, email: `${name}@${acme.slug}.example`, name, email_verified })
    t.equal((await signIn(sso, name)).status, 200, name)
  }
})

t.test('F5: trust_email accepts a missing email_verified and never a false one', async (t) => {
  const sso = await withSso(t, { trust_email: true })
  const { acme, idp, provider } = sso
  t.match((await acme.admin.get(`/tenant/identity-providers/${provider}`)).data.findings, ['email_trusted_unverified'])
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim', email_verified: undefined })
  t.equal((await signIn(sso, 'kim')).status, 200)
  idp.people.set('eve', { sub: 'eve', email: `eve@${acme.slug}.example`, name: 'Eve', email_verified: 'false' })
  t.match(await signIn(sso, 'eve'), { status: 401, body: { error: { details: { reason: 'email_not_verified' } } } })
  idp.people.set('boss', { sub: 'x', email: acme.admin.email, name: 'Boss', email_verified: undefined })
  t.match(await signIn(sso, 'boss'), { status: 401, body: { detail: 'sso_link_required' } }, 'an existing account is not linked by it')
})

t.test('claims are read from UserInfo where the ID token has none, and are trusted no more there', async (t) => {
  const sso = await withSso(t, {}, true)
  const { acme, idp } = sso
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim', groups: ['growers'] })
  const entered = await signIn(sso, 'kim')
  t.match(entered, { status: 200, data: { user: { name: 'Kim', email: `kim@${acme.slug}.example` } } })
  t.match((await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data, [{ role: 'operator' }])
  idp.people.set('eve', { sub: 'eve', email: `eve@${acme.slug}.example`, name: 'Eve', email_verified: undefined })
  t.match(await signIn(sso, 'eve'), { status: 401, body: { error: { details: { reason: 'email_not_verified' } } } }, 'F5 there too')
})

t.test('two first sign-ins of one subject at once: one account, both signed in', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('rosa', { sub: 'rosa', email: `rosa@${acme.slug}.example`, name: 'Rosa', groups: ['growers'] })
  const entered = await Promise.all(times(4, () => signIn(sso, 'rosa')))
  t.same(tally(entered), { 200: 4 })
  t.equal(new Set(entered.map(({ data }) => data.user.id)).size, 1)
  t.equal((await acme.admin.get(`/users/${entered[0]!.data.user.id}/sso-links`)).data.length, 1)
})

t.test('two subjects with one address at once: one account, the other is refused', async (t) => {
  const sso = await withSso(t)
  for (const sub of ['first', 'second']) sso.idp.people.set(sub, { sub, email: `rosa@${sso.acme.slug}.example`, name: sub })
  const answers = await Promise.all(['first', 'second'].map((sub) => signIn(sso, sub)))
  t.same(tally(answers), { 200: 1, 401: 1 })
  t.match(
    answers.find(({ status }) => status === 401),
    { body: { detail: 'sso_failed', error: { details: { reason: 'already_linked' } } } },
  )
})

t.test('a provisioned user gets what the map gives and nothing else', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('kim', { sub: 'kim', email: `kim@${acme.slug}.example`, name: 'Kim', groups: ['chess', 'admin', 'Growers'] })
  const entered = await signIn(sso, 'kim')
  t.same((await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data, [])
  t.same((await acme.as(entered.data.access_token).get('/auth/me')).data.permissions, [])
  await change(sso, acme.admin, { default_role: 'viewer' })
  await signIn(sso, 'kim')
  t.match((await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data, [{ role: 'viewer', organization_id: null }])
})

t.test('an unreachable provider, an unknown one and an invalid setup are refused', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  await idp.close()
  const fresh = await testApp(t)
  const started = await fresh.request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  t.match(started, { status: 401, body: { detail: 'sso_failed', error: { details: { reason: 'provider_unreachable' } } } })
  const input = { name: 'Other', issuer: 'https://login.example', client_id: 'x', domains: ['x.example'] }
  t.match(await acme.admin.post('/tenant/identity-providers', { ...input, role_map: { all: 'nothing' } }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(await acme.admin.post('/tenant/identity-providers', { ...input, domains: ['no domain'] }), {
    status: 400,
    body: { detail: 'invalid_body' },
  })
  t.match(await acme.viewer.post('/tenant/identity-providers', input), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.admin.post('/tenant/identity-providers', { ...input, name: 'Company' }), {
    status: 409,
    body: { detail: 'already_exists' },
  })
  const [other, globex] = [
    await request(acme.host, { method: 'GET', url: '/api/v1/auth/sso/01936d0e-5f2a-7c41-9b3e-2f6a8d4c1e70/start' }),
    await tenant(),
  ]
  t.equal(other.status, 404)
  t.equal((await request(globex.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })).status, 404, 'another tenant’s')
})

t.test('an issuer never leads into the internal network', async (t) => {
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '169.254.169.254',
    '192.168.0.1',
    '172.20.0.1',
    '0.0.0.0',
    '::1',
    'fd00::1',
    'fe80::1',
    '::ffff:127.0.0.1',
    'nonsense',
  ])
    t.ok(isInside(address), address)
  for (const address of ['93.184.215.14', '172.32.0.1', '2606:2800:220:1::1']) t.notOk(isInside(address), address)
  const guarded = outboundFetch(false)
  for (const url of [
    'http://127.0.0.1:8000/',
    'http://localhost:8000/',
    'http://[::1]:8000/',
    'http://[::ffff:7f00:1]/',
    'http://2130706433/',
  ])
    await t.rejects(
      guarded(url).catch((error) => Promise.reject(error.cause ?? error)),
      /our own network/,
      url,
    )
})

t.test('P46: scopes of a provider are asked for, openid in any case, and claims of UserInfo are read', async (t) => {
  const sso = await withSso(t, { scopes: ['email', 'profile'] }, true)
  const { acme, idp, provider } = sso
  const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  t.equal(new URL(String(started.headers.location)).searchParams.get('scope'), 'openid email profile')
  idp.people.set('ann', { sub: 'ann', email: `ann@${acme.slug}.example`, name: 'Ann', groups: ['growers'] })
  t.match(await signIn(sso, 'ann'), { status: 200, data: { user: { name: 'Ann' } } })
  t.equal((await change(sso, acme.admin, { scopes: ['openid', 'offline_access'] })).status, 200)
  const next = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  t.equal(new URL(String(next.headers.location)).searchParams.get('scope'), 'openid offline_access')
  t.match(await change(sso, acme.admin, { scopes: ['with space'] }), { status: 400, body: { detail: 'invalid_body' } })
})

t.test('P24: with sync_profile a sign-in takes over name and address, unless another account has the address', async (t) => {
  const sso = await withSso(t, { sync_profile: true })
  const { acme, idp } = sso
  const at = (name: string) => `${name}@${acme.slug}.example`
  idp.people.set('kim', { sub: 'kim', email: at('kim'), name: 'Kim' })
  t.match((await signIn(sso, 'kim')).data.user, { name: 'Kim', email: at('kim') })
  idp.people.set('kim', { sub: 'kim', email: at('kim-marie'), name: 'Kim Marie' })
  t.match((await signIn(sso, 'kim')).data.user, { name: 'Kim Marie', email: at('kim-marie') })
  idp.people.set('kim', { sub: 'kim', email: acme.viewer.email, name: 'Kim' })
  t.match((await signIn(sso, 'kim')).data.user, { name: 'Kim', email: at('kim-marie') }, 'the address of another account')
})

t.test('P21: a group renews a role whose assignment by hand has ended', async (t) => {
  const sso = await withSso(t)
  const { acme, idp } = sso
  idp.people.set('pat', { sub: 'pat', email: `pat@${acme.slug}.example`, name: 'Pat' })
  const { id } = (await signIn(sso, 'pat')).data.user
  await runtime.services.planes.control.write(acme.scope, (tx) =>
    assignRole(tx, id, acme.roles.operator, { expiresAt: '2020-01-01T00:00:00Z' }),
  )
  idp.people.set('pat', { sub: 'pat', email: `pat@${acme.slug}.example`, name: 'Pat', groups: ['growers'] })
  await signIn(sso, 'pat')
  t.match((await acme.admin.get(`/users/${id}/roles`)).data, [{ role: 'operator', expires_at: null, provider_id: sso.provider }])
})
