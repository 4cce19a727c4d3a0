// How a tenant comes to be: asked for, decided, made step by step, open.
import { Client } from 'pg'
import t from 'tap'
import { newId, systemScope } from '../../../domain/kernel/index.ts'
import { forgetApplicants, progressOf, STEPS } from '../../../domain/tenancy/index.ts'
import { createRuntime } from '../../../server/runtime.ts'
import { ownedStorage } from '../../../server/storage.ts'
import { startWorkers } from '../../../server/workers.ts'
import { provision } from '../../../workers/provisioner.ts'
import { type Answer, eventually, PASSWORD, tally, testApp, times } from '../../support/app.ts'
import { dataOwners, ownControlPlane, quietLog, testConfig } from '../../support/services.ts'
import { mailTo, tokenIn } from '../../support/smtp.ts'

const plane = await ownControlPlane(t)
const here = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const { tenant, request } = here
const { control } = here.runtime.services.planes
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const owner = new Client({ connectionString: plane.admin })
await owner.connect()
t.teardown(() => owner.end())

let address = 0
/** From an address of its own, so that floods are counted only where they are meant. */
const ask = (body: object, from = `10.20.${++address >> 8}.${address & 255}`): Promise<Answer> =>
  request('localhost', { method: 'POST', url: '/api/v1/registrations', payload: body, remoteAddress: from })
const slugOf = () => `s${newId().slice(-11)}`
const form = (slug: string, extra: object = {}) => ({
  slug,
  name: `Company ${slug}`,
  email: `ana@${slug}.example`,
  person: 'Ana Flores',
  plan: 'professional',
  ...extra,
})
const progress = async (id: string) => (await request('localhost', { method: 'GET', url: `/api/v1/registrations/${id}` })).data
const steps = async (id: string): Promise<Record<string, string>> =>
  Object.fromEntries((await progress(id)).steps.map((s: { step: string; state: string }) => [s.step, s.state]))

t.test('asked for: pending, answering nobody, until the staff decides', async (t) => {
  const slug = slugOf()
  const made = await ask(form(slug, { locale: 'pt' }))
  t.match(made, { status: 202, data: { status: 'pending' }, headers: { location: `/api/v1/registrations/${made.data.id}` } })
  t.match(await progress(made.data.id), { slug, status: 'pending', steps: STEPS.map((step) => ({ step, state: 'waiting' })) })
  const login = await request(`${slug}.localhost`, {
    method: 'POST',
    url: '/api/v1/auth/login',
    payload: { email: 'a@b.cc', password: PASSWORD },
  })
  t.equal(login.status, 401, login.text)
  t.match(await root.get(`/superadmin/tenants/${made.data.id}`), { status: 200, data: { slug, status: 'pending' } })
  t.match(await ask(form(slug)), { status: 409, body: { detail: 'already_exists', error: { details: { fields: ['slug'] } } } })
  const { id } = made.data
  t.match(await root.post(`/superadmin/tenants/${id}/reject`, { reason: 'Not a company' }), { status: 200, data: { status: 'rejected' } })
  t.match(await root.post(`/superadmin/tenants/${id}/approve`, {}), { status: 409, body: { detail: 'invalid_transition' } })
  const { rows } = await owner.query('select email, person, address from tenant_registrations where tenant_id = $1', [id])
  t.match(rows, [{ email: `ana@${slug}.example`, person: 'Ana Flores', address: String }], 'the applicant is known for ninety days')
  await owner.query(`update tenant_registrations set decided_at = now() - interval '91 days' where tenant_id = $1`, [id])
  await control.platform(forgetApplicants)
  const after = await owner.query('select email, person, address from tenant_registrations where tenant_id = $1', [id])
  t.same(after.rows, [{ email: null, person: null, address: null }], 'and then erased')
  t.equal((await ask(form(slug))).status, 202, 'and the name is free again')
  t.match(await root.post(`/superadmin/tenants/${newId()}/approve`, {}), { status: 404 })
  t.match(await root.post(`/superadmin/tenants/${staff.id}/approve`, {}), { status: 404 }, 'nobody asked for this one')
})

t.test('bad and reserved names, floods, one name wanted by twenty', async (t) => {
  for (const slug of ['admin', 'www', 'api', 'tenantry']) {
    t.match(await ask(form(slug)), { status: 400, body: { detail: 'invalid_value', error: { details: { rule: 'reserved' } } } }, slug)
  }
  for (const slug of ['A', 'ab', '-abc', 'abc-', 'a--b', 'xn--abc', 'a_b', 'a.b', 'ünal', '1abc', 'a'.repeat(41)]) {
    t.match(await ask(form(slug)), { status: 400, body: { detail: 'invalid_body' } }, slug)
  }
  t.match(await ask(form(slugOf(), { plan: 'none' })), { status: 400, body: { detail: 'invalid_reference' } })
  t.match(await ask(form(slugOf(), { email: 'аna@x.example' })), { status: 400, body: { detail: 'invalid_value' } })
  const wanted = slugOf()
  const answers = await Promise.all(times(20, (i) => ask(form(wanted, { email: `p${i}@${wanted}.example` }))))
  t.same(tally(answers), { 202: 1, 409: 19 })
  const person = `flood@${wanted}.example`
  const flood = []
  for (let i = 0; i < 5; i++) flood.push(await ask(form(slugOf(), { email: person })))
  t.same(tally(flood), { 202: 3, 429: 2 }, 'three requests of one person wait at most')
  const from = '10.21.0.1'
  const many = []
  for (let i = 0; i < 12; i++) many.push(await ask(form(slugOf()), from))
  t.same(tally(many), { 202: 10, 429: 2 }, 'ten a day from one address')
  t.match(many.at(-1), { headers: { 'retry-after': String } })
})

t.test('approved: made by the worker in each mode, opened, its administrator invited in his language', async (t) => {
  const config = { ...testConfig({ CONTROL_DATABASE_URL: plane.app }), DATA_OWNER_CATALOG: dataOwners() }
  const runtime = await createRuntime(config, quietLog)
  const workers = await startWorkers(runtime, quietLog, ['tenants', 'mail'])
  t.teardown(async () => {
    await workers.stop()
    await runtime.close()
  })
  for (const [mode, catalog_key, goal] of [
    ['shared', 'main', 1_000],
    ['schema', 'second', 3_000],
    ['database', 'second', 10_000],
  ] as const) {
    const slug = slugOf()
    const { id } = (await ask(form(slug, { locale: 'tr' }))).data
    t.match(await root.post(`/superadmin/tenants/${id}/approve`, { mode, catalog_key: 'nowhere' }), {
      status: 400,
      body: { detail: 'invalid_reference' },
    })
    const began = Date.now()
    const approved = await root.post(`/superadmin/tenants/${id}/approve`, { mode, catalog_key }, { 'idempotency-key': `k-${slug}` })
    t.match(approved, { status: 200, data: { status: 'provisioning' } })
    await eventually(
      () => progress(id),
      (p) => p.status === 'active',
      30,
    )
    t.comment(`${mode}: open after ${Date.now() - began} ms with the queue's own waiting (goal of the making ${goal} ms)`)
    t.same(new Set(Object.values(await steps(id))), new Set(['done']))
    const mail = await mailTo(`ana@${slug}.example`)
    t.match(mail.subject, /sizi davet ediyor/)
    const accepted = await request(`${slug}.localhost`, {
      method: 'POST',
      url: '/api/v1/auth/invitations/accept?token=body',
      payload: { token: tokenIn(mail), password: PASSWORD },
    })
    t.equal(accepted.status, 200, accepted.text)
    const headers = { authorization: `Bearer ${accepted.data.access_token}` }
    const me = await request(`${slug}.localhost`, { method: 'GET', url: '/api/v1/auth/me', headers })
    t.match(me.data, { plan: 'professional', access_mode: { mode: 'active', reason: 'trial_active' }, permissions: /erp/ })
    const party = await request(`${slug}.localhost`, {
      method: 'POST',
      url: '/api/v1/erp/parties',
      payload: { code: 'A', name: 'A', roles: ['client'] },
      headers,
    })
    t.equal(party.status, 201, party.text)
    const { rows } = await owner.query('select email, person, address from tenant_registrations where tenant_id = $1', [id])
    t.match(rows, [{ email: `ana@${slug}.example` }], 'the applicant is known for ninety days')
    t.match(await root.get(`/superadmin/tenants/${id}`), { data: { mode, catalog_key, state: 'ready', status: 'active' } })
  }
})

t.test('a server that is away in the middle: said, tried again, finished; begun twice at once it is done once', async (t) => {
  const slug = slugOf()
  const { id } = (await ask(form(slug))).data
  // No worker runs here: the job waits, and the steps are driven by hand.
  t.equal((await root.post(`/superadmin/tenants/${id}/approve`, { mode: 'schema' })).status, 200)
  const dead = ownedStorage({ main: 'postgres://x:x@127.0.0.1:1/x' })
  await t.rejects(provision(control, dead, id))
  t.match((await root.get(`/superadmin/tenants/${id}/provisioning`)).data, {
    status: 'provisioning',
    steps: [
      { step: 'storage', state: 'failed', attempts: 1, error: String },
      { step: 'plan', state: 'waiting' },
    ],
  })
  t.notMatch((await progress(id)).steps[0], { error: String }, 'the applicant is not shown why')
  await t.rejects(provision(control, dead, id))
  t.match((await root.get(`/superadmin/tenants/${id}/provisioning`)).data.steps[0], { attempts: 2 })
  const storage = ownedStorage(dataOwners())
  await Promise.all(times(5, () => provision(control, storage, id)))
  t.same(new Set(Object.values(await steps(id))), new Set(['done']))
  const { rows } = await owner.query(
    `select (select count(*)::int from res_roles where tenant_id = $1) as roles, (select count(*)::int from res_organizations where tenant_id = $1) as organizations,
       (select count(*)::int from res_users where tenant_id = $1) as users, (select count(*)::int from tenant_platform_products where tenant_id = $1) as products`,
    [id],
  )
  t.same(rows, [{ roles: 4, organizations: 1, users: 1, products: 2 }])
  await provision(control, storage, id)
  t.match(
    await root.post(`/superadmin/tenants/${id}/approve`, {}),
    { status: 200, data: { status: 'active' } },
    'approving again changes nothing',
  )
})

t.test('stopped after any step, it goes on there', async (t) => {
  const storage = ownedStorage(dataOwners())
  for (const last of STEPS) {
    const slug = slugOf()
    const { id } = (await ask(form(slug))).data
    await root.post(`/superadmin/tenants/${id}/approve`, {})
    // As if the process had been killed right after the commit of this step: what the next one would do fails.
    let stop = false
    const stopping = new Proxy(control, {
      get: (target, name) => {
        if (name !== 'write') return Reflect.get(target, name, target).bind?.(target) ?? Reflect.get(target, name, target)
        return async (scope: never, work: never, once: never) => {
          if (stop) throw new Error('killed')
          const value = await target.write(scope, work, once)
          const done = await target.read(systemScope(id, 'test', ''), progressOf)
          stop = done.steps.find(({ step }) => step === last)?.state === 'done'
          return value
        }
      },
    })
    if (last === STEPS.at(-1)) await provision(stopping, storage, id)
    else await t.rejects(provision(stopping, storage, id), /killed/, last)
    t.equal((await steps(id))[last], 'done')
    await provision(control, storage, id)
    t.match(await progress(id), { status: 'active' }, `${last}, then the rest`)
  }
})

t.test('suspended, resumed, closed; a trial is extended', async (t) => {
  const acme = await tenant({ terms: 'trial' })
  const path = `/superadmin/tenants/${acme.id}`
  const me = () => acme.admin.get('/auth/me')
  t.match(await root.post(`${path}/suspend`, { reason: 'Unpaid' }), { status: 200, data: { status: 'suspended' } })
  t.match(await me(), { status: 403, body: { detail: 'blocked', error: { details: { reason: 'tenant_suspended' } } } })
  t.match(await root.post(`${path}/suspend`, { reason: 'Unpaid' }), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(await root.post(`${path}/resume`, { reason: 'Paid' }), { status: 200, data: { status: 'active' } })
  t.equal((await me()).status, 200)
  t.match(await root.put(`${path}/trial`, { trial_ends_at: '2001-01-01T00:00:00Z' }), { status: 400, body: { detail: 'invalid_value' } })
  await owner.query(`update tenants set trial_ends_at = now() - interval '1 day' where id = $1`, [acme.id])
  await eventually(me, (a) => a.data.access_mode.mode === 'read_only', 5)
  t.match(await root.put(`${path}/trial`, { trial_ends_at: '2099-01-01T00:00:00Z' }), { status: 200 })
  t.match((await me()).data.access_mode, { mode: 'active', reason: 'trial_active' })
  t.match(await root.post(`${path}/close`, { reason: 'Asked for it' }), { status: 200, data: { status: 'closed' } })
  t.equal((await me()).status, 403)
  t.match(await root.post(`${path}/resume`, { reason: 'Again' }), { status: 409, body: { detail: 'invalid_transition' } })
  t.match(
    await root.post(`/superadmin/tenants/${staff.id}/suspend`, { reason: 'Oneself' }),
    { status: 404 },
    'the platform shuts itself out never',
  )
  t.match(await staff.viewer.post(`${path}/close`, { reason: 'Viewer' }), { status: 403, body: { detail: 'permission_denied' } })
})

t.test('asking is counted by address, whatever host name is written above it', async (t) => {
  const strict = await testApp(t, { CONTROL_DATABASE_URL: plane.app, RATE_LIMIT_AUTH_PER_MINUTE: '5' })
  const answers = await Promise.all(
    times(12, (i) =>
      strict.request(`h${i}.example`, { method: 'POST', url: '/api/v1/registrations', payload: form('admin'), remoteAddress: '10.22.0.9' }),
    ),
  )
  t.same(tally(answers), { 400: 5, 429: 7 })
})
