import t from 'tap'
import { assignRole, override } from '../../../domain/access/index.ts'
import { newId, sql } from '../../../domain/kernel/index.ts'
import { eventually, testApp } from '../../support/app.ts'

const { tenant, runtime, request } = await testApp(t)
const { control } = runtime.services.planes

t.test('the seeded roles: who may read, work, approve, administer', async (t) => {
  const acme = await tenant()
  const party = (code: string) => ({ code, name: 'P', roles: ['client'] })
  t.equal((await acme.manager.post('/erp/parties', party('A'))).status, 201)
  t.match(await acme.operator.post('/erp/parties', party('B')), {
    status: 403,
    body: { detail: 'permission_denied', error: { details: { permission: 'erp.party.create' } } },
  })
  t.equal((await acme.viewer.get('/erp/parties')).status, 200)
  t.match(await acme.viewer.post('/erp/parties', party('C')), { status: 403 })
  t.ok((await acme.admin.get('/auth/me')).data.permissions.includes('erp.purchase_order.approve'))
})

t.test('a role covers its scope downwards and nothing beside it', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations
  const bound = await acme.user('manager', { organizationId: one!.id, workspaceId: one!.workspaces[0]!.id })
  t.equal((await bound.get('/erp/parties')).status, 200)
  const north = await bound.post('/context/switch?token=body', { organization_id: one!.id, workspace_id: one!.workspaces[1]!.id })
  t.match(north, { status: 403, body: { detail: 'context_forbidden' } })
  const explained = await acme.admin.get(`/rbac/explain?permission=erp.party.create&user=${bound.userId}&organization_id=${two!.id}`)
  t.match(explained.data, { allowed: false, decided_by: 'context', context_check: 'context_forbidden' })
})

t.test('an override has the last word, bites at once in every process, and explain names it', async (t) => {
  const other = await testApp(t)
  const acme = await tenant()
  const user = await acme.user('manager')
  const post = (code: string) =>
    other.request(acme.host, {
      method: 'POST',
      url: '/api/v1/erp/parties',
      payload: { code, name: 'P', roles: ['client'] },
      headers: { authorization: `Bearer ${user.token}` },
    })
  t.equal((await post('A')).status, 201)
  await control.write(acme.scope, (tx) => override(tx, user.userId, 'erp.party.create', 'deny', 'under review'))
  t.match(
    await eventually(
      () => post('B'),
      (a) => a.status !== 201,
      2,
    ),
    { status: 403, body: { detail: 'permission_denied' } },
  )
  const why = (await acme.admin.get(`/rbac/explain?permission=erp.party.create&user=${user.userId}`)).data
  t.match(why, { allowed: false, decided_by: 'override', overrides: [{ effect: 'deny', reason: 'under review', decided: true }] })
  t.match(why.roles, [{ role: 'manager', grants_by: ['erp.*'], covers_context: true }])
  // A narrower allow beats the wider deny; an expired one is ignored.
  const organizationId = acme.organizations[0]!.id
  await control.write(acme.scope, (tx) =>
    override(tx, user.userId, 'erp.party.create', 'allow', 'expired', { organizationId, expiresAt: '2020-01-01T00:00:00Z' }),
  )
  t.equal((await post('C')).status, 403)
  await control.write(acme.scope, (tx) => override(tx, user.userId, 'erp.party.create', 'allow', 'here it is fine', { organizationId }))
  t.equal(
    (
      await eventually(
        () => post('D'),
        (a) => a.status === 201,
        2,
      )
    ).status,
    201,
  )
})

t.test('a role given and taken away counts from the next request on', async (t) => {
  const acme = await tenant()
  const user = await acme.user('viewer')
  const may = async () => (await user.post('/erp/uoms', { code: 'X', name: 'X', dimension: 'nothing' })).status
  t.equal(await may(), 403)
  const id = await control.write(acme.scope, (tx) => assignRole(tx, user.userId, acme.roles.admin))
  t.equal(await eventually(may, (status) => status === 400, 2), 400, 'past the gate the body is looked at')
  t.equal((await acme.admin.delete(`/users/${user.userId}/roles/${id}`)).status, 204)
  t.equal(await eventually(may, (status) => status === 403, 2), 403)
})

t.test('explain answers anyone about himself, others only to those who may, and knows every permission', async (t) => {
  const acme = await tenant()
  t.equal((await acme.viewer.get('/rbac/explain?permission=erp.party.create')).data.allowed, false)
  const about = `/rbac/explain?permission=erp.party.create&user=${acme.viewer.userId}`
  t.equal((await acme.operator.get(about)).status, 403, 'rights are security data')
  t.equal((await acme.admin.get(about)).status, 200)
  t.match(await acme.admin.get('/rbac/explain?permission=no.such.thing'), { status: 400, body: { detail: 'invalid_query' } })
  const other = await tenant()
  t.equal((await acme.admin.get(`/rbac/explain?permission=erp.party.create&user=${other.admin.userId}`)).status, 404)
})

t.test('a module that the plan lacks: refused by name, blocked in the menu with the plan that has it', async (t) => {
  const acme = await tenant({ plan: 'starter' })
  t.match(await acme.admin.get('/erp/purchase-orders'), {
    status: 403,
    body: { detail: 'module_unavailable', error: { details: { module: 'erp.procurement' } } },
  })
  const menu = await acme.admin.get('/menu')
  const purchasing = menu.data[0].children.find((c: { code: string }) => c.code === 'erp.procurement')
  t.match(purchasing, {
    blocked: true,
    unlocked_by: 'professional',
    children: [{ code: 'erp.procurement.orders', blocked: true, path: null }, { code: 'erp.procurement.receipts' }],
  })
  t.equal(menu.body.ttl_seconds, 300)
  t.equal((await acme.admin.get('/menu', { 'if-none-match': String(menu.headers.etag) })).status, 304)
  t.match((await acme.admin.get('/rbac/explain?permission=erp.purchase_order.read')).data, {
    allowed: false,
    decided_by: 'module',
    module: { availability: 'blocked' },
  })
  await control.write(acme.scope, (tx) =>
    tx.query(
      sql.run`insert into tenant_platform_product_modules (id, tenant_id, module, availability, source) values (${newId()}, ${tx.tenantId}, 'erp.procurement', 'enabled', 'grant')`,
    ),
  )
  t.equal(
    (
      await eventually(
        () => acme.admin.get('/erp/purchase-orders'),
        (a) => a.status === 200,
        2,
      )
    ).status,
    200,
  )
})

t.test('an expired trial: workers read, nobody writes, clients are out', async (t) => {
  const acme = await tenant({ terms: 'trial' })
  await control.write(acme.scope, (tx) =>
    tx.query(sql.run`update tenants set trial_ends_at = now() - interval '1 day' where id = ${tx.tenantId}`),
  )
  const write = () => acme.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })
  t.match(await eventually(write, (a) => a.status === 403, 2), {
    body: { detail: 'read_only', error: { details: { reason: 'trial_expired' } } },
  })
  t.equal((await acme.admin.get('/erp/parties')).status, 200)
  t.match((await acme.admin.get('/auth/me')).data.access_mode, { mode: 'read_only' })
  await control.write(acme.scope, (tx) => tx.query(sql.run`update tenants set status = 'suspended' where id = ${tx.tenantId}`))
  t.match(
    await eventually(
      () => acme.admin.get('/erp/parties'),
      (a) => a.status === 403,
      2,
    ),
    { body: { detail: 'blocked' } },
  )
  t.match(await acme.login(acme.admin.email), { status: 403, body: { detail: 'blocked' } })
})

t.test('while the listener is down nothing is served from memory', async (t) => {
  const lonely = await testApp(t)
  const acme = await lonely.tenant()
  t.equal((await acme.viewer.get('/erp/parties')).status, 200)
  await lonely.runtime.services.listener.close()
  await lonely.runtime.services.planes.control.write(acme.scope, (tx) => override(tx, acme.viewer.userId, 'erp.party.read', 'deny', 'no'))
  t.equal((await acme.viewer.get('/erp/parties')).status, 403)
  t.ok(request)
})
