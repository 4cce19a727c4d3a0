// Governed scripts, and the rotation of signing keys that one of them does.
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { Client } from 'pg'
import t from 'tap'
import { serviceToken } from '../../domain/identity/index.ts'
import { defineScript } from '../../server/define-script.ts'
import { runScript } from '../../server/script.ts'
import migrateRoles from '../../server/scripts/migrate-roles.ts'
import narrowSeededRoles from '../../server/scripts/narrow-seeded-roles.ts'
import rotate from '../../server/scripts/rotate-signing-keys.ts'
import seedRoles from '../../server/scripts/seed-roles.ts'
import { eventually, testApp } from '../support/app.ts'
import { scriptViolations } from '../support/script-rules.ts'
import { ownControlPlane, testConfig } from '../support/services.ts'

// Signing keys belong to the whole platform: rotating them in the shared database would end the sessions of every other test.
const plane = await ownControlPlane(t)
const config = { ...testConfig(), CONTROL_DATABASE_URL: plane.admin }
const quiet = { say: () => {}, progress: () => {} }

const admin = new Client({ connectionString: plane.admin })
await admin.connect()
t.teardown(() => admin.end())
const executions = async (script: string) =>
  (
    await admin.query(
      'select status, dry_run, affected_rows::int as affected, error from script_executions where script = $1 order by created_at, id',
      [script],
    )
  ).rows

t.test('a dry run changes nothing, an execution does, a failure undoes; each is recorded twice', async (t) => {
  const make = (name: string, fails = false) =>
    defineScript({
      name,
      description: 'For the test.',
      async run({ queries }) {
        const { sql } = await import('../../domain/kernel/index.ts')
        await queries.query(
          sql.run`insert into platform_maintenance_windows (id, starts_at, ends_at, message) values (gen_random_uuid(), '2001-01-01', '2001-01-02', ${name})`,
        )
        if (fails) throw new Error('on purpose')
        return 1
      },
    })
  const rows = async (name: string) =>
    Number((await admin.query('select count(*) from platform_maintenance_windows where message = $1', [name])).rows[0].count)
  t.equal(await runScript(make('dry'), config, { execute: false, flags: new Set(), ...quiet }), 1)
  t.equal(await rows('dry'), 0)
  t.match(await executions('dry'), [
    { status: 'started', dry_run: true },
    { status: 'succeeded', dry_run: true, affected: 1 },
  ])
  await runScript(make('real'), config, { execute: true, flags: new Set(), ...quiet })
  t.equal(await rows('real'), 1)
  await t.rejects(runScript(make('broken', true), config, { execute: true, flags: new Set(), ...quiet }), /on purpose/)
  t.equal(await rows('broken'), 0)
  t.match(await executions('broken'), [{ status: 'started' }, { status: 'failed', error: 'on purpose' }])
  await admin.query('delete from platform_maintenance_windows')
})

t.test('unknown flags and unknown tenants end a script with an error', async (t) => {
  const run = (...flags: string[]) => runScript(narrowSeededRoles, config, { execute: true, flags: new Set(flags), ...quiet })
  await t.rejects(run('--tennant=globex'), /narrow-seeded-roles has no flag --tennant=globex; it takes --tenant=slug/)
  await t.rejects(run('globex'), /has no flag globex/)
  await t.rejects(run('--tenant'), /has no flag --tenant;/)
  await t.rejects(run('--tenant=a', '--tenant=b'), /more than once/)
  t.same(await executions('narrow-seeded-roles'), [], 'nothing was started')
  await t.rejects(run('--tenant=nosuch'), /There is no tenant 'nosuch'/)
  await t.rejects(run('--tenant='), /There is no tenant ''/)
  await t.rejects(runScript(rotate, config, { execute: true, flags: new Set(['--emergancy']), ...quiet }), /it takes --emergency/)
})

t.test('a script that is none, works by being imported, bears another name or connects by itself is refused', async (t) => {
  const good = `import x from 'y'\nconst Known = Type.Object({})\nexport default defineScript({\n  name: 'a',\n  async run() { await work(\`${'$'}{1}\`) },\n})\n`
  const refused = (text: string, ...said: RegExp[]) => t.match(scriptViolations('server/scripts/a.ts', text), said, text)
  t.same(scriptViolations('server/scripts/a.ts', good), [])
  refused(`import x from 'y'\nexport const run = () => {}\n`, /runs code/, /default-exports defineScript/)
  refused(`${good}await x()\n`, /runs code when it is imported: await x/)
  refused(`${good}x.start()\n`, /runs code/)
  refused(`${good}const pool = createPool()\n`, /runs code/)
  refused(`${good}const list = [1, 2, 3].map((n) => writeFileSync('x', n))\n`, /runs code/)
  refused(`${good}const text = \`${'$'}{work()}\`\n`, /runs code/)
  refused(`${good}function f() {\n}\n  work()\n`, /runs code/)
  refused(`${good}if (true) {\n  work()\n}\n`, /runs code/)
  refused(`import './effects.ts'\n${good}`, /runs code/)
  refused(`import { Client } from 'pg'\n${good}`, /connection of its own/)
  refused(`import { Database } from '../../domain/kernel/index.ts'\n${good}`, /connection of its own/)
  refused(good.replace('await work', "await import('pg')"), /imports at run time/)
  refused(good.replace("name: 'a'", "name: 'rotate-signing-keys'"), /its name is 'rotate-signing-keys' and not 'a'/)
})

t.test('service tokens open /internal and nothing else; people’s tokens do not open it', async (t) => {
  const { tenant, request, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const acme = await tenant()
  const token = await serviceToken(runtime.services.keys, 'monitor')
  const get = (url: string, bearer: string, host = acme.host) =>
    request(host, { method: 'GET', url, headers: { authorization: `Bearer ${bearer}` } })
  t.match(await get('/api/v1/internal/outbox', token, 'anything'), {
    status: 200,
    data: { control: { pending: /\d+/ }, 'data:main': { failed: /\d+/ } },
  })
  t.match(await get('/api/v1/erp/parties', token), { status: 401, body: { detail: 'tenant_mismatch' } })
  t.match(await get('/api/v1/internal/outbox', acme.admin.token), { status: 401, body: { detail: 'invalid_token' } })
  const { data } = await acme.admin.post('/api-keys', { name: 'K', permissions: ['erp.party.read'] })
  t.match(await get('/api/v1/internal/outbox', data.key), { status: 401, body: { detail: 'invalid_token' } })
  t.match(await request(acme.host, { method: 'GET', url: '/api/v1/internal/outbox' }), { status: 401, body: { detail: 'missing_token' } })
  const { exp, iat } = JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())
  t.equal(exp - iat, 300)
})

t.test('a key is rotated in ahead of its use, and in an emergency every other ends; an independent library agrees', async (t) => {
  const here = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const there = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const acme = await here.tenant()
  await here.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = here.app.server.address() as { port: number }
  const jwks = async () =>
    (await here.request('x', { method: 'GET', url: '/.well-known/jwks.json' })) as {
      data: unknown
      body: { keys: { kid: string }[] }
      headers: Record<string, unknown>
    }
  const before = await jwks()
  t.match(before.headers['cache-control'], /max-age=300/)

  await runScript(rotate, config, { execute: true, flags: new Set(), ...quiet })
  const after = await eventually(jwks, ({ body }) => body.keys.length === before.body.keys.length + 1)
  const fresh = after.body.keys.find(({ kid }) => !before.body.keys.some((k) => k.kid === kid))!
  const tokenOf = async () => (await acme.login(acme.viewer.email)).data.access_token as string
  const kidIn = (token: string) => JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()).kid
  t.not(kidIn(await tokenOf()), fresh.kid, 'published, and not yet used')
  await admin.query(`update platform_signing_keys set activates_at = now() - interval '1 second' where kid = $1`, [fresh.kid])
  const token = await eventually(tokenOf, (token) => kidIn(token) === fresh.kid)
  const verified = await jwtVerify(token, createRemoteJWKSet(new URL(`http://127.0.0.1:${port}/.well-known/jwks.json`)), {
    algorithms: ['RS256'],
    audience: acme.id,
    issuer: 'tenantry',
  })
  t.equal(verified.payload.tenant_id, acme.id)
  const me = (app: typeof here, bearer: string) =>
    app.request(acme.host, { method: 'GET', url: '/api/v1/auth/me', headers: { authorization: `Bearer ${bearer}` } })
  t.equal((await me(there, token)).status, 200, 'the other process has it too')
  t.equal((await me(here, acme.admin.token)).status, 200, 'and the old one verifies')

  const { data } = await acme.login(acme.viewer.email)
  await runScript(rotate, config, { execute: true, flags: new Set(['--emergency']), ...quiet })
  for (const app of [here, there]) {
    for (const old of [token, acme.admin.token])
      t.match(
        await eventually(
          () => me(app, old),
          (a) => a.status === 401,
        ),
        { body: { detail: 'invalid_token' } },
      )
  }
  const refreshed = await here.request(acme.host, {
    method: 'POST',
    url: '/api/v1/auth/refresh?token=body',
    payload: { refresh_token: data.refresh_token },
  })
  t.equal(refreshed.status, 200, 'the session goes on')
  t.equal((await me(there, refreshed.data.access_token)).status, 200)
})

t.test('seeded roles that are missing are made, and what a template gained is added; both once, at the next request', async (t) => {
  const { tenant } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const only = new Set([`--tenant=${acme.slug}`])
  await admin.query(`update res_roles set deleted_at = now() where tenant_id = any($1) and code = 'manager'`, [[acme.id, globex.id]])
  const roles = async (id: string) =>
    Number((await admin.query('select count(*) from res_roles where tenant_id = $1 and deleted_at is null', [id])).rows[0].count)
  t.equal(await runScript(seedRoles, config, { execute: false, flags: only, ...quiet }), 1)
  t.equal(await roles(acme.id), 3, 'a dry run makes none')
  t.equal(await runScript(seedRoles, config, { execute: true, flags: only, ...quiet }), 1)
  t.equal(await roles(acme.id), 4)
  t.equal(await roles(globex.id), 3, 'the other tenant was not meant')
  t.equal(await runScript(seedRoles, config, { execute: true, flags: only, ...quiet }), 0)

  const issue = () => acme.operator.post('/erp/stock/issues', {})
  await admin.query(
    `delete from res_role_permissions p using res_roles r where r.id = p.role_id and r.tenant_id = $1 and r.code = 'operator' and p.permission = 'erp.stock.issue'`,
    [acme.id],
  )
  await eventually(issue, (a) => a.status === 403, 5)
  const own = { role: 'operator', permission: 'erp.party.create' }
  await admin.query(
    `insert into res_role_permissions (id, tenant_id, role_id, permission) select gen_random_uuid(), tenant_id, id, $2 from res_roles where tenant_id = $1 and code = $3`,
    [acme.id, own.permission, own.role],
  )
  t.equal(await runScript(migrateRoles, config, { execute: true, flags: only, ...quiet }), 1)
  await eventually(issue, (a) => a.status === 400, 5)
  t.equal(
    (await acme.operator.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] })).status,
    201,
    'what the tenant added stays',
  )
  t.equal(await runScript(migrateRoles, config, { execute: true, flags: only, ...quiet }), 0)
  t.match(await executions('migrate-roles'), [
    { status: 'started' },
    { status: 'succeeded', affected: 1 },
    { status: 'started' },
    { status: 'succeeded', affected: 0 },
  ])
})

t.test('F26: untouched seeded roles are narrowed to business data, changed ones are left alone', async (t) => {
  const { tenant } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
  const acme = await tenant()
  const asBefore = async (role: string, permissions: string[]) => {
    await admin.query('delete from res_role_permissions where role_id = $1', [role])
    for (const permission of permissions)
      await admin.query('insert into res_role_permissions (id, tenant_id, role_id, permission) values (gen_random_uuid(), $1, $2, $3)', [
        acme.id,
        role,
        permission,
      ])
  }
  const held = async (role: string): Promise<string[]> =>
    (await admin.query('select permission from res_role_permissions where role_id = $1 order by 1', [role])).rows.map((r) => r.permission)
  const { manager, operator, viewer } = acme.roles
  const ofOperator = (await held(operator)).filter((code) => !code.endsWith('.read'))
  await asBefore(manager, ['erp.*', 'telemetry.*', 'rbac.explain.read', '*.read'])
  await asBefore(operator, ['*.read', ...ofOperator])
  await asBefore(viewer, ['*.read', 'erp.party.create'])
  await runScript(narrowSeededRoles, config, { execute: true, flags: new Set([`--tenant=${acme.slug}`]), ...quiet })
  t.notOk((await held(manager)).includes('*.read'))
  t.ok((await held(manager)).includes('erp.*'))
  t.notOk((await held(operator)).includes('*.read'))
  t.ok((await held(operator)).includes('erp.*.read'))
  t.same(await held(viewer), ['*.read', 'erp.party.create'], 'the tenant changed it')
  t.equal((await acme.operator.get('/audit')).status, 403)
  t.equal((await acme.operator.get('/erp/parties')).status, 200)
})
