// Giving, moving and ending assignments: the end of each counts.
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'

const { tenant, runtime } = await testApp(t)
const { control } = runtime.services.planes

interface Held {
  id: string
  role: string
  organization_id: string | null
  expires_at: string | null
}
const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString()
const rolesOf = async (acme: TestTenant, userId: string): Promise<Held[]> => (await acme.admin.get(`/users/${userId}/roles`)).data
const sameTime = (a: string | null | undefined, b: string) => a != null && Date.parse(a) === Date.parse(b)

/** A user with a role in the first organization. */
const member = (acme: TestTenant) => acme.user('viewer', { organizationId: acme.organizations[0]!.id })
/** Lets a user's assignments of an organization end a minute ago, as time would. */
const expire = (acme: TestTenant, userId: string, organizationId: string) =>
  control.write(acme.scope, (tx) =>
    tx.query(sql.run`
      update res_user_roles set expires_at = now() - interval '1 minute'
      where tenant_id = ${acme.id} and user_id = ${userId} and organization_id = ${organizationId}`),
  )
const move = (acme: TestTenant, userId: string, from: string, to: string) =>
  acme.admin.post('/rbac/assignments/move', { user_ids: [userId], from: { organization_id: from }, to: { organization_id: to } })

t.test('P2: a move onto an ended or earlier ending assignment keeps the later end', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations.map(({ id }) => id) as [string, string]
  const user = await member(acme)
  await acme.admin.post(`/users/${user.userId}/roles`, { role: 'viewer', organization_id: two, expires_at: inHours(1) })
  await expire(acme, user.userId, two)
  t.match(await move(acme, user.userId, one, two), { status: 200, data: { moved: 1 } })
  t.match(await rolesOf(acme, user.userId), [{ role: 'viewer', organization_id: two, expires_at: null }])

  const later = inHours(5)
  const other = await member(acme)
  await acme.admin.post(`/users/${other.userId}/roles`, { role: 'viewer', organization_id: two, expires_at: later })
  await expire(acme, other.userId, one)
  t.match(await move(acme, other.userId, one, two), { data: { moved: 0 } }, 'an ended one does not move')
  t.ok(sameTime((await rolesOf(acme, other.userId)).find((a) => a.organization_id === two)?.expires_at, later))
})

t.test('P30: moving assignments onto themselves keeps them', async (t) => {
  const acme = await tenant()
  const one = acme.organizations[0]!.id
  const user = await member(acme)
  t.match(await move(acme, user.userId, one, one), { status: 200, data: { moved: 0 } })
  t.equal((await rolesOf(acme, user.userId)).length, 1)
})

t.test('P2: twenty moves to and fro at once keep the assignment once', async (t) => {
  const acme = await tenant()
  const [one, two] = acme.organizations.map(({ id }) => id) as [string, string]
  const user = await member(acme)
  const answers = await Promise.all(times(20, (n) => (n % 2 ? move(acme, user.userId, one, two) : move(acme, user.userId, two, one))))
  t.notOk(answers.some(({ status }) => status >= 500))
  t.equal((await rolesOf(acme, user.userId)).length, 1)
})

t.test('P3: a bulk grant and a single one renew an ended assignment', async (t) => {
  const acme = await tenant()
  const one = acme.organizations[0]!.id
  const [bulk, single] = [await member(acme), await member(acme)]
  for (const { userId } of [bulk, single]) await expire(acme, userId, one)
  const give = () => acme.admin.post('/rbac/assignments/bulk', { user_ids: [bulk.userId], role: 'viewer', organization_id: one })
  t.match(await give(), { status: 200, data: { given: 1 } })
  t.match(await give(), { data: { given: 0 } }, 'who has it keeps it')
  t.match(await rolesOf(acme, bulk.userId), [{ expires_at: null }])
  t.equal((await bulk.get('/erp/parties')).status, 200)
  const again = () => acme.admin.post(`/users/${single.userId}/roles`, { role: 'viewer', organization_id: one })
  t.equal((await again()).status, 201)
  t.match(await again(), { status: 409, body: { detail: 'already_exists' } })
})

t.test('P33: a bulk grant refuses users who do not exist or were erased, also when erased at the same moment', async (t) => {
  const acme = await tenant()
  const gone = await acme.user('viewer')
  const give = (userId: string) => acme.admin.post('/rbac/assignments/bulk', { user_ids: [userId], role: 'operator' })
  await acme.admin.delete(`/users/${gone.userId}`, { 'if-match': '"1"' })
  t.match(await give(gone.userId), { status: 400, body: { detail: 'invalid_reference', error: { details: { missing: [gone.userId] } } } })
  const raced = await acme.user('viewer')
  const erase = async () => t.equal((await acme.admin.delete(`/users/${raced.userId}`, { 'if-match': '"1"' })).status, 204)
  await Promise.all([...times(10, () => give(raced.userId)), erase()])
  const left = await control.read(acme.scope, (tx) =>
    tx.exists(sql.run`select 1 from res_user_roles where tenant_id = ${acme.id} and user_id = ${raced.userId}`),
  )
  t.notOk(left)
})

t.test('P32: one override of a permission and scope; an ended one is replaced', async (t) => {
  const acme = await tenant()
  const add = (effect: string, more: object = {}) =>
    acme.admin.post(`/users/${acme.viewer.userId}/overrides`, { permission: 'erp.party.create', effect, reason: 'r', ...more })
  t.same(tally(await Promise.all(times(10, () => add('allow')))), { 201: 1, 409: 9 })
  t.match(await add('deny'), { status: 409, body: { detail: 'already_exists' } })
  t.equal((await add('deny', { organization_id: acme.organizations[1]!.id })).status, 201, 'another scope')
  await control.write(acme.scope, (tx) =>
    tx.query(sql.run`update res_user_permission_overrides set expires_at = now() - interval '1 minute' where tenant_id = ${acme.id}`),
  )
  t.equal((await add('deny')).status, 201)
})

t.test('P32: the end of an assignment is changed in place, within what the actor holds', async (t) => {
  const acme = await tenant()
  const user = await acme.user('operator', { organizationId: acme.organizations[0]!.id })
  const [own] = await rolesOf(acme, user.userId)
  const change = (expires_at: string | null, by = acme.admin) => by.patch(`/users/${user.userId}/roles/${own!.id}`, { expires_at })
  const soon = inHours(2)
  t.ok(sameTime((await change(soon)).data[0].expires_at, soon))
  t.match(await change('2020-01-01T00:00:00Z'), { status: 400, body: { detail: 'invalid_value' } })
  const temporary = await acme.user('viewer')
  await acme.admin.post(`/users/${temporary.userId}/roles`, { role: 'admin', expires_at: inHours(1) })
  t.match(await change(null, temporary), { status: 403, body: { detail: 'grant_exceeds' } })
  t.equal((await change(inHours(0.5), temporary)).status, 200, 'earlier than they hold it')
  t.match(await change(null, acme.viewer), { status: 403, body: { detail: 'permission_denied' } })
  const foreign = await tenant()
  t.match(await foreign.admin.patch(`/users/${user.userId}/roles/${own!.id}`, { expires_at: null }), { status: 404 })
  t.match(await change(null), { status: 200, data: [{ expires_at: null }] })
})

t.test('P42: the users who hold a role are listed, page by page, in the scopes that the caller reaches', async (t) => {
  const acme = await tenant()
  const two = acme.organizations[1]!.id
  const [here, there] = [await member(acme), await acme.user('viewer', { organizationId: two })]
  const ids = async (by: TestTenant['admin'], query = '') =>
    (await by.get(`/rbac/roles/${acme.roles.viewer}/users${query}`)).data.map((h: { user_id: string }) => h.user_id)
  t.same(new Set(await ids(acme.admin)), new Set([acme.viewer.userId, here.userId, there.userId]))
  const first = (await acme.admin.get(`/rbac/roles/${acme.roles.viewer}/users?limit=2`)).body
  const rest = await ids(acme.admin, `?limit=2&cursor=${first.pagination.next_cursor}`)
  t.equal(new Set([...first.data.map((h: { user_id: string }) => h.user_id), ...rest]).size, 3)
  t.same(await ids(await acme.user('admin', { organizationId: two })), [there.userId])
  const named = async (query: string) => (await acme.admin.get(`/users?${query}`)).data.map((u: { id: string }) => u.id)
  t.same(new Set(await named('role=viewer')), new Set([acme.viewer.userId, here.userId, there.userId]))
  t.same(await named('role=nothing'), [])
  const reader = await acme.user('viewer', { organizationId: two })
  await acme.admin.post('/rbac/roles', { code: 'directory', name: 'Directory', permissions: ['identity.user.read'] })
  await acme.admin.post(`/users/${reader.userId}/roles`, { role: 'directory' })
  t.equal((await reader.get('/users')).status, 200)
  t.match(
    await reader.get('/users?role=admin'),
    { status: 403, body: { detail: 'permission_denied' } },
    'who holds what is a right of its own',
  )
  await acme.admin.delete(`/users/${reader.userId}`, { 'if-match': '"1"' })
  const page = (await acme.admin.get('/users?role=viewer&limit=2')).body.pagination.next_cursor
  t.equal((await acme.admin.get(`/users?role=viewer&limit=2&cursor=${page}`)).data.length, 1)
  t.match(await acme.admin.get(`/users?role=admin&limit=2&cursor=${page}`), { status: 400, body: { detail: 'invalid_cursor' } })
  await expire(acme, here.userId, acme.organizations[0]!.id)
  t.notOk((await named('role=viewer')).includes(here.userId), 'who holds it now')
  t.match(await acme.viewer.get(`/rbac/roles/${acme.roles.viewer}/users`), { status: 403, body: { detail: 'permission_denied' } })
  const foreign = await tenant()
  t.match(await foreign.admin.get(`/rbac/roles/${acme.roles.viewer}/users`), { status: 404 })
})

t.test('P32: the end of an override is changed in place, within what the actor holds', async (t) => {
  const acme = await tenant()
  const { userId } = acme.viewer
  const given = await acme.admin.post(`/users/${userId}/overrides`, { permission: 'erp.party.create', effect: 'allow', reason: 'r' })
  const { id } = given.data[0]
  const change = (expires_at: string | null, by = acme.admin) => by.patch(`/users/${userId}/overrides/${id}`, { expires_at })
  const soon = inHours(2)
  t.ok(sameTime((await change(soon)).data[0].expires_at, soon))
  const temporary = await acme.user('viewer')
  await acme.admin.post(`/users/${temporary.userId}/roles`, { role: 'admin', expires_at: inHours(1) })
  t.match(await change(null, temporary), { status: 403, body: { detail: 'grant_exceeds' } })
  t.match(await change('2020-01-01T00:00:00Z'), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await change(null, acme.viewer), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await (await tenant()).admin.patch(`/users/${userId}/overrides/${id}`, { expires_at: null }), { status: 404 })
  const second = await acme.user('admin')
  const denied = await acme.admin.post(`/users/${second.userId}/overrides`, {
    permission: 'rbac.*',
    effect: 'deny',
    reason: 'r',
    expires_at: soon,
  })
  t.equal((await acme.admin.patch(`/users/${second.userId}/overrides/${denied.data[0].id}`, { expires_at: null })).status, 200)
})
