// What stands between a request and its route.
import { decide, loadGrants } from '../../domain/access/index.ts'
import { fetchAs } from '../support/fetch-as.ts'
import { auth, bare, first, measured, note, ours, percentile, results, runtime, timed } from './harness.ts'

export async function noop() {
  note('noop …')
  const limit = await measured('noop: bare Fastify', bare, '/noop', { headers: {} })
  const own = await measured('noop: ours', ours, '/api/v1/auth/me', { headers: auth(first) })
  results.push({ name: 'noop', ratio: own.rate / limit.rate, ours: own.rate, limit: limit.rate, unit: 'req/s' })
}

export async function rbac() {
  note('rbac …')
  const grants = (await runtime.services.access.grants(first.id, first.manager.userId))!
  const context = { organizationId: first.organization, workspaceId: null }
  const took: number[] = []
  for (let i = 0; i < 200_000; i++) {
    const start = process.hrtime.bigint()
    decide(grants, 'erp.product.read', context, Date.now())
    took.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  took.sort((a, b) => a - b)
  const p99 = took[Math.floor(took.length * 0.99)]!
  results.push({ name: 'rbac', ratio: 20 / p99, ours: p99, limit: 20, unit: 'µs p99' })

  // A decision about somebody of whom nothing is in memory: everything that he was given is read in one statement.
  const { control } = runtime.services.planes
  const cold: number[] = []
  for (let i = 0; i < 500; i++) {
    cold.push(
      await timed(async () => {
        const read = await loadGrants(control, first.id, first.manager.userId)
        decide(read!, 'erp.product.read', context, Date.now())
      }),
    )
  }
  for (const share of [0.5, 0.99]) {
    const at = percentile(cold, share)
    results.push({ name: `rbac, cold, p${share * 100}`, ratio: 2 / at, ours: at, limit: 2, unit: 'ms' })
  }
}

/** The menu that the client has already: nothing but the gate and a comparison. */
export async function menu() {
  note('menu …')
  const answer = await fetchAs(first.host, `${ours.url}/api/v1/menu`, {
    headers: { authorization: auth(first).authorization },
  })
  const etag = answer.headers.get('etag')!
  const limit = await measured('menu 304: bare Fastify', bare, '/not-modified', { headers: {} })
  const own = await measured('menu 304: ours', ours, '/api/v1/menu', { headers: { ...auth(first), 'if-none-match': etag } })
  results.push({ name: 'menu', ratio: own.rate / limit.rate, ours: own.rate, limit: limit.rate, unit: 'req/s' })
}
