// Records from a file: read, checked and taken in, against the insert of the same rows alone.
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { importLifecycle, startImport } from '../../domain/erp/exchange/index.ts'
import { noteFile } from '../../domain/files/index.ts'
import { newId } from '../../domain/kernel/index.ts'
import { createLog } from '../../server/log.ts'
import { carryImport } from '../../workers/exchanger.ts'
import { data, first, note, quick, results, runtime, timed } from './harness.ts'

const LINES = quick ? 10_000 : 100_000
const GOAL = 5_000

const home = () => runtime.services.planes.data.get('main')!
const scope = { ...first.scope, actor: { ...first.scope.actor, userId: first.admin.userId } }

/** Takes a table in as a worker does; how long it took to read it, and to take in what was read, in ms. */
async function carry(csv: string, mode: 'create' | 'update'): Promise<{ reading: number; taking: number }> {
  const { services } = runtime
  const file = newId()
  const { file: _, ...received } = await services.files.take(first.id, file, Readable.from([Buffer.from(csv)]))
  const { id } = await home().write(scope, async (tx) => {
    await noteFile(tx, { id: file, name: 'i.csv', scan: 'unscanned', ...received })
    return startImport(tx, { entity: 'erp_product', mode, file_id: file }, { userId: first.admin.userId, anyFile: true, permissions: [] })
  })
  const job = {
    event_id: randomUUID(),
    type: 'job.data-import',
    tenant_id: first.id,
    entity_id: id,
    version: 1,
    occurred_at: '',
    correlation_id: '',
    data: { organization_id: scope.context.organizationId, workspace_id: null, user_id: first.admin.userId, kind: 'worker' },
  }
  const deps = { ...services, log: createLog('bench', 'silent').root, keepExportsDays: 7 }
  const go = () => timed(() => carryImport(deps as never, job as never, new AbortController().signal))
  const found = () => home().read(scope, (tx) => importLifecycle.get(tx, id))
  const reading = await go()
  const ready = await found()
  if (ready.status !== 'ready' || ready.wrong > 0) throw new Error(JSON.stringify(ready))
  await home().write(scope, (tx) => importLifecycle.move(tx, 'apply', id, ready.version))
  const taking = await go()
  const done = await found()
  if (done.status !== 'done') throw new Error(JSON.stringify(done))
  return { reading, taking }
}

export async function imports() {
  note(`imports: ${LINES} lines …`)
  const unit = (await data.query('select code from erp_uom where id = $1', [first.uom])).rows[0].code
  const lines = (line: (n: number) => string) => Array.from({ length: LINES }, (_, n) => line(n)).join('\n')
  const memory = process.memoryUsage.rss()
  const made = await carry(`code,name,uom,list_price,currency\n${lines((n) => `I-${n},Imported number ${n},${unit},2.50,EUR`)}`, 'create')
  const grown = (process.memoryUsage.rss() - memory) / 1e6
  const changed = await carry(`code,list_price\n${lines((n) => `I-${n},3.50`)}`, 'update')

  // The same rows once more, by one statement, with keys and indexes alone: no trail, no events, nothing read or checked.
  await data.query('set session_replication_role = replica')
  const bare = await timed(() =>
    data.query(
      `insert into erp_product (id, tenant_id, organization_id, code, name, uom_id, list_price, currency)
       select gen_random_uuid(), $1, $2, 'J-' || n, 'Imported number ' || n, $3, 2.50, 'EUR' from generate_series(1, $4::int) n`,
      [first.id, first.organization, first.uom, LINES],
    ),
  )
  await data.query('set session_replication_role = origin')
  const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
  note(
    `    read in ${seconds(made.reading)}, taken in ${seconds(made.taking)}; this process grew by ${grown.toFixed(0)} MB; the rows alone are inserted in ${seconds(bare)}`,
  )
  note(`    changed: read in ${seconds(changed.reading)}, taken in ${seconds(changed.taking)}`)
  const rate = ({ reading, taking }: typeof made) => LINES / ((reading + taking) / 1000)
  for (const [name, one] of Object.entries({ 'imports that make': made, 'imports that change': changed }))
    results.push({ name, ratio: rate(one) / GOAL, ours: rate(one), limit: GOAL, unit: 'lines/s' })
  results.push({
    name: 'imports, taken in',
    ratio: bare / made.taking,
    ours: LINES / (made.taking / 1000),
    limit: LINES / (bare / 1000),
    unit: 'rows/s',
  })
}
