// The places where a tenant works.
import t from 'tap'
import { fiscalYear } from '../../../domain/kernel/index.ts'
import { tally, testApp, times } from '../../support/app.ts'
import { catalogue } from '../../support/erp.ts'

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
  const remove = () => acme.admin.delete(`/organizations/${id}`, { 'if-match': '"2"' })
  t.match(await remove(), { status: 409, body: { detail: 'in_use', error: { details: { parties: 1 } } } }, 'P4: it holds records')
  const [party] = (await acme.as(there.data.access_token).get('/erp/parties')).data
  t.equal((await acme.as(there.data.access_token).delete(`/erp/parties/${party.id}`, { 'if-match': '"1"' })).status, 204)
  t.match(await remove(), { status: 409, body: { detail: 'in_use', error: { details: { workspaces: 1, assignments: 0 } } } })
  t.equal((await acme.admin.delete(`/workspaces/${place.data.id}`, { 'if-match': '"1"' })).status, 204)
  t.equal((await remove()).status, 204)
  t.match(
    await acme.as(there.data.access_token).get('/erp/parties'),
    { status: 403, body: { detail: 'context_forbidden' } },
    'closed at the next request',
  )
  t.equal((await acme.admin.post(`/organizations/${id}/recover`)).status, 200)
  t.equal((await acme.admin.post(`/workspaces/${place.data.id}/recover`)).status, 200)
  t.equal((await acme.as(there.data.access_token).post(`/erp/parties/${party.id}/recover`)).status, 200, 'as it was')
  t.ok((await acme.viewer.get('/organizations?sort=name&q=drei')).data.length === 1)
  t.equal((await acme.viewer.get(`/workspaces?organization_id=${id}`)).data.length, 1)
  t.equal((await acme.viewer.post('/organizations', { code: 'no', name: 'No' })).status, 403)
  t.ok((await acme.admin.get(`/organizations/${id}/history`)).data.length >= 4)
})

t.test(
  'P0: work takes a workspace only where there is one, and the last one of such an organization stays, also under races',
  async (t) => {
    const acme = await tenant()
    const [one, two] = acme.organizations
    const require = (id: string, workspace_required: boolean, version: number) =>
      acme.admin.patch(`/organizations/${id}/settings`, { workspace_required, version })
    t.match(await require(two!.id, true, 1), {
      status: 400,
      body: { detail: 'invalid_value', error: { details: { path: '/workspace_required' } } },
    })
    t.equal((await require(one!.id, true, 1)).status, 200)
    const [north, south] = one!.workspaces
    t.equal((await acme.admin.delete(`/workspaces/${north!.id}`, { 'if-match': '"1"' })).status, 204)
    t.match(await acme.admin.delete(`/workspaces/${south!.id}`, { 'if-match': '"1"' }), { status: 409, body: { detail: 'in_use' } })
    t.equal((await require(one!.id, false, 2)).status, 200)
    for (let round = 0; round < 5; round++) {
      const { data: place } = await acme.admin.post('/workspaces', { organization_id: two!.id, code: `w${round}`, name: 'W' })
      const settings = (await acme.admin.get(`/organizations/${two!.id}/settings`)).data
      const [set, removed] = await Promise.all([
        require(two!.id, true, settings.version),
        acme.admin.delete(`/workspaces/${place.id}`, { 'if-match': '"1"' }),
      ])
      t.equal([set!.status === 200, removed!.status === 204].filter(Boolean).length, 1, `${set!.text} ${removed!.text}`)
      if (set!.status === 200) {
        t.equal((await require(two!.id, false, settings.version + 1)).status, 200, 'and it is reversible')
        t.equal((await acme.admin.delete(`/workspaces/${place.id}`, { 'if-match': '"1"' })).status, 204)
      }
    }
  },
)

t.test('P4: a role that is given while its organization is deleted is refused, or keeps it', async (t) => {
  const acme = await tenant()
  for (let round = 0; round < 4; round++) {
    const { id } = (await acme.admin.post('/organizations', { code: `o${round}`, name: 'O' })).data
    const give = () => acme.admin.post(`/users/${acme.viewer.userId}/roles`, { role: 'viewer', organization_id: id })
    const [removed, ...given] = await Promise.all([acme.admin.delete(`/organizations/${id}`, { 'if-match': '"1"' }), ...times(5, give)])
    const isGiven = given.some(({ status }) => status === 201)
    t.equal(isGiven, removed!.status !== 204, `${removed!.text} ${given.map(({ text }) => text.slice(0, 90))}`)
  }
})

t.test('P26, P5: refresh and sign-in land where the user may work', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const signedIn = (await acme.login(acme.manager.email)).data
  const client = acme.as(signedIn.access_token)
  await client.post('/context/switch?token=body', { organization_id: one!.id })
  t.match((await acme.login(acme.manager.email)).data.context, { organization_id: one!.id, workspace_id: null })
  await client.post('/context/switch?token=body', { organization_id: two!.id })
  t.match((await acme.login(acme.manager.email)).data.context, { organization_id: two!.id, workspace_id: null }, 'where he was last')
  const [own] = (await acme.admin.get(`/users/${acme.manager.userId}/roles`)).data
  await acme.admin.post(`/users/${acme.manager.userId}/roles`, { role: 'manager', organization_id: one!.id })
  await acme.admin.delete(`/users/${acme.manager.userId}/roles/${own.id}`)
  const answer = await client.post('/auth/refresh?token=body', { refresh_token: signedIn.refresh_token })
  t.equal(answer.status, 200, answer.text)
  const refreshed = answer.data
  t.equal(refreshed.context.organization_id, one!.id)
  t.equal((await acme.as(refreshed.access_token).get('/erp/parties')).status, 200)
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

t.test('an organization numbers its documents in its own way, anew with its fiscal year, and no number comes twice', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const path = `/organizations/${acme.organizations[0]!.id}/settings`
  const order = async (): Promise<string> =>
    (
      await acme.operator.post('/erp/purchase-orders', {
        supplier_id: c.supplier,
        currency: 'EUR',
        lines: [{ product_id: c.product, quantity: '1', unit_price: '1' }],
      })
    ).data.code
  const year = new Date().getUTCFullYear()
  t.equal(await order(), `PO-${year}-00001`)
  const set = async (settings: object) => {
    const { version } = (await acme.admin.get(path)).data
    return acme.admin.patch(path, settings, { 'if-match': `"${version}"` })
  }
  t.match(await set({ numbering: { PO: { prefix: 'ORD', digits: 3 } } }), { status: 200, data: { fiscal_year_start_month: 1 } })
  t.equal(await order(), `ORD-${year}-002`, 'the number goes on')
  t.same(
    new Set(await Promise.all(times(20, order))),
    new Set(times(20, (i) => `ORD-${year}-${String(i + 3).padStart(3, '0')}`)),
    'without a gap, for twenty at once',
  )
  for (const numbering of [{ XX: { prefix: 'A', digits: 3 } }, { PO: { prefix: 'a b', digits: 3 } }, { PO: { prefix: 'A', digits: 0 } }]) {
    t.match(await set({ numbering }), { status: 400, body: { detail: 'invalid_body' } })
  }
  t.match(await set({ fiscal_year_start_month: 13 }), { status: 400, body: { detail: 'invalid_body' } })
  t.equal((await set({ fiscal_year_start_month: new Date().getUTCMonth() === 11 ? 1 : 12, numbering: {} })).status, 200)
  const earlier = new Date().getUTCMonth() === 11 ? year : year - 1
  t.match(await order(), new RegExp(`^PO-${earlier}-`), 'before December it is the year before’s')
})

t.test('a fiscal year is named after the calendar year in which it begins', (t) => {
  const at = (text: string, month: number) => fiscalYear(new Date(text), month)
  t.equal(at('2026-06-30T23:59:59.999Z', 7), 2025)
  t.equal(at('2026-07-01T00:00:00Z', 7), 2026)
  t.equal(at('2027-03-01T00:00:00Z', 7), 2026)
  t.equal(at('2026-01-01T00:00:00Z', 1), 2026)
  t.equal(at('2026-12-31T23:59:59Z', 1), 2026)
  t.end()
})

t.test('P27: codes that differ in case alone are refused for organizations, workspaces and roles', async (t) => {
  const acme = await tenant()
  const [one] = acme.organizations
  const exists = { status: 409, body: { detail: 'already_exists' } }
  t.match(await acme.admin.post('/organizations', { code: 'ONE', name: 'One' }), exists)
  t.match(await acme.admin.patch(`/organizations/${acme.organizations[1]!.id}`, { code: 'One', version: 1 }), exists)
  t.equal((await acme.admin.patch(`/organizations/${one!.id}`, { code: 'ONE', version: 1 })).status, 200, 'its own')
  t.match(await acme.admin.post('/workspaces', { organization_id: one!.id, code: 'North', name: 'N' }), exists)
  t.equal((await acme.admin.post('/workspaces', { organization_id: acme.organizations[1]!.id, code: 'North', name: 'N' })).status, 201)
  t.match(await acme.admin.post('/rbac/roles', { code: 'ADMIN', name: 'A', permissions: ['erp.*'] }), exists)
  const raced = await Promise.all(
    ['Picker', 'PICKER', 'picker'].map((code) => acme.admin.post('/rbac/roles', { code, name: 'P', permissions: ['erp.*'] })),
  )
  t.same(tally(raced), { 201: 1, 409: 2 })
})

t.test('P41: two series do not share a prefix, the seeded ones included', async (t) => {
  const acme = await tenant()
  const set = (numbering: object) => acme.admin.patch(`/organizations/${acme.organizations[0]!.id}/settings`, { numbering, version: 1 })
  const refused = { status: 400, body: { detail: 'invalid_value' } }
  t.match(await set({ PO: { prefix: 'X', digits: 5 }, GR: { prefix: 'X', digits: 5 } }), refused)
  t.match(await set({ PO: { prefix: 'GR', digits: 5 } }), refused)
  t.equal((await set({ PO: { prefix: 'GR', digits: 5 }, GR: { prefix: 'REC', digits: 5 } })).status, 200)
})

t.test('P25: a currency is one of ISO 4217', async (t) => {
  const acme = await tenant()
  t.match(await acme.admin.post('/organizations', { code: 'z', name: 'Z', currency: 'ZZZ' }), {
    status: 400,
    body: { detail: 'invalid_value' },
  })
  t.match(await acme.admin.patch(`/organizations/${acme.organizations[0]!.id}`, { currency: 'ZZZ', version: 1 }), { status: 400 })
})
