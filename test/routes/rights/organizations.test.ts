// The places where a tenant works.
import t from 'tap'
import { tally, testApp } from '../../support/app.ts'

const { tenant } = await testApp(t)

t.test('an organization and its workspaces are made, worked in, renamed, closed and brought back', async (t) => {
  const acme = await tenant()
  const made = await acme.admin.post('/organizations', { code: 'three', name: 'Three', currency: 'USD' })
  t.match(made, { status: 201, data: { code: 'three', currency: 'USD', version: 1 } })
  const { id } = made.data
  t.match(await acme.admin.post('/organizations', { code: 'three', name: 'Again' }), { status: 409, body: { detail: 'already_exists' } })
  const place = await acme.admin.post('/workspaces', { organization_id: id, code: 'east', name: 'East' })
  t.equal(place.status, 201)
  t.match(await acme.admin.post('/workspaces', { organization_id: acme.roles.admin, code: 'x', name: 'X' }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(await acme.admin.patch(`/workspaces/${place.data.id}`, { organization_id: acme.organizations[0]!.id, version: 1 }), {
    status: 400,
    body: { detail: 'invalid_value', error: { details: { path: '/organization_id' } } },
  })
  const there = await acme.admin.post('/context/switch?token=body', { organization_id: id, workspace_id: place.data.id })
  t.equal(there.status, 200)
  t.equal((await acme.as(there.data.access_token).post('/erp/parties', { code: 'P', name: 'P', roles: ['client'] })).status, 201)
  t.match(await acme.admin.patch(`/organizations/${id}`, { name: 'Drei', version: 1 }), { status: 200, data: { name: 'Drei', version: 2 } })
  t.equal((await acme.admin.delete(`/organizations/${id}`, { 'if-match': '"2"' })).status, 204)
  t.match(
    await acme.as(there.data.access_token).get('/erp/parties'),
    { status: 403, body: { detail: 'context_forbidden' } },
    'closed at the next request',
  )
  t.equal((await acme.admin.post(`/organizations/${id}/recover`)).status, 200)
  t.equal((await acme.as(there.data.access_token).get('/erp/parties')).data.length, 1, 'as it was')
  t.ok((await acme.viewer.get('/organizations?sort=name&q=drei')).data.length === 1)
  t.equal((await acme.viewer.get(`/workspaces?organization_id=${id}`)).data.length, 1)
  t.equal((await acme.viewer.post('/organizations', { code: 'no', name: 'No' })).status, 403)
  t.ok((await acme.admin.get(`/organizations/${id}/history`)).data.length >= 4)
})

t.test('of two who close the last two organizations at once one is refused', async (t) => {
  const acme = await tenant()
  const answers = await Promise.all(acme.organizations.map(({ id }) => acme.admin.delete(`/organizations/${id}`, { 'if-match': '"1"' })))
  t.same(tally(answers), { 204: 1, 409: 1 })
})

t.test('the settings of an organization count at the next request', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const url = `/organizations/${one!.id}/settings`
  t.match((await acme.admin.get(url)).data, {
    workspace_required: false,
    approval_limits: { admin: null, manager: '10000' },
    over_receipt_tolerance: '0',
    version: 1,
  })
  t.match(await acme.admin.patch(url, { workspace_required: true }), { status: 400, body: { detail: 'version_required' } })
  t.match(await acme.admin.patch(url, { workspace_required: true, approval_limits: { nobody: '5' }, version: 1 }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  const changed = await acme.admin.patch(url, {
    workspace_required: true,
    approval_limits: { manager: '50' },
    over_receipt_tolerance: '0.1',
    version: 1,
  })
  t.match(changed, { status: 200, data: { workspace_required: true, over_receipt_tolerance: '0.1', version: 2 }, headers: { etag: '"2"' } })
  t.match(await acme.admin.patch(url, { workspace_required: false, version: 1 }), {
    status: 409,
    body: { detail: 'version_conflict', error: { details: { current: { version: 2 } } } },
  })
  const open = await acme.user('viewer', { organizationId: one!.id })
  t.match(
    (await acme.login(open.email)).data.context,
    { organization_id: one!.id, workspace_id: one!.workspaces[0]!.id },
    'a workspace is chosen for him',
  )
  t.match(await open.post('/context/switch', { organization_id: one!.id }), { status: 403, body: { detail: 'context_required' } })
  t.equal((await acme.viewer.patch(url, { workspace_required: false, version: 2 })).status, 403)
})
