// Who may do what, and who did what.
import { assignRole } from '../../domain/access/index.ts'
import { sealTrail, verifyTrail } from '../../domain/audit/index.ts'
import { createUser } from '../../domain/identity/index.ts'
import { systemScope } from '../../domain/kernel/index.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { data, note, ours, percentile, quick, results, runtime, tenants, timed } from './harness.ts'

export async function rights() {
  note('rights …')
  const second = tenants[1]!
  await runtime.services.planes.control.write(systemScope(second.id, 'bench', ''), async (tx) => {
    for (let n = 0; n < 500; n++) {
      const id = await createUser(tx, { email: `many-${n}@${second.slug}.example`, name: `Person ${n}`, password: '', hash: 'x' })
      await assignRole(tx, id, second.roles[n % 2 ? 'operator' : 'manager'])
    }
  })
  const get = async (url: string) => {
    const answer = await fetchAs(second.host, `${ours.url}/api/v1${url}`, {
      headers: { authorization: `Bearer ${second.admin.token}` },
    })
    if (!answer.ok) throw new Error(await answer.text())
    return answer.text()
  }
  await get('/rbac/matrix')
  const took = await timed(() => get('/rbac/matrix'))
  results.push({ name: 'matrix, 500 users', ratio: 1000 / took, ours: took, limit: 1000, unit: 'ms' })
  const explained: number[] = []
  for (let n = 0; n < 50; n++)
    explained.push(await timed(() => get(`/rbac/explain?permission=erp.party.create&user=${second.viewer.userId}`)))
  const p99 = percentile(explained, 0.99)
  results.push({ name: 'explain', ratio: 20 / p99, ours: p99, limit: 20, unit: 'ms p99' })
}

export async function audit() {
  note('audit …')
  const third = tenants[2]!
  const rows = quick ? 20_000 : 200_000
  await data.query(
    `insert into plane.audit_events (tenant_id, entity, entity_id, action, actor_id, diff, correlation_id, created_at)
    select $1, 'erp_product', gen_random_uuid(), 'update', gen_random_uuid(), jsonb_build_object('name', jsonb_build_array('Plant ' || n, 'Plant number ' || n), 'price', jsonb_build_array(n, n + 1)),
      'bench-' || n, date_trunc('hour', now()) - make_interval(hours => 1 + n / 10000) + make_interval(secs => n % 3600)
    from generate_series(1, $2::int) n`,
    [third.id, rows],
  )
  await data.query('analyze plane.audit_events')
  const database = runtime.services.planes.data.get('main')!
  const { sealKey } = runtime.services.settings
  await sealTrail(database, third.id, sealKey, Date.now() + 3_600_000)
  let entries = 0
  const took = await timed(async () => {
    const result = await database.read(systemScope(third.id, 'bench', ''), (tx) => verifyTrail(tx, sealKey))
    if (result.problems.length > 0) throw new Error('the trail does not verify')
    entries = result.entries
  })
  const rate = entries / (took / 1000)
  results.push({ name: 'audit verify', ratio: rate / 50_000, ours: rate, limit: 50_000, unit: 'rows/s' })
}
