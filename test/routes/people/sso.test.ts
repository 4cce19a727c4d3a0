// Single sign-on against a real provider.
import t from 'tap'
import { isInside, outboundFetch } from '../../../server/outbound.ts'
import { type TestTenant, testApp } from '../../support/app.ts'
import { openIdentityProvider, type TestProvider } from '../../support/identity-provider.ts'

const { tenant, request } = await testApp(t)
const callbackOf = (acme: TestTenant) => `http://${acme.host}/api/v1/auth/sso/callback`

/** A tenant whose people sign in at a provider of their own. */
async function withSso(t: { teardown(work: () => unknown): void }, more: object = {}) {
  const acme = await tenant()
  const idp = await openIdentityProvider(t, [callbackOf(acme)])
  const made = await acme.admin.post('/tenant/identity-providers', {
    name: 'Company',
    issuer: idp.issuer,
    client_id: 'tenantry',
    domains: [`${acme.slug}.example`],
    role_map: { growers: 'operator', bosses: 'manager' },
    ...more,
  })
  if (made.status !== 201) throw new Error(made.text)
  const secret = await put(acme, `/tenant/identity-providers/${made.data.id}/secret`, {
    client_secret: 'a very secret secret of the client',
  })
  if (secret.status !== 204) throw new Error(secret.text)
  return { acme, idp, provider: made.data.id as string }
}
const put = (acme: TestTenant, path: string, payload: object) =>
  request(acme.host, { method: 'PUT', url: `/api/v1${path}`, payload, headers: { authorization: `Bearer ${acme.admin.token}` } })

/** Starts here, signs in there, and comes back, with or without this browser's cookie. */
async function signIn(acme: TestTenant, idp: TestProvider, provider: string, login: string, { query = '?token=body', cookie = true } = {}) {
  const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start${query}` })
  if (started.status !== 302) return started
  const state = [started.headers['set-cookie']]
    .flat()
    .map(String)
    .find((c) => c.startsWith('sso_state='))!
    .split(';')[0]!
  const back = new URL(await idp.visit(String(started.headers.location), login))
  return request(acme.host, { method: 'GET', url: back.pathname + back.search, headers: cookie ? { cookie: state } : {} })
}

t.test('somebody new is let in, with the roles of his groups; when these change, so do his roles', async (t) => {
  const { acme, idp, provider } = await withSso(t)
  t.match((await request(acme.host, { method: 'GET', url: '/api/v1/auth/sso' })).data, [{ id: provider, name: 'Company' }])
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa', groups: ['growers', 'chess'] })
  const entered = await signIn(acme, idp, provider, 'rosa')
  t.match(entered, { status: 200, data: { user: { email: `rosa@${acme.slug}.example`, name: 'Rosa' } } })
  const rosa = acme.as(entered.data.access_token)
  t.same((await rosa.get('/auth/sessions')).data[0].methods, ['sso'])
  t.equal((await rosa.get('/erp/parties')).status, 200)
  const roles = async () => (await acme.admin.get(`/users/${entered.data.user.id}/roles`)).data.map((r: { role: string }) => r.role).sort()
  t.same(await roles(), ['operator'])
  await acme.admin.post(`/users/${entered.data.user.id}/roles`, { role: 'viewer' })
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa', groups: ['bosses'] })
  t.equal((await signIn(acme, idp, provider, 'rosa')).data.user.id, entered.data.user.id, 'the same person')
  t.same(await roles(), ['manager', 'viewer'], 'what was given by hand stays')

  const browser = await signIn(acme, idp, provider, 'rosa', { query: '?return_to=/stock' })
  t.match(browser, { status: 302, headers: { location: '/stock' } })
  t.ok([browser.headers['set-cookie']].flat().some((c) => String(c).startsWith('refresh_token=')))
})

t.test('an existing user is found by his address; one who was let go is not', async (t) => {
  const { acme, idp, provider } = await withSso(t)
  idp.people.set('viewer', { sub: 'v-1', email: acme.viewer.email, name: 'V' })
  const entered = await signIn(acme, idp, provider, 'viewer')
  t.equal(entered.data.user.id, acme.viewer.userId)
  t.equal((await acme.login(acme.viewer.email)).status, 200, 'his password works on')
  await acme.admin.post(`/users/${acme.viewer.userId}/disable`, { version: 1 })
  t.match(await signIn(acme, idp, provider, 'viewer'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'account_closed' } } },
  })
})

t.test('a provider speaks for its own domains, and for addresses that it has verified', async (t) => {
  const { acme, idp, provider } = await withSso(t)
  idp.people.set('eve', { sub: 'eve', email: 'eve@elsewhere.example', name: 'Eve' })
  t.match(await signIn(acme, idp, provider, 'eve'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'foreign_domain' } } },
  })
  idp.people.set('una', { sub: 'una', email: `una@${acme.slug}.example`, name: 'Una', email_verified: false })
  t.match(await signIn(acme, idp, provider, 'una'), {
    status: 401,
    body: { detail: 'sso_failed', error: { details: { reason: 'email_not_verified' } } },
  })
})

t.test('an answer comes back once, to the browser that asked, with nothing changed', async (t) => {
  const { acme, idp, provider } = await withSso(t)
  idp.people.set('rosa', { sub: 'rosa-1', email: `rosa@${acme.slug}.example`, name: 'Rosa' })
  t.match(
    await signIn(acme, idp, provider, 'rosa', { cookie: false }),
    { status: 401, body: { detail: 'invalid_challenge' } },
    'another browser',
  )
  const started = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  const authorize = new URL(String(started.headers.location))
  t.equal(authorize.searchParams.get('code_challenge_method'), 'S256')
  const cookie = [started.headers['set-cookie']]
    .flat()
    .map(String)
    .find((c) => c.startsWith('sso_state='))!
    .split(';')[0]!
  const back = new URL(await idp.visit(authorize.href, 'rosa'))
  const come = () => request(acme.host, { method: 'GET', url: back.pathname + back.search, headers: { cookie } })
  t.equal((await come()).status, 302)
  t.match(await come(), { status: 401, body: { detail: 'invalid_challenge' } }, 'replayed')
  const forged = await request(acme.host, { method: 'GET', url: `/api/v1/auth/sso/${provider}/start` })
  const state = [forged.headers['set-cookie']]
    .flat()
    .map(String)
    .find((c) => c.startsWith('sso_state='))!
    .split(';')[0]!
    .split('=')[1]
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

t.test('where it is enforced there is no other way in', async (t) => {
  const { acme, idp, provider } = await withSso(t)
  const { version } = (await acme.admin.get(`/tenant/identity-providers/${provider}`)).data
  t.equal((await acme.admin.patch(`/tenant/identity-providers/${provider}`, { enforced: true, version })).status, 200)
  const refused = await acme.login(acme.viewer.email)
  t.match(refused, { status: 401, body: { detail: 'sso_required', error: { details: { start: `/api/v1/auth/sso/${provider}/start` } } } })
  const unknown = await acme.login(`nobody@${acme.slug}.example`)
  t.same(unknown.body.error, refused.body.error, 'it tells of the domain and not of the account')
  idp.people.set('viewer', { sub: 'v-1', email: acme.viewer.email, name: 'V' })
  t.equal((await signIn(acme, idp, provider, 'viewer')).status, 200)
  t.equal((await acme.admin.get('/erp/parties')).status, 200, 'sessions that are open stay')
})

t.test('a provider that is away, or is none, is said so; nobody maps groups to more than he holds', async (t) => {
  const { acme, idp, provider } = await withSso(t)
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

t.test('what a tenant writes as an address never leads into our own network', async (t) => {
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
