// Second factors.
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { type Client, PASSWORD, type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { mailTo } from '../../support/smtp.ts'

const { tenant, request } = await testApp(t)
const post = (host: string, path: string, payload: object) => request(host, { method: 'POST', url: `/api/v1${path}`, payload })

/** Codes as an authenticator on a telephone makes them; `steps` away from now by so many half minutes. */
const codeOf = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 })

/** Waits for the next half minute where this one is nearly over: a test must not fall between two codes. */
async function steadyClock(): Promise<void> {
  const left = 30_000 - (Date.now() % 30_000)
  if (left < 10_000) await new Promise((resolve) => setTimeout(resolve, left + 50))
}

/** A user with an authenticator, enrolled with the code of the step before, so that the current one is still good. */
async function enrolled(
  acme: TestTenant,
  role: 'admin' | 'operator' = 'operator',
): Promise<{ user: Client; secret: string; codes: string[]; id: string }> {
  const user = await acme.user(role)
  const { data } = await user.post('/auth/mfa/enroll', { label: 'Telephone' })
  // With a key, as a careful frontend sends it.
  const verified = await user.post('/auth/mfa/verify', { id: data.id, code: codeOf(data.secret, -1) }, { 'idempotency-key': data.id })
  return { user, secret: data.secret, codes: verified.data.recovery_codes, id: data.id }
}

t.test('an authenticator is added, and from then on signing in takes its code', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const user = await acme.user('operator')
  const begun = await user.post('/auth/mfa/enroll', { label: 'Telephone' })
  t.match(begun, {
    status: 201,
    data: { otpauth_uri: /^otpauth:\/\/totp\/.*issuer=/, qr_svg: /^<svg/ },
    headers: { 'cache-control': 'no-store' },
  })
  const { id, secret } = begun.data
  t.equal((await acme.login(user.email)).status, 200, 'one that is not confirmed asks for nothing')
  t.match(await user.post('/auth/mfa/verify', { id, code: '000000' }), { status: 401, body: { detail: 'invalid_code' } })
  const confirmed = await user.post('/auth/mfa/verify', { id, code: codeOf(secret, -1) })
  t.equal(confirmed.data.recovery_codes.length, 10)
  t.match(await mailTo(user.email), { subject: `Your second factor for ${acme.slug} was changed` })
  t.match((await user.get('/auth/mfa')).data, {
    factors: [{ id, kind: 'totp', label: 'Telephone' }],
    recovery_codes_left: 10,
    required: false,
  })

  const waiting = await acme.login(user.email)
  t.match(waiting, { status: 401, body: { detail: 'mfa_required', error: { details: { methods: ['totp', 'recovery_code'] } } } })
  const { challenge } = waiting.body.error.details
  const second = (payload: object) => post(acme.host, '/auth/mfa?token=body', { challenge, ...payload })
  t.match(await second({ code: '000000' }), { status: 401, body: { detail: 'invalid_code' } })
  // Two, because each is a try: whoever comes after the winner is counted for the account again.
  const answers = await Promise.all(times(2, () => second({ code: codeOf(secret) })))
  t.equal(tally(answers)[200], 1, 'of two at once one is in')
  const token = answers.find((a) => a.status === 200)!.data.access_token
  t.same((await acme.as(token).get('/auth/sessions')).data[0].methods, ['pwd', 'otp', 'mfa'])

  const again = (await acme.login(user.email)).body.error.details.challenge
  t.match(
    await post(acme.host, '/auth/mfa', { challenge: again, code: codeOf(secret) }),
    { status: 401, body: { detail: 'invalid_code' } },
    'a code that was seen',
  )
  t.match(
    await post(acme.host, '/auth/mfa', { challenge: again, code: codeOf(secret, -1) }),
    { status: 401, body: { detail: 'invalid_code' } },
    'and one before it',
  )
  t.equal((await post(acme.host, '/auth/mfa', { challenge: again, code: codeOf(secret, 1) })).status, 200, 'a clock thirty seconds ahead')
})

t.test('a challenge has five tries, and the account waits after them', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const { user, secret } = await enrolled(acme)
  const { challenge } = (await acme.login(user.email)).body.error.details
  const statuses = []
  for (let at = 0; at < 7; at++) statuses.push((await post(acme.host, '/auth/mfa', { challenge, code: '000000' })).status)
  t.same(statuses.slice(0, 3), [401, 401, 401])
  const next = (await acme.login(user.email)).body.error.details.challenge
  t.equal((await post(acme.host, '/auth/mfa', { challenge: next, code: codeOf(secret) })).status, 429, statuses.join())
  t.equal((await post(acme.host, '/auth/mfa', { challenge, code: codeOf(secret) })).status !== 200, true)
  t.match(await post(acme.host, '/auth/mfa', { challenge: 'x'.repeat(43), code: '000000' }), {
    status: 401,
    body: { detail: 'invalid_challenge' },
  })
})

t.test('a recovery code works once, also of five at once', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const { user, codes } = await enrolled(acme)
  const challenge = async () => (await acme.login(user.email)).body.error.details.challenge
  const challenges = [await challenge(), await challenge(), await challenge()]
  const answers = await Promise.all(
    challenges.map((c) => post(acme.host, '/auth/mfa', { challenge: c, recovery_code: codes[0]!.toUpperCase().replaceAll('-', ' ') })),
  )
  t.equal(tally(answers)[200], 1)
  t.equal((await user.get('/auth/mfa')).data.recovery_codes_left, 9)
  const replaced = await user.post('/auth/mfa/recovery-codes')
  t.equal(replaced.data.recovery_codes.length, 10)
  t.match(await post(acme.host, '/auth/mfa', { challenge: await challenge(), recovery_code: codes[1] }), {
    status: 401,
    body: { detail: 'invalid_code' },
  })
})

t.test('a role or an organization asks for a second factor: without one only the account itself is open', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const [one, two] = acme.organizations
  const { user: officer } = await enrolled(acme, 'admin')
  const user = await acme.user('operator', { organizationId: one!.id })
  const elsewhere = await acme.user('viewer', { organizationId: two!.id })
  t.match(await officer.patch('/tenant/security', { mfa_organizations: [one!.id] }), {
    status: 200,
    data: { mfa_organizations: [one!.id], mfa_roles: [] },
  })
  t.match(await user.get('/erp/parties'), { status: 403, body: { detail: 'mfa_enrollment_required' } })
  t.equal((await elsewhere.get('/erp/parties')).status, 200)
  t.match((await user.get('/auth/mfa')).data, { required: true })
  const { data } = await user.post('/auth/mfa/enroll')
  const other = acme.as((await acme.login(user.email)).data.access_token)
  await user.post('/auth/mfa/verify', { id: data.id, code: codeOf(data.secret, -1) })
  t.equal((await user.get('/erp/parties')).status, 200, 'at once, in this session')
  t.match(await other.get('/erp/parties'), { status: 403, body: { detail: 'step_up_required' } }, 'and in another after its own code')
  t.equal((await other.post('/auth/step-up', { code: codeOf(data.secret) })).status, 204)
  t.equal((await other.get('/erp/parties')).status, 200)
  t.match(
    await user.post('/auth/mfa/disable', { id: data.id }),
    { status: 403, body: { detail: 'mfa_enrollment_required' } },
    'the last one stays',
  )
  t.match(await officer.patch('/tenant/security', { mfa_roles: ['nothing'] }), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await officer.patch('/tenant/security', { mfa_organizations: [], mfa_roles: ['operator'] }), { status: 200 })
  t.match(await (await acme.user('operator')).get('/erp/parties'), { status: 403, body: { detail: 'mfa_enrollment_required' } })
  t.match(await elsewhere.patch('/tenant/security', { mfa_roles: [] }), { status: 403, body: { detail: 'permission_denied' } })
})

t.test('what is dangerous asks again after ten minutes', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const { runtime } = await testApp(t)
  const { sql } = await import('../../../domain/kernel/index.ts')
  const grow = (userId: string) =>
    runtime.services.planes.control.write(acme.scope, (tx) =>
      tx.query(
        sql.run`update res_sessions set authenticated_at = now() - interval '11 minutes' where tenant_id = ${tx.tenantId} and user_id = ${userId}`,
      ),
    )
  const { user, secret } = await enrolled(acme, 'admin')
  await grow(user.userId)
  await grow(acme.admin.userId)
  const { eventually } = await import('../../support/app.ts')
  const create = (client: Client) => client.post('/api-keys', { name: 'K', permissions: ['erp.party.read'] })
  t.match(
    await eventually(
      () => create(user),
      (a) => a.status === 403,
    ),
    { body: { detail: 'step_up_required' } },
  )
  t.match(
    await user.post('/auth/step-up', { password: PASSWORD }),
    { status: 401, body: { detail: 'mfa_required' } },
    'a stolen password is not enough',
  )
  t.equal((await user.post('/auth/step-up', { code: codeOf(secret) })).status, 204)
  t.equal((await create(user)).status, 201)
  t.match(
    await eventually(
      () => create(acme.admin),
      (a) => a.status === 403,
    ),
    { body: { detail: 'step_up_required' } },
  )
  t.match(await acme.admin.post('/auth/step-up', { password: 'wrong' }), { status: 401, body: { detail: 'invalid_credentials' } })
  t.equal((await acme.admin.post('/auth/step-up', { password: PASSWORD })).status, 204)
  t.equal((await create(acme.admin)).status, 201)
  t.match(await acme.admin.post('/auth/step-up', {}), { status: 400, body: { detail: 'invalid_body' } })
})

t.test('whoever lost his telephone is helped by an administrator', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const { user, id } = await enrolled(acme)
  t.match(await acme.viewer.delete(`/users/${user.userId}/mfa`), { status: 403, body: { detail: 'permission_denied' } })
  t.equal((await acme.admin.delete(`/users/${user.userId}/mfa`)).status, 204)
  t.equal((await user.get('/auth/me')).status, 401)
  const back = acme.as((await acme.login(user.email)).data.access_token)
  t.match((await back.get('/auth/mfa')).data, { factors: [], recovery_codes_left: 0 })
  t.match(await back.post('/auth/mfa/disable', { id }), { status: 404 })
})

t.test('the secret is nowhere in the clear', async (t) => {
  await steadyClock()
  const acme = await tenant()
  const { secret, user } = await enrolled(acme)
  const { Client } = await import('pg')
  const { testServices } = await import('../../support/services.ts')
  const client = new Client({ connectionString: testServices().admin.control })
  await client.connect()
  t.teardown(() => client.end())
  const { rows } = await client.query(`select encode(secret, 'hex') as secret from res_user_mfa where user_id = $1 and kind = 'totp'`, [
    user.userId,
  ])
  t.notOk(rows[0].secret.includes(Buffer.from(Secret.fromBase32(secret).bytes).toString('hex')))
})
