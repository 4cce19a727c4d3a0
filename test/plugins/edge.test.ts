// The edge: whose request it is, before anything is known of the caller.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { newId } from '../../domain/kernel/index.ts'
import { canonicalForwarded, canonicalHost } from '../../plugins/host.ts'
import { type Answer, PASSWORD, tally, testApp, times } from '../support/app.ts'
import { mailsTo, mailTo, tokenIn } from '../support/smtp.ts'

const API = '/api/v1'
/** The first 64 bits of a network that no other test has: buckets are shared through Redis. */
const newNetwork = (): string => `2001:db8:${randomBytes(4).toString('hex').match(/.{4}/g)!.join(':')}`
const loginOf =
  (request: Awaited<ReturnType<typeof testApp>>['request']) =>
  (host: string, email: string, password: string, options: { from?: string; device?: string } = {}): Promise<Answer> =>
    request(host, {
      method: 'POST',
      url: `${API}/auth/login?token=body`,
      payload: { email, password },
      ...(options.from ? { remoteAddress: options.from } : {}),
      headers: options.device ? { cookie: `device=${options.device}` } : {},
    })

t.test('F1: every spelling of a host is one bucket, and sign-in routes are counted by address too', async (t) => {
  const { tenant, request } = await testApp(t, { RATE_LIMIT_AUTH_PER_MINUTE: '12' })
  const acme = await tenant()
  const spellings = [
    acme.host,
    acme.host.toUpperCase(),
    `${acme.host}.`,
    `${acme.host}:8080`,
    acme.host.replace('l', 'L'),
    `${acme.host}.:80`,
  ]
  const attempt = (host: string, at: number) =>
    request(host, { method: 'POST', url: `${API}/auth/login`, payload: { email: `a${at}@b.example`, password: 'x' } })
  const answers: Answer[] = []
  for (const at of times(18, (n) => n)) answers.push(await attempt(spellings[at % spellings.length]!, at))
  t.same(tally(answers), { 401: 8, 429: 10 }, 'four of the twelve were the sign-ins of this test')

  const few = await testApp(t, { RATE_LIMIT_PER_MINUTE: '5' })
  const from = `${newNetwork()}::1`
  const many = await Promise.all(
    times(30, (n) => few.request(`h${n}.localhost`, { method: 'GET', url: `${API}/auth/sso`, remoteAddress: from })),
  )
  t.equal(tally(many)[429], 10, 'twenty requests of one address, whatever the hosts and routes')
})

t.test('Failed sign-ins of a network do not refuse the refresh of its live sessions, which has a bucket of its own', async (t) => {
  const { tenant, request } = await testApp(t, { RATE_LIMIT_AUTH_PER_MINUTE: '12' })
  const acme = await tenant()
  const login = loginOf(request)
  const from = `${newNetwork()}::1`
  let { refresh_token } = (await login(acme.host, acme.viewer.email, PASSWORD, { from })).data
  const other = (await login(acme.host, acme.admin.email, PASSWORD, { from })).data.refresh_token
  const refresh = (token: string) =>
    request(acme.host, {
      method: 'POST',
      url: `${API}/auth/refresh?token=body`,
      remoteAddress: from,
      payload: { refresh_token: token },
    })
  const attempts = await Promise.all(times(20, (n) => login(acme.host, `a${n}@b.example`, 'x', { from })))
  t.equal(tally(attempts)[429], 10, 'two of the twelve were sign-ins')
  for (const at of times(12, (n) => n)) {
    const answer = await refresh(refresh_token)
    t.equal(answer.status, 200, `refresh ${at}`)
    refresh_token = answer.data.refresh_token
  }
  t.match(await refresh(refresh_token), { status: 429, body: { detail: 'rate_limited' }, headers: { 'retry-after': /^\d+$/ } })
  t.equal((await refresh(other)).status, 200, 'another session has its own bucket')
})

t.test('F19: the Host header alone names the tenant', async (t) => {
  for (const [text, host] of [
    ['ACME.localhost.', 'acme.localhost'],
    ['acme.localhost.:3000', 'acme.localhost:3000'],
    ['[::1]:3000', '[::1]:3000'],
    ['acme.localhost, admin.localhost', null],
    ['user@acme.localhost', null],
    ['acme.localhost/x', null],
    ['acme.localhost:x', null],
    ['', null],
    ['.', null],
  ] as const)
    t.equal(canonicalHost(text), host, text)

  const app = await testApp(t, { TRUSTED_PROXIES: '127.0.0.0/8' })
  const [acme, other] = [await app.tenant(), await app.tenant()]
  const me = (headers: Record<string, string>) =>
    app.request(acme.host, {
      method: 'GET',
      url: `${API}/auth/me`,
      remoteAddress: '127.0.0.1',
      headers: { authorization: `Bearer ${acme.admin.token}`, ...headers },
    })
  t.equal((await me({})).status, 200)
  t.equal((await me({ 'x-forwarded-host': other.host })).status, 200, 'not even from a trusted proxy')
  t.equal((await me({ 'x-forwarded-host': acme.host, host: other.host })).status, 401)
  t.match(await me({ host: 'acme localhost' }), { status: 400, body: { detail: 'invalid_headers' } })

  const { port } = (await (async () => {
    await app.app.listen({ host: '127.0.0.1', port: 0 })
    return app.app.server.address()
  })()) as { port: number }
  const raw = async (text: string) => {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    socket.on('data', (part) => {
      answer += part.toString()
    })
    socket.write(text) // a client that closes its side at once is given no answer
    await once(socket, 'close')
    return { status: Number(answer.split(' ')[1]), body: JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4) || 'null') }
  }
  const close = 'connection: close\r\n\r\n'
  t.match(
    await raw(`GET /api/v1/menu HTTP/1.1\r\nhost: ${acme.host}\r\nhost: ${other.host}\r\n${close}`),
    { status: 400, body: { detail: 'invalid_headers' } },
    'two hosts',
  )
  t.match(
    await raw(`GET http://${other.host}/api/v1/menu HTTP/1.1\r\nhost: ${acme.host}\r\n${close}`),
    { status: 400, body: { detail: 'invalid_headers' } },
    'an absolute target of another host',
  )
  t.match(await raw(`GET http://${acme.host}/api/v1/menu HTTP/1.1\r\nhost: ${acme.host}\r\n${close}`), { status: 401 })
  t.match(await raw(`GET /health HTTP/1.0\r\n\r\n`), { status: 200 }, 'a probe by HTTP/1.0 names no host')
  t.match(
    await raw(`GET /health HTTP/1.1\r\n${close}`),
    { status: 400, body: { detail: 'invalid_headers', correlation_id: String } },
    'HTTP/1.1 names a host',
  )

  // The rest of this test is about what never becomes a request.
  t.match(await raw(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n${close}`), {
    status: 431,
    body: { detail: 'headers_too_large', error: { code: 'VALIDATION' }, correlation_id: String },
  })
  t.match(await raw('NONSENSE\r\n\r\n'), { status: 400, body: { detail: 'malformed_request' } })
  t.match(await raw(`GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n${close}`), {
    status: 400,
    body: { detail: 'malformed_request' },
  })
  for (const method of ['QUERY', 'PROPFIND', 'PURGE', 'TRACE', 'MKCOL', 'SEARCH', 'LINK']) {
    const { status, body } = await raw(`${method} /api/v1/erp/parties HTTP/1.1\r\nhost: ${acme.host}\r\ncontent-length: 0\r\n${close}`)
    t.match({ status, body }, { status: 404, body: { detail: 'route_not_found' } }, method)
  }
})

t.test('F20: TRUSTED_PROXIES says whose X-Forwarded-For counts', async (t) => {
  t.equal(
    canonicalForwarded('evil, 2001:DB8::1%eth0,192.0.2.1:4711 , [2001:db8::2]:80'),
    '2001:db8:0:0:0:0:0:1, 192.0.2.1, 2001:db8:0:0:0:0:0:2',
  )
  t.equal(canonicalForwarded("1.2.3.4' or 1=1"), '')
  t.equal(canonicalForwarded('::ffff:192.0.2.7'), '192.0.2.7')

  /** Which address an API key that allows one address sees. */
  async function addressSeen(trusted: string, peer: string, chain: string): Promise<string[]> {
    const app = await testApp(t, { TRUSTED_PROXIES: trusted })
    const acme = await app.tenant()
    const candidates = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '10.0.0.1']
    const seen: string[] = []
    for (const address of candidates) {
      const { data } = await acme.admin.post('/api-keys', { name: address, permissions: ['erp.party.read'], allowed_addresses: [address] })
      const answer = await app.request(acme.host, {
        method: 'GET',
        url: `${API}/erp/parties`,
        remoteAddress: peer,
        headers: { authorization: `Bearer ${data.key}`, 'x-forwarded-for': chain },
      })
      if (answer.body?.detail !== 'address_forbidden') seen.push(address)
    }
    return seen
  }
  t.same(await addressSeen('none', '10.0.0.1', '192.0.2.1'), ['10.0.0.1'])
  t.same(await addressSeen('10.0.0.0/8', '10.0.0.1', '192.0.2.1, 192.0.2.2'), ['192.0.2.2'], 'the entry that the proxy wrote')
  t.same(await addressSeen('10.0.0.0/8,192.0.2.2', '10.0.0.1', '192.0.2.1, 192.0.2.2'), ['192.0.2.1'])
  t.same(await addressSeen('10.0.0.0/8', '192.0.2.3', '192.0.2.1'), ['192.0.2.3'], 'from elsewhere it does not count')
  t.same(await addressSeen('1', '10.0.0.1', '192.0.2.1, 192.0.2.2'), ['192.0.2.2'])
  t.same(await addressSeen('2', '10.0.0.1', '192.0.2.1, 192.0.2.2'), ['192.0.2.1'])
  t.same(await addressSeen('10.0.0.0/8', '10.0.0.1', 'nonsense'), ['10.0.0.1'])
})

t.test('F27: IPv6 neighbors share one bucket', async (t) => {
  const { request } = await testApp(t, { RATE_LIMIT_PER_MINUTE: '5' })
  const net = newNetwork()
  const from = (remoteAddress: string) => request('localhost', { method: 'GET', url: '/.well-known/jwks.json', remoteAddress })
  const neighbors = await Promise.all(times(25, (n) => from(`${net}::${n.toString(16)}:1`)))
  t.same(tally(neighbors), { 200: 20, 429: 5 })
  t.equal((await from(`${newNetwork()}::1`)).status, 200, 'the next network has its own')
})

t.test('F8: a known device signs in and a live session proves itself while others fail the account', async (t) => {
  const { tenant, request } = await testApp(t)
  const acme = await tenant()
  const login = loginOf(request)
  const user = await acme.user('operator')
  const first = await login(acme.host, user.email, PASSWORD)
  const device = String(first.headers['set-cookie']).match(/device=([A-Za-z0-9_-]{22})/)![1]!
  // From many networks, past every free failure of the account.
  const attack = async () => {
    for (const round of times(12, (n) => n))
      await Promise.all(times(5, (n) => login(acme.host, user.email, 'wrong', { from: `203.0.${round}.${n}` })))
  }
  await attack()
  t.match(await login(acme.host, user.email, PASSWORD, { from: '198.51.100.33' }), { status: 429 }, 'a device that nobody knows waits')
  t.equal((await login(acme.host, user.email, PASSWORD, { device })).status, 200, 'a known one does not')
  const strangers = 'A'.repeat(22)
  t.match(await login(acme.host, user.email, PASSWORD, { device: strangers }), { status: 429 }, 'a mark that never signed in is none')
  t.match(await login(acme.host, acme.viewer.email, PASSWORD, { device }), { status: 200 }, 'others are not concerned')

  t.equal((await user.post('/auth/step-up', { password: PASSWORD })).status, 204)
  const changed = 'harvest of the second greenhouse'
  t.equal((await user.post('/auth/password/change', { current_password: PASSWORD, password: changed })).status, 204)
  // The session's own counter holds guesses that are made within it, and only those.
  const guesses: Answer[] = []
  for (const _ of times(7, () => 0)) guesses.push(await user.post('/auth/step-up', { password: 'wrong' }))
  t.same(tally(guesses), { 401: 5, 429: 2 })
  t.equal((await login(acme.host, user.email, changed, { device })).status, 200, 'they do not keep the user from signing in')
  const own = await Promise.all(times(8, () => login(acme.host, user.email, 'wrong', { device })))
  t.same(tally(own), { 401: 5, 429: 3 }, 'a known device has few guesses too')
})

t.test('F9: one reset mail an account within the interval, and one live link', async (t) => {
  const { tenant, request } = await testApp(t)
  const acme = await tenant()
  const user = await acme.user('operator')
  const forgot = (host: string, email = user.email) =>
    request(host, { method: 'POST', url: `${API}/auth/password/forgot`, payload: { email } })
  const answers = await Promise.all([acme.host, acme.host.toUpperCase(), `${acme.host}.`, `${acme.host}:81`].map((host) => forgot(host)))
  answers.push(await forgot(acme.host, user.email.toUpperCase()), await forgot(acme.host, `nobody-${newId()}@x.example`))
  for (const { status, body } of answers) t.match({ status, body }, { status: 202, body: { data: { sent: true } } })
  tokenIn(await mailTo(user.email))
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  t.equal(mailsTo(user.email).length, 1)

  const eager = await testApp(t, { MAIL_INTERVAL_SECONDS: '0' })
  const again = () => eager.request(acme.host, { method: 'POST', url: `${API}/auth/password/forgot`, payload: { email: user.email } })
  await Promise.all(times(4, again))
  const links = [await mailTo(user.email, 2), await mailTo(user.email, 3), await mailTo(user.email, 4), await mailTo(user.email, 5)].map(
    tokenIn,
  )
  const resets = await Promise.all(
    links.map((token) =>
      request(acme.host, {
        method: 'POST',
        url: `${API}/auth/password/reset`,
        payload: { token, password: 'harvest of the second greenhouse' },
      }),
    ),
  )
  t.same(tally(resets), { 204: 1, 400: 3 }, 'of four links one works')
  const change = () => acme.viewer.post('/auth/email/change', { email: `n-${newId()}@x.example`, password: PASSWORD })
  t.equal((await change()).status, 202)
  t.match(await change(), { status: 429, body: { detail: 'rate_limited' }, headers: { 'retry-after': /^\d+$/ } })
})

t.test('F16: CORS and the check of cookies compare the whole origin', async (t) => {
  const { tenant, request, runtime } = await testApp(t)
  const acme = await tenant()
  Object.assign(runtime.services.settings, { development: false, publicUrl: 'https://{host}:8443' })
  const ask = (origin: string) =>
    request(acme.host, { method: 'GET', url: `${API}/auth/me`, headers: { origin, authorization: `Bearer ${acme.admin.token}` } })
  const write = (origin: string) =>
    request(acme.host, {
      method: 'POST',
      url: `${API}/erp/parties`,
      payload: { code: newId(), name: 'A', roles: ['client'] },
      headers: { origin, cookie: `access_token=${acme.admin.token}` },
    })
  const own = `https://${acme.host}:8443`
  t.equal((await ask(own)).headers['access-control-allow-origin'], own)
  t.equal((await write(own)).status, 201)
  for (const origin of [
    `http://${acme.host}`,
    `http://${acme.host}:8443`,
    `https://${acme.host}`,
    `https://${acme.host}:1`,
    `https://${acme.host}.evil.example:8443`,
    `https://evil.example:8443`,
    `https://x@${acme.host}:8443`,
    `https://${acme.host}:8443/`,
    `https://${acme.host}:8443?x`,
    'null',
    'file://',
    '',
  ]) {
    t.equal((await ask(origin)).headers['access-control-allow-origin'], undefined, origin)
    t.match(await write(origin), { status: 403, body: { detail: 'origin_forbidden' } }, origin)
  }
  for (const method of ['PATCH', 'PUT', 'DELETE', 'POST']) {
    const preflight = await request(acme.host, {
      method: 'OPTIONS',
      url: `${API}/erp/parties/${newId()}`,
      headers: { origin: own, 'access-control-request-method': method, 'access-control-request-headers': 'if-match,content-type' },
    })
    t.equal(preflight.status, 204)
    t.match(preflight.headers['access-control-allow-methods'], new RegExp(`\\b${method}\\b`))
    t.match(preflight.headers['access-control-allow-headers'], /if-match/)
  }
})

t.test('F17: documents are cached, answered by ETag and counted; /ready is asked once a second', async (t) => {
  const { request, runtime, app } = await testApp(t)
  for (const url of ['/api/openapi.json', '/docs/json', '/docs/yaml']) {
    const get = (headers: Record<string, string> = {}) => request('x', { method: 'GET', url, headers })
    const whole = await get()
    t.equal(whole.status, 200)
    const etag = String(whole.headers.etag)
    t.match(etag, /^"[\w-]{43}"$/)
    t.match(await get({ 'if-none-match': etag }), { status: 304, text: '' })
    t.match(await get({ 'if-none-match': `"x", W/${etag}` }), { status: 304 })
    const packed = await app.inject({ method: 'GET', url, headers: { 'accept-encoding': 'gzip, br' } })
    t.equal(packed.headers['content-encoding'], 'gzip')
    t.equal(gunzipSync(packed.rawPayload).toString(), whole.text)
    t.ok(packed.rawPayload.length < whole.text.length / 5)
    t.equal((await get({ 'accept-encoding': 'gzip;q=0' })).headers['content-encoding'], undefined)
  }
  const from = { remoteAddress: `${newNetwork()}::1` }
  const many = await Promise.all(
    times(130, () => app.inject({ method: 'GET', url: '/docs/json', headers: { 'accept-encoding': 'gzip' }, ...from })),
  )
  t.equal(many.filter(({ statusCode }) => statusCode === 429).length, 10)
  let pings = 0
  const control = runtime.services.planes.control
  const ping = control.ping.bind(control)
  control.ping = () => {
    pings++
    return ping()
  }
  await new Promise((resolve) => setTimeout(resolve, 1_100))
  await Promise.all(times(100, () => request('x', { method: 'GET', url: '/ready' })))
  t.ok(pings <= 3, `${pings} questions for a hundred requests`)
})

t.test('R5: of twenty registrations at once from one network as many are kept as may be', async (t) => {
  const { request } = await testApp(t)
  const net = newNetwork()
  const answers = await Promise.all(
    times(20, (n) => {
      const slug = `r${newId().slice(-12)}`
      return request('localhost', {
        method: 'POST',
        url: `${API}/registrations`,
        remoteAddress: `${net}::${n + 1}`,
        payload: { slug, name: 'R', email: `a@${slug}.example`, person: 'A', plan: 'professional' },
      })
    }),
  )
  t.same(tally(answers), { 202: 10, 429: 10 })
})

t.test('a time zone offset that PostgreSQL does not know is 400', async (t) => {
  const { tenant } = await testApp(t)
  const acme = await tenant()
  for (const offset of ['+16:00', '-16:00', '+23:59', '-23:59']) {
    const at = encodeURIComponent(`2026-01-01T00:00:00${offset}`)
    t.match(await acme.admin.get(`/erp/parties?created_at.gte=${at}`), { status: 400, body: { detail: 'invalid_query' } }, offset)
  }
  for (const text of ['2026-01-01T00:00:00+15:59', '2026-01-01T00:00:00-15:59', '0001-01-01T00:00:00Z'])
    t.equal((await acme.admin.get(`/erp/parties?created_at.gte=${encodeURIComponent(text)}`)).status, 200, text)
  for (const text of ['0000-01-01T00:00:00Z', '2026-02-30T00:00:00Z', '2026-01-01T24:00:01Z', '2026-06-30T23:59:60Z'])
    t.not((await acme.admin.get(`/erp/parties?created_at.gte=${encodeURIComponent(text)}`)).status, 500, text)
})
