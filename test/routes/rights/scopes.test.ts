// Rights are decided in the scope of what is touched: an organization's administrator is no tenant administrator.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { testApp } from '../../support/app.ts'
import { catalogue } from '../../support/erp.ts'

const { tenant } = await testApp(t)

const denied = { status: 403, body: { detail: 'permission_denied' } }

/** A tenant with an administrator of its second organization alone. */
async function withOrganizationAdmin() {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const second = await acme.user('admin', { organizationId: two!.id })
  return { acme, one: one!, two: two!, second }
}

t.test('F2: an organization’s administrator changes nothing that belongs to the tenant', async (t) => {
  const { acme, one, second } = await withOrganizationAdmin()
  const roleId = (await acme.admin.get('/rbac/roles?code=viewer')).data[0].id
  const provider = {
    name: 'IdP',
    issuer: 'https://login.example.com',
    client_id: 'c',
    domains: ['acme.example'],
  }
  const tries: [string, Promise<{ status: number }>][] = [
    ['settings of another organization', second.patch(`/organizations/${one.id}/settings`, { mfa_required: true, version: 1 })],
    ['another organization', second.patch(`/organizations/${one.id}`, { name: 'Mine', version: 1 })],
    ['an organization', second.post('/organizations', { code: 'third', name: 'Third' })],
    ['an identity provider', second.post('/tenant/identity-providers', provider)],
    ['the security policy', second.patch('/tenant/security', { session_idle_minutes: 60 })],
    ['a domain', second.post('/tenant/domains', { domain: 'shop.acme.example' })],
    ['a user', second.post('/users', { email: `x-${newId()}@acme.example`, name: 'X' })],
    ['a role', second.post('/rbac/roles', { code: 'mine', name: 'Mine', permissions: ['erp.party.read'] })],
    ['a seeded role', second.patch(`/rbac/roles/${roleId}`, { permissions: ['*'], version: 1 })],
    ['the menu', second.put('/menu/overrides', {})],
    ['an account', second.post(`/users/${acme.viewer.userId}/lock`, { version: 1 })],
    ['factors', second.delete(`/users/${acme.viewer.userId}/mfa`)],
    ['sessions', second.delete(`/users/${acme.viewer.userId}/sessions`)],
    ['simulation', second.post('/rbac/simulate', { role: { role: 'viewer', permissions: ['*'] } })],
  ]
  for (const [what, answer] of tries) t.match(await answer, denied, what)
  t.match(await second.get('/tenant/security'), denied)
  t.match(await second.get('/rbac/findings'), denied)
  t.match(await second.get('/audit/verify'), denied)
  t.match(await second.get(`/rbac/matrix?organization_id=${one.id}`), denied)
})

t.test('F2: an organization’s administrator manages assignments inside the organization alone', async (t) => {
  const { acme, one, two, second } = await withOrganizationAdmin()
  const there = await acme.user('operator', { organizationId: two.id })
  const here = await acme.user('operator', { organizationId: one.id })
  const grant = (userId: string, organization_id: string | null) =>
    second.post(`/users/${userId}/roles`, { role: 'viewer', ...(organization_id ? { organization_id } : {}) })
  t.match(await grant(there.userId, two.id), { status: 201 })
  t.match(await grant(there.userId, one.id), denied, 'not in another organization')
  t.match(await grant(there.userId, null), denied, 'not in the whole tenant')
  const [own] = (await acme.admin.get(`/users/${here.userId}/roles`)).data
  t.match(await second.delete(`/users/${here.userId}/roles/${own.id}`), { status: 404 }, 'an assignment elsewhere does not exist')
  t.same((await second.get(`/users/${here.userId}/roles`)).data, [])
  const move = (from: string, to: string) =>
    second.post('/rbac/assignments/move', {
      user_ids: [here.userId, there.userId],
      from: { organization_id: from },
      to: { organization_id: to },
    })
  t.match(await move(one.id, two.id), denied, 'moving takes away where they were')
  t.match(await move(two.id, one.id), denied)
  t.same((await move(two.id, two.id)).data, { moved: 0 }, 'a move onto itself keeps the assignments')
  t.equal((await acme.admin.get(`/users/${there.userId}/roles`)).data.length, 2)
  t.match(
    await second.post(`/users/${there.userId}/overrides`, { permission: '*', effect: 'deny', reason: 'mine', organization_id: two.id }),
    { status: 201 },
    'inside the organization',
  )
  t.match(await second.post(`/users/${there.userId}/overrides`, { permission: '*', effect: 'deny', reason: 'mine' }), denied)
  t.match(
    await second.post(`/users/${acme.admin.userId}/overrides`, {
      permission: 'erp.*',
      effect: 'deny',
      reason: 'mine',
      organization_id: two.id,
    }),
    { status: 403, body: { detail: 'grant_exceeds' } },
    'a tenant administrator is not locked out of an organization by its administrator',
  )
  t.same(
    (await second.get('/users')).data.map((u: { id: string }) => u.id).sort(),
    [second.userId, there.userId].sort(),
    'only users who have a role in the organization',
  )
})

t.test('F2: workspaces, sessions and the trail show the organization’s own', async (t) => {
  const { acme, one, two, second } = await withOrganizationAdmin()
  t.same((await second.get('/workspaces')).data, [])
  t.match(await second.get(`/workspaces/${one.workspaces[0]!.id}`), { status: 404 })
  t.match(await second.patch(`/workspaces/${one.workspaces[0]!.id}`, { name: 'Mine', version: 1 }), { status: 404 })
  t.match(await second.post('/workspaces', { organization_id: one.id, code: 'x', name: 'X' }), denied)
  const made = await second.post('/workspaces', { organization_id: two.id, code: 'x', name: 'X' })
  t.equal(made.status, 201)
  t.equal((await second.delete(`/workspaces/${made.data.id}`, { 'if-match': '"1"' })).status, 204)
  t.equal((await second.post(`/workspaces/${made.data.id}/recover`)).status, 200)
  await acme.admin.post('/erp/parties', { code: 'SECRET-ONE', name: 'Secret', roles: ['client'] })
  await second.post('/erp/parties', { code: 'OWN-TWO', name: 'Own', roles: ['client'] })
  const entries = async (plane: string) => (await second.get(`/audit?plane=${plane}&limit=200`)).data as { organization_id: string }[]
  const data = await entries('data')
  t.ok(data.length > 0)
  t.ok(data.every((e) => e.organization_id === two.id))
  t.notOk(JSON.stringify(data).includes('SECRET-ONE'))
  t.ok(
    (await entries('control')).every((e) => e.organization_id === two.id),
    'no sign-ins of the tenant',
  )
  t.notOk((await second.get('/audit', { accept: 'text/csv' })).text.includes('SECRET-ONE'))
  t.match(await second.get(`/users/${acme.admin.userId}/sessions`), { status: 404 })
  t.match(await second.get(`/users/${second.userId}/sessions`), { status: 200, data: [{ id: String }] })
})

t.test('F26: the seeded roles read business data and no security data', async (t) => {
  const acme = await tenant()
  for (const who of [acme.viewer, acme.operator, acme.manager]) {
    t.equal((await who.get('/erp/parties')).status, 200)
    for (const path of [
      '/audit',
      '/audit?plane=control',
      `/users/${acme.admin.userId}/sessions`,
      '/rbac/matrix',
      '/rbac/roles',
      '/rbac/findings',
      `/users/${acme.admin.userId}/overrides`,
      '/tenant/identity-providers',
      '/tenant/security',
      '/users',
    ])
      t.match(await who.get(path), denied, path)
    t.same((await who.get('/api-keys')).data, [], 'their own keys alone')
  }
})

t.test('F12: documents of another workspace do not exist for a member of one workspace', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const c = await catalogue(acme)
  const scoped = (workspaceId: string) => acme.user('manager', { organizationId: one!.id, workspaceId })
  const [inNorth, inSouth] = [await scoped(north!.id), await scoped(south!.id)]
  const order = (who: typeof inNorth) =>
    who.post('/erp/purchase-orders', {
      supplier_id: c.supplier,
      currency: 'EUR',
      lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }],
    })
  const made = await order(inNorth)
  t.match(made, { status: 201, data: { workspace_id: north!.id } })
  const path = `/erp/purchase-orders/${made.data.id}`
  const own = await order(inSouth)
  t.same(
    (await inSouth.get('/erp/purchase-orders')).data.map((o: { id: string }) => o.id),
    [own.data.id],
  )
  t.same((await inSouth.get(`/erp/purchase-orders?q=${made.data.code}`)).data, [])
  t.match((await inSouth.get('/erp/purchase-orders?count=exact')).body.pagination, { total: 1 })
  t.notOk((await inSouth.get('/erp/purchase-orders', { accept: 'text/csv' })).text.includes(made.data.code))
  for (const answer of await Promise.all([
    inSouth.get(path),
    inSouth.get(`${path}/history`),
    inSouth.patch(path, { notes: 'mine', version: 1 }),
    inSouth.post(`${path}/submit`, { version: 1 }),
    inSouth.post(`${path}/cancel`, { version: 1 }),
  ]))
    t.match(answer, { status: 404 })
  const receipt = { order_id: made.data.id, location_id: c.store, lines: [{ order_line_id: made.data.lines[0].id, quantity: '1' }] }
  t.match(await inSouth.post('/erp/goods-receipts', receipt), { status: 400, body: { detail: 'invalid_reference' } })
  t.equal((await acme.manager.get('/erp/purchase-orders')).data.length, 2, 'an assignment of the organization sees both')
  t.match(await inSouth.get('/erp/parties'), { status: 200 }, 'the organization’s master data is read')
  t.match(await inSouth.post('/erp/parties', { code: 'X', name: 'X', roles: ['client'] }), denied, 'and not changed')
})

t.test('R9: metrics of the whole tenant are read in every organization and changed by tenant-wide assignments alone', async (t) => {
  const { acme, second } = await withOrganizationAdmin()
  const made = await acme.admin.post('/telemetry/metrics', { code: 'temperature', unit: 'C' })
  t.equal(made.status, 201)
  t.equal((await second.get(`/telemetry/metrics/${made.data.id}`)).status, 200)
  t.match(await second.post('/telemetry/metrics', { code: 'humidity', unit: '%' }), denied)
  t.match(await second.patch(`/telemetry/metrics/${made.data.id}`, { unit: 'F', version: 1 }), denied)
})

t.test('reports about others show what lies in the asker’s scopes: explain, matrix, overrides', async (t) => {
  const { acme, one, two, second } = await withOrganizationAdmin()
  const elsewhere = await acme.user('operator', { organizationId: one.id })
  const both = await acme.user('operator', { organizationId: one.id })
  await acme.admin.post(`/users/${both.userId}/roles`, { role: 'viewer', organization_id: two.id })
  for (const { userId } of [elsewhere, both])
    await acme.admin.post(`/users/${userId}/overrides`, {
      permission: 'erp.product.read',
      effect: 'deny',
      reason: 'Under investigation',
      organization_id: one.id,
    })
  const explain = (userId: string) => second.get(`/rbac/explain?permission=erp.product.read&user=${userId}`)
  t.equal((await explain(elsewhere.userId)).status, 404)
  const about = await explain(both.userId)
  t.match(about.data, { roles: [{ organization_id: two.id }], overrides: [] })
  t.equal(about.data.roles.length, 1)
  t.match(await second.get(`/rbac/explain?permission=identity.user.invite&user=${both.userId}`), denied, 'rights of the tenant')
  t.match(await second.get(`/rbac/explain?permission=erp.product.read&workspace_id=${one.workspaces[0]!.id}`), { status: 400 })
  const named = (await second.get('/rbac/matrix')).data.map((row: { user_id: string }) => row.user_id)
  t.ok(named.includes(both.userId))
  t.notOk(named.includes(elsewhere.userId))
  t.same((await second.get(`/users/${both.userId}/overrides`)).data, [])
  t.same(
    (await second.get('/organizations')).data.map((o: { id: string }) => o.id),
    [two.id],
  )
})

t.test('a workspace in which users work is not deleted, and no role is given in a deleted one', async (t) => {
  const { acme, two, second } = await withOrganizationAdmin()
  const { id } = (await second.post('/workspaces', { organization_id: two.id, code: 'x', name: 'X' })).data
  const place = { role: 'viewer', organization_id: two.id, workspace_id: id }
  t.equal((await second.post(`/users/${acme.viewer.userId}/roles`, place)).status, 201)
  const remove = (version: number) => second.delete(`/workspaces/${id}`, { 'if-match': `"${version}"` })
  t.match(await remove(1), { status: 409, body: { detail: 'in_use', error: { details: { assignments: 1 } } } })
  const given = (await second.get(`/users/${acme.viewer.userId}/roles`)).data[0]
  t.equal((await second.delete(`/users/${acme.viewer.userId}/roles/${given.id}`)).status, 204)
  t.equal((await remove(1)).status, 204)
  t.match(await second.post(`/users/${acme.viewer.userId}/roles`, place), { status: 400, body: { detail: 'invalid_reference' } })
})

t.test('a deny in the workspace where a user works holds for changes of the organization’s records', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const [north, south] = one!.workspaces
  const party = await acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })
  await acme.admin.post(`/users/${acme.manager.userId}/overrides`, {
    permission: 'erp.party.*',
    effect: 'deny',
    reason: 'r',
    organization_id: one!.id,
    workspace_id: north!.id,
  })
  const change = (who: typeof acme.manager, version: number) => who.patch(`/erp/parties/${party.data.id}`, { name: 'B', version })
  t.match(await change(acme.manager, 1), denied)
  const there = await acme.manager.post('/context/switch?token=body', { organization_id: one!.id, workspace_id: south!.id })
  t.equal((await change(acme.as(there.data.access_token), 1)).status, 200)
})
