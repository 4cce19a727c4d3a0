// The trail: found, and proven.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Client } from 'pg'
import t from 'tap'
import { keptTip, merkleRoot, sealAndKeepTip, sealTrail } from '../../domain/audit/index.ts'
import { sql } from '../../domain/kernel/index.ts'
import { sealAll } from '../../workers/jobs.ts'
import { type Answer, type TestTenant, tally, testApp, times } from '../support/app.ts'
import { testServices } from '../support/services.ts'

const { tenant, runtime } = await testApp(t)
const { planes, settings } = runtime.services
const owner = new Client({ connectionString: testServices().admin.data })
await owner.connect()
t.teardown(() => owner.end())

const party = (acme: TestTenant, code: string) => acme.admin.post('/erp/parties', { code, name: 'P', roles: ['client'] })

t.test('the trail is found by entity, actor, action, time and correlation id, page by page and as CSV', async (t) => {
  const acme = await tenant()
  const made = await Promise.all(times(5, (n) => party(acme, `P${n}`)))
  const first = made[0] as Answer
  await acme.admin.patch(`/erp/parties/${first.data.id}`, { name: 'Q' }, { 'if-match': '"1"', 'x-correlation-id': 'the-change' })
  const get = async (query: string) =>
    (await acme.admin.get(`/audit?${query}`)).data as { action: string; diff: object; actor_name: string }[]
  t.equal((await get('entity=erp_party&action=insert')).length, 5)
  t.match(await get(`entity_id=${first.data.id}`), [
    { action: 'update', diff: { name: ['P', 'Q'] }, actor_name: 'admin' },
    { action: 'insert' },
  ])
  t.equal((await get('correlation_id=the-change')).length, 1)
  t.equal((await get(`actor_id=${acme.viewer.userId}`)).length, 0)
  t.equal((await get('from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z')).length, 0)
  t.ok((await get('plane=control&entity=res_sessions&action=session.opened')).length >= 4)
  const seen: string[] = []
  for (let cursor = ''; ; ) {
    const page = (await acme.admin.get(`/audit?entity=erp_party&limit=2${cursor}`)).body
    seen.push(...page.data.map((e: { id: string }) => e.id))
    if (!page.pagination.next_cursor) break
    cursor = `&cursor=${page.pagination.next_cursor}`
  }
  t.equal(new Set(seen).size, 6)
  t.equal(seen.length, 6)
  const { pagination } = (await acme.admin.get('/audit?entity=erp_party&limit=2')).body
  t.match(await acme.admin.get(`/audit?entity=erp_product&limit=2&cursor=${pagination.next_cursor}`), {
    status: 400,
    body: { detail: 'invalid_cursor' },
  })
  const csv = await acme.admin.get('/audit?entity=erp_party', { accept: 'text/csv' })
  t.equal(csv.text.trim().split('\r\n').length, 7)
  t.match(await acme.admin.get('/audit?nothing=1'), { status: 400, body: { detail: 'invalid_query' } })
  t.match(await acme.admin.get('/audit?entity_id=x'), { status: 400 })
})

/** When the hour that ended last may be sealed. */
const soon = () => Date.now() + 6 * 60_000

/** A tenant with a trail of three hours, sealed; each hour has four entries. */
async function sealed(): Promise<TestTenant> {
  const acme = await tenant()
  await Promise.all(times(12, (n) => party(acme, `S${n}`)))
  // Moves the entries into the past, as if they had been made there: nobody but the owner could.
  await owner.query(
    `update plane.audit_events e set created_at = date_trunc('hour', now()) - make_interval(hours => 1 + (n % 3)::int) + make_interval(mins => n::int)
    from (select id, row_number() over (order by id) as n from plane.audit_events where tenant_id = $1) as o where e.id = o.id and e.tenant_id = $1`,
    [acme.id],
  )
  await sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, soon())
  return acme
}
const verify = async (acme: TestTenant) => (await acme.admin.get('/audit/verify')).data
const oneEntry = `(select id from plane.audit_events where tenant_id = $1 and created_at < date_trunc('hour', now()) order by created_at limit 1)`

t.test('a trail that nobody touched is whole, sealed once, and again as it grows', async (t) => {
  const acme = await sealed()
  t.match(await verify(acme), { hours: 3, entries: 12, problems: [] })
  t.equal(await sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, soon()), 0, 'nothing is left to seal')
  await party(acme, 'LATER')
  t.equal(await sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, Date.now() + 2 * 3_600_000), 1)
  t.match(await verify(acme), { hours: 4, entries: 13, problems: [] })
  t.match(await acme.admin.get('/audit/verify?plane=control'), { status: 200, data: { sealed_until: null, problems: [] } })
})

t.test('an entry that is changed, removed or added behind the application is found', async (t) => {
  const changed = await sealed()
  const { rows } = await owner.query(
    `update plane.audit_events set diff = '{"name": ["x", "y"]}' where tenant_id = $1 and id = ${oneEntry} returning id`,
    [changed.id],
  )
  t.match(await verify(changed), { problems: [{ kind: 'changed_or_added', entries: [rows[0].id], missing: 1 }] })

  const removed = await sealed()
  await owner.query(`delete from plane.audit_events where tenant_id = $1 and id = ${oneEntry}`, [removed.id])
  t.match(await verify(removed), { problems: [{ kind: 'removed', missing: 1 }], entries: 11 })

  const added = await sealed()
  const insert = (when: string) =>
    owner.query(
      `insert into plane.audit_events (tenant_id, entity, action, created_at) values ($1, 'erp_party', 'delete', ${when}) returning id`,
      [added.id],
    )
  const inside = (await insert(`date_trunc('hour', now()) - interval '90 minutes'`)).rows[0].id
  const empty = (await insert(`now() - interval '3 days'`)).rows[0].id
  t.match(await verify(added), {
    problems: [
      { kind: 'changed_or_added', entries: [empty], missing: 0 },
      { kind: 'changed_or_added', entries: [inside], missing: 0 },
    ],
  })
})

t.test('a seal that is changed or removed is found too, and none is made without the key', async (t) => {
  const removed = await sealed()
  await owner.query(
    `delete from plane.audit_seals where tenant_id = $1 and hour = (select hour from plane.audit_seals where tenant_id = $1 order by hour offset 1 limit 1)`,
    [removed.id],
  )
  const kinds = (await verify(removed)).problems.map((p: { kind: string }) => p.kind)
  t.ok(kinds.includes('seal_missing'), kinds.join())

  const forged = await sealed()
  await owner.query(`update plane.audit_events set action = 'forged' where tenant_id = $1 and id = ${oneEntry}`, [forged.id])
  await owner.query(
    `update plane.audit_seals s set leaves = (select string_agg(plane.audit_leaf(e), ''::bytea order by e.created_at, e.id) from plane.audit_events e
      where e.tenant_id = s.tenant_id and date_trunc('hour', e.created_at) = s.hour) where tenant_id = $1`,
    [forged.id],
  )
  t.match(await verify(forged), { problems: [{ kind: 'seal_forged' }] })
})

t.test('R4: a trail of 120,000 entries is verified without being held in memory, while the process goes on', async (t) => {
  const acme = await sealed()
  await owner.query('delete from plane.audit_seals where tenant_id = $1', [acme.id])
  await owner.query(
    `insert into plane.audit_events (tenant_id, entity, action, diff, created_at)
     select $1, 'erp_party', 'update', jsonb_build_object('n', n), date_trunc('hour', now()) - interval '2 hours' + make_interval(secs => (n % 3000)::int)
     from generate_series(1, 120000) as n`,
    [acme.id],
  )
  await sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, soon())
  const delay = monitorEventLoopDelay({ resolution: 5 })
  const before = process.memoryUsage().arrayBuffers
  let most = before
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers)
  }, 5)
  delay.enable()
  t.match(await verify(acme), { hours: 3, entries: 120_012, problems: [] })
  delay.disable()
  clearInterval(watch)
  // On a busy machine; verified in one piece it would take seconds.
  t.ok(delay.max / 1e6 < 1_000, `the event loop was held up for ${(delay.max / 1e6).toFixed()} ms at most`)
  t.ok(most - before < 40e6, `buffers grew by ${((most - before) / 1e6).toFixed(1)} MB`)
})

t.test('two that seal at once seal each hour once, and writers do not wait', async (t) => {
  const acme = await sealed()
  await party(acme, 'X')
  const later = Date.now() + 2 * 3_600_000
  const outcomes = await Promise.allSettled(times(4, () => sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, later)))
  t.ok(outcomes.some((o) => o.status === 'fulfilled'))
  const answers = await Promise.all([
    sealTrail(planes.data.get('main')!, acme.id, settings.sealKey, later),
    ...times(5, (n) => party(acme, `W${n}`)),
  ])
  t.same(tally(answers.slice(1) as Answer[]), { 201: 5 })
  t.match((await verify(acme)).hours, 4)
})

t.test('the tree is RFC 6962’s: known answers, and every leaf counts', async (t) => {
  // Test vectors of Certificate Transparency's reference implementation.
  const leaves = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map((hex) =>
    Buffer.from(hex, 'hex'),
  )
  const roots: Record<number, string> = {
    0: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    1: '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    2: 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    3: 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    5: '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    8: '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  }
  for (const [n, root] of Object.entries(roots)) t.equal(merkleRoot(leaves.slice(0, Number(n))).toString('hex'), root, n)
})

t.test(
  'P31: a cut end of the trail is found by the tip that is kept outside of the database, and a forged one is not sealed',
  async (t) => {
    const acme = await sealed()
    const { files } = runtime.services
    const database = planes.data.get('main')!
    const of = { tenantId: acme.id, plane: 'data' as const, key: settings.sealKey }
    const seal = () => sealAndKeepTip(database, files, of, soon())
    t.match(await seal(), { hours: 0, tip: { seals: 3, plane: 'data' }, cut: null }, 'the tip of before is kept at the first run')
    const { hour } = (await keptTip(files, acme.id, 'data'))!
    t.match(await verify(acme), { kept_until: hour, problems: [] })

    // As the owner of the database: the entries of the last hour and its seal go, and the entries come back with one forged.
    const cut = async (body: string) => {
      const { rows } = await owner.query(
        `select to_jsonb(e) as entry from plane.audit_events e where tenant_id = $1 and created_at >= $2`,
        [acme.id, hour],
      )
      await owner.query(`delete from plane.audit_events where tenant_id = $1 and created_at >= $2`, [acme.id, hour])
      await owner.query(`delete from plane.audit_seals where tenant_id = $1 and hour >= $2`, [acme.id, hour])
      t.match(await verify(acme), { hours: 2, kept_until: hour, problems: [{ hour, kind: 'tail_missing', missing: 1 }] }, body)
      return rows as { entry: object }[]
    }
    for (const [index, { entry }] of (await cut('cut')).entries())
      await owner.query(`insert into plane.audit_events select * from jsonb_populate_record(null::plane.audit_events, $1)`, [
        JSON.stringify({ ...entry, ...(index === 0 ? { action: 'forged' } : {}) }),
      ])
    t.match(await seal(), { hours: 0, cut: { hour, seals: 3 } }, 'nothing is sealed upon it')
    t.match(await verify(acme), { problems: [{ kind: 'tail_missing', missing: 1 }] })
    await owner.query('delete from plane.audit_seals where tenant_id = $1', [acme.id])
    t.match(await verify(acme), { sealed_until: null, problems: [{ kind: 'tail_missing', missing: 3 }] }, 'all seals gone')
  },
)

t.test('P31: the tip goes to the log, to the events and to the object store, and a tip made without the key is told', async (t) => {
  const acme = await sealed()
  const { files } = runtime.services
  await owner.query('delete from plane.audit_seals where tenant_id = $1', [acme.id])
  const lines: { data: object; message: string }[] = []
  const log = { info: (data: object, message: string) => lines.push({ data, message }), warn: () => {}, error: () => {} }
  const stored = (await runtime.services.tenants.byId(acme.id))!
  await sealAll(planes, [stored], settings.sealKey, files, log)
  const tip = (await keptTip(files, acme.id, 'data'))!
  t.match(lines, [{ message: 'audit trail sealed', data: { tenant_id: acme.id, plane: 'data', hour: tip.hour, signature: tip.signature } }])
  const told = await planes.data.get('main')!.read(acme.scope, (tx) =>
    tx.exists(sql.run`
      select 1 from plane.event_outbox where tenant_id = ${acme.id} and type = 'audit.event.sealed' and data ->> 'root' = ${tip.root}`),
  )
  t.ok(told)
  await files.writeNote(acme.id, 'audit-seals-data.json', Buffer.from(JSON.stringify({ ...tip, seals: tip.seals - 1 })))
  t.match(await verify(acme), { problems: [{ kind: 'tip_forged' }] })
  t.match((await acme.admin.get('/audit/verify?plane=control')).data, { kept_until: null, problems: [] })
})
