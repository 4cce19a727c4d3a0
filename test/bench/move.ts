// Moving a large tenant while it is written to: how long writers wait, and what a neighbour feels.
import { lastMove, requestMove } from '../../domain/tenancy/index.ts'
import { ownedStorage } from '../../server/storage.ts'
import { startWorkers } from '../../server/workers.ts'
import { carryOut } from '../../workers/mover.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { admin, auth, data, note, ours, percentile, quick, quietLog, results, runtime, tenants } from './harness.ts'

const ROWS = quick ? 20_000 : 200_000
/** For a second: what an office of fifty writes. */
const WRITES_A_SECOND = 20
const GOAL_MS = 2_000

/** Rows of ten tables, as many in each; what they refer to is not looked at. */
const LOADS = {
  erp_party: `(id, tenant_id, organization_id, code, name, roles) select gen_random_uuid(), $1, $2, 'M-' || n, 'Grower number ' || n, '{supplier}'`,
  erp_party_address: `(id, tenant_id, organization_id, party_id, kind, lines, city, country) select gen_random_uuid(), $1, $2, gen_random_uuid(), 'office', sha256(n::text::bytea), 'Town ' || n, 'NL'`,
  erp_product_category: `(id, tenant_id, organization_id, code, name) select gen_random_uuid(), $1, $2, 'M-' || n, 'Category ' || n`,
  erp_product: `(id, tenant_id, organization_id, code, name, uom_id) select gen_random_uuid(), $1, $2, 'M-' || n, 'Plant ' || n, gen_random_uuid()`,
  erp_location: `(id, tenant_id, organization_id, code, name) select gen_random_uuid(), $1, $2, 'M-' || n, 'Bin ' || n`,
  erp_lot: `(id, tenant_id, organization_id, product_id, code, expires_on) select gen_random_uuid(), $1, $2, gen_random_uuid(), 'M-' || n, date '2027-01-01' + n % 300`,
  erp_stock_move: `(id, tenant_id, organization_id, product_id, from_location_id, to_location_id, quantity, effective_at, source_type) select gen_random_uuid(), $1, $2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), n, now(), 'bench'`,
  erp_stock_quant: `(id, tenant_id, organization_id, product_id, location_id, quantity) select gen_random_uuid(), $1, $2, gen_random_uuid(), gen_random_uuid(), n`,
  erp_reorder_rule: `(id, tenant_id, organization_id, product_id, location_id, minimum, target) select gen_random_uuid(), $1, $2, gen_random_uuid(), gen_random_uuid(), n, n + 1`,
  'plane.audit_events': `(tenant_id, entity, entity_id, action, diff) select $1, 'erp_party', gen_random_uuid(), 'update', jsonb_build_object('name', array['a', $2::text, n::text])`,
}

export async function move() {
  note(`move: loading ${Object.keys(LOADS).length} tables × ${ROWS} rows …`)
  const [, neighbour, one] = tenants
  await data.query('set session_replication_role = replica')
  for (const [table, load] of Object.entries(LOADS))
    await data.query(`insert into ${table} ${load} from generate_series(1, ${ROWS}) n`, [one!.id, one!.organizations[0]!.id])
  await data.query('set session_replication_role = origin')
  await data.query('analyze')

  const workers = await startWorkers(runtime, quietLog, ['relay'])
  let stopped = false
  let serial = 0
  const ask = async (whose: NonNullable<typeof one>, body?: object) => {
    const began = performance.now()
    const answer = await fetchAs(whose.host, `${ours.url}/api/v1/erp/parties`, {
      headers: { ...auth(whose), 'content-type': 'application/json' },
      ...(body ? { method: 'POST', body: JSON.stringify(body) } : {}),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`a request beside a move got ${answer.status}: ${text}`)
    return performance.now() - began
  }
  const writes: number[] = []
  const reads: number[] = []
  const every = async (ms: number, work: () => Promise<unknown>) => {
    const running = new Set<Promise<unknown>>()
    while (!stopped) {
      const job: Promise<unknown> = work().finally(() => running.delete(job))
      running.add(job)
      await new Promise((resolve) => setTimeout(resolve, ms))
    }
    await Promise.all(running)
  }
  const load = Promise.all([
    every(1000 / WRITES_A_SECOND, async () =>
      writes.push(await ask(one!, { code: `W-${++serial}`, name: 'Written meanwhile', roles: ['client'] })),
    ),
    every(50, async () => reads.push(await ask(neighbour!))),
  ])
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const alone = percentile([...reads], 0.99)
  reads.length = 0

  const { planes } = runtime.services
  const asked = await planes.control.write(one!.scope, async (tx) => {
    await requestMove(tx, { mode: 'database', catalog_key: 'main' }, new Set(['main']), null)
    return lastMove(tx)
  })
  const began = performance.now()
  const steps: [string, number][] = []
  const storage = ownedStorage({ main: admin.data })
  await carryOut(
    {
      planes,
      storage,
      controlUrl: admin.control,
      log: quietLog.root,
      onStep: (step) => steps.push([step.split(' ')[0]!, performance.now() - began]),
    },
    one!.id,
    asked.id,
    new AbortController().signal,
  )
  const moved = await planes.control.read(one!.scope, lastMove)
  if (moved.state !== 'switched') throw new Error(`the move is ${moved.state}: ${moved.error}`)
  stopped = true
  await load
  await workers.stop()
  const at = (name: string) => steps.find(([step]) => step === name)?.[1] ?? 0
  note(
    `copied in ${((at('compare') - at('copy')) / 1000).toFixed(1)} s, compared in ${((at('catch') - at('compare')) / 1000).toFixed(1)} s`,
  )
  const rows = Object.values(moved.tables).reduce((sum, table) => sum + table.rows, 0)
  results.push(
    {
      name: `move of ${rows} rows under load: read-only`,
      ratio: GOAL_MS / moved.read_only_ms!,
      ours: moved.read_only_ms!,
      limit: GOAL_MS,
      unit: 'ms',
    },
    { name: 'move: slowest write of it', ratio: GOAL_MS / Math.max(...writes), ours: Math.max(...writes), limit: GOAL_MS, unit: 'ms' },
    {
      name: 'move: a neighbour’s reads, against before',
      ratio: alone / percentile(reads, 0.99),
      ours: percentile(reads, 0.99),
      limit: alone,
      unit: 'ms p99',
    },
  )
}
