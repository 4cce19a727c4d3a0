// Moving a tenant: who may, what is refused, what takes a move back.
import { Client } from 'pg'
import t from 'tap'
import { failure, newId, sql } from '../../../domain/kernel/index.ts'
import type { Storage } from '../../../domain/tenancy/index.ts'
import { ownedStorage } from '../../../server/storage.ts'
import { Side } from '../../../workers/move/side.ts'
import { carryOut } from '../../../workers/mover.ts'
import { type TestTenant, tally, testApp, times } from '../../support/app.ts'
import { catalogue, stockUp } from '../../support/erp.ts'
import { dataOwners, ownControlPlane, quietLog } from '../../support/services.ts'

const plane = await ownControlPlane(t)
const { tenant, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const { planes, tenants } = runtime.services
const staff = await tenant({ kind: 'platform', slug: 'admin' })
const root = staff.admin
const owned = ownedStorage(dataOwners())
const control = new Client({ connectionString: plane.admin })
await control.connect()
t.teardown(() => control.end())

const ask = (acme: TestTenant | { id: string }, path: string, body?: object) =>
  root.post(`/superadmin/tenants/${acme.id}/move${path}`, body)
const last = async (acme: TestTenant) => (await root.get(`/superadmin/tenants/${acme.id}/moves`)).data[0]
const SCHEMA = { mode: 'schema', catalog_key: 'main' }
const DATABASE = { mode: 'database', catalog_key: 'second' }

/** What the worker does, with what happens before a step. */
async function work(acme: TestTenant, { storage = owned, onStep = () => {} }: { storage?: Storage; onStep?: (step: string) => void } = {}) {
  const deps = { planes, storage, controlUrl: plane.app, log: quietLog.root, onStep }
  await carryOut(deps, acme.id, (await last(acme)).id, new AbortController().signal)
  return last(acme)
}
async function stocked() {
  const acme = await tenant()
  const c = await catalogue(acme)
  await stockUp(acme, c, '10')
  return { acme, c, issue: () => acme.admin.post('/erp/stock/issues', { location_id: c.store, product_id: c.product, quantity: '1' }) }
}
const lives = async (acme: TestTenant) => {
  const { mode, catalog_key, state, writable } = (await tenants.byId(acme.id))!
  return { mode, catalog_key, state, writable }
}
const AT_HOME = { mode: 'shared', catalog_key: 'main', state: 'ready', writable: true }

t.test('what is refused', async (t) => {
  const acme = await tenant()
  t.match(await ask({ id: newId() }, '', SCHEMA), { status: 404, body: { detail: 'not_found' } })
  t.match(await root.get(`/superadmin/tenants/${newId()}/moves`), { status: 404 })
  t.match(await ask(acme, '', { mode: 'schema', catalog_key: 'nowhere' }), {
    status: 400,
    body: { detail: 'invalid_reference', error: { details: { known: ['main', 'second'] } } },
  })
  t.match(await ask(acme, '', { mode: 'shared', catalog_key: 'main' }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await ask(acme, '', { mode: 'cloud', catalog_key: 'main' }), { status: 400, body: { detail: 'invalid_body' } })
  t.match(await ask(acme, '', {}), { status: 400, body: { detail: 'invalid_body' } })
  for (const path of ['/confirm', '/roll-back']) t.match(await ask(acme, path), { status: 404, body: { detail: 'not_found' } })
  t.match(await staff.viewer.post(`/superadmin/tenants/${acme.id}/move`, SCHEMA), { status: 403, body: { detail: 'permission_denied' } })
  t.match(await acme.admin.post(`/superadmin/tenants/${acme.id}/move`, SCHEMA), { status: 404, body: { detail: 'route_not_found' } })
  t.same((await root.get(`/superadmin/tenants/${acme.id}/moves`)).data, [])
  await control.query(`update tenant_connection_profiles set state = 'provisioning' where tenant_id = $1`, [acme.id])
  t.match(await ask(acme, '', SCHEMA), { status: 409, body: { detail: 'invalid_transition' } })
})

t.test('twenty ask at once: one move, to one place', async (t) => {
  const { acme } = await stocked()
  const answers = await Promise.all(times(20, (i) => ask(acme, '', i % 2 ? SCHEMA : DATABASE)))
  t.same(tally(answers), { 200: 10, 409: 10 }, 'who asks for the same again is answered with it')
  t.equal(new Set(answers.filter(({ status }) => status === 200).map(({ data }) => data.id)).size, 1)
  const jobs = await control.query(`select count(*)::int as n from plane.event_outbox where tenant_id = $1 and type = 'job.tenant-move'`, [
    acme.id,
  ])
  t.equal(jobs.rows[0].n, 10)
  t.equal((await lives(acme)).state, 'moving')
  t.match(await ask(acme, '/confirm'), { status: 409, body: { detail: 'invalid_transition' } })
  // Two workers that have the same order: the second waits, and finds it done.
  await Promise.all([work(acme), work(acme)])
  t.match(await last(acme), { state: 'switched', step: 'kept', error: null })
  t.match(await ask(acme, '', { mode: 'shared', catalog_key: 'second' }), { status: 409 }, 'first this one is ended')
  t.match(await ask(acme, '/confirm'), { status: 200, data: { state: 'confirming' } })
  t.match(await work(acme), { state: 'confirmed' })
  t.match(await ask(acme, '/roll-back'), { status: 409, body: { detail: 'invalid_transition' } })
  const trail = (await root.get(`/superadmin/tenants/${acme.id}/moves`)).data
  t.equal(trail.length, 1)
})

t.test('any doubt takes it back: rows that differ, tables that differ, a role that may not', async (t) => {
  const { acme, issue } = await stocked()
  const owner = new Client({ connectionString: dataOwners().main! })
  await owner.connect()
  t.teardown(() => owner.end())
  const schema = `t_${acme.id.replaceAll('-', '')}`

  // Somebody tampers with the copy: its triggers are of no use to whoever says that he replicates.
  await ask(acme, '', SCHEMA)
  let tampered: Promise<unknown> = Promise.resolve()
  const storage: Storage = {
    ...owned,
    connect: async (place) => {
      const client = await owned.connect(place)
      const query = client.query.bind(client) as (...values: unknown[]) => unknown
      // biome-ignore lint/suspicious/noExplicitAny: pg's query has many forms
      ;(client as any).query = (...values: unknown[]) =>
        String(values[0]).startsWith('begin isolation level repeatable read') ? tampered.then(() => query(...values)) : query(...values)
      return client
    },
  }
  const taken = await work(acme, {
    storage,
    onStep: (step) => {
      if (step === 'compare')
        tampered = owner.query(
          `set session_replication_role to replica; update ${schema}.erp_stock_quant set reserved = quantity where quantity > 0; set session_replication_role to origin`,
        )
    },
  })
  t.match(taken, { state: 'rolled_back', error: /erp_stock_quant: \d+ rows/ })
  t.same(await lives(acme), AT_HOME)
  t.equal((await issue()).status, 201)
  t.equal((await owner.query('select 1 from pg_namespace where nspname = $1', [schema])).rowCount, 0, 'nothing is left of it')
  const triggers = await owner.query(`select 1 from pg_trigger where tgname like 'move\\_%' and tgname like '%' || $1 || '%'`, [
    schema.slice(2),
  ])
  t.equal(triggers.rowCount, 0)
  for (const table of ['changed_rows', 'move_sides'])
    t.equal((await owner.query(`select 1 from plane.${table} where tenant_id = $1`, [acme.id])).rowCount, 0)

  await ask(acme, '', SCHEMA)
  const other = await work(acme, {
    storage: {
      ...owned,
      make: async (place) => {
        const version = await owned.make(place)
        await owner.query(`alter table ${schema}.erp_party add column odd int`)
        return version
      },
    },
  })
  t.match(other, { state: 'rolled_back', error: /erp_party is not the same at both places/ })
  t.same(await lives(acme), AT_HOME)

  await ask(acme, '', SCHEMA)
  const powerless = await work(acme, {
    storage: {
      ...owned,
      connect: async (place) => {
        const client = await owned.connect(place)
        await client.query('set role tenantry_owner')
        return client
      },
    },
  })
  t.match(powerless, { state: 'rolled_back', error: /session_replication_role/ })
  t.equal((await issue()).status, 201)
})

t.test('a server that is away: the tenant works on, the move says why it waits, and goes on when it is back', async (t) => {
  const { acme, issue } = await stocked()
  await ask(acme, '', DATABASE)
  let away = true
  const storage: Storage = {
    ...owned,
    connect: (place) =>
      away && place.catalog_key === 'second'
        ? Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))
        : owned.connect(place),
  }
  await t.rejects(work(acme, { storage }))
  t.match(await last(acme), { state: 'copying', error: /ECONNREFUSED/ })
  t.equal((await issue()).status, 201)
  away = false
  t.match(await work(acme, { storage }), { state: 'switched', error: null })
  away = true
  t.match(await ask(acme, '/roll-back'), { status: 200, data: { state: 'returning' } })
  await t.rejects(work(acme, { storage }))
  t.equal((await issue()).status, 201, 'at the new place, until it is back')
  away = false
  t.match(await work(acme, { storage }), { state: 'rolled_back' })
  t.same(await lives(acme), AT_HOME)
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
})

t.test('a server that breaks off in the middle of a copy: nothing hangs, and the next try goes on', async (t) => {
  const { acme, issue } = await stocked()
  const [main, second] = [new Client({ connectionString: dataOwners().main! }), new Client({ connectionString: dataOwners().second! })]
  for (const client of [main, second]) {
    await client.connect()
    t.teardown(() => client.end())
  }
  await main.query('set session_replication_role to replica')
  await main.query(
    `insert into erp_uom (id, tenant_id, organization_id, code, name, dimension) select gen_random_uuid(), $1, $2, 'M' || n, repeat('long name ', 15), 'count'
     from generate_series(1, 60000) n`,
    [acme.id, acme.organizations[0]!.id],
  )
  const name = `tenantry_t_${acme.id.replaceAll('-', '')}`
  for (const [side, server, database] of [
    ['the new place', second, name],
    ['the old place', main, new URL(dataOwners().main!).pathname.slice(1)],
  ] as const) {
    if (side === 'the new place') await ask(acme, '', DATABASE)
    let broken: Promise<unknown> | undefined
    const trying = work(acme, {
      onStep: (step) => {
        if (step !== 'copy erp_uom') return
        // As soon as its rows are on their way.
        broken = (async () => {
          for (let tries = 0; tries < 500; tries++) {
            const { rowCount } = await server.query(
              `select pg_terminate_backend(pid) from pg_stat_activity
               where datname = $1 and application_name = 'tenantry-storage' and state = 'active' and query like 'copy %' and pid <> pg_backend_pid()`,
              [database],
            )
            if (rowCount) return
          }
        })()
      },
    })
    await t.rejects(trying, side)
    await broken
    t.match(await last(acme), { state: 'copying', error: String })
    t.equal((await issue()).status, 201, 'it works on')
  }
  t.match(await work(acme), { state: 'switched', error: null })
  t.match((await last(acme)).tables.erp_uom, { rows: 60_001 })
})

t.test('a move that waited after its switch no longer says why once it goes on', async (t) => {
  const { acme } = await stocked()
  await ask(acme, '', SCHEMA)
  const away = (step: string) => {
    if (step === 'arrive') throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  }
  await t.rejects(work(acme, { onStep: away }))
  t.match(await last(acme), { state: 'switched', step: 'switched', error: /ECONNREFUSED/ })
  t.match(await work(acme), { state: 'switched', step: 'kept', error: null })
})

t.test('somebody writes for long: the switch is put off, and others write meanwhile', async (t) => {
  const { acme, c, issue } = await stocked()
  await stockUp(acme, c, '1000') // how long the switch is put off, and so how much is issued, is the host's affair
  await ask(acme, '', SCHEMA)
  let release = () => {}
  let long: Promise<unknown> = Promise.resolve()
  let closings = 0
  const moving = work(acme, {
    onStep: (step) => {
      if (step === 'catch up' && closings === 0)
        long = planes.data.get('main')!.write(acme.scope, async (tx) => {
          await tx.query(sql.run`update erp_location set name = 'Long' where tenant_id = ${tx.tenantId} and id = ${c.other}`)
          await new Promise<void>((resolve) => {
            release = resolve
          })
        })
      if (step === 'close') closings++
    },
  })
  for (let waited = 0; closings < 2 && waited < 200; waited++) {
    if (closings === 1) t.ok([201, 503].includes((await issue()).status))
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  t.equal(closings, 2, 'it was tried again')
  release()
  await long
  t.match(await moving, { state: 'switched', error: null })
  t.equal((await acme.admin.get(`/erp/locations/${c.other}`)).data.name, 'Long')
  t.equal((await issue()).status, 201)
})

t.test('whoever still thinks that the tenant lives at the old place writes nothing there', async (t) => {
  const { acme } = await stocked()
  await ask(acme, '', { mode: 'shared', catalog_key: 'second' })
  t.match(await work(acme), { state: 'switched' })
  await t.rejects(
    planes.data
      .get('main')!
      .write(acme.scope, (tx) => tx.query(sql.run`update erp_location set name = 'Lost' where tenant_id = ${tx.tenantId}`)),
    failure('tenant_migrating'),
  )
  const side = await Side.open(owned, { mode: 'shared', catalog_key: 'main', schema_name: null, database_name: null }, acme.id)
  t.teardown(side.end)
  t.equal((await side.client.query(`select 1 from erp_location where tenant_id = $1 and name = 'Lost'`, [acme.id])).rowCount, 0)
})

t.test('two keys that lead to one database: nothing is moved, and nothing is lost', async (t) => {
  for (const home of [AT_HOME, { mode: 'schema', catalog_key: 'main' }, { mode: 'database', catalog_key: 'main' }]) {
    const { mode } = home as { mode: 'shared' | 'schema' | 'database' }
    const acme = await tenant({ home: { mode, catalog_key: 'main' } })
    const c = await catalogue(acme)
    await stockUp(acme, c, '10')
    const before = (await acme.admin.get('/erp/parties')).data
    await ask(acme, '', { mode, catalog_key: 'second' })
    const { main } = dataOwners()
    const taken = await work(acme, { storage: ownedStorage({ main: main!, second: main! }) })
    t.match(taken, { state: 'rolled_back', error: /second leads to the database where the tenant lives/ }, mode)
    t.same((await acme.admin.get('/erp/parties')).data, before)
    t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
    t.equal((await acme.admin.post('/erp/parties', { code: 'STILL', name: 'Still', roles: ['client'] })).status, 201)
  }
})

t.test('an answer that is lost after the switch opens no old place again', async (t) => {
  const { acme, issue } = await stocked()
  await ask(acme, '', DATABASE)
  // The control plane goes away between the commit of the switch and what is written down after it.
  let switched = false
  const afterSwitch = () => {
    switched = true
  }
  const lossy = Object.create(planes.control, {
    write: {
      value: async (...values: Parameters<typeof planes.control.write>) => {
        if (switched) throw failure('database_unavailable')
        return planes.control.write(...values)
      },
    },
    read: { value: planes.control.read.bind(planes.control) },
  })
  const deps = {
    planes: { ...planes, control: lossy },
    storage: owned,
    controlUrl: plane.app,
    log: { info: afterSwitch, warn: () => {} } as never,
  }
  await t.rejects(carryOut(deps, acme.id, (await last(acme)).id, new AbortController().signal), failure('database_unavailable'))
  t.equal((await lives(acme)).mode, 'database')
  await t.rejects(
    planes.data
      .get('main')!
      .write(acme.scope, (tx) => tx.query(sql.run`update erp_location set name = 'Lost' where tenant_id = ${tx.tenantId}`)),
    failure('tenant_migrating'),
  )
  t.equal((await issue()).status, 201, 'at the new place')
  t.match(await work(acme), { state: 'switched', step: 'kept', error: null })
})
