// Rules against a model: random streams, shuffled, doubled, late and bad, give the alerts that a plain reading of the
// definitions gives. `TEST_SEED` repeats a run.
import t from 'tap'
import { sql } from '../../../domain/kernel/index.ts'
import { watchTime } from '../../../domain/telemetry/index.ts'
import { testApp, times } from '../../support/app.ts'
import { seeded } from '../../support/random.ts'
import { type Probe, probes } from '../../support/telemetry.ts'

const { seed, next: chance } = seeded()
const DEVICES = 5
const STEPS = 300

interface Limit {
  above?: number
  below?: number
  hysteresis?: number
  for_seconds?: number
}
type Leaf =
  | ({ kind: 'threshold'; metric: string } & Limit)
  | ({ kind: 'change'; metric: string; within_seconds: number } & Limit)
  | { kind: 'silence'; seconds: number }
type Condition = Leaf | { all: Leaf[] } | { any: Leaf[] }

const CONDITIONS: readonly Condition[] = [
  { kind: 'threshold', metric: 'a', above: 30 },
  { kind: 'threshold', metric: 'a', above: 30, hysteresis: 4 },
  { kind: 'threshold', metric: 'b', below: 20, above: 34, hysteresis: 2 },
  { kind: 'threshold', metric: 'a', above: 28, for_seconds: 60 },
  { kind: 'threshold', metric: 'b', above: 28, hysteresis: 5, for_seconds: 45 },
  { kind: 'threshold', metric: 'a', above: 27, hysteresis: 8, for_seconds: 60 },
  { kind: 'threshold', metric: 'b', below: 23, hysteresis: 6, for_seconds: 40 },
  { kind: 'change', metric: 'a', within_seconds: 60, above: 6 },
  { kind: 'change', metric: 'b', within_seconds: 90, above: 5, below: -5, hysteresis: 2 },
  { kind: 'change', metric: 'a', within_seconds: 120, below: -4, for_seconds: 30 },
  {
    all: [
      { kind: 'threshold', metric: 'a', above: 26 },
      { kind: 'threshold', metric: 'b', above: 26, hysteresis: 2 },
    ],
  },
  {
    any: [
      { kind: 'threshold', metric: 'a', above: 33 },
      { kind: 'change', metric: 'b', within_seconds: 60, below: -6 },
    ],
  },
  {
    all: [
      { kind: 'threshold', metric: 'a', above: 25 },
      { kind: 'threshold', metric: 'b', above: 25, for_seconds: 60 },
    ],
  },
  { kind: 'silence', seconds: 60 },
  {
    all: [
      { kind: 'threshold', metric: 'a', above: 25 },
      { kind: 'silence', seconds: 90 },
    ],
  },
]

interface Reading {
  metric: string
  /** Seconds from the start. */
  at: number
  value: number
  bad: boolean
}
interface ModelAlert {
  /** Seconds from the start; null for a time of the wall clock. */
  raised: number | null
  value: number | null
  /** Undefined while it is open; null for a time of the wall clock. */
  cleared?: number | null
}

/** A leaf of a rule on a device: the run of readings beyond the limit, and whether the leaf is on, and since when. */
class ModelLeaf {
  readonly leaf: Leaf
  run: number[] = []
  onSince: number | null = null

  constructor(leaf: Leaf) {
    this.leaf = leaf
  }

  read(at: number, number: number): void {
    if (this.leaf.kind === 'silence') return
    const { above = Infinity, below = -Infinity, hysteresis = 0, for_seconds = 0 } = this.leaf
    const outside = (by: number) => number > above - by || number < below + by
    if (this.onSince !== null) {
      if (outside(hysteresis)) return
      this.onSince = null
      this.run = []
      return
    }
    this.run = outside(0) ? [...this.run, at] : []
    if (this.run.length > 0 && at - this.run[0]! >= for_seconds) this.onSince = this.run[0]! + for_seconds
  }
}

/** The model of one device: all that was stored, and all rules on it. */
class ModelDevice {
  stored: Reading[] = []
  readonly rules = CONDITIONS.map((condition) => ({
    condition,
    leaves: ('all' in condition ? condition.all : 'any' in condition ? condition.any : [condition]).map((leaf) => new ModelLeaf(leaf)),
    alerts: [] as ModelAlert[],
  }))

  #isOn({ condition, leaves }: ModelDevice['rules'][number]): boolean {
    const on = leaves.map(({ onSince }) => onSince !== null)
    return 'any' in condition ? on.includes(true) : !on.includes(false)
  }

  #settle(rule: ModelDevice['rules'][number], at: number | null, value: number | null, raised = at): void {
    const open = rule.alerts.at(-1)?.cleared === undefined ? rule.alerts.at(-1) : undefined
    const on = this.#isOn(rule)
    if (on && !open) rule.alerts.push({ raised, value })
    // An alert of silence is raised and ends by the wall clock; none ends before it was raised.
    if (!on && open) open.cleared = open.raised === null || at === null ? null : Math.max(open.raised, at)
  }

  receive(batch: readonly Reading[]): void {
    const fresh = batch.filter(
      (one, n) =>
        !this.stored.some((old) => old.metric === one.metric && old.at === one.at) &&
        batch.findIndex((other) => other.metric === one.metric && other.at === one.at) === n,
    )
    const newest = (metric: string) =>
      Math.max(...this.stored.filter((one) => one.metric === metric && !one.bad).map(({ at }) => at), -Infinity)
    const counted = fresh.filter((one) => !one.bad && one.at > newest(one.metric)).sort((a, b) => a.at - b.at)
    this.stored = [...this.stored, ...fresh]
    const good = this.stored.filter(({ bad }) => !bad)
    for (const rule of this.rules) {
      const heard = rule.leaves.filter(({ leaf, onSince }) => leaf.kind === 'silence' && onSince !== null)
      for (const leaf of heard) leaf.onSince = null
      for (const { metric, at, value } of counted) {
        for (const one of rule.leaves) {
          const { leaf } = one
          if (leaf.kind === 'silence' || leaf.metric !== metric) continue
          if (leaf.kind === 'threshold') one.read(at, value)
          else {
            const within = good.filter((old) => old.metric === metric && old.at >= at - leaf.within_seconds && old.at <= at)
            const first = within.reduce((a, b) => (b.at < a.at ? b : a))
            one.read(at, value - first.value)
          }
        }
        this.#settle(rule, at, value)
      }
      this.#settle(rule, null, null)
    }
  }

  /** The clock says `at`: thresholds that are exceeded for as long as they must be are on, without another reading. */
  clock(at: number): void {
    for (const rule of this.rules) {
      for (const one of rule.leaves) {
        const { leaf, run } = one
        if (leaf.kind !== 'threshold' || one.onSince !== null || run.length === 0) continue
        const due = run[0]! + (leaf.for_seconds ?? 0)
        if (due > at) continue
        one.onSince = due
        const newest = this.stored.filter(({ metric, bad }) => metric === leaf.metric && !bad).reduce((a, b) => (b.at > a.at ? b : a))
        this.#settle(rule, at, newest.value, Math.max(...rule.leaves.map(({ onSince }) => onSince ?? -Infinity)))
      }
    }
  }

  /** Nothing was heard of the device for so many seconds. */
  silent(seconds: number): void {
    for (const rule of this.rules) {
      for (const one of rule.leaves) {
        if (one.leaf.kind !== 'silence' || one.onSince !== null || seconds <= one.leaf.seconds + 10) continue
        one.onSince = 0
        this.#settle(rule, null, null)
      }
    }
  }
}

t.test(`alerts of random streams are those of the model, seed ${seed}`, async (t) => {
  const whole = (from: number, to: number) => from + Math.floor(chance() * (to - from + 1))
  const { tenant, runtime } = await testApp(t)
  const acme = await tenant()
  const telemetry = runtime.services.planes.telemetry.get('main')!
  const probe = probes(runtime)
  const made = await acme.admin.post('/telemetry/rules/bulk', {
    rows: CONDITIONS.map((condition, n) => ({ name: `Rule ${n}`, condition })),
  })
  t.equal(made.status, 201)
  const start = Math.floor(Date.now() / 1000) * 1000 - 40_000_000
  const timeOf = (at: number) => new Date(start + at * 1000)
  const devices: { probe: Probe; model: ModelDevice; values: Record<string, number>; sent: Reading[] }[] = []
  for (const _ of times(DEVICES, Boolean))
    devices.push({ probe: await probe(acme), model: new ModelDevice(), values: { a: 25, b: 25 }, sent: [] })

  let clock = 0
  for (let step = 0; step < STEPS; step++) {
    const device = devices[whole(0, DEVICES - 1)]!
    const batch: Reading[] = times(whole(1, 9), () => {
      const old = device.sent[whole(0, device.sent.length - 1)]
      // One in ten was sent before, with the same or another value; metrics have their own seconds, so that order is one.
      if (old && chance() < 0.1) return chance() < 0.5 ? old : { ...old, value: whole(10, 40) }
      const metric = chance() < 0.5 ? 'a' : 'b'
      clock += whole(1, 12)
      device.values[metric] = Math.min(40, Math.max(12, device.values[metric]! + whole(-4, 4)))
      const late = chance() < 0.1 ? whole(10, 200) : 0
      const at = 2 * Math.max(0, clock - late) + (metric === 'a' ? 0 : 1)
      return { metric, at, value: chance() < 0.03 ? 99 : device.values[metric]!, bad: chance() < 0.06 }
    })
    for (let n = batch.length - 1; n > 0; n--) {
      const other = whole(0, n)
      ;[batch[n], batch[other]] = [batch[other]!, batch[n]!]
    }
    device.sent.push(...batch)
    device.model.receive(batch)
    await device.probe.send(batch.map(({ at, bad, ...one }) => ({ ...one, ts: timeOf(at).toISOString(), quality: bad ? 'bad' : 'good' })))
    if (chance() < 0.2) {
      const now = 2 * clock + whole(0, 60)
      for (const { model } of devices) model.clock(now)
      await watchTime(telemetry, acme.id, timeOf(now))
    }
    if (chance() < 0.1) {
      const quiet = devices[whole(0, DEVICES - 1)]!
      const seconds = whole(0, 1) ? whole(30, 60) : whole(80, 2_000)
      await telemetry.write(acme.scope, async (tx) => {
        await tx.query(sql.run`update tel_device set last_seen_at = now() where tenant_id = ${acme.id}`)
        await tx.query(
          sql.run`update tel_device set last_seen_at = now() - make_interval(secs => ${seconds}) where tenant_id = ${acme.id} and id = ${quiet.probe.id}`,
        )
      })
      // By the wall clock every run beyond a limit is long over, too, before or after the silence: rules have one of the two.
      for (const { model } of devices) model.clock(Number.MAX_SAFE_INTEGER)
      quiet.model.silent(seconds)
      await watchTime(telemetry, acme.id)
    }
  }

  const found = new Map<string, ModelAlert[]>()
  let cursor = ''
  do {
    const { data, body } = await acme.viewer.get(`/telemetry/alerts?sort=created_at&limit=200${cursor}`)
    for (const { rule_id, device_id, metric, value, raised_at, cleared_at, cleared_cause } of data) {
      const key = `${rule_id} ${device_id}`
      // Times of silence are the wall clock's; so is the end of an alert by a word of the device, whatever it says.
      const second = (time: string) => (Date.parse(time) - start) / 1000
      const isWall = (time: string) => second(time) > 2 * clock + 1_000
      found.set(key, [
        ...(found.get(key) ?? []),
        {
          raised: metric === null ? null : second(raised_at),
          value,
          ...(cleared_at ? { cleared: isWall(cleared_at) ? null : second(cleared_at) } : {}),
        },
      ])
      if (cleared_at && cleared_cause !== 'condition') t.fail(`cleared by ${cleared_cause}`)
    }
    cursor = body.pagination.next_cursor ? `&cursor=${encodeURIComponent(body.pagination.next_cursor)}` : ''
  } while (cursor)
  let compared = 0
  for (const { probe, model } of devices) {
    for (const [n, { alerts, condition }] of model.rules.entries()) {
      const own = found.get(`${made.data[n].id} ${probe.id}`) ?? []
      compared += alerts.length
      if (JSON.stringify(own) === JSON.stringify(alerts)) continue
      t.same(own, alerts, `seed ${seed}, device ${probe.code}: ${JSON.stringify(condition)}`)
    }
  }
  t.comment(`seed ${seed}: ${compared} alerts compared`)
  t.ok(compared > 100, `${compared} alerts compared`)
})
