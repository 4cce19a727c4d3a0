// Keys for programs.
import t from 'tap'
import { override } from '../../../domain/access/index.ts'
import { type Client, eventually, tally, testApp, times, upload } from '../../support/app.ts'

const { tenant, request, runtime } = await testApp(t)

const make = async (client: Client, body: object = {}) =>
  client.post('/api-keys', { name: 'Shop', permissions: ['erp.party.read', 'erp.party.create'], ...body })

t.test('a key is shown once, does what it was given, and nothing else', async (t) => {
  const acme = await tenant()
  const made = await make(acme.admin, { permissions: ['erp.party.*'] })
  t.match(made, {
    status: 201,
    data: { key: /^tk_[0-9a-f]{12}_.{43}$/, permissions: ['erp.party.*'], last_used_at: null, revoked_at: null },
    headers: { 'cache-control': 'no-store' },
  })
  const shop = acme.as(made.data.key)
  t.equal((await shop.post('/erp/parties', { code: 'K', name: 'K', roles: ['client'] })).status, 201)
  t.match(await shop.get('/erp/products'), { status: 403, body: { detail: 'permission_denied' } })
  t.same(
    (await shop.get('/auth/me')).data.permissions.filter((p: string) => !p.startsWith('erp.party.')),
    [],
  )
  t.same(
    (await shop.get('/menu')).data.flatMap((n: { children: { code: string }[] }) => n.children.map((c) => c.code)),
    ['erp.parties'],
  )
  for (const [method, path] of [
    ['post', '/auth/logout'],
    ['post', '/auth/mfa/enroll'],
    ['post', '/api-keys'],
  ] as const) {
    const answer = await shop[method](path, path === '/api-keys' ? { name: 'X', permissions: ['erp.party.read'] } : undefined)
    t.match(answer, { status: 403, body: { detail: /session_required|permission_denied/ } }, path)
  }
  t.notOk('key' in (await acme.admin.get(`/api-keys/${made.data.id}`)).data, 'never again')
  t.match((await acme.admin.get('/erp/parties?code=K')).data[0], { code: 'K' })
  const history = (await acme.admin.get(`/erp/parties/${(await acme.admin.get('/erp/parties?code=K')).data[0].id}/history`)).data
  t.match(history[0], { actor_id: acme.admin.userId, actor_name: /^tk_/ }, 'the trail says which key it was')
})

t.test('no key has more than its maker, and loses what he loses', async (t) => {
  const acme = await tenant()
  const maker = await acme.user('admin')
  await runtime.services.planes.control.write(acme.scope, (tx) => override(tx, maker.userId, 'erp.uom.create', 'deny', 'test'))
  await eventually(
    async () => (await maker.get('/auth/me')).data.permissions.includes('erp.uom.create'),
    (has) => !has,
  )
  t.match(await make(maker, { permissions: ['erp.uom.create'] }), {
    status: 403,
    body: { detail: 'grant_exceeds', error: { details: { permissions: ['erp.uom.create'] } } },
  })
  t.match(await make(maker, { permissions: ['*'] }), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await make(acme.viewer), { status: 403, body: { detail: 'permission_denied' } })
  const key = acme.as((await make(maker)).data.key)
  t.equal((await key.get('/erp/parties')).status, 200)
  const [assignment] = (await acme.admin.get(`/users/${maker.userId}/roles`)).data
  t.equal((await acme.admin.delete(`/users/${maker.userId}/roles/${assignment.id}`)).status, 204)
  t.equal((await key.get('/erp/parties')).status, 403, 'at the next request')
})

t.test('a key of another tenant, a wrong secret and an old form are told alike', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const { key } = (await make(acme.admin)).data
  for (const token of [key, `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`, 'tk_abc', `tk_${'0'.repeat(12)}_${'a'.repeat(43)}`]) {
    const host = token === key ? globex : acme
    t.match(await host.as(token).get('/erp/parties'), { status: 401, body: { detail: 'invalid_token' } })
  }
})

t.test('a key is bound to its context, its networks and its time', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  await acme.admin.post('/erp/parties', { code: 'ONE', name: 'One', roles: ['client'] })
  const there = acme.as((await make(acme.admin, { organization_id: two!.id })).data.key)
  t.equal((await there.get('/erp/parties')).data.length, 0, 'the other organization')
  t.match(await make(acme.admin, { organization_id: '01936d0e-5f2a-7c41-9b3e-2f6a8d4c1e70' }), {
    status: 403,
    body: { detail: 'context_forbidden' },
  })
  t.match(await make(acme.admin, { allowed_addresses: ['10.0.0.0/33'] }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await make(acme.admin, { expires_at: '2020-01-01T00:00:00.000Z' }), { status: 400, body: { detail: 'invalid_value' } })
  const { key } = (await make(acme.admin, { organization_id: one!.id, allowed_addresses: ['203.0.113.0/24', '2001:db8:1::/48'] })).data
  const from = (remoteAddress: string) =>
    request(acme.host, { method: 'GET', url: '/api/v1/erp/parties', remoteAddress, headers: { authorization: `Bearer ${key}` } })
  t.equal((await from('203.0.113.9')).status, 200)
  t.equal((await from('::ffff:203.0.113.9')).status, 200)
  t.equal((await from('2001:db8:1::5')).status, 200)
  t.match(await from('198.51.100.1'), { status: 403, body: { detail: 'address_forbidden' } })
  const soon = (await make(acme.admin, { expires_at: new Date(Date.now() + 3000).toISOString() })).data.key
  t.equal((await acme.as(soon).get('/erp/parties')).status, 200)
  t.equal(
    (
      await eventually(
        () => acme.as(soon).get('/erp/parties'),
        (a) => a.status !== 200,
        10,
      )
    ).status,
    401,
  )
})

t.test('a key is rotated with an overlap, once of five at once, and revoked at once', async (t) => {
  const acme = await tenant()
  const { id, key } = (await make(acme.admin)).data
  const answers = await Promise.all(times(5, () => acme.admin.post(`/api-keys/${id}/rotate`, { overlap_hours: 1 })))
  t.same(tally(answers), { 201: 1, 409: 4 })
  const next = answers.find((a) => a.status === 201)!.data
  t.equal((await acme.as(key).get('/erp/parties')).status, 200, 'the old one works on')
  t.equal((await acme.as(next.key).get('/erp/parties')).status, 200)
  t.match((await acme.admin.get(`/api-keys/${id}`)).data, { replaced_by: next.id, expires_at: /T/ })
  t.equal((await acme.viewer.delete(`/api-keys/${next.id}`)).status, 404, 'not one’s own')
  t.equal((await acme.admin.delete(`/api-keys/${next.id}`)).status, 204)
  t.equal((await acme.as(next.key).get('/erp/parties')).status, 401)
  t.match(await acme.admin.post(`/api-keys/${next.id}/rotate`), { status: 409, body: { detail: 'invalid_transition' } })
  const hard = await acme.admin.post(`/api-keys/${(await make(acme.admin)).data.id}/rotate`, { overlap_hours: 0 })
  t.equal(hard.status, 201)
})

t.test('an Idempotency-Key makes one key, and keeps no secret', async (t) => {
  const acme = await tenant()
  const send = () => acme.admin.post('/api-keys', { name: 'Once', permissions: ['erp.party.read'] }, { 'idempotency-key': 'once' })
  const [first, second] = [await send(), await send()]
  t.equal(first.data.id, second.data.id)
  t.ok(first.data.key)
  t.equal(second.data.key, null)
})

t.test('keys of a user who is switched off stop; whoever may sees and ends them', async (t) => {
  const acme = await tenant()
  const maker = await acme.user('admin')
  const { id, key } = (await make(maker)).data
  t.ok((await acme.admin.get('/api-keys')).data.some((k: { id: string }) => k.id === id))
  t.equal((await acme.admin.post(`/users/${maker.userId}/disable`, { version: 1 })).status, 200)
  t.match(await acme.as(key).get('/erp/parties'), { status: 401, body: { detail: 'session_revoked' } })
  t.equal((await acme.admin.delete(`/api-keys/${id}`)).status, 204)
})

t.test('F3: a key grants no more than it holds itself, and nothing outside of its scope', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const granting = ['identity.user.invite', 'rbac.assignment.create', 'rbac.role.create', 'rbac.override.create', 'identity.user.read']
  const narrow = acme.as((await make(acme.admin, { permissions: granting, organization_id: one!.id })).data.key)
  const wide = acme.as((await make(acme.admin, { permissions: granting, organization_id: null })).data.key)
  const invite = (email: string) => ({ email, name: 'Me', roles: [{ role: 'admin' }] })
  t.match(await narrow.post('/users', invite('a@evil.example')), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await wide.post('/users', invite('b@evil.example')), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await wide.post('/rbac/roles', { code: 'x', name: 'X', permissions: ['erp.party.read'] }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
  const { userId } = acme.viewer
  t.match(await wide.post(`/users/${userId}/roles`, { role: 'viewer' }), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await wide.post(`/users/${userId}/overrides`, { permission: '*', effect: 'allow', reason: 'r' }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
  t.match(await wide.post('/users', { email: 'c@partner.example', name: 'C' }), { status: 201 }, 'without roles it may')
  t.same((await narrow.get('/users?limit=200')).data, [], 'nobody has a role in its organization alone')
  t.match(await wide.get('/erp/parties'), { status: 403, body: { detail: 'context_required' } }, 'it works in no organization')
})

t.test('F15: a key neither lists nor ends keys, sessions and factors', async (t) => {
  const acme = await tenant()
  const { id } = (await make(acme.admin)).data
  const key = acme.as((await make(acme.admin, { permissions: ['*'], organization_id: null })).data.key)
  const { userId } = acme.viewer
  for (const path of ['/api-keys', `/api-keys/${id}`, '/auth/sessions', '/auth/mfa', `/users/${userId}/sessions`])
    t.match(await key.get(path), { status: 403, body: { detail: 'session_required' } }, path)
  for (const path of [`/api-keys/${id}`, `/users/${userId}/sessions`, `/users/${userId}/mfa`])
    t.match(await key.delete(path), { status: 403, body: { detail: 'session_required' } }, path)
  t.equal((await acme.admin.get(`/api-keys/${id}`)).data.revoked_at, null)
})

t.test('F22: a session without the required factor has no permission on routes that any session passes', async (t) => {
  const acme = await tenant()
  const other = await acme.user('admin')
  const { id } = (await make(other)).data
  t.ok((await acme.admin.get('/api-keys')).data.some((k: { id: string }) => k.id === id))
  t.equal((await acme.admin.patch('/tenant/security', { mfa_roles: ['admin'] })).status, 200)
  t.notOk(
    (await acme.admin.get('/api-keys')).data.some((k: { id: string }) => k.id === id),
    'own keys alone',
  )
  t.equal((await acme.admin.delete(`/api-keys/${id}`)).status, 404)
  t.equal((await acme.admin.get(`/rbac/explain?permission=erp.party.create&user=${other.userId}`)).status, 403)
})

t.test('without a scope a key works in the maker’s organization, in one that takes a workspace in the maker’s workspace', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  t.match((await make(acme.admin)).data, { organization_id: one!.id, workspace_id: null })
  await acme.admin.patch(`/organizations/${one!.id}/settings`, { workspace_required: true, version: 1 })
  t.match((await make(acme.admin)).data, { organization_id: one!.id, workspace_id: one!.workspaces[0]!.id })
  t.match((await make(acme.admin, { organization_id: null })).data, { organization_id: null, workspace_id: null })
})

t.test('F3: a key sees no file or export for being its maker’s own', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const there = await acme.admin.post('/context/switch?token=body', { organization_id: one!.id, workspace_id: north!.id })
  const inNorth = acme.as(there.data.access_token)
  const file = (await upload(inNorth, 'of north')).data
  const exported = (await inNorth.post('/erp/exports', { entity: 'erp_party', format: 'csv' })).data
  const bound = { permissions: ['file.*', 'erp.export.*'], organization_id: one!.id, workspace_id: south!.id }
  const key = acme.as((await make(acme.admin, bound)).data.key)
  t.same((await key.get('/files')).data, [])
  t.equal((await key.get(`/files/${file.id}/content`)).status, 404)
  t.equal((await key.delete(`/files/${file.id}`, { 'if-match': '"1"' })).status, 404)
  const narrow = acme.as((await make(acme.admin, { ...bound, workspace_id: null })).data.key)
  t.equal((await narrow.get(`/erp/exports/${exported.id}`)).status, 404, 'it may not read parties')
})

t.test('F3: an Idempotency-Key belongs to the key or session, and to its scope', async (t) => {
  const acme = await tenant()
  const [, two] = acme.organizations
  const once = { 'idempotency-key': 'same' }
  const party = { code: 'I', name: 'I', roles: ['client'] }
  const made = await acme.admin.post('/erp/parties', party, once)
  const writing = acme.as((await make(acme.admin, { permissions: ['erp.party.create'] })).data.key)
  t.match(await writing.post('/erp/parties', party, once), { status: 409, body: { detail: 'already_exists' } }, 'no replay of the maker’s')
  const { data } = await acme.admin.post('/context/switch?token=body', { organization_id: two!.id })
  const there = await acme.as(data.access_token).post('/erp/parties', party, once)
  t.equal(there.status, 201)
  t.not(there.data.id, made.data.id, 'another organization, another record')
  t.match(await make(acme.admin, { organization_id: null, workspace_id: two!.id }), { status: 400, body: { detail: 'invalid_value' } })
})

t.test('P14: networks with host bits, zones and nonsense are refused', async (t) => {
  const acme = await tenant()
  for (const network of ['10.1.2.3/24', '127.0.0.5/8', '2001:db8::1/64', 'fe80::1%eth0', '10.0.0.0/33', 'x'])
    t.match(await make(acme.admin, { allowed_addresses: [network] }), { status: 400, body: { detail: 'invalid_value' } }, network)
  t.equal((await make(acme.admin, { allowed_addresses: ['10.1.2.0/24', '10.1.2.3', '2001:db8::/64', '::1'] })).status, 201)
})

t.test('P16: an expired key is not rotated, and a rotation gives the new key an end of its own', async (t) => {
  const acme = await tenant()
  const soon = new Date(Date.now() + 700).toISOString()
  const later = new Date(Date.now() + 86_400_000).toISOString()
  const [short, live] = [(await make(acme.admin, { expires_at: soon })).data, (await make(acme.admin, { expires_at: later })).data]
  t.equal(
    Date.parse((await acme.admin.post(`/api-keys/${live.id}/rotate`, {})).data.expires_at),
    Date.parse(later),
    'the end of the old one',
  )
  const other = (await make(acme.admin, { expires_at: later })).data
  t.match(await acme.admin.post(`/api-keys/${other.id}/rotate`, { expires_at: null }), { status: 201, data: { expires_at: null } })
  await new Promise((resolve) => setTimeout(resolve, 800))
  t.match(await acme.admin.post(`/api-keys/${short.id}/rotate`, {}), {
    status: 409,
    body: { detail: 'invalid_transition', error: { details: { status: 'expired' } } },
  })
})

t.test('P42: a key is changed in place, at its next request', async (t) => {
  const acme = await tenant()
  const { id, key } = (await make(acme.admin)).data
  const change = (body: object, by = acme.admin) => by.patch(`/api-keys/${id}`, body)
  t.equal((await acme.as(key).get('/erp/parties')).status, 200)
  t.match(await change({ name: 'Till', allowed_addresses: ['203.0.113.7'], version: 1 }), {
    status: 200,
    data: { name: 'Till', version: 2 },
  })
  t.match(await acme.as(key).get('/erp/parties'), { status: 403, body: { detail: 'address_forbidden' } })
  t.match(await change({ name: 'Late', version: 1 }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await change({ name: 'Bare' }), { status: 400, body: { detail: 'version_required' } })
  t.match(await change({ expires_at: '2020-01-01T00:00:00Z', version: 2 }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await change({ name: 'X', version: 2 }, await acme.user('admin')), { status: 404 }, 'another person’s')
  t.match(await change({ name: 'X', version: 2 }, acme.viewer), { status: 403, body: { detail: 'permission_denied' } })
  await acme.admin.delete(`/api-keys/${id}`)
  t.match(await change({ name: 'X', version: 3 }), { status: 409, body: { detail: 'invalid_transition' } })
})

t.test('P44: a key ends no later than its maker holds what it may do', async (t) => {
  const acme = await tenant()
  const soon = new Date(Date.now() + 3_600_000).toISOString()
  const temporary = await acme.user('viewer')
  await acme.admin.post(`/users/${temporary.userId}/roles`, { role: 'admin', expires_at: soon })
  const create = (expires_at: string | null) => make(temporary, { permissions: ['erp.party.create'], expires_at })
  t.match(await create(null), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await create('2099-01-01T00:00:00Z'), { status: 403, body: { detail: 'grant_exceeds' } })
  const made = await create(soon)
  t.equal(made.status, 201)
  t.match(await temporary.patch(`/api-keys/${made.data.id}`, { expires_at: null, version: 1 }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
})

t.test('P17: an administrator equips a service account with keys; it gets no mail and signs in nowhere', async (t) => {
  const acme = await tenant()
  const email = `robot-${acme.slug}@${acme.slug}.example`
  const robot = await acme.admin.post('/users', { email, name: 'Robot', kind: 'service', roles: [{ role: 'operator' }] })
  t.match(robot, { status: 201, data: { kind: 'service', status: 'active' } })
  const give = (body: object, by = acme.admin) => make(by, { permissions: ['erp.party.read'], user_id: robot.data.id, ...body })
  const made = await give({})
  t.match(made, { status: 201, data: { user_id: robot.data.id } })
  t.equal((await acme.as(made.data.key).get('/erp/parties')).status, 200)
  t.match(
    await give({ permissions: ['rbac.role.create'] }),
    { status: 403, body: { detail: 'grant_exceeds' } },
    'more than the account holds',
  )
  t.match(
    await give({}, await acme.user('admin', { organizationId: acme.organizations[1]!.id })),
    { status: 403 },
    'an account of the tenant',
  )
  t.match(await give({ user_id: acme.viewer.userId }), { status: 400, body: { detail: 'invalid_value' } }, 'persons make their own')
  const rotated = await acme.admin.post(`/api-keys/${made.data.id}/rotate`, { overlap_hours: 0 })
  t.match(rotated, { status: 201, data: { user_id: robot.data.id } })
  t.match(await acme.as(made.data.key).get('/erp/parties'), { status: 401 })
  t.equal((await acme.as(rotated.data.key).get('/erp/parties')).status, 200)
  t.match(await acme.login(email), { status: 401, body: { detail: 'invalid_credentials' } })
})

t.test('P45: explain asked by a key says what the key is answered', async (t) => {
  const acme = await tenant()
  const key = acme.as((await make(acme.admin, { permissions: ['erp.party.read', 'identity.session.revoke'] })).data.key)
  const ask = async (permission: string) => (await key.get(`/rbac/explain?permission=${permission}`)).data
  t.match(await ask('erp.party.read'), { allowed: true })
  t.match(await ask('erp.party.create'), { allowed: false, decided_by: 'restriction' })
  t.match(await ask('identity.session.revoke'), { allowed: false, decided_by: 'session' })
  t.match(await key.delete(`/users/${acme.viewer.userId}/sessions`), { status: 403, body: { detail: 'session_required' } })
})

t.test('P45: explain says that a required second factor is missing', async (t) => {
  const acme = await tenant()
  await acme.admin.patch('/tenant/security', { mfa_roles: ['operator'] })
  const explained = async (by: Client) => (await by.get(`/rbac/explain?permission=erp.party.read&user=${acme.operator.userId}`)).data
  for (const by of [acme.operator, acme.admin])
    t.match(await explained(by), { allowed: false, decided_by: 'second_factor', second_factor_missing: true })
  t.match(await acme.operator.get('/erp/parties'), { status: 403, body: { detail: 'mfa_enrollment_required' } })
})
