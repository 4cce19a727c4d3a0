// Where tenants live against a model: random moves, confirmed, taken back, given up and disturbed, while people write. After
// each, what the tenant reads is what was acknowledged, and nothing is left elsewhere. `TEST_SEED` repeats the choices.
import type { Client } from 'pg'
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { ownedStorage } from '../../../server/storage.ts'
import { carryOut } from '../../../workers/mover.ts'
import { type Answer, type TestTenant, testApp, times, upload } from '../../support/app.ts'
import { catalogue, type Stocked, stockUp } from '../../support/erp.ts'
import { type Random, seeded } from '../../support/random.ts'
import { connectTo, dataOwners, ownControlPlane, quietLog, testRuntime } from '../../support/services.ts'

const TENANTS = 3
const MOVES = 3
const WRITERS = 2
/** What `catalogue` and `stockUp` make: supplier, unit, product, two locations, an order, its receipt and where goods come from. */
const STOCKED_RECORDS = 8
const RECEIVED = 10_000

interface Place {
  mode: 'shared' | 'schema' | 'database'
  catalog_key: 'main' | 'second'
}
const PLACES: readonly Place[] = (['shared', 'schema', 'database'] as const).flatMap((mode) =>
  (['main', 'second'] as const).map((catalog_key) => ({ mode, catalog_key })),
)
const STEPS = ['room', 'watch', 'copy erp_party', 'compare', 'catch up', 'close', 'last rows', 'switch', 'arrive'] as const

const plane = await ownControlPlane(t)
const apps = [await testApp(t, { CONTROL_DATABASE_URL: plane.app }), await testApp(t, { CONTROL_DATABASE_URL: plane.app })] as const
const { tenant } = apps[0]
const root = (await tenant({ kind: 'platform', slug: 'admin' })).admin
// The worker's own connections: it closes those of a database that it drops, the other processes lose theirs.
const worker = await testRuntime({ CONTROL_DATABASE_URL: plane.app })
t.teardown(() => worker.close())
const owners = dataOwners()
const servers = { main: await connectTo(t, owners.main!), second: await connectTo(t, owners.second!) }
const seed = seeded().seed

interface Party {
  name: string
  version: number
}

/** What people were told is done. */
class Acknowledged {
  readonly parties = new Map<string, Party>()
  readonly deleted = new Set<string>()
  readonly files = new Map<string, number>()
  issued = 0
  writes = 0
  putOff = 0

  /** Records of the plan; the first issue makes the location where goods go. */
  get records(): number {
    return STOCKED_RECORDS + this.parties.size + this.files.size + (this.issued > 0 ? 1 : 0)
  }
}

/** Writers that go on until they are told to stop; each changes and deletes what it made itself. */
function write(t: Tap, acme: TestTenant, c: Stocked, known: Acknowledged, random: Random) {
  let stopped = false
  const work = times(WRITERS, async (writer) => {
    const own: string[] = []
    for (let i = 0; !stopped; i++) {
      const { request } = apps[(writer + i) % apps.length]!
      const send = (method: 'POST' | 'PATCH' | 'DELETE', path: string, payload?: object, version?: number): Promise<Answer> =>
        request(acme.host, {
          method,
          url: `/api/v1${path}`,
          headers: { authorization: `Bearer ${acme.admin.token}`, ...(version ? { 'if-match': `"${version}"` } : {}) },
          ...(payload ? { payload } : {}),
        })
      const choice = random.below(10)
      const at = random.below(Math.max(1, own.length))
      const id = own[at]
      const party = id && known.parties.get(id)
      let answer: Answer
      if (choice < 2 && party) {
        const name = `Changed ${i}`
        answer = await send('PATCH', `/erp/parties/${id}`, { name }, party.version)
        if (answer.status === 200) known.parties.set(id, { name, version: answer.data.version })
      } else if (choice < 4 && party) {
        answer = await send('DELETE', `/erp/parties/${id}`, undefined, party.version)
        if (answer.status === 204) {
          known.parties.delete(id)
          known.deleted.add(id)
          own.splice(at, 1)
        }
      } else if (choice < 6) {
        answer = await send('POST', '/erp/stock/issues', { location_id: c.store, product_id: c.product, quantity: '1' })
        if (answer.status === 201) known.issued++
      } else if (choice === 6 && i % 4 === 0) {
        const size = 1 + random.below(400)
        answer = await upload(acme.admin, 'x'.repeat(size), `${i}.txt`)
        if (answer.status === 201) known.files.set(answer.data.id, size)
      } else {
        const code = newId()
        answer = await send('POST', '/erp/parties', { code, name: code, roles: ['client'] })
        if (answer.status === 201) {
          known.parties.set(answer.data.id, { name: code, version: answer.data.version })
          own.push(answer.data.id)
        }
      }
      if (answer.status < 300) known.writes++
      else if (answer.body?.detail === 'tenant_migrating') known.putOff++
      else t.fail(`a write of ${acme.slug}: ${answer.status} ${answer.text}`)
      await new Promise((resolve) => setTimeout(resolve, 40)) // the cores have other work, too
    }
  })
  return async () => {
    stopped = true
    await Promise.all(work)
  }
}

type Tap = Pick<typeof t, 'ok' | 'match' | 'same' | 'fail' | 'equal'>

/** Tables of a schema that have rows of tenants. */
const tablesOf = async (client: Client, schema: string): Promise<string[]> =>
  (
    await client.query<{ name: string }>(
      `select format('%I.%I', $1::text, c.relname) as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
       where c.relnamespace = to_regnamespace($1) and c.relkind in ('r', 'p') and not c.relispartition`,
      [schema],
    )
  ).rows.map(({ name }) => name)

const rowsIn = async (client: Client, tables: readonly string[], tenantId: string): Promise<string[]> => {
  if (tables.length === 0) return []
  const counts = tables.map(
    (name) => `select '${name.replaceAll("'", "''")}' as name, count(*)::int as n from ${name} where tenant_id = $1`,
  )
  const { rows } = await client.query<{ name: string; n: number }>(counts.join(' union all '), [tenantId])
  return rows.filter(({ n }) => n > 0).map(({ name, n }) => `${name}: ${n}`)
}

/** What lies on the servers of a tenant that lives in one place alone. */
async function verifyServers(t: Tap, { id }: TestTenant, home: Place, after: string): Promise<void> {
  const short = id.replaceAll('-', '')
  for (const [key, client] of Object.entries(servers) as [Place['catalog_key'], Client][]) {
    const here = home.catalog_key === key
    const schema = await client.query('select from pg_namespace where nspname = $1', [`t_${short}`])
    t.equal(schema.rowCount, here && home.mode === 'schema' ? 1 : 0, `schemas on ${key} after ${after}`)
    const database = await client.query('select from pg_database where datname = $1', [`tenantry_t_${short}`])
    t.equal(database.rowCount, here && home.mode === 'database' ? 1 : 0, `databases on ${key} after ${after}`)
    const triggers = await client.query(`select from pg_trigger where tgname like 'move\\_%' and tgname like '%' || $1 || '%'`, [short])
    t.equal(triggers.rowCount, 0, `triggers on ${key} after ${after}`)
    const ofMoves = await rowsIn(client, ['plane.changed_rows', 'plane.move_sides'], id)
    t.same(ofMoves, [], `notes of moves on ${key} after ${after}`)
    const left = [
      ...(here && home.mode === 'shared' ? [] : await rowsIn(client, await tablesOf(client, 'public'), id)),
      // Schemas of one database share what belongs to the database.
      ...(here && home.mode !== 'database' ? [] : await rowsIn(client, await tablesOf(client, 'plane'), id)),
    ]
    t.same(left, [], `rows on ${key} after ${after}`)
  }
}

/** What the tenant reads, with nobody writing. */
async function verifyReads(t: Tap, acme: TestTenant, c: Stocked, known: Acknowledged, after: string): Promise<void> {
  const found = new Map<string, Party>()
  let cursor: string | null = null
  do {
    const page: Answer = await acme.admin.get(`/erp/parties?limit=200&sort=code${cursor ? `&cursor=${cursor}` : ''}`)
    if (page.status !== 200) return t.fail(`${after}: ${page.text}`) as never
    for (const { id, name, version } of page.data) if (id !== c.supplier) found.set(id, { name, version })
    cursor = page.body.pagination.next_cursor
  } while (cursor)
  const missing = [...known.parties].filter(([id, { name, version }]) => found.get(id)?.name !== name || found.get(id)?.version !== version)
  t.same(missing, [], `parties that are not as they were acknowledged after ${after}`)
  t.same(
    [...found.keys()].filter((id) => !known.parties.has(id)),
    [],
    `parties that nobody was told of after ${after}`,
  )
  for (const id of [...known.deleted].slice(-3))
    t.equal((await acme.admin.get(`/erp/parties/${id}`)).status, 404, `deleted, after ${after}`)
  const files = (await acme.admin.get('/files?limit=200')).data.map(({ id }: { id: string }) => id)
  t.same(new Set(files), new Set(known.files.keys()), `files after ${after}`)
  const [stock] = (await acme.admin.get(`/erp/stock?product_id=${c.product}&location_id=${c.store}`)).data
  t.equal(Number(stock.quantity), RECEIVED - known.issued, `stock after ${after}`)
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [], `stock of its moves after ${after}`)
  const usage = Object.fromEntries(
    (await acme.admin.get('/tenant/usage')).data.map(({ metric, used }: { metric: string; used: number }) => [metric, used]),
  )
  const storage = [...known.files.values()].reduce((sum, size) => sum + size, 0)
  t.match(usage, { records: known.records, storage }, `usage after ${after}`)
  t.equal((await acme.admin.get('/audit/verify')).status, 200, `the trail after ${after}`)
}

const isAt = async (acme: TestTenant): Promise<object> => {
  const { mode, catalog_key, state, writable } = (await root.get(`/superadmin/tenants/${acme.id}`)).data
  return { mode, catalog_key, state, writable }
}
const told = ({ mode, catalog_key }: Place) => `${mode} on ${catalog_key}`

t.test(`TEST_SEED=${seed}: every tenant is where the model says, with all that was acknowledged`, async (t) => {
  await Promise.all(
    times(TENANTS, async (n) => {
      const random = seeded(seed + n)
      let home: Place = random.pick(PLACES)
      const acme = await tenant({ home })
      const c = await catalogue(acme)
      await stockUp(acme, c, String(RECEIVED))
      const known = new Acknowledged()
      const ask = (path: string, body?: object) => root.post(`/superadmin/tenants/${acme.id}/move${path}`, body)
      const last = async () => (await root.get(`/superadmin/tenants/${acme.id}/moves`)).data[0]

      /** Works on the last move until it waits for staff; a step fails once, or another decision comes before it. */
      async function work({ failsAt, meanwhile }: { failsAt?: string | undefined; meanwhile?: [string, () => Promise<unknown>] } = {}) {
        const { id } = await last()
        let failed = !failsAt
        let decided: Promise<unknown> | undefined
        const onStep = (step: string) => {
          if (meanwhile && !decided && step.startsWith(meanwhile[0])) decided = meanwhile[1]()
          if (failed || step !== failsAt) return
          failed = true
          throw Object.assign(new Error('the server is away'), { code: 'ECONNREFUSED' })
        }
        const { planes } = worker.services
        const deps = { planes, storage: ownedStorage(owners), controlUrl: plane.app, log: quietLog.root, onStep }
        // As Kafka gives a job again that was not done; and two workers may have been given it.
        for (let tries = 0; ; tries++) {
          try {
            await Promise.all(times(1 + random.below(2), () => carryOut(deps, acme.id, id, new AbortController().signal)))
            break
          } catch (error) {
            if (tries === 3) throw error
          }
        }
        await decided
        // What was decided after the worker's last look is another job.
        if (decided) await carryOut(deps, acme.id, id, new AbortController().signal)
      }

      const stop = write(t, acme, c, known, random)
      const story: string[] = [`tenant ${n} began ${told(home)}`]
      let resume: (() => Promise<void>) | undefined = stop
      for (let move = 0; move < MOVES; move++) {
        const to = random.pick(PLACES.filter((place) => told(place) !== told(home)))
        const failsAt = random.pick<string | undefined>([undefined, undefined, ...STEPS])
        const end = random.pick(['confirm', 'confirm', 'roll-back', 'cancel', 'cancel at work'] as const)
        story.push(`to ${told(to)}, ${end}${failsAt ? `, failing at ${failsAt}` : ''}`)
        const after = story.slice(-3).join('; ')
        t.match(await ask('', home), { status: 400, body: { detail: 'invalid_value' } }, 'not to where it is')
        t.match(await ask('', to), { status: 200, data: { state: 'copying' } }, after)
        t.match(await ask('/confirm'), { status: 409, body: { detail: 'invalid_transition' } }, 'nothing to confirm yet')
        if (end === 'cancel') {
          t.match(await ask('/roll-back'), { status: 200, data: { state: 'cancelling' } }, after)
          await work()
        } else if (end === 'cancel at work') {
          const at = random.pick(['room', 'watch', 'copy', 'compare', 'catch up', 'close'])
          await work({ failsAt, meanwhile: [at, () => ask('/roll-back')] })
        } else {
          await work({ failsAt })
          t.match(await last(), { state: 'switched', step: 'kept', error: null }, after)
          t.same(await isAt(acme), { ...to, state: 'ready', writable: true }, after)
          t.match(await ask('', home), { status: 409, body: { detail: 'invalid_transition' } }, 'first this one is ended')
          const before = known.writes
          for (let waited = 0; known.writes < before + 5 && waited < 200; waited++) await new Promise((resolve) => setTimeout(resolve, 50))
          t.match(await ask(`/${end}`), { status: 200 }, after)
          await work({ failsAt: random.pick([undefined, 'give up', 'forget', 'drop', ...(end === 'roll-back' ? STEPS.slice(1, 8) : [])]) })
          if (end === 'confirm') home = to
        }
        t.match(await last(), { state: end === 'confirm' ? 'confirmed' : 'rolled_back' }, after)
        t.same(await isAt(acme), { ...home, state: 'ready', writable: true }, after)
        await resume()
        await verifyServers(t, acme, home, after)
        await verifyReads(t, acme, c, known, after)
        resume = write(t, acme, c, known, random)
      }
      await resume()
      await verifyReads(t, acme, c, known, `${story.join('; ')}; and writing on`)
      t.ok(known.writes > MOVES * 10, `${known.writes} writes`)
      t.comment(`${story.join('; ')}: ${known.writes} writes, ${known.putOff} put off`)

      // The counter is the one that limits, wherever the tenant lives now.
      const [code, room] = [`placement-${n}`, 1 + random.below(5)]
      await root.put(`/superadmin/plans/${code}`, {
        ...{ name: code, price: '1', currency: 'EUR', interval: 'month', trial_days: 14, sort: 99 },
        ...{ modules: ['erp.parties'], limits: { records: known.records + room } },
      })
      t.equal((await root.put(`/superadmin/tenants/${acme.id}/plan`, { plan: code })).status, 200)
      const made = await Promise.all(times(12, () => acme.admin.post('/erp/parties', { code: newId(), name: 'P', roles: ['client'] })))
      t.equal(made.filter(({ status }) => status === 201).length, room, `room for ${room} after ${story.join('; ')}`)
      t.equal(made.filter(({ body }) => body.detail === 'plan_limit').length, 12 - room)
    }),
  )
})
