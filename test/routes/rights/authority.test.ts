// No actor grants, withdraws, resets or disables what they do not hold.
import t from 'tap'
import { type Answer, type Client, type TestTenant, testApp } from '../../support/app.ts'

const { tenant } = await testApp(t)

const exceeds = { status: 403, body: { detail: 'grant_exceeds' } }

/** A user with these permissions in the whole tenant, and nothing else. */
async function withPermissions(acme: TestTenant, permissions: readonly string[]): Promise<Client> {
  const code = `custom-${Math.random().toString(36).slice(2, 10)}`
  const role = await acme.admin.post('/rbac/roles', { code, name: code, permissions })
  if (role.status !== 201) throw new Error(role.text)
  const user = await acme.user('viewer')
  const [seeded] = (await acme.admin.get(`/users/${user.userId}/roles`)).data
  await acme.admin.post(`/users/${user.userId}/roles`, { role: code })
  await acme.admin.delete(`/users/${user.userId}/roles/${seeded.id}`)
  return user
}

t.test('F21: whoever acts on an account holds everything that the account holds, on every such route', async (t) => {
  const acme = await tenant()
  const helpdesk = await withPermissions(acme, ['identity.*', 'rbac.assignment.*', 'rbac.override.*', 'tenant.organization.read'])
  const target = await acme.user('admin')
  const [assignment] = (await acme.admin.get(`/users/${target.userId}/roles`)).data
  const key = (await target.post('/api-keys', { name: 'K', permissions: ['erp.party.read'] })).data
  const path = `/users/${target.userId}`
  const [session] = (await acme.admin.get(`${path}/sessions`)).data
  const attempts: Record<string, (who: Client) => Promise<Answer>> = {
    'change the account': (who) => who.patch(path, { kind: 'client', version: 1 }),
    'lock it': (who) => who.post(`${path}/lock`, { version: 1 }),
    'disable it': (who) => who.post(`${path}/disable`, { version: 1 }),
    'erase it': (who) => who.delete(path, { 'if-match': '"1"' }),
    'reset its factors': (who) => who.delete(`${path}/mfa`),
    'end its sessions': (who) => who.delete(`${path}/sessions`),
    'end one session': (who) => who.delete(`${path}/sessions/${session.id}`),
    'end its key': (who) => who.delete(`/api-keys/${key.id}`),
    'send an invitation': (who) => who.post(`${path}/invite`),
    'withdraw its role': (who) => who.delete(`${path}/roles/${assignment.id}`),
    'deny it something': (who) => who.post(`${path}/overrides`, { permission: 'identity.user.read', effect: 'deny', reason: 'r' }),
    'give its role': (who) => who.post(`/users/${acme.viewer.userId}/roles`, { role: 'admin' }),
    'give its role to many': (who) => who.post('/rbac/assignments/bulk', { user_ids: [acme.viewer.userId], role: 'admin' }),
    'invite with its role': (who) => who.post('/users', { email: 'new@acme.example', name: 'New', roles: [{ role: 'admin' }] }),
  }
  for (const [what, attempt] of Object.entries(attempts)) t.match(await attempt(helpdesk), exceeds, what)
  t.equal((await target.get('/auth/me')).status, 200, 'nothing happened to the account')
  t.equal((await acme.admin.get(path)).data.version, 1)
  await acme.admin.post(`${path}/lock`, { version: 1 })
  t.match(await helpdesk.post(`${path}/unlock`, { version: 2 }), exceeds, 'nor is it let in again')
  const equal = await withPermissions(acme, ['identity.user.read'])
  t.match(await helpdesk.delete(`/users/${equal.userId}/mfa`), { status: 204 }, 'an account that holds less')
})

t.test('F13: ending a deny and renaming or editing a role take what they give', async (t) => {
  const acme = await tenant()
  const keeper = await withPermissions(acme, ['rbac.override.*', 'rbac.role.*', 'rbac.assignment.read', 'erp.party.*'])
  const denied = await acme.admin.post(`/users/${keeper.userId}/overrides`, { permission: 'erp.party.create', effect: 'deny', reason: 'r' })
  const party = () => keeper.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })
  t.equal((await party()).status, 403)
  t.match(await keeper.delete(`/users/${keeper.userId}/overrides/${denied.data[0].id}`), exceeds)
  t.equal((await party()).status, 403, 'the deny stands')
  const operator = (await acme.admin.get('/rbac/roles?code=operator')).data[0]
  const change = (patch: object) => keeper.patch(`/rbac/roles/${operator.id}`, { ...patch, version: operator.version })
  t.match(await change({ code: 'other' }), exceeds, 'renaming')
  t.match(await change({ name: 'Other' }), exceeds)
  t.match(await change({ permissions: ['erp.party.read'] }), exceeds, 'taking away')
  t.match(await keeper.delete(`/rbac/roles/${operator.id}`, { 'if-match': '"1"' }), exceeds)
  t.match(await acme.admin.delete(`/users/${keeper.userId}/overrides/${denied.data[0].id}`), { status: 204 }, 'an administrator ends it')
  t.equal((await party()).status, 201)
})

t.test('F13: approval limits belong to the role, not to its code', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const limits = async () => (await acme.admin.get(`/organizations/${one!.id}/settings`)).data.approval_limits
  t.same(await limits(), { admin: null, manager: '10000' })
  const role = async (code: string) => (await acme.admin.get(`/rbac/roles?code=${code}`)).data[0]
  const rename = async (from: string, to: string) => {
    const { id, version } = await role(from)
    t.equal((await acme.admin.patch(`/rbac/roles/${id}`, { code: to, version })).status, 200)
  }
  await rename('manager', 'former-manager')
  await rename('operator', 'manager')
  t.same(await limits(), { admin: null, 'former-manager': '10000' }, 'the new manager approves nothing')
  const explained = await acme.admin.get(`/rbac/explain?permission=erp.purchase_order.approve&user=${acme.operator.userId}`)
  t.equal(explained.data.approval_limit, '0')
})

t.test('F21: the second factor of a role is lifted by actors who hold the role', async (t) => {
  const acme = await tenant()
  const officer = await withPermissions(acme, ['tenant.security.*'])
  t.match(await officer.patch('/tenant/security', { mfa_roles: ['admin'] }), exceeds)
  t.match(await officer.patch('/tenant/security', { session_idle_minutes: 60 }), { status: 200 })
})

t.test('F13: a role whose code is another role’s id is no way to that role', async (t) => {
  const acme = await tenant()
  const keeper = await withPermissions(acme, ['rbac.role.*', 'rbac.assignment.*', 'erp.party.read'])
  t.equal((await keeper.post('/rbac/roles', { code: acme.roles.admin, name: 'X', permissions: ['erp.party.read'] })).status, 201)
  t.match(await keeper.post(`/users/${keeper.userId}/roles`, { role: acme.roles.admin }), exceeds)
})

t.test('a deny in one organization keeps the actor from granting the permission in the whole tenant', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const granter = await withPermissions(acme, ['rbac.assignment.*', 'erp.*'])
  await acme.admin.post('/rbac/roles', { code: 'buyer', name: 'Buyer', permissions: ['erp.purchase_order.create'] })
  await acme.admin.post(`/users/${granter.userId}/overrides`, {
    permission: 'erp.purchase_order.create',
    effect: 'deny',
    reason: 'audit',
    organization_id: one!.id,
  })
  const give = (organization_id?: string) => granter.post(`/users/${acme.viewer.userId}/roles`, { role: 'buyer', organization_id })
  t.match(await give(), exceeds)
  t.match(await give(one!.id), exceeds)
  t.match(await give(two!.id), { status: 201 })
})

t.test('twenty administrators of one organization race for rights of the tenant: none gets them', async (t) => {
  const acme = await tenant()
  const [, two] = acme.organizations
  const second = await acme.user('admin', { organizationId: two!.id })
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      second.post(`/users/${second.userId}/roles`, { role: 'admin', ...(index % 2 ? { organization_id: acme.organizations[0]!.id } : {}) }),
    ),
  )
  t.ok(answers.every((a) => a.status === 403))
  t.equal((await acme.admin.get(`/users/${second.userId}/roles`)).data.length, 1)
})

t.test('rights that end do not become rights that stay', async (t) => {
  const acme = await tenant()
  const soon = new Date(Date.now() + 3_600_000).toISOString()
  const later = new Date(Date.now() + 7_200_000).toISOString()
  const temporary = await acme.user('viewer')
  await acme.admin.post(`/users/${temporary.userId}/roles`, { role: 'admin', expires_at: soon })
  const give = (expires_at: string | null) => temporary.post(`/users/${acme.viewer.userId}/roles`, { role: 'manager', expires_at })
  t.match(await give(null), exceeds)
  t.match(await give(later), exceeds)
  t.equal((await give(soon)).status, 201, 'no longer than they hold it')
  t.match(await temporary.post(`/users/${temporary.userId}/overrides`, { permission: '*', effect: 'allow', reason: 'r' }), exceeds)
  t.match(await temporary.post('/rbac/roles', { code: 'mine', name: 'Mine', permissions: ['erp.*'] }), exceeds)
  t.match(await temporary.post('/tenant/support-consents', { reason: 'Ticket 1: a look', expires_at: later }), exceeds)
  t.match(await acme.admin.post(`/users/${acme.viewer.userId}/roles`, { role: 'operator', expires_at: '2020-01-01T00:00:00Z' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.match(await acme.admin.post(`/users/${acme.viewer.userId}/roles`, { role: 'operator', expires_at: '2099-06-30T23:59:60Z' }), {
    status: 400,
    body: { detail: 'invalid_body' },
  })
})

t.test('no role with a higher approval limit is given, and no limit is raised above one’s own', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  await acme.admin.post('/rbac/roles', { code: 'chief', name: 'Chief', permissions: ['erp.purchase_order.approve'] })
  const settings = `/organizations/${one!.id}/settings`
  const limits = { admin: null, manager: '10000', chief: null }
  t.equal((await acme.admin.patch(settings, { approval_limits: limits, version: 1 })).status, 200)
  const lead = await acme.user('manager')
  await acme.admin.post('/rbac/roles', { code: 'lead', name: 'Lead', permissions: ['rbac.assignment.*', 'tenant.organization.*'] })
  await acme.admin.post(`/users/${lead.userId}/roles`, { role: 'lead' })
  t.match(await lead.post(`/users/${lead.userId}/roles`, { role: 'chief' }), exceeds)
  t.match(await lead.patch(settings, { approval_limits: { ...limits, manager: '900000' }, version: 2 }), exceeds)
  t.match(await lead.patch(settings, { approval_limits: { ...limits, manager: null }, version: 2 }), exceeds)
  t.equal((await lead.patch(settings, { approval_limits: { ...limits, manager: '9000' }, version: 2 })).status, 200, 'lower')
})

t.test('an administrator to whom managing rights is denied does not count as the last one', async (t) => {
  const acme = await tenant()
  const other = await acme.user('admin')
  t.equal((await acme.admin.post(`/users/${other.userId}/overrides`, { permission: 'rbac.*', effect: 'deny', reason: 'r' })).status, 201)
  const [own] = (await acme.admin.get(`/users/${acme.admin.userId}/roles`)).data
  t.match(await acme.admin.delete(`/users/${acme.admin.userId}/roles/${own.id}`), { status: 409, body: { detail: 'last_administrator' } })
})

t.test('users do not change their own kind', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.patch(`/users/${acme.admin.userId}`, { kind: 'client', version: 1 }), {
    status: 409,
    body: { detail: 'own_account' },
  })
})
