// One administrator who can really sign in stays, whichever way the last one would go.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Client, type TestTenant, testApp } from '../../support/app.ts'

const { tenant } = await testApp(t)

const LAST = { status: 409, body: { detail: 'last_administrator' } }
const versionOf = async (acme: TestTenant, id: string) => (await acme.admin.get(`/users/${id}`)).data.version as number
const deny = (by: Client, of: string, permission: string, more: object = {}) =>
  by.post(`/users/${of}/overrides`, { permission, effect: 'deny', reason: 'r', ...more })

t.test('P1: denies do not take the last administrator, in any scope and for any right that they need', async (t) => {
  const acme = await tenant()
  const second = await acme.user('admin')
  t.equal((await deny(acme.admin, second.userId, 'rbac.*')).status, 201)
  for (const permission of ['rbac.*', 'rbac.override.delete', '*.create', '*', 'identity.*'])
    t.match(await deny(acme.admin, acme.admin.userId, permission), LAST, permission)
  t.match(await deny(acme.admin, acme.admin.userId, 'rbac.*', { organization_id: acme.organizations[0]!.id }), LAST, 'in an organization')
  t.equal((await deny(acme.admin, acme.admin.userId, 'erp.purchase_order.approve')).status, 201, 'business rights are no matter')
})

t.test('P1: of two administrators who deny each other at once one is refused', async (t) => {
  for (let round = 0; round < 3; round++) {
    const acme = await tenant()
    const second = await acme.user('admin')
    const answers = await Promise.all([deny(acme.admin, second.userId, 'rbac.*'), deny(second, acme.admin.userId, 'rbac.*')])
    t.equal(answers.filter(({ status }) => status === 201).length, 1, answers.map(({ text }) => text).join())
    t.match(
      await Promise.all([acme.admin, second].map(async (c) => (await c.get('/rbac/roles')).status)).then((s) => s.includes(200)),
      true,
    )
  }
})

t.test('P15: kind, lock, disabling, erasing and an end do not take the last administrator', async (t) => {
  const acme = await tenant()
  const second = await acme.user('admin')
  const [own] = (await acme.admin.get(`/users/${acme.admin.userId}/roles`)).data
  // The second one does not count: a client is blocked when the trial ends.
  t.equal((await acme.admin.patch(`/users/${second.userId}`, { kind: 'client', version: 1 })).status, 200)
  const version = await versionOf(acme, acme.admin.userId)
  t.match(await second.patch(`/users/${acme.admin.userId}`, { kind: 'client', version }), LAST)
  t.match(await second.post(`/users/${acme.admin.userId}/lock`, { version }), LAST)
  t.match(await second.post(`/users/${acme.admin.userId}/disable`, { version }), LAST)
  t.match(await second.delete(`/users/${acme.admin.userId}`, { 'if-match': `"${version}"` }), LAST)
  t.match(await second.delete(`/users/${acme.admin.userId}/roles/${own.id}`), LAST)
  t.match(
    await second.patch(`/users/${acme.admin.userId}/roles/${own.id}`, { expires_at: new Date(Date.now() + 3_600_000).toISOString() }),
    LAST,
  )
  const admin = (await acme.admin.get('/rbac/roles?code=admin')).data[0]
  t.match(await second.patch(`/rbac/roles/${admin.id}`, { permissions: ['erp.*'], version: admin.version }), LAST)
})

t.test('P36: twenty ways at once leave one administrator', async (t) => {
  const acme = await tenant()
  const others = await Promise.all(Array.from({ length: 4 }, () => acme.user('admin')))
  const all = [acme.admin, ...others]
  const ways = all.flatMap((target, index) => {
    const by = all[(index + 1) % all.length]!
    return [
      async () => by.patch(`/users/${target.userId}`, { kind: 'client', version: 1 }),
      async () => by.post(`/users/${target.userId}/lock`, { version: 1 }),
      async () => deny(by, target.userId, 'rbac.*'),
      async () => {
        const [own] = (await by.get(`/users/${target.userId}/roles`)).data ?? []
        return by.delete(`/users/${target.userId}/roles/${own?.id ?? newId()}`)
      },
    ]
  })
  const answers = await Promise.all(ways.map((way) => way()))
  t.same(
    answers.filter(({ status }) => status >= 500).map(({ text }) => text),
    [],
  )
  // One of them still signs in and puts rights in order.
  const able = await Promise.all(
    all.map(async ({ email }) => {
      const { data } = await acme.login(email)
      return data
        ? (await acme.as(data.access_token).post('/rbac/roles', { code: `r-${newId()}`, name: 'R', permissions: ['rbac.*'] })).status ===
            201
        : false
    }),
  )
  t.ok(able.includes(true), answers.map(({ status, body }) => body?.detail ?? status).join())
})
