// Shared, a schema of one's own, a database of one's own, here and on another server: one code path, and no way across.
import { Client } from 'pg'
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { homeOf } from '../../../domain/tenancy/index.ts'
import { upkeep } from '../../../workers/jobs.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue, stockUp } from '../../support/erp.ts'
import { dataOwners, quietLog, testServices } from '../../support/services.ts'

const { tenant, runtime, request } = await testApp(t, { DATABASE_OWN_POOLS: '2' })
const { planes, tenants } = runtime.services

const HOMES = [
  { mode: 'shared', catalog_key: 'main' },
  { mode: 'shared', catalog_key: 'second' },
  { mode: 'schema', catalog_key: 'main' },
  { mode: 'schema', catalog_key: 'second' },
  { mode: 'database', catalog_key: 'main' },
  { mode: 'database', catalog_key: 'second' },
] as const
const all: TestTenant[] = []
for (const home of HOMES) all.push(await tenant({ home }))

for (const [at, { mode, catalog_key }] of HOMES.entries()) {
  t.test(`${mode} on ${catalog_key}: lists, search, documents, stock, history, events`, async (t) => {
    const acme = all[at]!
    const c = await catalogue(acme)
    await stockUp(acme, c, '10')
    const issue = () => acme.admin.post('/erp/stock/issues', { location_id: c.store, product_id: c.product, quantity: '1' })
    const answers = await Promise.all(times(20, issue))
    t.same(tally(answers), { 201: 10, 409: 10 }, 'ten of twenty take the ten pieces')
    t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
    t.equal((await acme.viewer.get('/erp/products?q=a')).status, 200)
    const party = (await acme.admin.post('/erp/parties', { code: 'FIND-ME', name: 'Rosa the grower', roles: ['client'] })).data
    t.same(
      (await acme.viewer.get('/erp/parties?q=rosa')).data.map((p: { id: string }) => p.id),
      [party.id],
    )
    t.match(await acme.admin.post('/erp/parties', { code: 'FIND-ME', name: 'X', roles: ['client'] }), { status: 409 })
    const post = () => acme.admin.post('/erp/parties', { code: 'ONCE', name: 'Once', roles: ['client'] }, { 'idempotency-key': 'k' })
    t.same(tally(await Promise.all(times(5, post))), { 201: 5 })
    t.ok((await acme.admin.get(`/erp/parties/${party.id}/history`)).data.length > 0)
    t.ok((await acme.admin.get('/tenant/usage')).data.find((u: { metric: string }) => u.metric === 'records').used > 4)
    const home = (await tenants.byId(acme.id))!
    const events = await homeOf(planes, 'data', home).read(acme.scope, (tx) =>
      tx.exists(sql.run`select 1 from plane.event_outbox where tenant_id = ${tx.tenantId} and type = 'erp.party.created'`),
    )
    t.ok(events, 'its events wait where it lives')
  })
}

t.test('no tenant’s rows are found from another, whatever the two live in', async (t) => {
  for (const acme of all) {
    for (const globex of all) {
      if (acme === globex) continue
      const { id } = (await globex.admin.get('/erp/parties?limit=1')).data[0]
      t.equal((await acme.admin.get(`/erp/parties/${id}`)).status, 404)
      t.equal(
        (
          await request(acme.host, {
            method: 'GET',
            url: `/api/v1/erp/parties/${id}`,
            headers: { authorization: `Bearer ${globex.admin.token}` },
          })
        ).status,
        401,
      )
    }
  }
})

t.test('rows of a tenant with a schema of its own are in that schema alone, behind row security there too', async (t) => {
  const [, , schema] = all
  const owner = new Client({ connectionString: dataOwners().main! })
  await owner.connect()
  t.teardown(() => owner.end())
  const { schema_name: name } = (await tenants.byId(schema!.id))!
  const count = async (table: string) =>
    Number((await owner.query(`select count(*) from ${table} where tenant_id = $1`, [schema!.id])).rows[0].count)
  t.ok((await count(`${name}.erp_party`)) > 0)
  t.equal(await count('public.erp_party'), 0)
  t.ok((await count(`${name}.erp_stock_quant`)) > 0)
  t.equal(await count('public.erp_stock_quant'), 0, 'what runs as the owner writes where it belongs')
  const { rows } = await owner.query(
    `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
     where c.relkind = 'r' and c.relname like 'erp_%' and not (c.relrowsecurity and c.relforcerowsecurity)`,
    [name],
  )
  t.same(rows, [])
  const tables = async (schemaName: string) =>
    (
      await owner.query(
        `select table_name || '.' || column_name || ' ' || data_type as c from information_schema.columns where table_schema = $1 and table_name like 'erp_%' order by 1`,
        [schemaName],
      )
    ).rows
  t.same(await tables(name!), await tables('public'), 'the same tables and columns')
})

t.test('prepared statements and connections serve schemas in turn and at once', async (t) => {
  const mixed = [all[0]!, all[2]!]
  const codes = await Promise.all(mixed.map(async (one) => (await one.admin.get('/erp/parties?sort=code&limit=1')).data[0].id))
  const answers = await Promise.all(
    times(60, async (i) => {
      const answer = await mixed[i % 2]!.admin.get('/erp/parties?sort=code&limit=1')
      return answer.status === 200 && answer.data[0].id === codes[i % 2]
    }),
  )
  t.ok(answers.every(Boolean))
})

t.test('a tenant that is behind this code waits, and no other does', async (t) => {
  const [, , behind] = all
  const set = (version: number) =>
    planes.control.write(behind!.scope, (tx) =>
      tx.query(sql.run`update tenant_connection_profiles set migration_version = ${version} where tenant_id = ${tx.tenantId}`),
    )
  await set(1)
  t.match(await behind!.admin.get('/erp/parties'), {
    status: 503,
    body: { detail: 'tenant_migrating' },
    headers: { 'retry-after': String },
  })
  t.equal((await behind!.admin.get('/auth/me')).status, 200, 'who am I needs no data')
  t.equal((await all[3]!.admin.get('/erp/parties')).status, 200)
  await set(planes.dataVersion)
  t.equal((await behind!.admin.get('/erp/parties')).status, 200)
})

t.test('only so many of tenants’ own databases are open at once, however many ask: the others wait in line', async (t) => {
  const own = await Promise.all(times(4, () => tenant({ home: { mode: 'database', catalog_key: 'main' } })))
  const names = await Promise.all(own.map(async ({ id }) => (await tenants.byId(id))!.database_name!))
  const owner = new Client({ connectionString: dataOwners().main! })
  await owner.connect()
  t.teardown(() => owner.end())
  let most = 0
  let asking = true
  const looking = (async () => {
    while (asking) {
      const { rows } = await owner.query(
        'select count(distinct datname)::int as n from pg_stat_activity where datname = any ($1) and application_name = $2',
        [names, 'tenantry'],
      )
      most = Math.max(most, rows[0].n)
    }
  })()
  t.same(tally(await Promise.all(times(40, (n) => own[n % 4]!.admin.get('/erp/parties')))), { 200: 40 })
  asking = false
  await looking
  t.ok(most <= 2, `${most} were open at once`)
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(own.map((one) => one.admin.get('/erp/parties')))
    t.same(tally(answers), { 200: 4 })
    for (const one of own) t.equal((await one.admin.get('/erp/parties')).status, 200)
  }
})

t.test('upkeep reaches tenants’ own databases, and one that is away stops no other', async (t) => {
  const own = await tenant({ home: { mode: 'database', catalog_key: 'second' } })
  const home = (await tenants.byId(own.id))!
  const client = new Client({ connectionString: Object.assign(new URL(dataOwners().second!), { pathname: `/${home.database_name}` }).href })
  await client.connect()
  t.teardown(() => client.end())
  const last = async () =>
    (
      await client.query(
        `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'plane.audit_events'::regclass order by 1 desc limit 1`,
      )
    ).rows[0].name
  const ahead = await last()
  await client.query(`drop table ${ahead}`)
  const lost = { ...home, slug: 'lost', database_name: 'tenantry_t_not_there' }
  await upkeep(planes, [lost, home], 3_653, quietLog.root)
  t.equal(await last(), ahead, 'the partition ahead of time is there again')
})

t.test('a server that is no longer in the catalog: its tenants wait, nobody else notices', async (t) => {
  const without = await testApp(t, { DATA_CATALOG: JSON.stringify({ main: testServices().app.data }) })
  const ask = (one: TestTenant) =>
    without.request(one.host, { method: 'GET', url: '/api/v1/erp/parties', headers: { authorization: `Bearer ${one.admin.token}` } })
  for (const [at, { catalog_key }] of HOMES.entries()) {
    const answer = await ask(all[at]!)
    if (catalog_key === 'main') t.equal(answer.status, 200)
    else t.match(answer, { status: 503, body: { detail: 'database_unavailable' } })
  }
})
