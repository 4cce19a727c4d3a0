// Passkeys, with an authenticator in software.
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp } from '../../support/app.ts'
import { type Authenticator, authenticator } from '../../support/authenticator.ts'

const { tenant, request, runtime } = await testApp(t)
const post = (host: string, path: string, payload: object = {}) => request(host, { method: 'POST', url: `/api/v1${path}`, payload })

async function withPasskey(acme: TestTenant) {
  const user = await acme.user('operator')
  const device = authenticator(`https://${acme.host}`)
  const { data } = await user.post('/auth/passkeys/registration/options')
  const registered = await user.post('/auth/passkeys/registration', {
    ceremony: data.ceremony,
    credential: device.register(data.options),
    label: 'Laptop',
  })
  return { user, device, registered }
}
/** A whole sign-in, with or without a password before it. */
async function signIn(acme: TestTenant, device: Authenticator, challenge?: string, verified = true) {
  const more = challenge ? { challenge } : {}
  const { data } = await post(acme.host, '/auth/passkeys/options', more)
  const credential = device.authenticate({ ...data.options, rpId: acme.host }, verified)
  return {
    answer: await post(acme.host, '/auth/passkeys/login?token=body', { ceremony: data.ceremony, credential, ...more }),
    credential,
    ceremony: data.ceremony,
  }
}

t.test('a passkey is added, and signs its user in alone', async (t) => {
  const acme = await tenant()
  const { user, device, registered } = await withPasskey(acme)
  t.match(registered, { status: 201, data: { recovery_codes: { length: 10 } } })
  const { answer, credential, ceremony } = await signIn(acme, device)
  t.match(answer, { status: 200, data: { user: { id: user.userId } } })
  t.same((await acme.as(answer.data.access_token).get('/auth/sessions')).data[0].methods, ['hwk', 'mfa'])
  t.match(
    await post(acme.host, '/auth/passkeys/login', { ceremony, credential }),
    { status: 401, body: { detail: 'invalid_challenge' } },
    'replayed',
  )
  const unverified = await signIn(acme, device, undefined, false)
  t.match(unverified.answer, { status: 401, body: { detail: 'invalid_passkey' } }, 'alone it must know its user')
})

t.test('a passkey is the second step after a password', async (t) => {
  const acme = await tenant()
  const { user, device, registered } = await withPasskey(acme)
  const waiting = await acme.login(user.email)
  t.match(waiting, { status: 401, body: { detail: 'mfa_required', error: { details: { methods: ['webauthn', 'recovery_code'] } } } })
  const { challenge } = waiting.body.error.details
  const { answer } = await signIn(acme, device, challenge, false)
  t.match(answer, { status: 200, data: { user: { id: user.userId } } })
  t.match((await signIn(acme, device, (await acme.login(user.email)).body.error.details.challenge)).answer, { status: 200 })
  t.match(await post(acme.host, '/auth/passkeys/options', { challenge }), { status: 401, body: { detail: 'invalid_challenge' } }, 'used up')
  t.match((await user.get('/auth/mfa')).data.factors, [{ id: registered.data.id, kind: 'webauthn', label: 'Laptop' }])
  t.equal((await user.post('/auth/mfa/disable', { id: registered.data.id })).status, 204)
  t.equal((await acme.login(user.email)).status, 200)
})

t.test('a copy, a stranger, another origin and another tenant are refused', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const { device, user } = await withPasskey(acme)
  t.equal((await signIn(acme, device)).answer.status, 200)
  device.counter -= 1
  t.match((await signIn(acme, device)).answer, { status: 401, body: { detail: 'invalid_passkey' } }, 'its counter stood still')
  t.match((await signIn(acme, authenticator(`https://${acme.host}`))).answer, { status: 401, body: { detail: 'invalid_passkey' } })
  t.match((await signIn(globex, device)).answer, { status: 401, body: { detail: 'invalid_passkey' } })

  const phished = authenticator('https://acme.evil.example')
  const { data } = await user.post('/auth/passkeys/registration/options')
  t.match(await user.post('/auth/passkeys/registration', { ceremony: data.ceremony, credential: phished.register(data.options) }), {
    status: 401,
    body: { detail: 'invalid_passkey' },
  })
  const nonsense = {
    id: 'AAAA',
    rawId: 'AAAA',
    type: 'public-key',
    clientExtensionResults: {},
    response: { clientDataJSON: 'AAAA', attestationObject: 'AAAA' },
  }
  t.match(await user.post('/auth/passkeys/registration', { ceremony: data.ceremony, credential: nonsense }), {
    status: 401,
    body: { detail: 'invalid_passkey' },
  })
  t.match(await acme.viewer.post('/auth/passkeys/registration', { ceremony: data.ceremony, credential: device.register(data.options) }), {
    status: 401,
    body: { detail: 'invalid_challenge' },
  })
})

t.test('one answer sent five times at once opens one session', async (t) => {
  const acme = await tenant()
  const { device } = await withPasskey(acme)
  const { data } = await post(acme.host, '/auth/passkeys/options')
  const credential = device.authenticate({ ...data.options, rpId: acme.host })
  const answers = await Promise.all(
    [1, 2, 3, 4, 5].map(() => post(acme.host, '/auth/passkeys/login', { ceremony: data.ceremony, credential })),
  )
  t.same(tally(answers), { 200: 1, 401: 4 })
})

t.test('P35: a user whose only factor is a passkey steps up with it; a ceremony is good for what it was begun for, once', async (t) => {
  const acme = await tenant()
  const { user, device } = await withPasskey(acme)
  await runtime.services.planes.control.write(acme.scope, (tx) =>
    tx.query(
      sql.run`update res_sessions set authenticated_at = now() - interval '1 hour' where tenant_id = ${acme.id} and user_id = ${user.userId}`,
    ),
  )
  const needsProof = () => user.post('/auth/mfa/recovery-codes', {})
  t.match(await needsProof(), { status: 403, body: { detail: 'step_up_required' } })
  const { data } = await user.post('/auth/step-up/passkey/options')
  const credential = device.authenticate({ ...data.options, rpId: acme.host })
  const step = (ceremony: string, by = user) => by.post('/auth/step-up/passkey', { ceremony, credential })
  t.match(await step(data.ceremony, acme.viewer), { status: 401, body: { detail: 'invalid_challenge' } }, 'another user')
  const again = (await user.post('/auth/step-up/passkey/options')).data
  const fresh = device.authenticate({ ...again.options, rpId: acme.host })
  t.equal((await user.post('/auth/step-up/passkey', { ceremony: again.ceremony, credential: fresh })).status, 204)
  t.match(await user.post('/auth/step-up/passkey', { ceremony: again.ceremony, credential: fresh }), { status: 401 }, 'replayed')
  t.equal((await needsProof()).status, 200)
  const begun = (await post(acme.host, '/auth/passkeys/options')).data
  const answer = device.authenticate({ ...begun.options, rpId: acme.host })
  t.match(await user.post('/auth/step-up/passkey', { ceremony: begun.ceremony, credential: answer }), { status: 401 }, 'of a sign-in')
})
