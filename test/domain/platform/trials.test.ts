// Trials come to their end with a word, and become more.
import t from 'tap'
import { newId, sql } from '../../../domain/kernel/index.ts'
import { remindOfTrials } from '../../../domain/platform/index.ts'
import { startWorkers } from '../../../server/workers.ts'
import { testApp, times } from '../../support/app.ts'
import { ownControlPlane, quietLog } from '../../support/services.ts'
import { mailsTo, mailTo } from '../../support/smtp.ts'

const plane = await ownControlPlane(t)
const { tenant, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const { control } = runtime.services.planes
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const workers = await startWorkers(runtime, quietLog, ['mail'])
t.teardown(() => workers.stop())

t.test('administrators are told a week, three days and a day before the end and when it has come, each once', async (t) => {
  const [acme, paid, later] = await Promise.all([tenant({ terms: 'trial' }), tenant(), tenant({ terms: 'trial' })])
  const endsIn = (one: typeof acme, interval: string) =>
    control.write(one.scope, (tx) =>
      tx.query(sql.run`update tenants set trial_ends_at = now() + ${interval}::interval where id = ${tx.tenantId}`),
    )
  const told = async () => (await Promise.all(times(4, () => remindOfTrials(control, newId())))).reduce((sum, n) => sum + n, 0)
  t.equal(await told(), 0, 'thirty days are far')
  await endsIn(acme, '6 days')
  t.equal(await told(), 1, 'by one of four that run at once')
  t.match((await mailTo(acme.admin.email)).subject, /ends soon/)
  t.equal(await told(), 0)
  const emails = new Set([acme.viewer.email, paid.admin.email, later.admin.email])
  await endsIn(acme, '20 days')
  t.equal(await told(), 0, 'extended: far again')
  await endsIn(acme, '2 days')
  t.equal(await told(), 1)
  await endsIn(acme, '-1 hour')
  t.equal(await told(), 1)
  t.match((await mailTo(acme.admin.email, 3)).subject, /has ended/)
  t.equal(await told(), 0)
  for (const email of emails) t.same(mailsTo(email), [], 'nobody else is told')
})

t.test('what people should know is in /auth/me; converted, nothing is left of the trial', async (t) => {
  const acme = await tenant({ terms: 'trial' })
  const me = async () => (await acme.viewer.get('/auth/me')).data
  t.match(await me(), { notice: { kind: 'trial_ends', at: String }, access_mode: { reason: 'trial_active' } })
  t.match(await staff.admin.post(`/superadmin/tenants/${acme.id}/convert`, { plan: 'nothing' }), {
    status: 400,
    body: { detail: 'invalid_reference' },
  })
  t.match(await staff.admin.post(`/superadmin/tenants/${acme.id}/convert`, { plan: 'professional' }), {
    status: 200,
    data: { plan: 'professional', subscription_status: 'active', products: [{ source: 'plan' }, { source: 'plan' }] },
  })
  t.match(await me(), { notice: null, plan: 'professional', access_mode: { reason: 'subscription_current' } })
  t.match(await staff.admin.post(`/superadmin/tenants/${acme.id}/convert`, { plan: 'starter' }), {
    status: 409,
    body: { detail: 'already_exists' },
  })
  t.equal((await me()).plan, 'professional', 'nothing of what was refused stays')
})

t.test('a request that was let in before the trial’s end is done whole; the next one only reads', async (t) => {
  const acme = await tenant({ terms: 'trial' })
  const { id, version } = (await acme.admin.post('/erp/parties', { code: 'LONG', name: 'Long', roles: ['client'] })).data
  const ends = Date.now() + 700
  await control.write(acme.scope, (tx) =>
    tx.query(sql.run`update tenants set trial_ends_at = ${new Date(ends).toISOString()} where id = ${tx.tenantId}`),
  )
  // Somebody holds the row for longer than the trial runs.
  const holding = runtime.services.planes.data.get('main')!.write(acme.scope, async (tx) => {
    await tx.query(sql.run`select 1 from erp_party where tenant_id = ${tx.tenantId} and id = ${id} for update`)
    await tx.query(sql.run`select pg_sleep(1.5)`)
  })
  await new Promise((resolve) => setTimeout(resolve, 100))
  const answer = await acme.admin.patch(`/erp/parties/${id}`, { name: 'Changed in time', version })
  await holding
  t.ok(Date.now() > ends, 'it was answered after the end')
  t.match(answer, { status: 200, data: { name: 'Changed in time' } })
  t.match(await acme.admin.patch(`/erp/parties/${id}`, { name: 'Too late', version: version + 1 }), {
    status: 403,
    body: { detail: 'read_only', error: { details: { reason: 'trial_expired' } } },
  })
  t.match(await acme.admin.get(`/erp/parties/${id}`), { status: 200, data: { name: 'Changed in time' } })
})
