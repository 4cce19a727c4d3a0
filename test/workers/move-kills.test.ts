// kill -9 at each step of a move: what was begun is taken up, the tenant works on, nothing is lost and nothing doubled.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import t, { type Test } from 'tap'
import { Type } from 'typebox'
import { sql, type Tx } from '../../domain/kernel/index.ts'
import { confirmMove, homeOf, lastMove, type Move, requestMove, rollBackMove } from '../../domain/tenancy/index.ts'
import { ownedStorage } from '../../server/storage.ts'
import { carryOut } from '../../workers/mover.ts'
import { type TestTenant, tally, testApp } from '../support/app.ts'
import { catalogue, stockUp } from '../support/erp.ts'
import type { MoverOrder } from '../support/mover-process.ts'
import { dataOwners, ownControlPlane, quietLog, testServices } from '../support/services.ts'

const plane = await ownControlPlane(t)
const { tenant, runtime } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })
const { planes, tenants } = runtime.services
const { control } = planes
const catalog = new Set(['main', 'second'])
const storage = ownedStorage(dataOwners())

interface Destination {
  mode: 'shared' | 'schema' | 'database'
  catalog_key: 'main' | 'second'
}
const steer = (acme: TestTenant, work: (tx: Tx) => Promise<void>): Promise<Move> =>
  control.write(acme.scope, async (tx) => {
    await work(tx)
    return lastMove(tx)
  })
const begin = (acme: TestTenant, to: Destination) => steer(acme, (tx) => requestMove(tx, to, catalog, null))

/** A worker that dies before a step. */
async function killedAt(acme: TestTenant, move: Move, dieAt: string): Promise<string | null> {
  const { data: main, second } = testServices().app
  const order: MoverOrder = {
    controlUrl: plane.app,
    catalog: { main, second },
    owners: dataOwners(),
    tenantId: acme.id,
    moveId: move.id,
    dieAt,
  }
  const child = spawn(process.execPath, [path.join(import.meta.dirname, '../support/mover-process.ts'), JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const [, signal] = await once(child, 'exit')
  return signal
}
const carryOn = async (acme: TestTenant, move: Move, onStep: (step: string) => void = () => {}): Promise<Move> => {
  await carryOut({ planes, storage, controlUrl: plane.app, log: quietLog.root, onStep }, acme.id, move.id, new AbortController().signal)
  return control.read(acme.scope, lastMove)
}

const Count = Type.Object({ parties: Type.Integer(), events: Type.Integer(), moves: Type.Integer() })
/** What the tenant has where it lives. */
const inventory = async (acme: TestTenant) =>
  homeOf(planes, 'data', (await tenants.byId(acme.id))!).read(acme.scope, (tx) =>
    tx.one(sql.type(Count)`
      select (select count(*) from erp_party where tenant_id = ${tx.tenantId}) as parties,
        (select count(*) from erp_stock_move where tenant_id = ${tx.tenantId}) as moves,
        (select count(distinct event_id) from plane.event_outbox where tenant_id = ${tx.tenantId} and available_at < 'infinity') as events`),
  )

const acme = await tenant()
const c = await catalogue(acme)
await stockUp(acme, c, '1000')
let serial = 0
const party = (n: number) =>
  acme.admin.post('/erp/parties', { code: `K${n}`, name: `Kept ${n}`, roles: ['client'] }, { 'idempotency-key': `key-${n}` })
/** A party and an issue of stock; while a switch is under way nobody may write. */
const write = async () =>
  tally(
    await Promise.all([
      party(++serial),
      acme.admin.post('/erp/stock/issues', { location_id: c.store, product_id: c.product, quantity: '1' }),
    ]),
  )
const PAUSED = ['last rows', 'switch']

/** A move that is killed before each of these steps in turn, is written to after each, and is taken up in the end. */
async function throughKills(t: Test, move: Move, steps: string[]): Promise<Move> {
  const before = await inventory(acme)
  let written = 0
  for (const step of steps) {
    t.equal(await killedAt(acme, move, step), 'SIGKILL', `killed before “${step}”`)
    t.equal((await acme.admin.get(`/erp/products/${c.product}`)).status, 200, 'it reads')
    t.same(await write(), PAUSED.includes(step) ? { 503: 2 } : { 201: 2 }, 'it writes, or waits')
    if (!PAUSED.includes(step)) written++
  }
  const moved = await carryOn(acme, move)
  const after = await inventory(acme)
  t.equal(after.parties, before.parties + written)
  t.equal(after.moves, before.moves + written)
  t.ok(after.events > before.events, 'its events came along')
  t.same((await acme.admin.get('/erp/stock/verify')).data.differences, [])
  t.same(await write(), { 201: 2 })
  t.match(await party(serial), { status: 201, headers: { 'idempotency-replayed': 'true' } }, 'and its keys')
  return moved
}
const lives = async () => {
  const { mode, catalog_key, state, writable } = (await tenants.byId(acme.id))!
  return `${mode} on ${catalog_key}, ${state}${writable ? '' : ', paused'}`
}

const COPYING = ['room', 'watch', 'copy erp_party', 'copy erp_stock_move', 'compare', 'catch up']
const SWITCHING = ['close', 'last rows', 'switch', 'arrive']
const GIVING_UP = ['give up', 'forget', 'drop']

t.test('to a database on another server: killed at each step, then taken up', async (t) => {
  const move = await begin(acme, { mode: 'database', catalog_key: 'second' })
  t.match(await throughKills(t, move, [...COPYING, ...SWITCHING]), { state: 'switched', step: 'kept', error: null })
  t.equal(await lives(), 'database on second, ready')
  await steer(acme, confirmMove)
  t.match(await throughKills(t, move, GIVING_UP), { state: 'confirmed', error: null })
  t.equal(await lives(), 'database on second, ready')
})

t.test('to a schema: killed in the middle of the switch', async (t) => {
  const move = await begin(acme, { mode: 'schema', catalog_key: 'main' })
  t.match(await throughKills(t, move, SWITCHING), { state: 'switched', step: 'kept', error: null })
  t.equal(await lives(), 'schema on main, ready')
})

t.test('back to the old copy with what was written since: killed at each step, then taken up', async (t) => {
  const move = await steer(acme, rollBackMove)
  const ended = await throughKills(t, move, ['watch', 'compare', ...SWITCHING.slice(0, 3), ...GIVING_UP])
  t.match(ended, { state: 'rolled_back', error: null })
  t.equal(await lives(), 'database on second, ready')
})

t.test('taken back before the switch: it has never left', async (t) => {
  const move = await begin(acme, { mode: 'shared', catalog_key: 'second' })
  t.equal(await killedAt(acme, move, 'catch up'), 'SIGKILL')
  await steer(acme, rollBackMove)
  t.match(await throughKills(t, move, GIVING_UP), { state: 'rolled_back', error: null })
  t.equal(await lives(), 'database on second, ready')
})
