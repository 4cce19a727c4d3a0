// How long sessions live, what is known of them, and two tabs at once.
import { SignJWT } from 'jose'
import t from 'tap'
import { ISSUER, sessionsOf } from '../../../domain/identity/index.ts'
import { sql } from '../../../domain/kernel/index.ts'
import { mailer } from '../../../workers/mailer.ts'
import { type Client, eventually, PASSWORD, type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { quietLog } from '../../support/services.ts'

const { tenant, request, runtime } = await testApp(t)
const control = runtime.services.planes.control

/** Moves a user's sessions back in time. */
const age = (acme: TestTenant, user: Client, column: 'last_seen_at' | 'expires_at', by: string) =>
  control.write(acme.scope, (tx) =>
    tx.query(sql.run`
      update res_sessions set ${sql.identifier([column])} = ${sql.identifier([column])} - ${by}::interval where tenant_id = ${tx.tenantId} and user_id = ${user.userId}`),
  )
const refresh = (host: string, token: string) =>
  request(host, { method: 'POST', url: '/api/v1/auth/refresh?token=body', payload: { refresh_token: token } })
const me = (app: { request: typeof request }, acme: TestTenant, token: string) =>
  app.request(acme.host, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${token}` } })

t.test('a session that lies idle ends, and one that is used does not', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.patch('/tenant/security', { session_idle_minutes: 30 }), {
    status: 200,
    data: { session_idle_minutes: 30, session_absolute_hours: 720 },
  })
  const { data } = await acme.login(acme.viewer.email)
  await age(acme, acme.viewer, 'last_seen_at', '29 minutes')
  t.equal((await me(await testApp(t), acme, data.access_token)).status, 200)
  await age(acme, acme.viewer, 'last_seen_at', '40 minutes')
  t.match(await me(await testApp(t), acme, data.access_token), { status: 401, body: { detail: 'session_revoked' } })
  t.match(await refresh(acme.host, data.refresh_token), { status: 401, body: { detail: 'invalid_token' } })
  t.equal(
    (await control.read(acme.scope, (tx) => sessionsOf(tx, acme.viewer.userId, { idleMinutes: 30, absoluteHours: 1 }))).length,
    0,
    'and is listed no more',
  )
  t.match(await acme.admin.patch('/tenant/security', { session_idle_minutes: 5 }), { status: 400, body: { detail: 'invalid_body' } })
})

t.test('a session ends in any case when its time is up, in every process', async (t) => {
  const acme = await tenant()
  await acme.admin.patch('/tenant/security', { session_absolute_hours: 1 })
  const { data } = await acme.login(acme.viewer.email)
  const [session] = (await acme.as(data.access_token).get('/auth/sessions')).data
  t.ok(Math.abs(Date.parse(session.expires_at) - Date.now() - 3_600_000) < 60_000, session.expires_at)
  await age(acme, acme.viewer, 'expires_at', '61 minutes')
  t.match(
    await eventually(
      () => me({ request }, acme, data.access_token),
      (a) => a.status === 401,
    ),
    { body: { detail: 'session_revoked' } },
  )
  t.match(await refresh(acme.host, data.refresh_token), { status: 401, body: { detail: 'invalid_token' } })
})

t.test('when a session and a key were used last is written, many uses at once', async (t) => {
  const used = await testApp(t)
  const acme = await used.tenant()
  const { data: key } = await acme.admin.post('/api-keys', { name: 'K', permissions: ['erp.party.read'] })
  await age(acme, acme.viewer, 'last_seen_at', '2 hours')
  const there = await testApp(t)
  await Promise.all(times(20, () => me(there, acme, acme.viewer.token)))
  await there.request(acme.host, { method: 'GET', url: '/api/v1/erp/parties', headers: { authorization: `Bearer ${key.key}` } })
  await there.runtime.services.access.close()
  const [session] = (await acme.viewer.get('/auth/sessions')).data
  t.ok(Date.now() - Date.parse(session.last_seen_at) < 60_000, session.last_seen_at)
  t.ok(Date.now() - Date.parse((await acme.admin.get(`/api-keys/${key.id}`)).data.last_used_at) < 60_000)
})

t.test('two tabs refresh at the same moment: one goes on, the other is refused, and nobody is thrown out', async (t) => {
  const acme = await tenant()
  const { data } = await acme.login(acme.viewer.email)
  const answers = await Promise.all(times(10, () => refresh(acme.host, data.refresh_token)))
  t.same(tally(answers), { 200: 1, 401: 9 })
  for (const refused of answers.filter((a) => a.status === 401))
    t.equal(refused.body.detail, 'invalid_token', 'refused and given nothing: the grace opens no door')
  const next = answers.find((a) => a.status === 200)!.data
  t.equal((await me({ request }, acme, next.access_token)).status, 200)
  const third = (await refresh(acme.host, next.refresh_token)).data
  t.match(
    await refresh(acme.host, data.refresh_token),
    { status: 401, body: { detail: 'session_revoked' } },
    'a token from before the last one is stolen',
  )
  t.equal((await me({ request }, acme, third.access_token)).status, 401, 'and ends the session')
})

t.test('clocks may be thirty seconds apart, and no more', async (t) => {
  const acme = await tenant()
  const { kid, privateKey } = runtime.services.keys.current
  const claims = JSON.parse(Buffer.from(acme.viewer.token.split('.')[1]!, 'base64url').toString())
  const token = (expiredSeconds: number) =>
    new SignJWT({ ...claims, exp: Math.floor(Date.now() / 1000) - expiredSeconds })
      .setProtectedHeader({ alg: 'RS256', kid })
      .setIssuer(ISSUER)
      .sign(privateKey)
  t.equal((await me({ request }, acme, await token(20))).status, 200)
  t.match(await me({ request }, acme, await token(40)), { status: 401, body: { detail: 'token_expired' } })
})

t.test('a crowd beyond the queue is told so, and the others go on', async (t) => {
  const acme = await tenant()
  const users = await Promise.all(times(3, () => acme.user('viewer')))
  const crowd = times(300, (at) =>
    request(acme.host, {
      method: 'POST',
      url: '/api/v1/auth/login',
      payload: { email: `${at}-${users[0]!.email}`, password: PASSWORD },
      remoteAddress: `10.1.${at >> 8}.${at & 255}`,
    }),
  )
  const calm = await acme.admin.get('/auth/me')
  t.equal(calm.status, 200)
  const counts = tally(await Promise.all(crowd))
  t.same(Object.keys(counts).sort(), ['401', '503'], JSON.stringify(counts))
  t.ok(counts[401]! >= 200, 'two hundred wait their turn')
})

t.test('a mail server that cannot be reached is an error for the job, which is tried again', async (t) => {
  const acme = await tenant()
  const options = { directory: undefined, from: 'a@b.example', publicUrl: 'http://{host}', baseDomain: 'localhost' }
  const send = mailer(control, { ...options, smtpUrl: 'smtp://127.0.0.1:9' }, quietLog.root)
  const job = {
    kind: 'password_changed',
    tenant_id: acme.id,
    user_id: acme.viewer.userId,
    facts: { time: new Date().toISOString() },
  } as const
  await t.rejects(send(job), /ECONNREFUSED/)
  const folder = t.testdir()
  const written = mailer(control, { ...options, smtpUrl: undefined, directory: folder }, quietLog.root)
  await written(job)
  const { readdirSync, readFileSync } = await import('node:fs')
  const [file] = readdirSync(folder)
  t.match(
    readFileSync(`${folder}/${file}`, 'utf8'),
    new RegExp(`To: ${acme.viewer.email}\nSubject: Your password for ${acme.slug} was changed`),
  )
  await written({ ...job, user_id: null })
  t.equal(readdirSync(folder).length, 1, 'nobody to write to')
})
