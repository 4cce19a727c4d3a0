// Headers and refusals that hold for every answer, as the rows of docs/asvs.csv say.
import t from 'tap'
import { PASSWORD, testApp } from '../support/app.ts'

const { tenant, request } = await testApp(t)

t.test('every answer has the security headers, a content type with charset, and no version of a component', async (t) => {
  const acme = await tenant()
  const answers = {
    data: await acme.admin.get('/auth/me'),
    refusal: await acme.viewer.post('/users', { email: 'x@y.example', name: 'X' }),
    invalid: await acme.admin.post('/users', { email: 1 }),
    missing: await acme.admin.get('/nowhere'),
    anonymous: await request(acme.host, { method: 'GET', url: '/api/v1/auth/me' }),
    health: await request('any', { method: 'GET', url: '/health' }),
  }
  for (const [name, { headers }] of Object.entries(answers)) {
    t.equal(headers['x-content-type-options'], 'nosniff', name)
    t.equal(headers['referrer-policy'], 'no-referrer', name)
    t.equal(headers['cross-origin-opener-policy'], 'same-origin', name)
    t.equal(headers['cross-origin-resource-policy'], 'same-origin', name)
    for (const directive of ["default-src 'self'", "object-src 'none'", "base-uri 'self'", "frame-ancestors 'self'"])
      t.ok(String(headers['content-security-policy']).includes(directive), `${name}: ${directive}`)
    t.equal(headers['content-type'], 'application/json; charset=utf-8', name)
    for (const header of ['server', 'x-powered-by']) t.notOk(header in headers, `${name}: ${header}`)
  }
})

t.test('cookies of a session are HttpOnly and SameSite, and below four kilobytes', async (t) => {
  const acme = await tenant()
  const { headers } = await request(acme.host, {
    method: 'POST',
    url: '/api/v1/auth/login',
    payload: { email: acme.admin.email, password: PASSWORD },
  })
  const cookies = [headers['set-cookie']].flat().map(String)
  t.same(cookies.map((cookie) => cookie.split('=')[0]).toSorted(), ['access_token', 'device', 'refresh_token'])
  for (const cookie of cookies) {
    t.match(cookie, /; HttpOnly/)
    t.match(cookie, /; SameSite=Lax/)
    t.ok(cookie.length < 4096)
  }
})

t.test('a repeated parameter, a prototype in a body and an unsupported method are refused', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.get('/users?limit=1&limit=2'), { status: 400, body: { detail: 'invalid_query' } })
  const headers = { authorization: `Bearer ${acme.admin.token}`, 'content-type': 'application/json' }
  for (const payload of ['{"__proto__":{"x":1},"email":"x@y.example","name":"X"}', '{"constructor":{"prototype":{"x":1}}}'])
    t.match(await request(acme.host, { method: 'POST', url: '/api/v1/users', headers, payload }), { status: 400 }, payload)
  for (const method of ['TRACE', 'PUT', 'DELETE'] as const)
    t.match(
      await request(acme.host, { method: method as never, url: '/api/v1/auth/me', headers: { authorization: headers.authorization } }),
      {
        status: 404,
      },
    )
})
