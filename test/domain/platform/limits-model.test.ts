// Limits, trials and modules against a model: random sequences of what people and staff do, in parallel and one after the
// other, are answered as the guides say. `TEST_SEED` repeats the choices.
import t from 'tap'
import { newId } from '../../../domain/kernel/index.ts'
import { type Answer, type TestTenant, testApp, times, upload } from '../../support/app.ts'
import { type ModelAvailability, type ModelOffer, type ModelPlan, PlanModel } from '../../support/plan-model.ts'
import { seeded } from '../../support/random.ts'
import { ownControlPlane } from '../../support/services.ts'

const TENANTS = 3
const STEPS = 16
const SOON_MS = 700
const LATER_MS = 3_600_000

const plane = await ownControlPlane(t)
// Two processes: what staff changes through one is known to the other when it is answered.
const apps = [await testApp(t, { CONTROL_DATABASE_URL: plane.app }), await testApp(t, { CONTROL_DATABASE_URL: plane.app })] as const
const { tenant } = apps[0]
const root = (await tenant({ kind: 'platform', slug: 'admin' })).admin
const random = seeded()
const { below, pick } = random
const chance = (share: number) => random.next() < share

const BASE = ['erp.parties', 'erp.products', 'erp.inventory']
const limitsOf = (least: number) => ({
  users: 5 + below(4),
  records: least + below(6),
  devices: pick([0, 2, 3 + below(4)]),
  storage: 2_000 + below(6_000),
})
const PLANS: ModelPlan[] = [
  { code: 'model-bare', price: 5, sort: 1, listed: true, modules: ['erp.parties'], limits: limitsOf(3) },
  { code: 'model-small', price: 10, sort: 2, listed: true, modules: BASE, limits: limitsOf(8) },
  { code: 'model-devices', price: 10, sort: 1, listed: false, modules: [...BASE, 'telemetry.devices'], limits: limitsOf(14) },
  {
    code: 'model-large',
    price: 30,
    sort: 1,
    listed: true,
    modules: [...BASE, 'erp.procurement', 'telemetry.devices'],
    limits: { ...limitsOf(25), devices: 9 },
  },
  { code: 'model-free', price: 1, sort: 9, listed: false, modules: [...BASE, 'telemetry.devices'], limits: { storage: null } },
]
for (const { code, price, sort, listed, modules, limits } of PLANS) {
  const made = await root.put(`/superadmin/plans/${code}`, {
    ...{ name: code, price: String(price), currency: 'EUR', interval: 'month', trial_days: 14 },
    ...{ sort, listed, modules, limits },
  })
  if (made.status !== 201) throw new Error(made.text)
}
const MODULES = (await root.get('/superadmin/modules')).data as { code: string; product: string; requires: string[] }[]
const SOLD: ModelPlan[] = (await root.get('/superadmin/plans')).data.map((plan: ModelPlan) => ({ ...plan, price: Number(plan.price) }))

type Metric = 'users' | 'records' | 'devices' | 'storage'
const METRICS: readonly Metric[] = ['users', 'records', 'devices', 'storage']
interface Held {
  id: string
  version: number
  size: number
}
interface Kind {
  path: string
  module: string | null
  /** What one of it, of so many bytes, takes of the plan. */
  takes: (size: number) => Partial<Record<Metric, number>>
  body?: () => object
  recovers: boolean
  bulk: boolean
}
type KindName = 'party' | 'location' | 'device' | 'user' | 'file'
const KINDS: Record<KindName, Kind> = {
  party: {
    path: '/erp/parties',
    module: 'erp.parties',
    takes: () => ({ records: 1 }),
    body: () => ({ code: newId(), name: 'P', roles: ['client'] }),
    recovers: true,
    bulk: true,
  },
  location: {
    path: '/erp/locations',
    module: 'erp.inventory',
    takes: () => ({ records: 1 }),
    body: () => ({ code: newId(), name: 'L' }),
    recovers: true,
    bulk: true,
  },
  device: {
    path: '/telemetry/devices',
    module: 'telemetry.devices',
    takes: () => ({ devices: 1 }),
    body: () => ({ code: newId(), name: 'D' }),
    recovers: true,
    bulk: true,
  },
  user: {
    path: '/users',
    module: null,
    takes: () => ({ users: 1 }),
    body: () => ({ email: `${newId()}@model.example`, name: 'U', kind: 'service' }),
    recovers: false,
    bulk: false,
  },
  file: { path: '/files', module: null, takes: (size) => ({ records: 1, storage: size }), recovers: false, bulk: false },
}
const NAMES = Object.keys(KINDS) as KindName[]

interface Operation {
  label: string
  kind: KindName
  delta: Partial<Record<Metric, number>>
  send: (acme: TestTenant) => Promise<Answer>
  /** Keeps the model's lists of what is there. */
  done: (answer: Answer) => void
}

class World {
  readonly acme: TestTenant
  readonly model: PlanModel
  readonly used: Record<Metric, number> = { users: 4, records: 0, devices: 0, storage: 0 }
  readonly live = new Map<KindName, Held[]>(NAMES.map((name) => [name, []]))
  readonly gone = new Map<KindName, Held[]>(NAMES.map((name) => [name, []]))
  calls = 0

  constructor(acme: TestTenant, model: PlanModel) {
    this.acme = acme
    this.model = model
  }

  /** A request of the tenant's administrator, through one process or the other. */
  async ask(method: 'GET' | 'POST' | 'DELETE', path: string, payload?: object, headers: Record<string, string> = {}, app = this.calls % 2) {
    this.calls++
    return apps[app]!.request(this.acme.host, {
      method,
      url: `/api/v1${path}`,
      headers: { authorization: `Bearer ${this.acme.admin.token}`, ...headers },
      ...(payload ? { payload } : {}),
    })
  }

  /** One thing that people do; what is deleted or brought back is taken by no second operation of the batch. */
  draw(kind: KindName, adding: boolean): Operation {
    const { path, takes, recovers, bulk } = KINDS[kind]
    const [live, gone] = [this.live.get(kind)!, this.gone.get(kind)!]
    const keep = (size: number) => (data: { id: string; version: number }) => live.push({ id: data.id, version: data.version, size })
    if (!adding && live.length > 0) {
      const [held] = live.splice(below(live.length), 1) as [Held]
      const delta = Object.fromEntries(Object.entries(takes(held.size)).map(([metric, n]) => [metric, -n]))
      return {
        label: `delete ${kind}`,
        ...{ kind, delta },
        send: () => this.ask('DELETE', `${path}/${held.id}`, undefined, { 'if-match': `"${held.version}"` }),
        done: ({ status }) => {
          if (status === 204) gone.push({ ...held, version: held.version + 1 })
          else live.push(held)
        },
      }
    }
    if (recovers && gone.length > 0 && chance(0.4)) {
      const [held] = gone.splice(below(gone.length), 1) as [Held]
      return {
        label: `recover ${kind}`,
        ...{ kind, delta: takes(held.size) },
        send: () => this.ask('POST', `${path}/${held.id}/recover`),
        done: ({ status, data }) => {
          if (status === 200) keep(held.size)(data)
          else gone.push(held)
        },
      }
    }
    if (kind === 'file') {
      const size = 1 + below(1_500)
      return {
        label: `upload ${size} bytes`,
        ...{ kind, delta: takes(size) },
        send: () => {
          this.calls++
          return upload(this.acme.admin, 'x'.repeat(size), `${newId()}.txt`)
        },
        done: ({ status, data }) => status === 201 && keep(size)(data),
      }
    }
    const make = KINDS[kind].body!
    if (bulk && chance(0.3)) {
      const rows = times(1 + below(4), make)
      return {
        label: `create ${rows.length} of ${kind}`,
        kind,
        delta: Object.fromEntries(Object.entries(takes(0)).map(([metric, n]) => [metric, n * rows.length])),
        send: () => this.ask('POST', `${path}/bulk`, { rows }),
        done: ({ status, data }) => {
          if (status === 201) for (const row of data) keep(0)(row)
        },
      }
    }
    return {
      label: `create ${kind}`,
      ...{ kind, delta: takes(0) },
      send: () => this.ask('POST', path, make()),
      done: ({ status, data }) => status === 201 && keep(0)(data),
    }
  }

  /** Waits until nothing ends by the clock for long enough. */
  async calm(): Promise<void> {
    const next = Math.max(0, ...this.model.ends().filter((at) => at < Date.now() + LATER_MS / 2))
    if (next > Date.now() - 20) await new Promise((resolve) => setTimeout(resolve, next - Date.now() + 20))
  }
}

/** Several at once, or one: what is accepted and refused is what there is room for, exactly. */
async function batch(t: Tap, world: World, operations: Operation[]): Promise<void> {
  const { model, used } = world
  const at = Date.now()
  const { mode, reason } = model.mode(at)
  const modules = model.availability(at)
  const before = { ...used }
  const answers = await Promise.all(operations.map((operation) => operation.send(world.acme)))
  const added: Record<Metric, number> = { users: 0, records: 0, devices: 0, storage: 0 }
  const removed = { ...added }
  const refused: { label: string; metric: Metric; wanted: number; details: { limit: number; used: number } }[] = []
  for (const [i, { label, kind, delta, done }] of operations.entries()) {
    const answer = answers[i]!
    const { module } = KINDS[kind]
    const availability = module ? modules.get(module)! : 'enabled'
    done(answer)
    if (mode === 'read_only') {
      world.calls-- // refused before it is counted
      t.match(answer, { status: 403, body: { detail: 'read_only', error: { details: { reason } } } }, label)
    } else if (availability !== 'enabled') {
      t.match(answer, { status: 403, body: { detail: 'module_unavailable', error: { details: { module, availability } } } }, label)
    } else if (answer.status < 300) {
      for (const metric of METRICS) {
        const n = delta[metric] ?? 0
        used[metric] += n
        if (n > 0) added[metric] += n
        else removed[metric] -= n
      }
    } else if (answer.body?.detail === 'plan_limit') {
      const { metric, ...details } = answer.body.error.details
      t.ok((delta[metric as Metric] ?? 0) > 0, `${label} takes ${metric}, of which it is said that there is no room`)
      refused.push({ label, metric, wanted: delta[metric as Metric]!, details })
    } else t.fail(`${label}: ${answer.status} ${answer.text}`)
  }
  for (const metric of METRICS) {
    const limit = model.limit(metric)
    if (limit !== null && added[metric] > 0)
      t.ok(used[metric] <= limit, `${used[metric]} ${metric} of ${limit} after ${added[metric]} more were accepted`)
  }
  for (const { label, metric, wanted, details } of refused) {
    const limit = model.limit(metric)!
    // Those that were deleted may have been deleted after this one was refused.
    const most = before[metric] + added[metric]
    t.ok(limit !== null && most + wanted > limit, `${label} was refused: ${most} ${metric} of ${limit} at most, ${wanted} wanted`)
    t.ok(
      details.limit === limit && details.used <= most && details.used >= before[metric] - removed[metric],
      `${label}: the refusal says ${JSON.stringify(details)}, the model ${limit} and at most ${most}`,
    )
  }
}

type Tap = Pick<typeof t, 'ok' | 'match' | 'same' | 'fail' | 'equal'>

interface Node {
  code: string
  blocked: boolean
  unlocked_by: string | null
  children: Node[]
}
const flat = (nodes: Node[]): Node[] => nodes.flatMap((node) => [node, ...flat(node.children)])
const PROBES: Record<string, string> = {
  'erp.parties': '/erp/parties',
  'erp.products': '/erp/uoms',
  'erp.inventory': '/erp/locations',
  'erp.procurement': '/erp/purchase-orders',
  'telemetry.devices': '/telemetry/devices',
}

/** Everything that the tenant can see of it, at a moment at which nothing ends. */
async function verify(t: Tap, world: World, after: string): Promise<void> {
  for (;;) {
    const from = Date.now()
    const usage = await world.ask('GET', '/tenant/usage')
    const registry = await world.ask('GET', '/module-registry')
    const menu = await world.ask('GET', '/menu')
    const me = await world.ask('GET', '/auth/me')
    const probes = await Promise.all(Object.values(PROBES).map((path) => world.ask('GET', `${path}?limit=1`)))
    const until = Date.now()
    if (world.model.ends().some((at) => at >= from - 5 && at <= until + 5)) continue
    const { model, used } = world
    const modules = model.availability(from)
    for (const metric of METRICS) {
      const { used: counted, limit } = usage.data.find((one: { metric: string }) => one.metric === metric)
      t.same({ used: counted, limit }, { used: used[metric], limit: model.limit(metric) }, `${metric} after ${after}`)
    }
    t.equal(usage.body.plan, model.plan)
    t.same(
      Object.fromEntries(registry.data.map((one: { code: string; availability: string }) => [one.code, one.availability])),
      Object.fromEntries(modules),
      `modules after ${after}`,
    )
    const nodes = new Map(flat(menu.data).map((node) => [node.code, node]))
    for (const [code, availability] of modules) {
      const node = nodes.get(code)
      const wanted = {
        enabled: { blocked: false, unlocked_by: null },
        read_only: { blocked: false, unlocked_by: model.unlockedBy(code) },
        blocked: { blocked: true, unlocked_by: model.unlockedBy(code) },
        disabled: undefined,
      }[availability]
      t.same(node && { blocked: node.blocked, unlocked_by: node.unlocked_by }, wanted, `${code} in the menu after ${after}`)
    }
    t.same(me.data.access_mode, model.mode(from), `access mode after ${after}`)
    for (const [i, code] of Object.keys(PROBES).entries()) {
      const availability = modules.get(code) as ModelAvailability
      const readable = availability === 'enabled' || availability === 'read_only'
      t.match(
        probes[i],
        readable ? { status: 200 } : { status: 403, body: { detail: 'module_unavailable', error: { details: { availability } } } },
        `reading ${code} after ${after}`,
      )
    }
    return
  }
}

/** What staff does to a tenant: the model and the answer agree on whether it is done. */
async function decide(t: Tap, { acme, model }: World): Promise<string> {
  const path = `/superadmin/tenants/${acme.id}`
  const plan = pick(PLANS).code
  const product = pick(['erp', 'telemetry'])
  const module = pick(MODULES).code
  const at = Date.now()
  const ends = pick([null, at + SOON_MS, at + SOON_MS, at + LATER_MS])
  const offer: ModelOffer = {
    availability: pick(['enabled', 'enabled', 'enabled', 'blocked', 'disabled']),
    source: pick(['grant', 'trial']),
    expiresAt: ends,
  }
  const body = { availability: offer.availability, source: offer.source, expires_at: ends && new Date(ends).toISOString() }
  const trial = at + pick([SOON_MS, LATER_MS])
  const lasts = ends === null ? 'for good' : ends === at + SOON_MS ? 'for a moment' : 'for an hour'
  const choices: [string, () => Promise<Answer>, () => string | null][] = [
    [`plan ${plan}`, () => root.put(`${path}/plan`, { plan }), () => model.changePlan(plan, at)],
    [`plan ${plan}`, () => root.put(`${path}/plan`, { plan }), () => model.changePlan(plan, at)],
    [
      `${product} ${offer.availability} by ${offer.source} ${lasts}`,
      () => root.put(`${path}/products/${product}`, body),
      () => model.offerProduct(product, offer, at),
    ],
    [`${product} withdrawn`, () => root.delete(`${path}/products/${product}`), () => model.withdrawProduct(product, at)],
    [
      `${module} ${offer.availability} by ${offer.source} ${lasts}`,
      () => root.put(`${path}/modules/${module}`, body),
      () => model.offerModule(module, offer, at),
    ],
    [`${module} withdrawn`, () => root.delete(`${path}/modules/${module}`), () => model.withdrawModule(module, at)],
    [
      `trial ${trial === at + SOON_MS ? 'for a moment' : 'for an hour'}`,
      () => root.put(`${path}/trial`, { trial_ends_at: new Date(trial).toISOString() }),
      () => model.extendTrial(trial, at),
    ],
    ...(chance(0.4)
      ? [
          [`convert to ${plan}`, () => root.post(`${path}/convert`, { plan }), () => model.convert(plan, at)] satisfies [
            string,
            () => Promise<Answer>,
            () => string | null,
          ],
        ]
      : []),
  ]
  const [label, send, expect] = pick(choices)
  const refusal = expect()
  const answer = await send()
  t.match(answer, refusal ? { body: { detail: refusal } } : { status: 200 }, `${label}: ${answer.status} ${answer.text.slice(0, 200)}`)
  return label
}

for (const n of times(TENANTS, (i) => i)) {
  t.test(`TEST_SEED=${random.seed}, tenant ${n}: what is let in, refused, shown and counted is what the model says`, async (t) => {
    const terms = n % 2 === 0 ? 'trial' : 'paid'
    const plan = pick(PLANS)
    const acme = await tenant({ terms, plan: plan.code })
    const trialEnds = terms === 'trial' ? Date.now() + 30 * 86_400_000 : null
    const world = new World(acme, new PlanModel(MODULES, SOLD, plan.code, trialEnds))
    const story = [`${terms} on ${plan.code}`]
    await verify(t, world, story.join(', '))
    for (let step = 0; step < STEPS; step++) {
      if (chance(0.55)) {
        await world.calm()
        story.push(await decide(t, world))
        await verify(t, world, story.slice(-6).join(', '))
        await world.calm()
      } else {
        await world.calm()
        const size = pick([1, 1, 8, 20])
        const kinds = pick<readonly KindName[]>([NAMES, NAMES, ['party', 'location'], ['device'], ['user'], ['file']])
        const adding = pick([0.4, 0.75, 1])
        const operations = times(size, () => world.draw(pick(kinds), chance(adding)))
        await batch(t, world, operations)
        story.push(size === 1 ? operations[0]!.label : `${size} at once`)
      }
      await verify(t, world, story.slice(-6).join(', '))
    }
    t.comment(story.join('; '))

    // As many calls of the month as the plan has room for, of both processes together, and none beyond.
    const [room, code] = [5 + below(20), `model-calls-${n}`]
    const made = await root.put(`/superadmin/plans/${code}`, {
      ...{ name: code, price: '1', currency: 'EUR', interval: 'month', trial_days: 14, sort: 99, listed: false },
      ...{ modules: BASE, limits: { api_calls: world.calls + 2 + room } },
    })
    t.equal(made.status, 201)
    for (const path of ['products/erp', 'modules/erp.parties'])
      await root.put(`/superadmin/tenants/${acme.id}/${path}`, { availability: 'enabled', source: 'grant', expires_at: null })
    t.equal((await root.put(`/superadmin/tenants/${acme.id}/plan`, { plan: code })).status, 200)
    // Each process learns within two seconds after a call what the other counted.
    for (const app of [0, 1]) t.equal((await world.ask('GET', '/erp/parties?limit=1', undefined, {}, app)).status, 200)
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    const answers = await Promise.all(times(40, () => world.ask('GET', '/erp/parties?limit=1', undefined, {}, 0)))
    t.equal(answers.filter(({ status }) => status === 200).length, room, `of 40 calls with room for ${room}`)
    t.equal(answers.filter(({ body }) => body.detail === 'plan_limit').length, 40 - room)
  })
}
