// What explain and the matrix say, compared with a second evaluation of the documented rules and with real requests.
// TEST_SEED=<number> repeats a run; the seed is printed.
import t from 'tap'
import { allGrants, assignRole, createRole, explain, mustEnroll, override } from '../../../domain/access/index.ts'
import { accessToken, createUser, hashPassword } from '../../../domain/identity/index.ts'
import { type Context, newId, sql } from '../../../domain/kernel/index.ts'
import { type Client, PASSWORD, type TestTenant, testApp } from '../../support/app.ts'
import { seeded } from '../../support/random.ts'

const DECISIONS = 5_000
const REQUESTS = 300
const { seed, next: random, below, pick: one } = seeded()
t.comment(`TEST_SEED=${seed}`)
const chance = (p: number) => random() < p

interface Held {
  org: string | null
  ws: string | null
  expired: boolean
}
interface Person {
  client: Client
  kind: 'worker' | 'client'
  status: 'active' | 'locked' | 'invited'
  roles: (Held & { role: RandomRole })[]
  overrides: (Held & { pattern: string; effect: 'allow' | 'deny' })[]
}
interface RandomRole {
  id: string
  patterns: string[]
  factor: boolean
}
interface Place {
  org: string
  ws: string | null
}
interface World {
  acme: TestTenant
  state: 'paid' | 'starter' | 'lapsed'
  people: Person[]
  places: Place[]
  strict: string
}

const testing = await testApp(t)
const { app, tenant, request, runtime } = testing
const { control } = runtime.services.planes
const registry = app.permissionsOf({ kind: 'customer' })
const codes = [...registry.keys()].sort()

const PATTERNS = [
  '*',
  '*.read',
  'erp.*',
  'erp.*.read',
  'erp.party.*',
  'erp.product.*',
  'rbac.*',
  'telemetry.*',
  'tenant.*',
  '*.create',
  'identity.*',
  'audit.*',
]
const pattern = () => (chance(0.5) ? one(PATTERNS) : one(codes))
const past = '2020-01-01T00:00:00Z'

/** A tenant with users, roles and exceptions at random. */
async function world(state: World['state']): Promise<World> {
  const acme = await tenant(state === 'paid' ? {} : state === 'starter' ? { plan: 'starter' } : { terms: 'trial' })
  const strict = (await acme.admin.post('/organizations', { code: 'strict', name: 'Strict' })).data.id
  const desk = (await acme.admin.post('/workspaces', { organization_id: strict, code: 'desk', name: 'Desk' })).data.id
  await acme.admin.patch(`/organizations/${strict}/settings`, { workspace_required: true, version: 1 })
  const places: Place[] = [
    ...acme.organizations.flatMap(({ id, workspaces }) => [{ org: id, ws: null }, ...workspaces.map((w) => ({ org: id, ws: w.id }))]),
    { org: strict, ws: null },
    { org: strict, ws: desk },
  ]
  const granter = { grants: (await control.read(acme.scope, (tx) => allGrants(tx, [acme.admin.userId])))[0]!, registry }
  const roles: RandomRole[] = []
  for (let n = 0; n < 10; n++) {
    const patterns = [...new Set(Array.from({ length: 1 + below(4) }, pattern))]
    const { id } = await control.write(acme.scope, (tx) =>
      createRole(tx, granter, { code: `r${n}`, name: `R${n}`, permissions: patterns } as never),
    )
    roles.push({ id, patterns, factor: n === 0 })
  }
  await control.write(acme.scope, (tx) =>
    tx.query(sql.run`update res_roles set mfa_required = true where tenant_id = ${acme.id} and id = ${roles[0]!.id}`),
  )
  const hash = await hashPassword(PASSWORD)
  const held = (): Held => {
    const place = one(places)
    return { org: chance(0.3) ? null : place.org, ws: chance(0.5) ? place.ws : null, expired: chance(0.15) }
  }
  const scope = ({ org, ws, expired }: Held) => ({ organizationId: org, workspaceId: org && ws, expiresAt: expired ? past : null })
  const people: Person[] = []
  for (let n = 0; n < 14; n++) {
    const email = `p${n}-${newId().slice(-8)}@${acme.slug}.example`
    const kind = chance(0.25) ? 'client' : 'worker'
    const person: Person = { client: acme.as(''), kind, status: 'active', roles: [], overrides: [] }
    const userId = await control.write(acme.scope, async (tx) => {
      const id = await createUser(tx, { email, name: `P${n}`, password: '', hash, kind })
      for (const role of new Set(Array.from({ length: below(4) }, () => one(roles)))) {
        const given = { ...held(), role }
        person.roles.push(given)
        await assignRole(tx, id, role.id, scope(given))
      }
      for (let k = below(4); k > 0; k--) {
        const given = { ...held(), pattern: pattern(), effect: chance(0.5) ? ('allow' as const) : ('deny' as const) }
        person.overrides.push(given)
        await override(tx, id, given.pattern, given.effect, 'random', scope(given))
      }
      return id
    })
    const { data } = await acme.login(email)
    person.client = { ...acme.as(data.access_token), userId, email }
    if (chance(0.15)) person.status = chance(0.5) ? 'locked' : 'invited'
    people.push(person)
  }
  await control.write(acme.scope, async (tx) => {
    for (const { client, status } of people.filter((p) => p.status !== 'active'))
      await tx.query(
        sql.run`update res_users set status = ${status}, verified_at = case when ${status} = 'invited' then null else verified_at end where tenant_id = ${acme.id} and id = ${client.userId}`,
      )
    if (state === 'lapsed') await tx.query(sql.run`update tenants set trial_ends_at = now() - interval '1 day' where id = ${acme.id}`)
  })
  return { acme, state, people, places, strict }
}

// The second evaluation: from docs/guides/give-the-right-access.md, with none of the product's functions.
const fits = (given: string, code: string) =>
  given === '*' ||
  new RegExp(
    `^${given
      .split('.')
      .map((part) => (part === '*' ? '.+' : part))
      .join('\\.')}$`,
  ).test(code)
const reaches = (held: Held, org: string | null, ws: string | null) =>
  !held.expired && (held.org === null || (held.org === org && (held.ws === null || held.ws === ws)))
const width = (held: Held) => (held.org === null ? 0 : held.ws === null ? 1 : 2)

function holds({ roles, overrides }: Person, code: string, org: string | null, ws: string | null): boolean {
  const said = overrides.filter((o) => fits(o.pattern, code) && reaches(o, org, ws))
  if (said.length > 0) {
    const narrowest = Math.max(...said.map(width))
    return said.filter((o) => width(o) === narrowest).every(({ effect }) => effect === 'allow')
  }
  return roles.some((a) => reaches(a, org, ws) && a.role.patterns.some((p) => fits(p, code)))
}

/** An assignment reaches into a place from above, or from within it. */
const worksIn = ({ roles }: Person, { org, ws }: Place, strict: string) =>
  roles.some((a) => !a.expired && (a.org === null || (a.org === org && (a.ws === null || ws === null || a.ws === ws)))) &&
  !(org === strict && ws === null)

function expected({ state, places, strict }: World, person: Person, code: string, place: Place, modules: Record<string, string>): boolean {
  const entry = registry.get(code)!
  const changes = entry.routes.some((route) => !/^(GET|HEAD)( |,)/.test(route) && !/^GET,HEAD /.test(route))
  const { org, ws } = place
  if (person.status !== 'active') return false
  if (person.roles.some((a) => !a.expired && a.role.factor)) return false
  if (state === 'lapsed' && (person.kind === 'client' || (changes && !entry.allowReadOnly))) return false
  if (entry.module) {
    const has = modules[entry.module] ?? 'disabled'
    if (has !== 'enabled' && !(has === 'read_only' && !changes)) return false
  }
  switch (entry.level) {
    case 'tenant':
      return holds(person, code, null, null)
    case 'shared':
      return holds(person, code, null, null) || places.some((p) => holds(person, code, p.org, p.ws))
    case 'object':
      return holds(person, code, org, ws)
    case 'organization':
      if (entry.organizationInPath) return holds(person, code, org, null)
      if (!worksIn(person, place, strict)) return false
      return changes ? holds(person, code, org, null) && holds(person, code, org, ws) : holds(person, code, org, ws)
    case 'workspace':
      return worksIn(person, place, strict) && holds(person, code, org, ws)
  }
}

const worlds = [await world('paid'), await world('starter'), await world('lapsed')]
const contextOf = ({ org, ws }: Place): Context => ({ organizationId: org, workspaceId: ws })
const tenantOf = async ({ acme }: World) => (await runtime.services.tenants.byId(acme.id))!

t.test(`P7, P18, P38, P45: explain agrees with the second evaluation in ${DECISIONS} random decisions`, async (t) => {
  const wrong: object[] = []
  let allowed = 0
  for (const each of worlds) {
    const stored = await tenantOf(each)
    const all = await control.read(each.acme.scope, (tx) => allGrants(tx))
    for (let n = 0; n < DECISIONS / worlds.length; n++) {
      const [person, code, place] = [one(each.people), one(codes), one(each.places)]
      const grants = all.find((g) => g.user_id === person.client.userId)!
      const now = Date.now()
      const circumstances = { exhausted: false, lacksFactor: mustEnroll(stored, grants, now), byKey: false }
      const said = explain(stored, grants, code, registry.get(code)!, circumstances, contextOf(place), now)
      const should = expected(each, person, code, place, stored.modules)
      if (should) allowed++
      if (said.allowed !== should)
        wrong.push({
          state: each.state,
          code,
          place,
          should,
          by: said.decided_by,
          entry: registry.get(code),
          person: { ...person, client: null },
        })
    }
  }
  t.same(wrong.slice(0, 3), [], `seed ${seed}: ${wrong.length} differ`)
  t.ok(allowed > DECISIONS / 50, `${allowed} are allowed`)
})

t.test('P10, P18: each cell of the matrix agrees with the second evaluation', async (t) => {
  const wrong: object[] = []
  for (const each of worlds.filter(({ state }) => state !== 'starter')) {
    const stored = await tenantOf(each)
    for (const place of each.places) {
      const { data } = await each.acme.admin.get(`/rbac/matrix?organization_id=${place.org}${place.ws ? `&workspace_id=${place.ws}` : ''}`)
      for (const person of each.people) {
        const row = data.find((r: { user_id: string }) => r.user_id === person.client.userId)
        const should = codes.filter((code) => expected(each, person, code, place, stored.modules))
        const difference = new Set<string>(row.permissions).symmetricDifference(new Set(should))
        if (difference.size > 0) wrong.push({ place, difference: [...difference].slice(0, 5), state: each.state })
      }
    }
  }
  t.same(wrong.slice(0, 3), [], `seed ${seed}: ${wrong.length} rows differ`)
  const { acme } = worlds[0]!
  const foreign = worlds[1]!.acme.organizations[0]!.id
  t.match(await acme.admin.get(`/rbac/matrix?organization_id=${foreign}`), { status: 404 })
  const [first, second] = acme.organizations
  t.match(await acme.admin.get(`/rbac/matrix?organization_id=${second!.id}&workspace_id=${first!.workspaces[0]!.id}`), { status: 404 })
  t.match(await acme.admin.get(`/rbac/explain?permission=erp.party.read&organization_id=${foreign}`), { status: 404 })
})

/** Refusals of the gate; any other answer comes after it. */
const GATE = new Set([
  'session_revoked',
  'permission_denied',
  'context_required',
  'context_forbidden',
  'module_unavailable',
  'read_only',
  'blocked',
  'mfa_enrollment_required',
])

t.test(`P7, P38, P45: ${REQUESTS} real requests are answered as explain says`, async (t) => {
  const wrong: object[] = []
  let passed = 0
  // Permissions of objects are decided on the object, and some let a user see more of what is open to all.
  const widening = ['identity.api_key.read', 'identity.api_key.revoke']
  const asked = codes.filter((code) => registry.get(code)!.level !== 'object' && !widening.includes(code))
  for (let n = 0; n < REQUESTS; n++) {
    const draw = () => {
      const each = one(worlds)
      return { each, person: one(each.people), code: one(asked), place: one(each.places) }
    }
    let drawn = draw()
    // Most draws are refused: every second one is repeated until one is allowed, so that both answers are tried.
    for (let again = 0; n % 2 === 0 && again < 50; again++) {
      if (expected(drawn.each, drawn.person, drawn.code, drawn.place, (await tenantOf(drawn.each)).modules)) break
      drawn = draw()
    }
    const { each, person, code, place } = drawn
    const entry = registry.get(code)!
    const isChange = (route: string) => !/^GET/.test(route)
    const route = entry.routes.find((r) => isChange(r) === entry.mutates)!
    const [methods, url] = route.split(' ') as [string, string]
    const claims = JSON.parse(Buffer.from(person.client.token.split('.')[1]!, 'base64url').toString())
    const user = { id: person.client.userId, email: '', name: '', kind: person.kind, locale: null }
    const token = await accessToken(runtime.services.keys, each.acme.id, { sessionId: claims.session_id, user, context: contextOf(place) })
    const target = url.replace(/:(\w+)/g, (_, name) => (url.startsWith('/api/v1/organizations/') && name === 'id' ? place.org : newId()))
    const method = methods.split(',')[0] as 'GET'
    const answer = await request(each.acme.host, {
      method,
      url: `${target}?no_such_parameter=1`,
      ...(method === 'GET' ? {} : { payload: { no_such_field: 1 } }),
      headers: { authorization: `Bearer ${token}` },
    })
    const detail = answer.body?.detail as string | undefined
    const passes = answer.status < 500 && !(detail && GATE.has(detail))
    if (passes) passed++
    const should = expected(each, person, code, place, (await tenantOf(each)).modules)
    if (passes !== should)
      wrong.push({ state: each.state, code, route, place, should, detail, status: answer.status, person: { ...person, client: null } })
  }
  t.same(wrong.slice(0, 3), [], `seed ${seed}: ${wrong.length} differ`)
  t.ok(passed > 5, `${passed} passed the gate`)
})

t.test('P7: explain over HTTP names what refuses a locked user', async (t) => {
  const { acme, people } = worlds[0]!
  const locked = people.find(({ status }) => status !== 'active') ?? (await lockOne(acme))
  t.match((await acme.admin.get(`/rbac/explain?permission=erp.party.read&user=${locked.client.userId}`)).data, {
    allowed: false,
    decided_by: 'user_status',
  })
})

async function lockOne(acme: TestTenant): Promise<{ client: Client }> {
  const client = await acme.user('viewer')
  await acme.admin.post(`/users/${client.userId}/lock`, { version: 1 })
  return { client }
}
