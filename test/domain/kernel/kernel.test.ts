import { createSecretKey } from 'node:crypto'
import t from 'tap'
import { Type } from 'typebox'
import {
  type Detail,
  decimal,
  type Failure,
  failure,
  lifecycle,
  money,
  newId,
  parseListQuery,
  quantity,
  readCursor,
  row,
  sql,
  systemScope,
  type Tx,
  writeCursor,
} from '../../../domain/kernel/index.ts'
import { testRuntime } from '../../support/services.ts'

/** What a thrown refusal is matched against; tap's types know only the fields of Error. */
const refused = (detail: Detail) => ({ name: 'Failure', detail }) as Partial<Failure> as Error

const Thing = row('erp_party', { code: Type.String(), credit_hold: Type.Boolean(), roles: Type.Array(Type.String()) })
const spec = { row: Thing as never, filter: ['code', 'credit_hold', 'created_at', 'roles'], sort: ['code', 'created_at'], search: ['code'] }

t.test('money rounds half up to four decimals and never through binary floats', async (t) => {
  t.equal(money(decimal('0.1').plus('0.2')), '0.3000')
  t.equal(money(decimal('1.00005')), '1.0001')
  t.equal(quantity(decimal('1').div(3)), '0.333333')
})

t.test('a list query is read against its declaration, and anything else is refused', async (t) => {
  const query = parseListQuery(spec, {
    limit: '10',
    sort: '-code,created_at',
    'created_at.gte': '2026-01-01',
    credit_hold: 'true',
    q: 'ro',
  })
  t.match(query, {
    limit: 10,
    sort: [
      { column: 'code', descending: true },
      { column: 'created_at', descending: false },
    ],
    q: 'ro',
  })
  t.same(query.filters, [
    { column: 'created_at', operator: 'gte', values: ['2026-01-01T00:00:00Z'] },
    { column: 'credit_hold', operator: 'in', values: [true] },
  ])
  for (const bad of [
    { limit: '0' },
    { limit: '201' },
    { limit: 'x' },
    { sort: 'name' },
    { nope: '1' },
    { 'code.regex': 'x' },
    { credit_hold: 'perhaps' },
    { expand: 'x' },
    { fields: 'x' },
    { count: 'all' },
  ]) {
    t.throws(() => parseListQuery(spec, bad), refused('invalid_query'), JSON.stringify(bad))
  }
})

t.test('ids are UUIDv7, all different, and ascend', async (t) => {
  const ids = Array.from({ length: 20_000 }, newId)
  t.equal(new Set(ids).size, ids.length)
  t.same([...ids].sort(), ids)
  for (const id of ids.slice(0, 100)) t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.ok(Math.abs(Number.parseInt(ids[0]!.replace('-', '').slice(0, 12), 16) - Date.now()) < 5_000, 'the time is in front')
})

t.test('a cursor is good for its tenant, filters and sort alone', async (t) => {
  const key = createSecretKey(Buffer.alloc(32, 1))
  const query = parseListQuery(spec, { sort: 'code' })
  const cursor = writeCursor(key, 'tenant', query, ['a', 'id'])
  t.same(readCursor(key, 'tenant', query, cursor), ['a', 'id'])
  t.throws(() => readCursor(key, 'other', query, cursor), refused('invalid_cursor'))
  t.throws(() => readCursor(key, 'tenant', parseListQuery(spec, { sort: '-code' }), cursor), refused('invalid_cursor'))
  t.throws(() => readCursor(createSecretKey(Buffer.alloc(32, 2)), 'tenant', query, cursor), refused('invalid_cursor'))
  t.throws(() => readCursor(key, 'tenant', query, 'nonsense'), refused('invalid_cursor'))
})

t.test('a lifecycle draws itself and knows what is allowed', async (t) => {
  const cycle = lifecycle(Thing as never, {
    initial: 'draft',
    permission: 'x',
    transitions: { go: { from: 'draft', to: 'gone', summary: 'go' }, auto: { from: 'gone', to: 'done', summary: 'x', internal: true } },
  })
  t.same(cycle.allowed('draft'), ['go'])
  t.same(cycle.allowed('gone'), [])
  t.match(cycle.diagram(), /\[\*\] --> draft\n\s+draft --> gone: go/)
})

t.test('rows that differ from their schema are an error, whoever wrote the SQL', async (t) => {
  const runtime = await testRuntime()
  t.teardown(() => runtime.close())
  const scope = systemScope(newId(), 'test', newId())
  const { control } = runtime.services.planes
  await t.rejects(
    control.read(scope, (tx) => tx.one(sql.type(Type.Object({ n: Type.String() }, { additionalProperties: false }))`select 1 as n`)),
  )
  await t.rejects(
    control.read(scope, (tx) =>
      tx.one(sql.type(Type.Object({ n: Type.Integer() }, { additionalProperties: false }))`select 1 as n, 2 as stray`),
    ),
  )
  t.match(
    await control.read(scope, (tx) =>
      tx.one(
        sql.type(
          Type.Object({ at: Type.String(), m: Type.String() }),
        )`select timestamptz '2026-11-21 10:00:00.12+00' as at, 1.50::numeric as m`,
      ),
    ),
    { at: '2026-11-21T10:00:00.120Z', m: '1.50' },
  )
})

t.test('many events are written while the work goes on, in their order, and all of them or none', async (t) => {
  const runtime = await testRuntime()
  t.teardown(() => runtime.close())
  const scope = systemScope(newId(), 'test', newId())
  const { control } = runtime.services.planes
  const Written = Type.Object({ n: Type.Integer(), ordered: Type.Boolean() })
  const written = (tx: Tx) =>
    tx.one(sql.type(Written)`
      select count(*) as n, coalesce(bool_and(version = place), true) as ordered
      from (select version, row_number() over (order by event_id) as place from plane.event_outbox where tenant_id = ${scope.tenantId}) as e`)
  const emitting = (tx: Tx, from: number, to: number) => {
    for (let version = from; version <= to; version++) tx.emit({ type: 'x.y.done', entity_id: newId(), version, data: {} })
  }
  const work = async (tx: Tx, end: () => void) => {
    emitting(tx, 1, 999)
    t.same(await written(tx), { n: 0, ordered: true }, 'few wait for the end')
    emitting(tx, 1000, 2500)
    t.same(await written(tx), { n: 2500, ordered: true }, 'many do not')
    emitting(tx, 2501, 2600)
    end()
  }
  await t.rejects(
    control.write(scope, (tx) =>
      work(tx, () => {
        throw failure('in_use')
      }),
    ),
    refused('in_use'),
  )
  t.same(await control.read(scope, written), { n: 0, ordered: true })
  await control.write(scope, (tx) => work(tx, () => {}))
  t.same(await control.read(scope, written), { n: 2600, ordered: true })
})

t.test('a refusal inside a write rolls back everything and keeps the connection', async (t) => {
  const runtime = await testRuntime({ DATABASE_POOL_MAX: '2' })
  t.teardown(() => runtime.close())
  const scope = systemScope(newId(), 'test', newId())
  const { control } = runtime.services.planes
  const Pid = Type.Object({ pid: Type.Integer() })
  const pids = new Set<number>()
  for (let i = 0; i < 5; i++) {
    await t.rejects(
      control.write(scope, async (tx) => {
        pids.add((await tx.one(sql.type(Pid)`select pg_backend_pid() as pid`)).pid)
        tx.emit({ type: 'x.y.done', entity_id: newId(), version: 1, data: {} })
        throw failure('in_use')
      }),
      refused('in_use'),
    )
  }
  t.equal(pids.size, 1, 'one server connection served all five')
  const Count = Type.Object({ n: Type.Integer() })
  t.same(
    await control.read(scope, (tx) =>
      tx.one(sql.type(Count)`select count(*) as n from plane.event_outbox where tenant_id = ${scope.tenantId}`),
    ),
    { n: 0 },
  )
})
