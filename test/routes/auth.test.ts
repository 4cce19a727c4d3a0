import { createHmac } from 'node:crypto'
import * as jose from 'jose'
import t from 'tap'
import { checkContext } from '../../domain/access/index.ts'
import { type Answer, eventually, PASSWORD, tally, testApp, times } from '../support/app.ts'

const { tenant, request, runtime } = await testApp(t)
const login = (host: string, email: string, password = PASSWORD, headers = {}) =>
  request(host, { method: 'POST', url: '/api/v1/auth/login?token=body', payload: { email, password }, headers })

t.test('sign in, refresh, sign out; and a token that an independent library verifies', async (t) => {
  const acme = await tenant()
  const signed = await login(acme.host, acme.admin.email)
  t.equal(signed.status, 200)
  const cookies = signed.headers['set-cookie'] as unknown as string[]
  t.match(
    cookies.find((c) => c.startsWith('refresh_token')),
    /Path=\/api\/v1\/auth; HttpOnly; SameSite=Lax/,
  )
  const { keys } = (await request('any', { method: 'GET', url: '/.well-known/jwks.json' })).body
  const { payload, protectedHeader } = await jose.jwtVerify(signed.data.access_token, jose.createLocalJWKSet({ keys }), {
    audience: acme.id,
    issuer: 'tenantry',
    algorithms: ['RS256'],
  })
  t.match(payload, { sub: acme.admin.userId, tenant_id: acme.id, kind: 'worker', organization_id: acme.organizations[0]!.id })
  t.ok(protectedHeader.kid)
  t.equal(Number(payload.exp) - Number(payload.iat), 900)

  const refreshed = await request(acme.host, {
    method: 'POST',
    url: '/api/v1/auth/refresh?token=body',
    payload: { refresh_token: signed.data.refresh_token },
  })
  t.equal(refreshed.status, 200)
  t.not(refreshed.data.refresh_token, signed.data.refresh_token)
  const client = acme.as(refreshed.data.access_token)
  t.equal((await client.get('/auth/me')).status, 200)
  t.equal((await client.post('/auth/logout', {})).status, 204)
  t.match(await client.get('/auth/me'), { status: 401, body: { detail: 'session_revoked' } })
})

t.test('a replayed refresh token ends the session; the loser of two tabs within the grace does not', async (t) => {
  const acme = await tenant()
  const { data } = await login(acme.host, acme.admin.email)
  const refresh = (token: string) =>
    request(acme.host, { method: 'POST', url: '/api/v1/auth/refresh?token=body', payload: { refresh_token: token } })
  const answers = await Promise.all([refresh(data.refresh_token), refresh(data.refresh_token)])
  t.same(tally(answers), { 200: 1, 401: 1 })
  const second = answers.find((a) => a.status === 200)!.data.refresh_token
  const third = (await refresh(second)).data
  t.equal((await acme.as(third.access_token).get('/auth/me')).status, 200, 'the session lives on')
  // Two rotations back: no tab is that slow, this is a thief.
  t.match(await refresh(data.refresh_token), { status: 401, body: { detail: 'session_revoked' } })
  t.equal((await refresh(third.refresh_token)).status, 401, 'the whole family is gone')
  t.match(
    await eventually(
      () => acme.as(third.access_token).get('/auth/me'),
      (a) => a.status === 401,
    ),
    { body: { detail: 'session_revoked' } },
  )
})

t.test('an unknown email and a wrong password read the same', async (t) => {
  const acme = await tenant()
  const unknown = await login(acme.host, 'nobody@nowhere.example')
  const wrong = await login(acme.host, acme.viewer.email, 'wrong')
  for (const answer of [unknown, wrong]) {
    t.match(answer, { status: 401, body: { detail: 'invalid_credentials' } })
    t.same({ ...answer.body, correlation_id: '' }, { ...unknown.body, correlation_id: '' })
  }
  t.match(await login(acme.host, acme.viewer.email, 'x'.repeat(2000)), { status: 400, body: { detail: 'invalid_body' } })
  await Promise.all(times(6, () => login(acme.host, acme.viewer.email, 'wrong')))
  t.match(
    await login(acme.host, acme.viewer.email),
    { status: 429, body: { detail: 'rate_limited' } },
    'after many failures the account waits',
  )
})

t.test('forged and foreign tokens are refused, each in the contract’s words', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const [header, payload, signature] = acme.admin.token.split('.') as [string, string, string]
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
  const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString())
  const hsHead = encode({ alg: 'HS256', typ: 'JWT', kid })
  const hs = createHmac('sha256', runtime.services.keys.current.publicPem).update(`${hsHead}.${payload}`).digest('base64url')
  const bad = {
    'alg none': `${encode({ alg: 'none', typ: 'JWT', kid })}.${payload}.`,
    'HS256 with the public key': `${hsHead}.${payload}.${hs}`,
    'unknown kid': `${encode({ alg: 'RS256', typ: 'JWT', kid: 'x' })}.${payload}.${signature}`,
    'no kid': `${encode({ alg: 'RS256', typ: 'JWT' })}.${payload}.${signature}`,
    'changed claims': `${header}.${encode({ ...claims, sub: globex.admin.userId })}.${signature}`,
    garbage: 'a.b.c',
  }
  for (const [name, token] of Object.entries(bad))
    t.match(await acme.as(token).get('/auth/me'), { status: 401, body: { detail: 'invalid_token' } }, name)
  t.match(await globex.as(acme.admin.token).get('/auth/me'), { status: 401, body: { detail: 'tenant_mismatch' } })
  t.match(await request(acme.host, { method: 'GET', url: '/api/v1/auth/me' }), { status: 401, body: { detail: 'missing_token' } })
  const old = await new jose.SignJWT(claims)
    .setProtectedHeader({ alg: 'RS256', kid })
    .setIssuedAt(Math.floor(Date.now() / 1000) - 7200)
    .setExpirationTime(Math.floor(Date.now() / 1000) - 3600)
    .sign(await jose.importPKCS8(runtime.services.keys.current.privatePem, 'RS256'))
  t.match(await acme.as(old).get('/auth/me'), { status: 401, body: { detail: 'token_expired' } })
  t.match(await request('nobody.localhost', { method: 'GET', url: '/api/v1/auth/me' }), {
    status: 404,
    body: { detail: 'tenant_not_found' },
  })
  t.match(await request('localhost', { method: 'GET', url: '/api/v1/auth/me', headers: { 'x-tenant': acme.slug } }), {
    status: 404,
    body: { detail: 'tenant_not_found' },
  })
})

t.test('a cookie alone does not change anything: the origin must be the tenant’s', async (t) => {
  const acme = await tenant()
  const party = { code: 'C1', name: 'Client', roles: ['client'] }
  const post = (headers: Record<string, string>) =>
    request(acme.host, {
      method: 'POST',
      url: '/api/v1/erp/parties',
      payload: party,
      headers: { cookie: `access_token=${acme.admin.token}`, ...headers },
    })
  t.match(await post({}), { status: 403, body: { detail: 'origin_forbidden' } })
  t.match(await post({ origin: 'https://evil.example' }), { status: 403, body: { detail: 'origin_forbidden' } })
  t.equal((await post({ origin: `http://${acme.host}` })).status, 201)
})

t.test('a disabled user and a revoked session stop at the next request, in every process', async (t) => {
  const other = await testApp(t)
  const acme = await tenant()
  const victim = await acme.user('viewer')
  const there = () =>
    other.request(acme.host, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${victim.token}` } })
  t.equal((await there()).status, 200)
  t.equal((await victim.get('/auth/me')).status, 200)
  t.equal((await acme.admin.post(`/users/${victim.userId}/disable`, { version: 1 })).status, 200)
  t.match(await eventually(there, (a) => a.status === 401, 2), { body: { detail: 'session_revoked' } })
  t.match(
    await eventually(
      () => victim.get('/auth/me'),
      (a) => a.status === 401,
      2,
    ),
    { body: { detail: 'session_revoked' } },
  )
})

t.test('sessions are listed and ended one by one; another user’s is not found', async (t) => {
  const acme = await tenant()
  const { data } = await login(acme.host, acme.admin.email)
  const list = (await acme.admin.get('/auth/sessions')).data
  t.equal(list.length, 2)
  const mine = JSON.parse(Buffer.from(data.access_token.split('.')[1], 'base64url').toString()).session_id
  t.equal((await acme.viewer.delete(`/auth/sessions/${mine}`)).status, 404)
  t.equal((await acme.admin.delete(`/auth/sessions/${mine}`)).status, 204)
  t.equal((await acme.as(data.access_token).get('/auth/me')).status, 401)
  t.equal((await acme.admin.get('/auth/me')).status, 200)
  t.equal((await acme.admin.post('/auth/logout-all', {})).status, 204)
  t.equal((await acme.admin.get('/auth/me')).status, 401)
})

t.test('the context is switched where one may work, and refused with the reason where not', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const bound = await acme.user('operator', { organizationId: one!.id })
  const there = await acme.admin.post('/context/switch?token=body', { organization_id: two!.id })
  t.match(there, { status: 200, data: { context: { organization_id: two!.id, workspace_id: null } } })
  t.match((await acme.as(there.data.access_token).get('/auth/me')).data.context, { organization_id: two!.id })
  t.match(await bound.post('/context/switch', { organization_id: two!.id }), { status: 403, body: { detail: 'context_forbidden' } })
  t.match(await bound.post('/context/switch', { organization_id: one!.id, workspace_id: two!.id }), {
    status: 403,
    body: { detail: 'context_forbidden' },
  })
  t.same(
    (await bound.get('/context')).data.map((o: { code: string }) => o.code),
    ['one'],
  )
  t.equal(
    checkContext({ assignments: [], organizations: [], overrides: [] } as never, { organizationId: null, workspaceId: null }, 0),
    'context_required',
  )
})

t.test('signing in with an Idempotency-Key keeps no secret and opens a session each time', async (t) => {
  const acme = await tenant()
  const [one, two] = [
    await login(acme.host, acme.viewer.email, PASSWORD, { 'idempotency-key': 'k' }),
    await login(acme.host, acme.viewer.email, PASSWORD, { 'idempotency-key': 'k' }),
  ]
  t.same([one.status, two.status], [200, 200])
  t.not(one.data.refresh_token, two.data.refresh_token)
  t.equal(two.headers['idempotency-replayed'], undefined)
})

t.test('P47: signing out works by the refresh cookie alone and always clears the cookies', async (t) => {
  const acme = await tenant()
  const post = (path: string, headers: Record<string, string> = {}) =>
    request(acme.host, { method: 'POST', url: `/api/v1${path}`, payload: {}, headers: { origin: `http://${acme.host}`, ...headers } })
  const signIn = async () => {
    const answer = await request(acme.host, {
      method: 'POST',
      url: '/api/v1/auth/login',
      payload: { email: acme.viewer.email, password: PASSWORD },
    })
    const [pair] = [answer.headers['set-cookie']]
      .flat()
      .map(String)
      .filter((c) => c.startsWith('refresh_token='))
      .map((c) => c.split(';')[0]!)
    return pair!
  }
  const cleared = ({ headers }: Answer) =>
    [headers['set-cookie']]
      .flat()
      .map(String)
      .filter((c) => /^(access|refresh)_token=;/.test(c)).length
  const cookie = await signIn()
  t.match(await post('/auth/logout', { cookie, origin: 'https://elsewhere.example' }), { status: 401 }, 'from a foreign page')
  const out = await post('/auth/logout', { cookie })
  t.equal(out.status, 204, out.text)
  t.equal(cleared(out), 2)
  t.equal((await post('/auth/refresh', { cookie })).status, 401)
  const bare = await post('/auth/logout')
  t.match(bare, { status: 401, body: { detail: 'missing_token' } })
  t.equal(cleared(bare), 2, 'with a refusal, too')
  const [first, second] = [await signIn(), await signIn()]
  t.equal((await post('/auth/logout-all', { cookie: `access_token=expired; ${first}` })).status, 204)
  t.equal((await post('/auth/refresh', { cookie: second })).status, 401, 'everywhere')
})
