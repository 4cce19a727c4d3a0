// Roles, who has them, exceptions, and what would change if ….
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Client, type TestTenant, tally, testApp, times } from '../../support/app.ts'

const { tenant } = await testApp(t)

const make = (client: Client, body: object = {}) =>
  client.post('/rbac/roles', {
    code: `r-${newId().slice(-8)}`,
    name: 'Buyer',
    permissions: ['erp.purchase_order.read', 'erp.party.*'],
    ...body,
  })
const rolesOf = async (acme: TestTenant, userId: string) =>
  (await acme.admin.get(`/users/${userId}/roles`)).data.map((r: { role: string }) => r.role).sort()

t.test('a role is made, given, changed for everybody who has it, and deleted when nobody has', async (t) => {
  const acme = await tenant()
  const made = await make(acme.admin, { code: 'buyer' })
  t.match(made, { status: 201, data: { code: 'buyer', permissions: ['erp.party.*', 'erp.purchase_order.read'], version: 1 } })
  const { id } = made.data
  const user = await acme.user('viewer')
  t.equal((await acme.admin.post(`/users/${user.userId}/roles`, { role: 'buyer' })).status, 201)
  t.match(await acme.admin.post(`/users/${user.userId}/roles`, { role: 'buyer' }), { status: 409, body: { detail: 'already_exists' } })
  const party = (code: string) => user.post('/erp/parties', { code, name: 'P', roles: ['client'] })
  t.equal((await party('A')).status, 201)
  t.match(await acme.admin.patch(`/rbac/roles/${id}`, { permissions: ['erp.party.read'], version: 1 }), {
    status: 200,
    data: { permissions: ['erp.party.read'], version: 2 },
  })
  t.equal((await party('B')).status, 403, 'at the next request')
  t.match(await acme.admin.delete(`/rbac/roles/${id}`, { 'if-match': '"2"' }), {
    status: 409,
    body: { detail: 'in_use', error: { details: { assignments: 1 } } },
  })
  const [assignment] = (await acme.admin.get(`/users/${user.userId}/roles`)).data.filter((r: { role: string }) => r.role === 'buyer')
  await acme.admin.delete(`/users/${user.userId}/roles/${assignment.id}`)
  t.equal((await acme.admin.delete(`/rbac/roles/${id}`, { 'if-match': '"2"' })).status, 204)
  t.match((await acme.admin.get('/rbac/roles?expand=permissions&sort=code')).data, [
    { code: 'admin', permissions: ['*'] },
    { code: 'manager' },
    {},
    { code: 'viewer' },
  ])
  t.match(await make(acme.admin, { permissions: ['erp.nothing.read'] }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { permissions: ['erp.nothing.read'] } } },
  })
  t.match(await make(acme.viewer), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await make(acme.admin, { code: 'viewer' }), { status: 409, body: { detail: 'already_exists' } })
})

t.test('of two who edit one role one is told; of one who deletes and many who give it, it is one or the other', async (t) => {
  const acme = await tenant()
  const { id, code } = (await make(acme.admin)).data
  const edits = await Promise.all(
    times(10, (n) => acme.admin.patch(`/rbac/roles/${id}`, { name: `N${n}`, permissions: ['erp.party.read'], version: 1 })),
  )
  t.same(tally(edits), { 200: 1, 409: 9 })
  const users = await Promise.all(times(4, () => acme.user('viewer')))
  const [deleted, ...given] = await Promise.all([
    acme.admin.delete(`/rbac/roles/${id}`, { 'if-match': '"2"' }),
    ...users.map(({ userId }) => acme.admin.post(`/users/${userId}/roles`, { role: code })),
  ])
  const got = given.filter((a) => a.status === 201).length
  if (deleted!.status === 204) t.equal(got, 0, 'gone, and nobody has it')
  else t.match([deleted!.body.detail, got > 0], ['in_use', true])
})

t.test('nobody makes, widens or gives what he does not hold, and the last administrator stays one', async (t) => {
  const acme = await tenant()
  const made = await make(acme.admin, {
    code: 'keeper',
    permissions: ['rbac.role.*', 'rbac.assignment.*', 'rbac.override.*', 'identity.user.read'],
  })
  const keeper = await acme.user('viewer')
  await acme.admin.post(`/users/${keeper.userId}/roles`, { role: 'keeper' })
  t.match(await make(keeper, { permissions: ['erp.party.create'] }), {
    status: 403,
    body: { detail: 'grant_exceeds', error: { details: { permissions: ['erp.party.create'] } } },
  })
  t.match(await keeper.patch(`/rbac/roles/${made.data.id}`, { permissions: [...made.data.permissions, '*'], version: 1 }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
  t.equal((await make(keeper, { permissions: ['erp.party.read'] })).status, 201)
  const override = (userId: string, body: object) => keeper.post(`/users/${userId}/overrides`, { reason: 'test', ...body })
  t.match(await override(acme.viewer.userId, { permission: 'erp.party.create', effect: 'allow' }), {
    status: 403,
    body: { detail: 'grant_exceeds' },
  })
  t.match(
    await override(acme.operator.userId, { permission: 'erp.party.read', effect: 'deny' }),
    { status: 403, body: { detail: 'grant_exceeds' } },
    'the operator holds more than the keeper',
  )
  t.equal((await override(acme.viewer.userId, { permission: 'erp.party.read', effect: 'deny' })).status, 201)
  t.match(await override(acme.admin.userId, { permission: '*', effect: 'deny' }), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await acme.admin.post(`/users/${acme.admin.userId}/overrides`, { permission: '*', effect: 'deny', reason: 'test' }), {
    status: 409,
    body: { detail: 'last_administrator' },
  })
  const admin = (await acme.admin.get('/rbac/roles?code=admin')).data[0]
  t.match(await acme.admin.patch(`/rbac/roles/${admin.id}`, { permissions: ['*.read'], version: 1 }), {
    status: 409,
    body: { detail: 'last_administrator' },
  })
  t.equal((await acme.admin.get('/auth/me')).data.permissions.includes('erp.party.create'), true, 'nothing half done')
})

t.test('exceptions are given for a reason and a time, seen in explain, and ended', async (t) => {
  const acme = await tenant()
  const add = (body: object) => acme.admin.post(`/users/${acme.viewer.userId}/overrides`, body)
  t.match(
    await add({ permission: 'erp.uom.create', effect: 'allow' }),
    { status: 400, body: { detail: 'invalid_body' } },
    'a reason is due',
  )
  t.match(await add({ permission: 'erp.uom.create', effect: 'allow', reason: 'r', expires_at: '2020-01-01T00:00:00Z' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.match(await add({ permission: 'erp.nothing.create', effect: 'allow', reason: 'r' }), { status: 400, body: { detail: 'invalid_value' } })
  const soon = new Date(Date.now() + 4000).toISOString()
  const added = await add({ permission: 'erp.uom.create', effect: 'allow', reason: 'stock-taking', expires_at: soon })
  t.match(added, { status: 201, data: [{ permission: 'erp.uom.create', reason: 'stock-taking', granted_by: acme.admin.userId }] })
  t.equal((await acme.viewer.post('/erp/uoms', { code: 'A', name: 'A', dimension: 'count' })).status, 201)
  await new Promise((resolve) => setTimeout(resolve, 5200))
  t.equal((await acme.viewer.post('/erp/uoms', { code: 'B', name: 'B', dimension: 'count' })).status, 403, 'it ended by the clock')
  t.equal((await acme.admin.delete(`/users/${acme.viewer.userId}/overrides/${added.data[0].id}`)).status, 204)
  t.equal((await acme.admin.delete(`/users/${acme.viewer.userId}/overrides/${added.data[0].id}`)).status, 404)
})

t.test('a thousand get a role at once, and people move with their roles', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const users = await Promise.all(times(3, () => acme.user('operator', { organizationId: one!.id })))
  const ids = users.map((u) => u.userId)
  const bulk = (body: object) => acme.admin.post('/rbac/assignments/bulk', body)
  t.match(await bulk({ user_ids: ids, role: 'viewer', organization_id: two!.id }), { status: 200, data: { given: 3 } })
  t.match(
    await bulk({ user_ids: ids, role: 'viewer', organization_id: two!.id }),
    { status: 200, data: { given: 0 } },
    'who has it keeps it',
  )
  t.match(await bulk({ user_ids: [...ids, newId()], role: 'manager' }), { status: 400, body: { detail: 'invalid_reference' } })
  t.same(await rolesOf(acme, ids[0]!), ['operator', 'viewer'], 'all or nothing')
  const move = await acme.admin.post('/rbac/assignments/move', {
    user_ids: ids,
    from: { organization_id: one!.id },
    to: { organization_id: two!.id },
  })
  t.match(move, { status: 200, data: { moved: 3 } })
  t.match(
    await users[0]!.get('/erp/parties'),
    { status: 403, body: { detail: 'context_forbidden' } },
    'his token still names the old place',
  )
  t.equal((await acme.login(users[0]!.email)).data.context.organization_id, two!.id)
})

t.test('simulate foresees exactly what then happens, and changes nothing', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer', { organizationId: acme.organizations[0]!.id })
  const permissions = async () => (await user.get('/auth/me')).data.permissions as string[]
  const before = await permissions()
  const proposal = { assign: { user_id: user.userId, role: 'operator', organization_id: acme.organizations[0]!.id } }
  const foreseen = await acme.admin.post('/rbac/simulate', proposal)
  t.equal(foreseen.status, 200)
  t.same(await permissions(), before, 'nothing changed')
  await acme.admin.post(`/users/${user.userId}/roles`, { role: 'operator', organization_id: acme.organizations[0]!.id })
  const gained = (await permissions()).filter((p) => !before.includes(p))
  type Place = { permission: string; workspace_id: string | null }
  const here = foreseen.data[0].gained.filter((g: Place) => g.workspace_id === null || g.workspace_id === user.userId)
  t.same(here.map((g: Place) => g.permission).sort(), gained.sort())
  t.same(foreseen.data[0].lost, [])
  const role = await acme.admin.post('/rbac/simulate', { role: { role: 'operator', permissions: ['*.read'] } })
  t.same(role.data.map((e: { user_id: string }) => e.user_id).sort(), [acme.operator.userId, user.userId].sort(), 'everybody who has it')
  t.ok(role.data[0].lost.some((l: Place) => l.permission === 'erp.stock.issue'))
  t.match(await acme.admin.post('/rbac/simulate', { assign: { user_id: newId(), role: 'viewer' } }), { status: 404 })
  t.match(await acme.admin.post('/rbac/simulate', { role: { role: 'nobody', permissions: [] } }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
})

t.test('the matrix says of everybody what the gate would say; the findings name what deserves a look', async (t) => {
  const acme = await tenant()
  const { data } = await acme.admin.get('/rbac/matrix')
  for (const client of [acme.admin, acme.manager, acme.operator, acme.viewer]) {
    const row = data.find((r: { user_id: string }) => r.user_id === client.userId)
    t.same(row.permissions, (await client.get('/auth/me')).data.permissions, client.email)
  }
  const csv = await acme.admin.get('/rbac/matrix', { accept: 'text/csv' })
  t.match(csv.headers['content-type'], /text\/csv/)
  t.equal(csv.text.trim().split('\r\n').length, data.length + 1)
  await acme.admin.post(`/users/${acme.viewer.userId}/overrides`, { permission: 'erp.uom.create', effect: 'allow', reason: 'for ever' })
  await make(acme.admin, { code: 'idle' })
  const found = (await acme.admin.get('/rbac/findings')).data
  t.match(found[0], { kind: 'everything_everywhere', user_id: acme.admin.userId, role: 'admin' })
  t.ok(found.some((f: { kind: string; user_id: string }) => f.kind === 'allow_without_end' && f.user_id === acme.viewer.userId))
  t.ok(found.some((f: { kind: string; role: string }) => f.kind === 'unused_role' && f.role === 'idle'))
})

t.test('P12, P34: simulate refuses what the real change refuses', async (t) => {
  const acme = await tenant()
  const ask = (body: object) => acme.admin.post('/rbac/simulate', body)
  const user_id = acme.viewer.userId
  const [one, two] = acme.organizations
  const nothing = acme.roles.admin
  t.match(await ask({ withdraw: { user_id, assignment_id: nothing } }), { status: 404 })
  t.match(await ask({ remove_override: { user_id, override_id: nothing } }), { status: 404 })
  const reference = { status: 400, body: { detail: 'invalid_reference' } }
  t.match(await ask({ assign: { user_id, role: 'operator', organization_id: nothing } }), reference)
  t.match(await ask({ assign: { user_id, role: 'operator', organization_id: two!.id, workspace_id: one!.workspaces[0]!.id } }), reference)
  const value = { status: 400, body: { detail: 'invalid_value' } }
  t.match(await ask({ assign: { user_id, role: 'operator', workspace_id: one!.workspaces[0]!.id } }), value)
  t.match(await ask({ assign: { user_id, role: 'operator', expires_at: '2020-01-01T00:00:00Z' } }), value)
  t.match(await ask({ override: { user_id, permission: 'no.such.thing', effect: 'allow' } }), value)
  t.match(await ask({ role: { role: 'viewer', permissions: ['no.such.*'] } }), value)
})

t.test('P40: findings name no locked administrator as holding everything, and clients with overrides that change', async (t) => {
  const acme = await tenant()
  const kinds = async (userId: string) =>
    (await acme.admin.get('/rbac/findings')).data
      .filter((f: { user_id: string }) => f.user_id === userId)
      .map((f: { kind: string }) => f.kind)
  const locked = await acme.user('admin')
  await acme.admin.post(`/users/${locked.userId}/lock`, { version: 1 })
  t.same(await kinds(locked.userId), [])
  const buyer = await acme.user('viewer')
  await acme.admin.patch(`/users/${buyer.userId}`, { kind: 'client', version: 1 })
  await acme.admin.post(`/users/${buyer.userId}/overrides`, {
    permission: 'erp.party.create',
    effect: 'allow',
    reason: 'r',
    expires_at: '2099-01-01T00:00:00Z',
  })
  t.ok((await kinds(buyer.userId)).includes('client_beyond_reading'))
})
