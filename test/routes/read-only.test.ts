// A tenant that may only read: everything that only asks is answered, also where it is asked by POST.
import t from 'tap'
import { sql } from '../../domain/kernel/index.ts'
import { testApp } from '../support/app.ts'

const { tenant, request, runtime } = await testApp(t)
const acme = await tenant({ terms: 'trial' })
await runtime.services.planes.control.write(acme.scope, (tx) =>
  tx.query(sql.run`update tenants set trial_ends_at = now() - interval '1 day' where id = ${tx.tenantId}`),
)

/** Questions that are asked by POST, with a body that is answered. */
const QUESTIONS: Record<string, { body: object; status: number }> = {
  '/api/v1/erp/exports': { body: { entity: 'erp_party' }, status: 201 },
  '/api/v1/erp/prices/resolve': { body: { lines: [] }, status: 400 },
  '/api/v1/erp/parties/duplicates': { body: { name: 'Flora' }, status: 200 },
  '/api/v1/rbac/simulate': { body: {}, status: 400 },
}
/** Of people and devices, not of the tenant's data. */
const elsewhere = (path: string) =>
  /^\/api\/v1\/(auth|superadmin|registrations|internal|context)/.test(path) || path.endsWith('/telemetry/readings')

t.test('every POST of a read-only tenant is refused with read_only but for those that only ask', async (t) => {
  const { paths } = (await request('x', { method: 'GET', url: '/api/openapi.json' })).body as { paths: Record<string, object> }
  const asked = Object.entries(paths).flatMap(([path, operations]) => ('post' in operations && !elsewhere(path) ? [path] : []))
  t.ok(asked.length > 80, `${asked.length} operations`)
  for (const path of asked) {
    const question = QUESTIONS[path]
    const answer = await acme.admin.post(path.replace(/\{\w+\}/g, acme.id), question?.body ?? {})
    if (question) t.equal(answer.status, question.status, `${path}: ${answer.text.slice(0, 200)}`)
    else t.match(answer, { status: 403, body: { detail: 'read_only' } }, path)
  }
  for (const path of Object.keys(QUESTIONS)) t.ok(asked.includes(path), path)
})

t.test('a module that was withdrawn is exported and asked still', async (t) => {
  const globex = await tenant({ plan: 'professional' })
  const root = (await tenant({ kind: 'platform' })).admin
  t.equal(
    (await root.put(`/superadmin/tenants/${globex.id}/modules/erp.parties`, { availability: 'blocked', source: 'grant' })).status,
    200,
  )
  t.match(await globex.admin.post('/erp/parties', { code: 'A', name: 'A', roles: ['client'] }), {
    status: 403,
    body: { detail: 'module_unavailable' },
  })
  t.equal((await globex.admin.post('/erp/parties/duplicates', { name: 'Flora' })).status, 200)
  t.equal((await globex.admin.post('/erp/exports', { entity: 'erp_party' })).status, 201)
})
