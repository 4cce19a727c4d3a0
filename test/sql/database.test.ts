// What the database itself promises.
import { parse } from 'libpg-query'
import { Client } from 'pg'
import t from 'tap'
import { Type } from 'typebox'
import * as exchange from '../../domain/erp/exchange/index.ts'
import * as fields from '../../domain/erp/fields/index.ts'
import * as inventory from '../../domain/erp/inventory/index.ts'
import * as parties from '../../domain/erp/parties/index.ts'
import * as pricing from '../../domain/erp/pricing/index.ts'
import * as procurement from '../../domain/erp/procurement/index.ts'
import * as products from '../../domain/erp/products/index.ts'
import * as files from '../../domain/files/index.ts'
import * as identity from '../../domain/identity/index.ts'
import { Database, isNullable, type ListSpec, newId, type Row, sql, systemScope } from '../../domain/kernel/index.ts'
import * as telemetry from '../../domain/telemetry/index.ts'
import { migrate, problemsOf } from '../../server/migrations.ts'
import { testApp } from '../support/app.ts'
import { catalogue, stockUp } from '../support/erp.ts'
import { testServices } from '../support/services.ts'
import { withoutTenant } from '../support/statements.ts'

const { tenant, runtime } = await testApp(t)
const services = testServices()

async function connect(url: string, t: { teardown(work: () => unknown): void }): Promise<Client> {
  const client = new Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

const exported = [parties, products, pricing, inventory, procurement, exchange, fields, files, telemetry, identity].flatMap(
  (module) => Object.values(module) as unknown[],
)
const isRow = (value: unknown): value is Row => typeof value === 'object' && value !== null && 'table' in value && 'writable' in value
const specs: ListSpec[] = exported.flatMap((value) => {
  const candidate = value as { spec?: ListSpec; row?: unknown; filter?: unknown }
  if (candidate?.spec) return [candidate.spec]
  return isRow(candidate?.row) && Array.isArray(candidate.filter) ? [candidate as unknown as ListSpec] : []
})

t.test('every tenant table has forced row security and the application cannot bypass it', async (t) => {
  for (const plane of ['control', 'data', 'telemetry'] as const)
    t.same(await problemsOf({ name: plane, plane, url: services.app[plane] }), [], plane)
  t.match(await problemsOf({ name: 'control', plane: 'control', url: services.admin.control }), [/could bypass row security/])
})

t.test('the application’s role sees nothing unbound, only its own bound, and changes nothing of the structure', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  await catalogue(acme)
  await catalogue(globex)
  const client = await connect(services.app.data, t)
  const count = async () => Number((await client.query('select count(*) from erp_party')).rows[0].count)
  t.equal(await count(), 0, 'unbound')
  await client.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  t.equal(await count(), 1, 'bound')
  t.equal(Number((await client.query('select count(*) from erp_party where tenant_id = $1', [globex.id])).rows[0].count), 0)
  t.same(
    (await client.query(`select plane.search_ids('erp_party', '{name}', $1, null, '%', 10) as ids`, [globex.id])).rows[0].ids,
    [],
    'search does not help either',
  )
  for (const statement of [
    'alter table erp_party disable row level security',
    'drop table erp_party',
    'create table mine (a int)',
    'set role tenantry_owner',
    `copy erp_party to '/tmp/x'`,
    'update erp_stock_quant set quantity = 5',
    'delete from erp_stock_move',
    'update erp_stock_move set quantity = 1',
    'delete from plane.audit_events',
    `update plane.audit_events set action = 'x'`,
    `create function f() returns int language sql as 'select 1'`,
  ]) {
    await t.rejects(client.query(statement), { code: '42501' } as never, statement)
  }
  await t.rejects(
    client.query('insert into erp_party (id, tenant_id, organization_id, code, name, roles) values ($1, $2, $2, $3, $3, $4)', [
      newId(),
      globex.id,
      'X',
      ['client'],
    ]),
    /row-level security/,
  )
})

t.test('no statement is compiled: what that costs is a thousand times what ours take', async (t) => {
  for (const url of Object.values(services.app)) {
    const client = await connect(url, t)
    t.equal((await client.query('show jit')).rows[0].jit, 'off')
  }
})

t.test('a reference cannot cross tenants, whatever the code does', async (t) => {
  const [acme, globex] = await Promise.all([tenant(), tenant()])
  const theirs = await catalogue(globex)
  await t.rejects(
    runtime.services.planes.data.get('main')!.write(acme.scope, (tx) =>
      tx.query(sql.run`
      insert into erp_product (id, tenant_id, organization_id, code, name, uom_id) values (${newId()}, ${tx.tenantId}, ${tx.context.organizationId}, 'X', 'X', ${theirs.uom})`),
    ),
    { detail: 'invalid_reference' } as never,
  )
})

t.test('rows have the columns that their schema says', async (t) => {
  for (const [url, rows] of [
    [services.admin.control, exported.filter(isRow).filter((row) => row.table.startsWith('res_'))],
    [services.admin.data, exported.filter(isRow).filter((row) => /^(erp|file)_/.test(row.table))],
    [services.admin.telemetry, exported.filter(isRow).filter((row) => row.table.startsWith('tel_'))],
  ] as const) {
    const client = await connect(url, t)
    for (const row of rows) {
      const { rows: found } = await client.query<{ name: string; nullable: boolean }>(
        `select attname as name, not attnotnull as nullable from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped`,
        [row.table],
      )
      const columns = new Map(found.map((column) => [column.name, column.nullable]))
      for (const [name, schema] of Object.entries((row.schema as { properties: Record<string, object> }).properties)) {
        if (name in row.computed) continue
        const nullable = isNullable(schema)
        t.equal(columns.get(name), nullable, `${row.table}.${name}`)
      }
    }
  }
})

t.test('every declared filter and sort has an index that starts with the tenant', async (t) => {
  t.ok(specs.length >= 10, `${specs.length} lists`)
  for (const spec of specs) {
    const plane = spec.row.table.startsWith('tel_') ? 'telemetry' : spec.row.table.startsWith('res_') ? 'control' : 'data'
    const client = await connect(services.admin[plane], t)
    const { rows } = await client.query<{ definition: string }>(
      `select pg_get_indexdef(indexrelid) as definition from pg_index where indrelid = $1::regclass`,
      [spec.row.table],
    )
    const scope = spec.row.scope === 'tenant' ? 'tenant_id, ' : 'tenant_id, organization_id, '
    for (const column of new Set([...spec.filter, ...spec.sort])) {
      // Worked out of each row that the list's own index finds: for tables of thousands, and never sorted by.
      if (column in spec.row.computed && !spec.sort.includes(column)) continue
      t.ok(
        rows.some(({ definition }) => definition.includes(`(${scope}${column}`)),
        `${spec.row.table}.${column}`,
      )
    }
    for (const column of spec.search ?? [])
      t.ok(
        rows.some(({ definition }) => definition.includes(`${column} extensions.gin_trgm_ops`)),
        `${spec.row.table}.${column} is searchable`,
      )
  }
})

t.test('a page of a large list is read by its index, for the application’s role', async (t) => {
  const acme = await tenant()
  const c = await catalogue(acme)
  const admin = await connect(services.admin.data, t)
  await admin.query(
    `insert into erp_product (id, tenant_id, organization_id, code, name, uom_id, created_at)
    select gen_random_uuid(), $1, $2, 'BULK-' || n, 'Plant ' || n, $3, now() - n * interval '1 second' from generate_series(1, 20000) n`,
    [acme.id, acme.organizations[0]!.id, c.uom],
  )
  await admin.query('analyze erp_product')
  const client = await connect(services.app.data, t)
  await client.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const scope = `tenant_id = '${acme.id}' and organization_id = '${acme.organizations[0]!.id}' and deleted_at is null`
  for (const [query, index] of [
    [`where ${scope} order by created_at desc, id desc limit 51`, /Index (Only )?Scan using erp_product_recent/],
    [
      `where ${scope} and (created_at, id) < (now() - interval '1 hour', '${newId()}') order by created_at desc, id desc limit 51`,
      /Index (Only )?Scan using erp_product_recent[\s\S]*Index Cond:.*created_at/,
    ],
    [`where ${scope} and code = 'BULK-7' limit 51`, /Index (Only )?Scan using erp_product__code_key/],
    [`where ${scope} order by name, id limit 51`, /Index (Only )?Scan using erp_product_name/],
  ] as const) {
    const { rows } = await client.query(`explain select id from erp_product ${query}`)
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
    t.match(plan, index)
    t.notMatch(plan, /Seq Scan/)
  }
})

t.test('a connection is bound to a tenant once, not at each checkout', async (t) => {
  const statements: string[] = []
  const counting = { name: 'counting', beforeQueryExecution: (_: unknown, query: { sql: string }) => void statements.push(query.sql) }
  const database = new Database(services.app.data, { max: 1, interceptors: [counting as never] })
  t.teardown(() => database.close())
  const bound = async (tenantId: string) => {
    const { tenant } = await database.read(systemScope(tenantId, 'test', newId()), (tx) =>
      tx.one(sql.type(Type.Object({ tenant: Type.String() }))`select plane.tenant_id() as tenant`),
    )
    return tenant
  }
  const [one, other] = [newId(), newId()]
  for (const tenant of [one, one, one, other, other, one]) t.equal(await bound(tenant), tenant)
  t.equal(statements.filter((text) => text.includes('set_config')).length, 3, 'once for each change of tenant')
})

t.test('the trail has who, what and when of every change, with secrets masked', async (t) => {
  const acme = await tenant()
  const admin = await connect(services.admin.control, t)
  const { rows } = await admin.query(`select diff from plane.audit_events where tenant_id = $1 and entity = 'res_users'`, [acme.id])
  t.ok(rows.length >= 4)
  t.notMatch(JSON.stringify(rows), /argon2/)
  const c = await catalogue(acme)
  await stockUp(acme, c, '1')
  const data = await connect(services.admin.data, t)
  const { rows: changes } = await data.query(`select entity, actor_id, correlation_id from plane.audit_events where tenant_id = $1`, [
    acme.id,
  ])
  t.ok(changes.every((change) => change.actor_id && change.correlation_id))

  const order = (await acme.admin.get('/erp/purchase-orders')).data[0].id
  const history = (await acme.admin.get(`/erp/purchase-orders/${order}/history`)).data as { action: string; diff: Record<string, object> }[]
  const lines = history.filter(({ diff }) => diff.lines)
  t.match(lines.at(-1), { action: 'insert', diff: { lines: [{ position: 1, quantity: Number }] } }, 'all lines of the order in one entry')
  t.match(lines[0], { action: 'update', diff: { lines: [{ id: String, received_quantity: [0, Number] }] } })
})

t.test('migrations run once, and a file changed afterwards is refused', async (t) => {
  t.same(await migrate({ name: 'control', plane: 'control', url: services.admin.control }), { target: 'control', applied: [] })
  const admin = await connect(services.admin.telemetry, t)
  await admin.query(`update schema_migrations set checksum = 'x' || checksum where name = 'telemetry/001_telemetry.sql'`)
  t.match(await migrate({ name: 'telemetry', plane: 'telemetry', url: services.admin.telemetry }), { error: /was changed after it ran/ })
  await admin.query(`update schema_migrations set checksum = substr(checksum, 2) where name = 'telemetry/001_telemetry.sql'`)
  t.match(await migrate({ name: 'nowhere', plane: 'data', url: 'postgres://x:x@127.0.0.1:1/x' }), { error: String })
})

t.test('a statement that does not say whose rows it means is found, one that does is not', async (t) => {
  const tables = new Set(['erp_party', 'erp_product', 'event_outbox'])
  const missing = async (text: string) => withoutTenant((await parse(text)) as Record<string, unknown>, tables)
  for (const text of [
    'select 1 from erp_party',
    'select 1 from erp_party where id = $1',
    'update erp_party set name = $1 where id = $2',
    'delete from plane.event_outbox',
    'insert into erp_party (id, name) values ($1, $2)',
    'select 1 from erp_party p join erp_product q on q.id = p.id where p.tenant_id = $1',
    'select (select count(*) from erp_product) from erp_party where tenant_id = $1',
    'select 1 from erp_party where tenant_id = $1 union all select 1 from erp_product',
    'with x as (select 1 from erp_party) select * from x where tenant_id = $1',
  ]) {
    t.ok((await missing(text)).length > 0, text)
  }
  for (const text of [
    'select 1 from erp_party where tenant_id = $1',
    'select 1 from erp_party p join erp_product q on q.tenant_id = p.tenant_id and q.id = p.id where p.tenant_id = $1',
    'select 1 from erp_party join erp_product using (tenant_id, id) where tenant_id = $1',
    'insert into erp_party (id, tenant_id) values ($1, $2)',
    'select exists (select from erp_product q where q.tenant_id = p.tenant_id) from erp_party p where p.tenant_id = $1',
    'with erp_party as (select 1) select * from erp_party',
    'select 1 from tenants',
  ]) {
    t.same(await missing(text), [], text)
  }
})
