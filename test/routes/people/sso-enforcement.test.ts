// An enforced company sign-in has no way around it, and removal there ends everything here.
import { Secret, TOTP } from 'otpauth'
import t from 'tap'
import { assignRole } from '../../../domain/access/index.ts'
import { createUser, hashPassword, issueToken } from '../../../domain/identity/index.ts'
import { newId, sql, systemScope } from '../../../domain/kernel/index.ts'
import { PASSWORD, type TestTenant, testApp } from '../../support/app.ts'
import { authenticator } from '../../support/authenticator.ts'
import { type SingleSignOn, singleSignOn } from '../../support/single-sign-on.ts'
import { mailTo, tokenIn } from '../../support/smtp.ts'

const testing = await testApp(t)
const { runtime } = testing
const { withSso, breakGlass, signIn, linkAccount, linksOf, change, post } = singleSignOn(testing)
const NEW = 'harvest of the second greenhouse'

/** A tenant whose domain is enforced; administrator and viewer are linked, manager and operator are not. */
async function enforced(t: Parameters<typeof withSso>[0], prepare: (sso: SingleSignOn) => Promise<void> = async () => {}) {
  const sso = await withSso(t)
  await linkAccount(sso, sso.acme.admin, 'admin')
  await linkAccount(sso, sso.acme.viewer, 'viewer')
  await breakGlass(sso.acme)
  await prepare(sso)
  const answer = await change(sso, sso.acme.admin, { enforced: true })
  if (answer.status !== 200) throw new Error(answer.text)
  return sso
}

const refreshed = (acme: TestTenant, refresh_token: string) => post(acme.host, '/auth/refresh?token=body', { refresh_token })
const REQUIRED = { status: 401, body: { detail: 'sso_required' } }

t.test('R1: a user of an enforced domain cannot leave it by another address', async (t) => {
  const other = `x-${newId().slice(-8)}@elsewhere.example`
  let early = ''
  const { acme } = await enforced(t, async ({ acme }) => {
    t.equal((await acme.operator.post('/auth/email/change', { email: other, password: PASSWORD })).status, 202)
    early = tokenIn(await mailTo(other))
  })
  t.match(await acme.viewer.post('/auth/email/change', { email: other, password: PASSWORD }), REQUIRED)
  t.match(await post(acme.host, '/auth/email/verify', { token: early }), REQUIRED, 'nor by a link from before')
  t.match((await acme.operator.get('/auth/me')).data.user, { email: acme.operator.email })
})

t.test('R1: no password is had in an enforced domain: forgot, reset and invitation are refused, and use no link up', async (t) => {
  const invited = { email: '', token: '' }
  let reset = ''
  const sso = await enforced(t, async ({ acme }) => {
    invited.email = `new-${newId().slice(-8)}@${acme.slug}.example`
    t.equal((await acme.admin.post('/users', { email: invited.email, name: 'New', roles: [{ role: 'viewer' }] })).status, 201)
    invited.token = tokenIn(await mailTo(invited.email))
    reset = await runtime.services.planes.control.write(acme.scope, (tx) => issueToken(tx, 'password_reset', acme.operator.userId))
  })
  const { acme, idp } = sso
  const known = await post(acme.host, '/auth/password/forgot', { email: acme.operator.email })
  t.match(known, REQUIRED)
  t.same((await post(acme.host, '/auth/password/forgot', { email: `nobody@${acme.slug}.example` })).body.error, known.body.error)
  t.match(await post(acme.host, '/auth/password/reset', { token: reset, password: NEW }), REQUIRED)
  t.match(await post(acme.host, '/auth/invitations/accept', { token: invited.token, password: NEW }), REQUIRED)
  t.match((await acme.admin.get(`/users?email=${invited.email}`)).data, [{ status: 'invited' }])
  idp.people.set('new', { sub: 'new', email: invited.email, name: 'New' })
  const entered = await signIn(sso, 'new')
  t.match(entered, { status: 200, data: { user: { email: invited.email } } }, 'an open invitation is taken up by single sign-on')
  t.match(await acme.as(entered.data.access_token).get('/auth/me'), { data: { permissions: /erp/ } })
  t.equal((await change(sso, acme.admin, { enforced: false })).status, 200)
  t.equal((await post(acme.host, '/auth/password/reset', { token: reset, password: NEW })).status, 204, 'the link was not used up')
})

t.test('R1: a password session of an enforced domain is not refreshed', async (t) => {
  let before = ''
  const { acme } = await enforced(t, async ({ acme }) => {
    before = (await acme.login(acme.operator.email)).data.refresh_token
  })
  t.match(await refreshed(acme, before), REQUIRED)
})

t.test('R1: a sign-in that waits for its second factor, and a passkey, are refused once the domain is enforced', async (t) => {
  const device = { waiting: '', code: '', passkey: null as unknown as ReturnType<typeof authenticator> }
  const { acme } = await enforced(t, async ({ acme }) => {
    const { data } = await acme.operator.post('/auth/mfa/enroll', {})
    const totp = new TOTP({ secret: Secret.fromBase32(data.secret) })
    const at = (steps: number) => totp.generate({ timestamp: Date.now() + steps * 30_000 })
    await acme.operator.post('/auth/mfa/verify', { id: data.id, code: at(-1) })
    device.waiting = (await acme.login(acme.operator.email)).body.error.details.challenge
    device.code = at(1)
    device.passkey = authenticator(`https://${acme.host}`)
    const begun = await acme.manager.post('/auth/passkeys/registration/options')
    const credential = device.passkey.register(begun.data.options)
    const registered = await acme.manager.post('/auth/passkeys/registration', { ceremony: begun.data.ceremony, credential })
    t.equal(registered.status, 201)
  })
  t.match(await post(acme.host, '/auth/mfa?token=body', { challenge: device.waiting, code: device.code }), REQUIRED)
  const { data } = await post(acme.host, '/auth/passkeys/options')
  const credential = device.passkey.authenticate({ ...data.options, rpId: acme.host }, true)
  t.match(await post(acme.host, '/auth/passkeys/login?token=body', { ceremony: data.ceremony, credential }), REQUIRED)
})

t.test('R1: a session through single sign-on ends with its link and its provider', async (t) => {
  const sso = await withSso(t)
  const { acme, provider } = sso
  await linkAccount(sso, acme.viewer, 'viewer')
  const session = async () => {
    const { data } = await signIn(sso, 'viewer')
    return { client: acme.as(data.access_token), refresh: data.refresh_token as string }
  }
  const ended = async (name: string, { client, refresh }: { client: ReturnType<TestTenant['as']>; refresh: string }) => {
    t.match(await client.get('/auth/me'), { status: 401, body: { detail: 'session_revoked' } }, name)
    t.equal((await refreshed(acme, refresh)).status, 401, `${name}: refresh`)
  }
  const live = await session()
  const next = await refreshed(acme, live.refresh)
  t.equal(next.status, 200, 'while the link is active it is refreshed')

  const disabled = await session()
  await change(sso, acme.admin, { enabled: false })
  await ended('disabled', disabled)
  t.equal((await signIn(sso, 'viewer')).status, 404)
  await change(sso, acme.admin, { enabled: true })

  const removed = await session()
  const [link] = await linksOf(acme.viewer)
  t.equal((await acme.admin.delete(`/users/${acme.viewer.userId}/sso-links/${link!.id}`)).status, 204)
  await ended('removed', removed)
  t.match(await signIn(sso, 'viewer'), { status: 401, body: { detail: 'sso_link_required' } })
  t.equal((await acme.viewer.post(`/auth/sso/links/${(await linksOf(acme.viewer))[0]!.id}/confirm`, {})).status, 200)

  const deleted = await session()
  const { version } = (await acme.admin.get(`/tenant/identity-providers/${provider}`)).data
  t.equal((await acme.admin.delete(`/tenant/identity-providers/${provider}`, { 'if-match': `"${version}"` })).status, 204)
  await ended('deleted', deleted)
  t.equal(
    (await acme.admin.post(`/tenant/identity-providers/${provider}/recover`)).data.proven_domains.length,
    0,
    'recovered without proofs',
  )
  t.match(await signIn(sso, 'viewer'), { status: 401, body: { error: { details: { reason: 'domain_not_proven' } } } })
  t.equal((await acme.viewer.get('/auth/me')).status, 200, 'sessions by password stay')
})

t.test('R1: a session from before links were noted on sessions ends with the last link of its user', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.viewer, 'viewer')
  const sessions = [(await signIn(sso, 'viewer')).data, (await signIn(sso, 'viewer')).data]
  await runtime.services.planes.control.write(acme.scope, (tx) =>
    tx.query(sql.run`update res_sessions set identity_id = null where tenant_id = ${tx.tenantId} and 'sso' = any(methods)`),
  )
  const [first, second] = sessions
  const renewed = await refreshed(acme, first.refresh_token)
  t.equal(renewed.status, 200)
  const [link] = await linksOf(acme.viewer)
  t.equal((await acme.admin.delete(`/users/${acme.viewer.userId}/sso-links/${link!.id}`)).status, 204)
  t.equal((await acme.as(second.access_token).get('/auth/me')).status, 401)
  t.equal((await refreshed(acme, renewed.data.refresh_token)).status, 401)
})

t.test('R1: a refresh that races the removal of the link leaves no session', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.viewer, 'viewer')
  const { data } = await signIn(sso, 'viewer')
  const [link] = await linksOf(acme.viewer)
  const [answer] = await Promise.all([
    refreshed(acme, data.refresh_token),
    signIn(sso, 'viewer'),
    acme.admin.delete(`/users/${acme.viewer.userId}/sso-links/${link!.id}`),
  ])
  const sessions: { methods: string[] }[] = (await acme.admin.get(`/users/${acme.viewer.userId}/sessions`)).data
  t.same(
    sessions.filter(({ methods }) => methods.includes('sso')),
    [],
  )
  if (answer.status === 200) t.equal((await refreshed(acme, answer.data.refresh_token)).status, 401)
})

t.test('R1: API keys of an enforced domain end with link and provider; those of service accounts go on', async (t) => {
  const robot = { key: '' }
  const sso = await enforced(t, async ({ acme }) => {
    const hash = await hashPassword(PASSWORD)
    const email = `robot-${newId().slice(-8)}@${acme.slug}.example`
    await runtime.services.planes.control.write(systemScope(acme.id, 'test', newId()), async (tx) => {
      const id = await createUser(tx, { email, name: 'Robot', password: '', hash, kind: 'service' })
      await assignRole(tx, id, acme.roles.admin)
    })
    const client = acme.as((await acme.login(email)).data.access_token)
    robot.key = (await client.post('/api-keys', { name: 'R', permissions: ['erp.party.read'] })).data.key
  })
  const { acme } = sso
  const key = acme.as((await acme.admin.post('/api-keys', { name: 'K', permissions: ['erp.party.read'] })).data.key)
  t.equal((await key.get('/erp/parties')).status, 200)
  t.equal((await change(sso, acme.admin, { enabled: false })).status, 200)
  t.match(await key.get('/erp/parties'), { status: 401, body: { detail: 'invalid_token' } }, 'provider disabled')
  t.equal((await change(sso, acme.admin, { enabled: true })).status, 200)
  t.equal((await key.get('/erp/parties')).status, 200, 'and enabled again')

  const [link] = await linksOf(acme.admin)
  t.match(await acme.admin.delete(`/auth/sso/links/${link!.id}`), REQUIRED, 'their own link is their only way in')
  t.equal((await acme.admin.delete(`/users/${acme.admin.userId}/sso-links/${link!.id}`)).status, 204)
  t.match(await key.get('/erp/parties'), { status: 401 }, 'link removed')
  t.equal((await acme.as(robot.key).get('/erp/parties')).status, 200, 'a service account has no person at the provider')
})

t.test('P36: an administrator who signs in through the provider alone is no last administrator, and is none by time', async (t) => {
  const sso = await withSso(t, { role_map: { bosses: 'admin' } })
  const { acme, idp } = sso
  idp.people.set('boss', { sub: 'boss', email: `boss@${acme.slug}.example`, name: 'Boss', groups: ['bosses'] })
  const boss = await signIn(sso, 'boss')
  const client = acme.as(boss.data.access_token)
  const [own] = (await client.get(`/users/${acme.admin.userId}/roles`)).data
  t.match(await client.delete(`/users/${acme.admin.userId}/roles/${own.id}`), {
    status: 409,
    body: { detail: 'last_administrator', error: { details: { signs_in_by: ['password', 'passkey'] } } },
  })
  // Tenants of before may have such an administrator alone: what is left is kept.
  await runtime.services.planes.control.write(acme.scope, (tx) =>
    tx.query(sql.run`delete from res_user_roles where tenant_id = ${acme.id} and id = ${own.id}`),
  )
  idp.people.set('boss', { sub: 'boss', email: `boss@${acme.slug}.example`, name: 'Boss', groups: [] })
  const again = acme.as((await signIn(sso, 'boss')).data.access_token)
  t.match((await again.get(`/users/${boss.data.user.id}/roles`)).data, [{ role: 'admin' }], 'kept, and recorded')
  const { version } = (await again.get(`/tenant/identity-providers/${sso.provider}`)).data
  const last = { status: 409, body: { detail: 'last_administrator' } }
  t.match(await again.delete(`/tenant/identity-providers/${sso.provider}`, { 'if-match': `"${version}"` }), last)
  t.match(await change(sso, again, { enabled: false }), last)
})

t.test('P37: enforcement takes a user who signed in through the provider, and leaves an administrator with a password', async (t) => {
  const sso = await withSso(t)
  const { acme } = sso
  await linkAccount(sso, acme.admin, 'admin')
  t.match(await change(sso, acme.admin, { enforced: true }), {
    status: 409,
    body: { detail: 'last_administrator', error: { details: { signs_in_by: ['password', 'passkey'] } } },
  })
  const glass = await breakGlass(acme)
  t.equal((await change(sso, acme.admin, { enforced: true })).status, 200)
  t.equal((await acme.login(glass.email)).status, 200, 'the break-glass account')
  t.match(await acme.admin.post(`/users/${glass.userId}/lock`, { version: 1 }), { status: 409, body: { detail: 'last_administrator' } })

  const other = await withSso(t)
  const outside = await breakGlass(other.acme)
  t.match(
    await change(other, outside, { enforced: true }),
    { status: 409, body: { detail: 'sso_not_linked' } },
    'no user signed in there yet',
  )
})

t.test('P36: the last administrator with a password does not move into the enforced domain', async (t) => {
  const { acme } = await enforced(t)
  const glass = (await acme.admin.get('/users?q=Break')).data[0]
  const by = { ...acme.as((await acme.login(glass.email)).data.access_token) }
  const into = `glass-${newId().slice(-8)}@${acme.slug}.example`
  t.equal((await by.post('/auth/email/change', { email: into, password: PASSWORD })).status, 202)
  t.match(await post(acme.host, '/auth/email/verify', { token: tokenIn(await mailTo(into)) }), {
    status: 409,
    body: { detail: 'last_administrator' },
  })
})

t.test('P49: roles that groups gave end when the provider is switched off, and a new one of the same issuer owns its own', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  idp.people.set('kit', { sub: 'kit', email: `kit@${acme.slug}.example`, name: 'Kit', groups: ['growers'] })
  const kit = (await signIn(sso, 'kit')).data.user.id
  const roles = async () => (await acme.admin.get(`/users/${kit}/roles`)).data.map((a: { role: string }) => a.role)
  t.same(await roles(), ['operator'])
  await change(sso, acme.admin, { enabled: false })
  t.same(await roles(), [])
  await change(sso, acme.admin, { enabled: true })
  t.equal((await signIn(sso, 'kit')).status, 200)
  t.same(await roles(), ['operator'], 'given again at the next sign-in')
  const { version } = (await acme.admin.get(`/tenant/identity-providers/${provider}`)).data
  await acme.admin.delete(`/tenant/identity-providers/${provider}`, { 'if-match': `"${version}"` })
  t.same(await roles(), [])
})

t.test('roles that groups gave are withdrawn with the provider and with the link', async (t) => {
  const sso = await withSso(t)
  const { acme, idp, provider } = sso
  for (const login of ['kit', 'kim'])
    idp.people.set(login, { sub: login, email: `${login}@${acme.slug}.example`, name: login, groups: ['growers'] })
  const [kit, kim] = [(await signIn(sso, 'kit')).data.user.id, (await signIn(sso, 'kim')).data.user.id]
  const roles = async (id: string) => (await acme.admin.get(`/users/${id}/roles`)).data.length
  const [link] = (await acme.admin.get(`/users/${kit}/sso-links`)).data
  await acme.admin.delete(`/users/${kit}/sso-links/${link.id}`)
  t.same([await roles(kit), await roles(kim)], [0, 1])
  const { version } = (await acme.admin.get(`/tenant/identity-providers/${provider}`)).data
  await acme.admin.delete(`/tenant/identity-providers/${provider}`, { 'if-match': `"${version}"` })
  t.equal(await roles(kim), 0)
})
