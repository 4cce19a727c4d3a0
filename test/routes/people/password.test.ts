// The password: forgotten, reset, changed, guessed at.
import t from 'tap'
import { accountById, openSession } from '../../../domain/identity/index.ts'
import { newId } from '../../../domain/kernel/index.ts'
import { PASSWORD, tally, testApp, times } from '../../support/app.ts'
import { mailsTo, mailTo, tokenIn } from '../../support/smtp.ts'

const { tenant, request, runtime } = await testApp(t, { MAIL_INTERVAL_SECONDS: '0' })
const post = (host: string, path: string, payload: object, headers: Record<string, string> = {}) =>
  request(host, { method: 'POST', url: `/api/v1${path}`, payload, headers })
const login = (host: string, email: string, password = PASSWORD, from: string | undefined = undefined) =>
  request(host, {
    method: 'POST',
    url: '/api/v1/auth/login?token=body',
    payload: { email, password },
    ...(from ? { remoteAddress: from } : {}),
  })
const NEW = 'harvest of the second greenhouse'

t.test('a forgotten password is replaced by link; every session ends, and so does every other link', async (t) => {
  const acme = await tenant()
  const user = await acme.user('operator')
  const forgot = (email: string) => post(acme.host, '/auth/password/forgot', { email })
  const known = await forgot(user.email)
  const unknown = await forgot(`nobody-${newId()}@acme.example`)
  t.match(known, { status: 202, data: { sent: true } })
  t.same({ ...known.body, correlation_id: '' }, { ...unknown.body, correlation_id: '' })
  const second = tokenIn(await mailTo(user.email))
  await forgot(user.email)
  const token = tokenIn(await mailTo(user.email, 2))
  const reset = (token: string, password = NEW) => post(acme.host, '/auth/password/reset', { token, password })
  t.match(await reset(token, 'password1234'), { status: 400, body: { detail: 'weak_password', error: { details: { rule: 'common' } } } })
  const answers = await Promise.all(times(5, () => reset(token)))
  t.same(tally(answers), { 204: 1, 400: 4 })
  t.match(await reset(second), { status: 400, body: { detail: 'invalid_link' } }, 'ended by the next link')
  t.equal((await user.get('/auth/me')).status, 401)
  t.equal((await login(acme.host, user.email)).status, 401)
  t.equal((await login(acme.host, user.email, NEW)).status, 200)
  t.match(await mailTo(user.email, 3), { subject: `Your password for ${acme.slug} was changed` })
})

t.test('a changed password ends the other sessions and keeps this one', async (t) => {
  const acme = await tenant()
  const user = await acme.user('operator')
  const elsewhere = acme.as((await login(acme.host, user.email)).data.access_token)
  const change = (current: string, password: string) => user.post('/auth/password/change', { current_password: current, password })
  t.match(await change('wrong', NEW), { status: 401, body: { detail: 'invalid_credentials' } })
  for (const [password, rule] of [
    ['short', 'min_length'],
    ['qwerty123456', 'common'],
    ['!!password2026', 'common'],
    ['abcabcabcabcabc', 'repetition'],
    [user.email, 'personal'],
  ] as const) {
    t.match(await change(PASSWORD, password), { status: 400, body: { detail: 'weak_password', error: { details: { rule } } } }, rule)
  }
  t.equal((await change(PASSWORD, 'x'.repeat(1_000_000))).status, 400, 'a megabyte')
  t.equal((await change(PASSWORD, 'x'.repeat(1_100_000))).status, 413)
  t.equal((await change(PASSWORD, NEW)).status, 204)
  t.equal((await user.get('/auth/me')).status, 200)
  t.equal((await elsewhere.get('/auth/me')).status, 401)
})

t.test('nobody who signed in with the old password is in once it has changed, however close', async (t) => {
  const acme = await tenant()
  const user = await acme.user('operator')
  const crowd = times(4, () => login(acme.host, user.email)) // as many as may try at once
  const changed = user.post('/auth/password/change', { current_password: PASSWORD, password: NEW })
  const entered = (await Promise.all(crowd)).filter((a) => a.status === 200).map((a) => a.data.access_token)
  t.match((await changed).status, /204|429/)
  if ((await changed).status === 429) {
    await new Promise((resolve) => setTimeout(resolve, 2100))
    t.equal((await user.post('/auth/password/change', { current_password: PASSWORD, password: NEW })).status, 204)
  }
  for (const token of entered) t.equal((await acme.as(token).get('/auth/me')).status, 401)
  t.equal((await user.get('/auth/me')).status, 200)
})

t.test('an account that changed since it was read opens no session', async (t) => {
  const acme = await tenant()
  const control = runtime.services.planes.control
  const client = { userAgent: null, address: '192.0.2.1', device: 'd' }
  const account = (await control.read(acme.scope, (tx) => accountById(tx, acme.viewer.userId)))!
  const open = () =>
    control.write(acme.scope, (tx) => openSession(tx, account, client, acme.scope.context, ['pwd'], { idleMinutes: 60, absoluteHours: 1 }))
  t.ok((await open()).sessionId)
  await acme.viewer.post('/auth/password/change', { current_password: PASSWORD, password: NEW })
  t.match(await open().catch((error) => error), { detail: 'invalid_credentials' })
})

t.test('an Idempotency-Key keeps what the request is for, and not the check before it', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const key = () => ({ 'idempotency-key': newId() })
  const change = { current_password: PASSWORD, password: NEW }
  t.equal((await user.post('/auth/password/change', change, key())).status, 204)
  t.equal((await login(acme.host, user.email, NEW)).status, 200, 'it was changed')
  const email = `keyed-${newId()}@acme.example`
  t.equal((await user.post('/auth/email/change', { email, password: NEW }, key())).status, 202)
  t.ok(tokenIn(await mailTo(email)), 'the link was sent')
})

t.test('what two keyboards compose differently is one password', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  t.equal((await user.post('/auth/password/change', { current_password: PASSWORD, password: 'café au lait le matin' })).status, 204)
  t.equal((await login(acme.host, user.email, 'cafe\u0301 au lait le matin')).status, 200)
})

t.test('an address is changed by link at the new one, and the old one is told', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const email = `new-${newId()}@acme.example`
  t.match(await user.post('/auth/email/change', { email, password: 'wrong' }), { status: 401 })
  t.equal((await user.post('/auth/email/change', { email, password: PASSWORD })).status, 202)
  const token = tokenIn(await mailTo(email))
  t.equal((await login(acme.host, email)).status, 401, 'not before the link is followed')
  t.equal((await post(acme.host, '/auth/email/verify', { token })).status, 204)
  t.match(await post(acme.host, '/auth/email/verify', { token }), { status: 400, body: { detail: 'invalid_link' } })
  t.equal((await login(acme.host, email)).status, 200)
  t.match(await mailTo(user.email), { subject: `Your address for ${acme.slug} was changed` })
  t.match((await user.get('/auth/me')).data.user, { email })
})

t.test('an address that was taken meanwhile is refused, and the link is not used up by it', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const email = `taken-${newId()}@acme.example`
  await user.post('/auth/email/change', { email, password: PASSWORD })
  const token = tokenIn(await mailTo(email))
  await acme.admin.post('/users', { email, name: 'First' })
  t.match(await post(acme.host, '/auth/email/verify', { token }), { status: 409, body: { detail: 'already_exists' } })
})

t.test('failures make an account wait, longer each time; of ten at the limit one gets through', async (t) => {
  const acme = await tenant()
  const { email } = acme.viewer
  for (const answer of await Promise.all(times(4, () => login(acme.host, email, 'wrong')))) t.equal(answer.status, 401)
  const ten = await Promise.all(times(10, () => login(acme.host, email, 'wrong')))
  t.same(tally(ten), { 401: 1, 429: 9 })
  for (const refused of ten.filter((a) => a.status === 429)) {
    t.match(refused, {
      body: { detail: 'rate_limited', error: { details: { retry_after_seconds: /^[12]$/ } } },
      headers: { 'retry-after': /^[12]$/ },
    })
  }
  t.equal((await login(acme.host, email)).status, 429, 'the right password waits too')
  await new Promise((resolve) => setTimeout(resolve, 1050))
  t.equal((await login(acme.host, email, 'wrong')).status, 401)
  t.match(await login(acme.host, email), { status: 429, body: { error: { details: { retry_after_seconds: /^[12]$/ } } } })
  await new Promise((resolve) => setTimeout(resolve, 2050))
  t.equal((await login(acme.host, email)).status, 200)
  t.same(tally(await Promise.all(times(4, () => login(acme.host, email)))), { 200: 4 }, 'forgotten with the first success')
  t.equal((await login(acme.host, acme.manager.email)).status, 200, 'others do not wait')
})

t.test('an account that does not exist waits like one that does', async (t) => {
  const acme = await tenant()
  const tries = async (email: string) => (await Promise.all(times(8, () => login(acme.host, email, 'wrong')))).map((a) => a.status).sort()
  t.same(await tries(`nobody-${newId()}@acme.example`), await tries(acme.viewer.email))
})

t.test('an address that tries many accounts waits, in every process', async (t) => {
  const acme = await tenant()
  const other = await testApp(t)
  const from = '198.51.100.7'
  for (let round = 0; round < 4; round++) await Promise.all(times(5, () => login(acme.host, `n-${newId()}@acme.example`, 'wrong', from)))
  t.equal((await login(acme.host, acme.viewer.email, PASSWORD, from)).status, 429)
  const there = await other.request(acme.host, {
    method: 'POST',
    url: '/api/v1/auth/login',
    payload: { email: acme.viewer.email, password: PASSWORD },
    remoteAddress: from,
  })
  t.equal(there.status, 429, 'the other process counts with this one')
  t.equal((await login(acme.host, acme.viewer.email)).status, 200, 'from elsewhere')
})

t.test('the trail knows who came in and who did not; a new device is told by mail, once', async (t) => {
  const acme = await tenant()
  const { email, userId } = acme.viewer
  await login(acme.host, email, 'wrong', '198.51.100.1')
  const { rows } = (await runtime.services.planes.control.read(acme.scope, async (tx) => {
    const { sql } = await import('../../../domain/kernel/index.ts')
    const { Type } = await import('typebox')
    const Row = Type.Object({ action: Type.String(), address: Type.String() })
    return {
      rows: await tx.any(
        sql.type(
          Row,
        )`select action, address from plane.audit_events where tenant_id = ${tx.tenantId} and entity_id = ${userId} and action = 'sign_in.failed'`,
      ),
    }
  })) as { rows: readonly { action: string; address: string }[] }
  t.same(rows, [{ action: 'sign_in.failed', address: '198.51.100.1' }])

  t.equal(mailsTo(email).length, 0, 'the first sign-in is no news')
  const agent = (from: string, headers: Record<string, string> = {}) =>
    request(acme.host, {
      method: 'POST',
      url: '/api/v1/auth/login',
      payload: { email, password: PASSWORD },
      remoteAddress: from,
      headers: { 'user-agent': 'Firefox', ...headers },
    })
  const first = await agent('203.0.113.9')
  t.match(await mailTo(email), { subject: `New sign-in to ${acme.slug}`, text: /Firefox/ })
  await agent('203.0.113.9')
  const cookie = (first.headers['set-cookie'] as string[]).find((c) => c.startsWith('device='))!.split(';')[0]!
  await agent('203.0.113.77', { cookie })
  await agent('192.0.2.1')
  await mailTo(email, 2)
  t.equal(mailsTo(email).length, 2, 'not for the same software and address, not for the device that brings its mark, but for another')
})
