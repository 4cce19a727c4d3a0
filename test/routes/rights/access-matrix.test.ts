// Who passes the gate of which operation: docs/access-matrix.csv, compared with the running application.
// A new route without a row fails. `UPDATE_ACCESS_MATRIX=1 npm test -- test/routes/rights/access-matrix.test.ts` rewrites it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { RouteOptions } from 'fastify'
import t from 'tap'
import { serviceToken } from '../../../domain/identity/index.ts'
import { newId } from '../../../domain/kernel/index.ts'
import type { RouteAccess } from '../../../plugins/route-options.ts'
import { buildApp } from '../../../server/app.ts'
import { testApp } from '../../support/app.ts'
import { ownControlPlane, quietLog } from '../../support/services.ts'

const file = path.join(import.meta.dirname, '..', '..', '..', 'docs', 'access-matrix.csv')
// The platform's own tenant is one of its kind: a control plane for this file alone.
const plane = await ownControlPlane(t)
const { app, runtime, tenant, request } = await testApp(t, { CONTROL_DATABASE_URL: plane.app })

interface Operation {
  method: string
  url: string
  access: RouteAccess
}

/** Every operation of the API, by an app that is built to look at its routes. */
async function operations(): Promise<Operation[]> {
  const found: Operation[] = []
  const other = await buildApp(runtime.services, quietLog, {
    onRoute: (route: RouteOptions) => {
      for (const method of [route.method].flat()) {
        if (method !== 'OPTIONS' && !route.url.startsWith('/docs'))
          found.push({ method, url: route.url, access: route.config?.access ?? {} })
      }
    },
  })
  await other.ready()
  await other.close()
  return found.sort((a, b) => (a.url < b.url ? -1 : a.url > b.url ? 1 : a.method < b.method ? -1 : 1))
}

const acme = await tenant()
const [one, two] = acme.organizations
const staffTenant = await tenant({ kind: 'platform', slug: 'admin' })
const inOne = { organization_id: one!.id }
const key = async (body: object) => (await acme.admin.post('/api-keys', { name: 'Matrix', ...body })).data.key as string
const impersonated = async (userId: string) =>
  (
    await staffTenant.admin.post(`/superadmin/tenants/${acme.id}/impersonations`, {
      user_id: userId,
      reason: 'The access matrix',
      minutes: 60,
    })
  ).data.access_token as string
const device = (await acme.admin.post('/telemetry/devices', { code: 'matrix', name: 'Matrix' })).data
const deviceKey = (await acme.admin.post(`/telemetry/devices/${device.id}/keys`, {})).data.key as string
// A consent covers a tenant, so the actor with consent is of another one.
const globex = await tenant()
await globex.admin.post('/tenant/support-consents', {
  reason: 'The access matrix',
  expires_at: new Date(Date.now() + 3_600_000).toISOString(),
})
const consented = (
  await staffTenant.admin.post(`/superadmin/tenants/${globex.id}/impersonations`, {
    user_id: globex.admin.userId,
    reason: 'The access matrix',
    minutes: 60,
  })
).data.access_token as string

const ACTORS: Record<string, { host: string; token: string | null }> = {
  anonymous: { host: acme.host, token: null },
  viewer: { host: acme.host, token: acme.viewer.token },
  operator: { host: acme.host, token: acme.operator.token },
  manager: { host: acme.host, token: acme.manager.token },
  admin_of_organization: { host: acme.host, token: (await acme.user('admin', { organizationId: two!.id })).token },
  manager_of_workspace: {
    host: acme.host,
    token: (await acme.user('manager', { organizationId: one!.id, workspaceId: one!.workspaces[0]!.id })).token,
  },
  admin: { host: acme.host, token: acme.admin.token },
  narrow_key: { host: acme.host, token: await key({ permissions: ['erp.product.read'], ...inOne }) },
  wide_key: { host: acme.host, token: await key({ permissions: ['*'], ...inOne }) },
  device_key: { host: acme.host, token: deviceKey },
  service_token: { host: acme.host, token: await serviceToken(runtime.services.keys, 'matrix') },
  impersonator: { host: acme.host, token: await impersonated((await acme.user('admin')).userId) },
  impersonator_with_consent: { host: globex.host, token: consented },
  staff: { host: staffTenant.host, token: staffTenant.admin.token },
}

/** Refusals of the gate. Whatever else is answered comes after it: the request names nothing that exists. */
const GATE = new Set([
  'missing_token',
  'invalid_token',
  'tenant_mismatch',
  'session_revoked',
  'permission_denied',
  'context_required',
  'context_forbidden',
  'session_required',
  'step_up_required',
  'impersonation_read_only',
  'impersonation_forbidden',
  'module_unavailable',
])

async function gateOf({ method, url }: Operation, { host, token }: { host: string; token: string | null }): Promise<string> {
  // Organizations of the path are the second one: what its administrator reaches, and nobody of the first alone.
  const organization = host === acme.host ? two!.id : globex.organizations[1]!.id
  const target = url.replace(/:(\w+)/g, (_, name) => (url.startsWith('/api/v1/organizations/') && name === 'id' ? organization : newId()))
  const answer = await request(host, {
    method: method as 'GET',
    // A parameter that no operation knows: reading ends before it begins, after the gate.
    url: `${target}?no_such_parameter=1`,
    ...(method === 'GET' ? {} : { payload: { no_such_field: 1 } }),
    headers: token ? { authorization: `Bearer ${token}` } : {},
  })
  const detail = answer.body?.detail as string | undefined
  if (answer.status >= 500) return `error ${answer.status} ${detail}`
  if (detail === 'route_not_found') return 'no route'
  return detail && GATE.has(detail) ? detail : 'passes'
}

t.test('every operation has a row, and every actor passes where the table says and nowhere else', async (t) => {
  const all = await operations()
  t.ok(all.length > 300, `${all.length} operations`)
  const header = ['method', 'path', 'level', 'permission', ...Object.keys(ACTORS)]
  const rows: string[][] = []
  // What ends sessions comes last, for each actor.
  const last = all.filter(({ url }) => /\/auth\/logout/.test(url))
  const cells = new Map<Operation, string[]>(all.map((operation) => [operation, []]))
  for (const actor of Object.values(ACTORS)) {
    for (const operation of [...all.filter((o) => !last.includes(o)), ...last.toReversed()]) {
      cells.get(operation)!.push(await gateOf(operation, actor))
    }
  }
  for (const operation of all) {
    const { method, url, access } = operation
    const open = access.public ? 'public' : access.authenticated ? 'session' : access.service ? 'service' : ''
    rows.push([method, url, access.level ?? open, access.permission ?? '', ...cells.get(operation)!])
  }
  const text = `${[header, ...rows].map((row) => row.join(',')).join('\n')}\n`
  if (process.env.UPDATE_ACCESS_MATRIX) writeFileSync(file, text)
  const committed = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []
  const wrong = text.split('\n').flatMap((line, at) => (line === committed[at] ? [] : [{ line: at + 1, is: line, was: committed[at] }]))
  t.same(wrong.slice(0, 10), [], 'docs/access-matrix.csv agrees with the application')
  t.notOk(text.includes('error 5'), 'no actor gets a server error')
})

t.test('the table itself: rules that hold whatever is added', async (t) => {
  const [header = '', ...lines] = readFileSync(file, 'utf8').trim().split('\n')
  const names = header.split(',')
  const rows = lines.map((line) => Object.fromEntries(line.split(',').map((cell, at) => [names[at]!, cell])))
  for (const row of rows) {
    const what = `${row.method} ${row.path}`
    const changes = row.method !== 'GET'
    if (row.permission) {
      t.not(row.anonymous, 'passes', `${what}: anonymous`)
      t.not(row.device_key, 'passes', `${what}: a device key`)
      t.not(row.service_token, 'passes', `${what}: a service token`)
      if (row.permission !== 'erp.product.read') t.not(row.narrow_key, 'passes', `${what}: a narrow key`)
    }
    if (row.level === 'tenant' && row.permission) t.not(row.admin_of_organization, 'passes', `${what}: an organization’s administrator`)
    if (row.level === 'tenant' && row.permission) t.not(row.manager_of_workspace, 'passes', `${what}: a workspace’s manager`)
    if (row.level === 'organization' && changes) t.not(row.manager_of_workspace, 'passes', `${what}: a workspace’s manager`)
    if (changes && row.permission) t.not(row.viewer, 'passes', `${what}: a viewer`)
    if (changes && row.permission) t.not(row.impersonator, 'passes', `${what}: staff in a user’s place`)
    if (/^(rbac|identity|tenant|audit)\./.test(row.permission ?? '') && changes)
      t.not(row.impersonator_with_consent, 'passes', `${what}: staff with consent`)
    if (/^(rbac|identity|audit)\.|^tenant\.(security|identity|domain|support)/.test(row.permission ?? ''))
      for (const role of ['viewer', 'operator', 'manager']) t.not(row[role], 'passes', `${what}: a seeded ${role}`)
    if (row.permission?.startsWith('platform.')) t.equal(row.admin, 'no route', `${what}: a tenant’s administrator`)
  }
})

t.test('the app refuses to start on a route that says no level', async (t) => {
  await t.rejects(
    buildApp(runtime.services, quietLog, { routes: async (api) => void api.get('/x', { permission: 'erp.x.read' }, async () => ({})) }),
    /must say the level/,
  )
  t.ok(app)
})
