// kill -9 while a job is at work: a job that always ends its process is set aside, and the others go on.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Client as Pg } from 'pg'
import t from 'tap'
import { countStart, MAX_STARTS, withdrawStart } from '../../domain/erp/exchange/index.ts'
import { newId } from '../../domain/kernel/index.ts'
import { openMockBroker, Producer } from '../../workers/kafka.ts'
import { TOPICS } from '../../workers/topics.ts'
import { eventually, type TestTenant, testApp, times, upload } from '../support/app.ts'
import { testServices } from '../support/services.ts'

const FILES_DIRECTORY = mkdtempSync(path.join(tmpdir(), 'tenantry-test-starts-'))
const { tenant, runtime } = await testApp(t, { FILES_DIRECTORY })
const admin = new Pg({ connectionString: testServices().admin.data })
await admin.connect()
t.teardown(() => admin.end())

/** An import that no worker but this test's knows of, in a state. */
async function importOf(acme: TestTenant, status: 'reading' | 'applying', csv: string): Promise<string> {
  const id = newId()
  const file = (await upload(acme.admin, csv, 'table.csv')).data.id
  await admin.query(
    `insert into erp_import (id, tenant_id, organization_id, entity, file_id, encoding, requested_by, status)
     values ($1, $2, $3, 'erp_uom', $4, 'utf-8', $5, $6)`,
    [id, acme.id, acme.organizations[0]!.id, file, acme.admin.userId, status],
  )
  return id
}
const importNow = async (acme: TestTenant, id: string) => (await acme.admin.get(`/erp/imports/${id}`)).data
const startsOf = async (id: string): Promise<number> =>
  (await admin.query('select starts from erp_import where id = $1', [id])).rows[0].starts

t.test('F18: a job that kills its process is set aside after three starts, and the next one is done', { timeout: 200_000 }, async (t) => {
  const broker = await openMockBroker([TOPICS.jobs])
  t.teardown(() => broker.stop())
  const producer = new Producer({ brokers: broker.brokers })
  t.teardown(() => producer.close())
  const acme = await tenant()
  const [deadly, harmless] = [
    await importOf(acme, 'applying', 'code\n'),
    await importOf(acme, 'reading', 'code,name,dimension\nKG,Kilo,mass\n'),
  ]
  const job = (id: string) => ({
    topic: TOPICS.jobs,
    key: acme.id, // one partition: the second waits behind the first
    value: JSON.stringify({
      event_id: newId(),
      type: 'job.data-import',
      tenant_id: acme.id,
      entity_id: id,
      version: 1,
      occurred_at: new Date().toISOString(),
      correlation_id: newId(),
      data: { organization_id: acme.organizations[0]!.id, workspace_id: null, user_id: acme.admin.userId, kind: 'worker' },
    }),
  })
  // The lock of whoever takes the lines in: the worker is at work, and stays there until it is killed.
  await admin.query('select pg_advisory_lock(hashtextextended($1, 0))', [`import ${deadly}`])
  const running = new Set<ChildProcess>()
  t.teardown(() => {
    for (const child of running) child.kill('SIGKILL')
  })
  const start = () => {
    const child = spawn(
      process.execPath,
      [
        path.join(import.meta.dirname, '../support/exchange-process.ts'),
        JSON.stringify({ FILES_DIRECTORY, KAFKA_BROKERS: broker.brokers }),
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    running.add(child)
    return child
  }
  await producer.send([job(deadly), job(harmless)])
  for (const n of times(MAX_STARTS, (at) => at + 1)) {
    const child = start()
    await eventually(
      () => startsOf(deadly),
      (starts) => starts === n,
      60,
    )
    t.equal((await importNow(acme, deadly)).status, 'applying', `after start ${n} it is still to be done`)
    t.equal((await importNow(acme, harmless)).status, 'reading')
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
    running.delete(child)
  }
  start()
  const parked = await eventually(
    () => importNow(acme, deadly),
    ({ status }) => status === 'failed',
    60,
  )
  t.match(parked, { taken: 0, failure: { detail: 'processing_aborted', message: /3 times/ } })
  t.match(
    await eventually(
      () => importNow(acme, harmless),
      ({ status }) => status === 'ready',
      60,
    ),
    { lines: 1, wrong: 0 },
    'its message is committed, and the one behind it is done',
  )
  const { rows } = await admin.query(`select type from plane.event_outbox where tenant_id = $1 and entity_id = $2`, [acme.id, deadly])
  t.same(
    rows.map(({ type }) => type),
    ['erp.import.failed'],
  )
  t.equal(await startsOf(deadly), MAX_STARTS + 1)
  await admin.query('select pg_advisory_unlock(hashtextextended($1, 0))', [`import ${deadly}`])
  t.equal((await acme.admin.get('/erp/uoms')).data.length, 0, 'nothing was taken by those that were killed')
})

t.test('F18: starts are counted exactly, an orderly stop takes one back, and exports are set aside, too', async (t) => {
  const acme = await tenant()
  const home = runtime.services.planes.data.get('main')!
  const id = await importOf(acme, 'reading', 'code\n')
  const count = (job: 'data-import' | 'data-export', of: string) => home.write(acme.scope, (tx) => countStart(tx, job, of))
  for (let n = 0; n < 10; n++) {
    t.ok(await count('data-import', id))
    await home.write(acme.scope, (tx) => withdrawStart(tx, 'data-import', id))
  }
  t.equal(await startsOf(id), 0)
  const started = await Promise.all(times(20, () => count('data-import', id)))
  t.ok(started.filter(Boolean).length >= MAX_STARTS, 'a job that is over is nothing to set aside')
  t.equal((await importNow(acme, id)).status, 'failed')
  t.equal(await startsOf(id), MAX_STARTS + 1, 'no start was counted after the one that set it aside')

  const out = newId()
  await admin.query(
    `insert into erp_export (id, tenant_id, organization_id, entity, format, requested_by) values ($1, $2, $3, 'erp_uom', 'csv', $4)`,
    [out, acme.id, acme.organizations[0]!.id, acme.admin.userId],
  )
  for (let n = 0; n < MAX_STARTS; n++) t.ok(await count('data-export', out))
  t.notOk(await count('data-export', out))
  t.match((await acme.admin.get(`/erp/exports/${out}`)).data, { status: 'failed', failure: { detail: 'processing_aborted' } })
})
