// Rule evaluation: on readings as they are written, and by the clock where none are.
import { type Static, Type } from 'typebox'
import { type Database, type Fragment, nullable, sql, systemScope, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { endAlerts, type NewAlert, raiseAlerts } from './alert.ts'
import { after, isOn, type Leaf, type LeafState, OFF, onSince } from './condition.ts'
import { intervalOf } from './device.ts'
import { type GoodReading, QUALITIES } from './message.ts'
import { isOf, type Subject, type WatchedRule, watchedRules } from './rule.ts'

/** A device and what it has sent, in any order. */
export interface Heard {
  device: Subject
  readings: readonly GoodReading[]
}

/** A rule on a device, with the state of its evaluation before. */
interface Evaluated {
  rule: WatchedRule
  device: Subject
  /** Good and uncertain ones, by time. */
  readings: readonly GoodReading[]
  leaves: readonly LeafState[]
  /** Of the alert that is open; null where none is. */
  alert: string | null
  /** Whether it is kept in the table. */
  kept: boolean
}

/** What becomes of it. */
interface Outcome {
  leaves: readonly LeafState[]
  /** When the alert that was open before ended. */
  ended: number | null
  raised: NewAlert[]
}

const State = Type.Object(
  {
    rule_id: Uuid,
    device_id: Uuid,
    rule_version: Type.Integer(),
    leaves: Type.Array(Type.Object({ since: nullable(Type.Number()), on: Type.Boolean() })),
    alert_id: nullable(Uuid),
  },
  { additionalProperties: false },
)
const First = Type.Object({ key: Type.String(), value: Type.Number() }, { additionalProperties: false })

/** Where a series is found: what the ingest knows. */
export type SeriesOf = (device: string, metric: string) => number

/** What readings of change rules are compared with. */
type Past = ReadonlyMap<string, number>
const pastKey = (series: number, within: number, at: number): string => `${series} ${within} ${at}`

/** Evaluates a rule on the readings of a device, one after the other. */
function evaluate({ rule, device, readings, leaves: before, alert }: Evaluated, past: Past, seriesOf: SeriesOf, now: number): Outcome {
  // Any message of a device ends its silence.
  const leaves = before.map((state, place) => (rule.leaves[place]!.kind === 'silence' ? OFF : state))
  // Silence ends when the device is heard, not at the time of what it says.
  const wasSilent = before.some(({ on }, place) => on && rule.leaves[place]!.kind === 'silence')
  const raised: NewAlert[] = []
  let ended: number | null = null
  let open = alert !== null
  for (const { metric, at: ts, value } of readings) {
    // A reading from ahead counts from the moment that it was received.
    const at = Math.min(ts, now)
    for (const [place, leaf] of rule.leaves.entries()) {
      if (leaf.kind === 'silence' || leaf.metric !== metric) continue
      if (leaf.kind === 'threshold') leaves[place] = after(leaf, leaves[place]!, at, value)
      else {
        const first = past.get(pastKey(seriesOf(device.id, metric), leaf.within_seconds, ts))
        leaves[place] = after(leaf, leaves[place]!, at, first === undefined ? 0 : value - first)
      }
    }
    const on = isOn(rule.condition, leaves)
    if (on && !open) raised.push(alertOf(rule, device, { metric, value, raisedAt: at }))
    if (!on && open) {
      if (raised.length > 0) raised.at(-1)!.clearedAt = at
      else ended = wasSilent ? now : at
    }
    open = on
  }
  if (open && !isOn(rule.condition, leaves)) ended = now
  return { leaves, ended, raised }
}

const alertOf = (rule: WatchedRule, device: Subject, raised: Pick<NewAlert, 'metric' | 'value' | 'raisedAt'>): NewAlert => ({
  ruleId: rule.id,
  organizationId: rule.organization_id,
  deviceId: device.id,
  name: rule.name,
  severity: rule.severity,
  clearedAt: null,
  ...raised,
})

const isSame = (a: readonly LeafState[], b: readonly LeafState[]) =>
  a.every((one, at) => one.since === b[at]!.since && one.on === b[at]!.on)
const hasChanged = ({ leaves }: Evaluated, outcome: Outcome) =>
  outcome.raised.length > 0 || outcome.ended !== null || !isSame(leaves, outcome.leaves)

/**
 * Evaluates rules on readings that were just written: raises and clears alerts in the transaction that wrote the readings,
 * so each is weighed exactly once. Readings that do not count:
 * - those that are older than one that was there before: what was true then is over. A reading from ahead of our clock
 *   makes only other readings from ahead older;
 * - those of quality `bad`. They are heard of, which ends silence, and nothing else.
 *
 * The order of batches is the caller's to keep. States are locked, then rules and devices, so that silence-watch, and the
 * change of a rule or a device, come before or after; two that raise the same at once meet at the alert's key, and the
 * second throws `already_exists`.
 */
export async function watchReadings(tx: Tx, rules: readonly WatchedRule[], heard: readonly Heard[], seriesOf: SeriesOf): Promise<void> {
  const pairs = heard.flatMap(({ device, readings }) => {
    const byTime = readings.filter(({ quality }) => quality !== QUALITIES.bad).toSorted((a, b) => a.at - b.at)
    const metrics = new Set(byTime.map(({ metric }) => metric))
    return rules
      .filter((rule) => isOf(rule, device) && (rule.watchesSilence || [...rule.metrics].some((metric) => metrics.has(metric))))
      .map((rule) => ({ rule, device, readings: byTime }))
  })
  if (pairs.length === 0) return
  const states = await lockStates(tx, [...new Set(pairs.map(({ device }) => device.id))])
  const evaluated = pairs.map((pair): Evaluated => {
    const state = states.get(`${pair.rule.id} ${pair.device.id}`)
    const isCurrent = state?.rule_version === pair.rule.version
    const leaves = isCurrent ? state.leaves : pair.rule.leaves.map(() => OFF)
    return { ...pair, leaves, alert: state?.alert_id ?? null, kept: state !== undefined }
  })
  const past = await pastOf(tx, evaluated, seriesOf)
  const now = tx.now.getTime()
  const changing = evaluated.filter((one) => hasChanged(one, evaluate(one, past, seriesOf, now)))
  if (changing.length === 0) return
  const newest = await newestBefore(tx, changing, seriesOf)
  const isNew = (series: number, at: number) => at > (newest.get(series)?.[at > now ? 'ahead' : 'present'] ?? Number.NEGATIVE_INFINITY)
  const inForce = await lockApplicable(tx, changing)
  const settled = changing
    .filter(inForce)
    .map((one) => ({ ...one, readings: one.readings.filter(({ metric, at }) => isNew(seriesOf(one.device.id, metric), at)) }))
    .map((one) => ({ ...one, outcome: evaluate(one, past, seriesOf, now) }))
    .filter((one) => hasChanged(one, one.outcome))
  await keep(tx, settled)
}

async function lockStates(tx: Tx, devices: readonly string[]): Promise<ReadonlyMap<string, Static<typeof State>>> {
  const found = await tx.any(sql.prepared(State)`
    select rule_id, device_id, rule_version, leaves, alert_id from tel_rule_state
    where tenant_id = ${tx.tenantId} and device_id = any(${sql.array([...devices], 'uuid')}) order by device_id, rule_id for update`)
  return new Map(found.map((state) => [`${state.rule_id} ${state.device_id}`, state]))
}

/**
 * The value that each reading of a change rule is compared with: that of the first good reading within the rule's time
 * before it. One index probe and one row a reading, however many readings the time holds.
 */
async function pastOf(tx: Tx, evaluated: readonly Evaluated[], seriesOf: SeriesOf): Promise<Past> {
  const wanted = new Map<string, [series: number, from: string, to: string]>()
  for (const { rule, device, readings } of evaluated) {
    for (const leaf of rule.leaves) {
      if (leaf.kind !== 'change') continue
      for (const { metric, at } of readings) {
        if (metric !== leaf.metric) continue
        const series = seriesOf(device.id, metric)
        const from = new Date(at - leaf.within_seconds * 1000).toISOString()
        wanted.set(pastKey(series, leaf.within_seconds, at), [series, from, new Date(at).toISOString()])
      }
    }
  }
  if (wanted.size === 0) return new Map()
  const found = await tx.any(sql.prepared(First)`
    select w.key, m.value
    from ${sql.unnest(
      [...wanted].map(([key, row]) => [key, ...row]),
      ['text', 'int8', 'timestamptz', 'timestamptz'],
    )} as w (key, series_id, since, until)
    cross join lateral (
      select m.value from tel_measurement m
      where m.tenant_id = ${tx.tenantId} and m.series_id = w.series_id and m.ts >= w.since and m.ts <= w.until and m.quality <> ${QUALITIES.bad}
      order by m.ts limit 1
    ) as m`)
  return new Map(found.map(({ key, value }) => [key, value]))
}

const Newest = Type.Object(
  { series_id: Type.Integer(), present: nullable(Type.Number()), ahead: nullable(Type.Number()) },
  { additionalProperties: false },
)

/**
 * The newest good reading of each series that was there before those that have just been written, where it is newer than
 * the first of these: that of the present, and that of all, which a device whose clock is ahead may have sent.
 */
async function newestBefore(
  tx: Tx,
  evaluated: readonly Evaluated[],
  seriesOf: SeriesOf,
): Promise<ReadonlyMap<number, { present: number | null; ahead: number | null }>> {
  const own = new Map<number, string[]>()
  for (const { device, readings } of evaluated) {
    for (const { metric, at } of readings) {
      const series = seriesOf(device.id, metric)
      const times = own.get(series) ?? []
      times.push(new Date(at).toISOString())
      own.set(series, times)
    }
  }
  const rows = [...own].map(([series, times]) => [series, JSON.stringify([...new Set(times)])])
  const newest = (until: Fragment) => sql.fragment`
    (select extract(epoch from m.ts)::float8 * 1000 from tel_measurement m
    where m.tenant_id = ${tx.tenantId} and m.series_id = s.series_id and m.ts > s.own[1] and m.ts <= ${until}
      and m.ts <> all(s.own) and m.quality <> ${QUALITIES.bad}
    order by m.ts desc limit 1)`
  const found = await tx.any(sql.prepared(Newest)`
    select s.series_id, ${newest(sql.fragment`${tx.now.toISOString()}::timestamptz`)} as present, ${newest(sql.fragment`now() + interval '1 day'`)} as ahead
    from (
      select series_id, array(select t::timestamptz from jsonb_array_elements_text(own) as t order by 1) as own
      from ${sql.unnest(rows, ['int8', 'jsonb'])} as given (series_id, own)
    ) as s`)
  const rounded = (at: number | null) => (at === null ? null : Math.round(at))
  return new Map(found.map(({ series_id, present, ahead }) => [series_id, { present: rounded(present), ahead: rounded(ahead) }]))
}

const Id = Type.Object({ id: Uuid }, { additionalProperties: false })
const Scoped = Type.Object(
  { id: Uuid, organization_id: Uuid, profile_id: nullable(Uuid), site_id: nullable(Uuid), batch_id: nullable(Uuid) },
  { additionalProperties: false },
)

const subjectOf = (row: Static<typeof Scoped>): Subject => ({
  id: row.id,
  organizationId: row.organization_id,
  profileId: row.profile_id,
  siteId: row.site_id,
  batchId: row.batch_id,
})

/**
 * Whether a rule is still as it was read and still applies to its device: rules and devices are locked against changes until
 * this transaction ends, so a change after it sees its alerts. A device is changed before its states are locked; where the
 * two meet the database ends one of them, and it runs again.
 */
async function lockApplicable(
  tx: Tx,
  pairs: readonly Pick<Evaluated, 'rule' | 'device'>[],
): Promise<(pair: Pick<Evaluated, 'rule' | 'device'>) => boolean> {
  const versions = new Map(pairs.map(({ rule }) => [rule.id, rule.version]))
  const rules = await tx.any(sql.prepared(Id)`
    select r.id from tel_rule r join ${sql.unnest([...versions], ['uuid', 'int4'])} as w (id, version) on w.id = r.id and w.version = r.version
    where r.tenant_id = ${tx.tenantId} and r.deleted_at is null order by r.id for share of r`)
  const ids = [...new Set(pairs.map(({ device }) => device.id))]
  const devices = await tx.any(sql.prepared(Scoped)`
    select id, organization_id, profile_id, site_id, batch_id from tel_device
    where tenant_id = ${tx.tenantId} and id = any(${sql.array(ids, 'uuid')}) and deleted_at is null order by id for share`)
  const live = new Set(rules.map(({ id }) => id))
  const subjects = new Map(devices.map((device) => [device.id, subjectOf(device)]))
  return ({ rule, device }) => {
    const subject = subjects.get(device.id)
    return live.has(rule.id) && subject !== undefined && isOf(rule, subject)
  }
}

/** Writes what became of rules on devices: alerts that ended and that were raised, and what is true now. */
async function keep(tx: Tx, settled: readonly (Evaluated & { outcome: Outcome })[]): Promise<void> {
  await endAlerts(
    tx,
    settled.flatMap(({ alert, outcome }) => (alert && outcome.ended !== null ? [{ id: alert, at: outcome.ended }] : [])),
  )
  // Those that are over already first: of one rule and device no two are open at once.
  const raised = settled
    .flatMap(({ outcome }) => outcome.raised)
    .toSorted((a, b) => Number(a.clearedAt === null) - Number(b.clearedAt === null))
  const ids = await raiseAlerts(tx, raised)
  const open = new Map(
    raised.flatMap((alert, n) => (alert.clearedAt === null ? [[`${alert.ruleId} ${alert.deviceId}`, ids[n]!] as const] : [])),
  )
  const rows: [string, string, number, string, string | null][] = []
  const over: [string, string][] = []
  for (const { rule, device, alert, kept, outcome } of settled) {
    const now = open.get(`${rule.id} ${device.id}`) ?? (outcome.ended === null ? alert : null)
    if (now === null && outcome.leaves.every(({ since }) => since === null)) {
      if (kept) over.push([rule.id, device.id])
    } else rows.push([rule.id, device.id, rule.version, JSON.stringify(outcome.leaves), now])
  }
  if (over.length > 0)
    await tx.query(sql.run`
      delete from tel_rule_state s using ${sql.unnest(over, ['uuid', 'uuid'])} as o (rule_id, device_id)
      where s.tenant_id = ${tx.tenantId} and s.rule_id = o.rule_id and s.device_id = o.device_id`)
  if (rows.length > 0)
    await tx.query(sql.run`
      insert into tel_rule_state (tenant_id, rule_id, device_id, rule_version, leaves, alert_id)
      select ${tx.tenantId}, r.* from ${sql.unnest(rows, ['uuid', 'uuid', 'int4', 'jsonb', 'uuid'])} as r
      on conflict (tenant_id, rule_id, device_id) do update
      set rule_version = excluded.rule_version, leaves = excluded.leaves, alert_id = excluded.alert_id`)
}

const Ids = Type.Object({ ids: Type.Array(Uuid) }, { additionalProperties: false })

/** The tenants of a database that have rules which time alone can raise. */
export const tenantsWithTimedRules = async (database: Database): Promise<readonly string[]> =>
  (await database.platform((queries) => queries.one(sql.prepared(Ids)`select plane.tenants_with_timed_rules() as ids`))).ids

/** `last_seen_at` is written every ten seconds at most, so a device is given so much longer. */
const SLACK_SECONDS = 10
const BATCH = 1_000
const Quiet = Type.Object({ ...Scoped.properties, heard_at: Timestamp }, { additionalProperties: false })

/**
 * Raises the alerts that no reading raises: of devices that were not heard of for as long as a rule says, and of devices whose
 * last value has been beyond a limit for as long as a rule says. Returns how many rules were looked at.
 * @param asOf all that was received until then is written: time that has passed since is not counted, because readings of it may wait
 */
export async function watchTime(database: Database, tenantId: string, asOf = new Date()): Promise<number> {
  const scope = systemScope(tenantId, 'telemetry-watch', 'telemetry-watch')
  const isTimed = (leaf: Leaf) => leaf.kind === 'silence' || (leaf.kind === 'threshold' && (leaf.for_seconds ?? 0) > 0)
  const rules = (await database.read(scope, watchedRules)).filter(({ leaves }) => leaves.some(isTimed))
  for (const rule of rules) {
    for (const [place, leaf] of rule.leaves.entries()) {
      if (!isTimed(leaf)) continue
      const look = (tx: Tx) =>
        leaf.kind === 'silence' ? silenceOf(tx, rule, place, leaf.seconds, asOf) : durationOf(tx, rule, place, asOf)
      while ((await database.write(scope, look)) === BATCH);
    }
  }
  return rules.length
}

/** One silence leaf of one rule, on a batch of devices; one whose readings are just written is locked, and left out. Returns how many there were. */
async function silenceOf(tx: Tx, rule: WatchedRule, place: number, seconds: number, asOf: Date): Promise<number> {
  const of = (name: 'profile_id' | 'site_id' | 'batch_id') =>
    rule[name] ? sql.fragment`and ${sql.identifier(['d', name])} = ${rule[name]}` : sql.fragment``
  const quiet = await tx.any(sql.prepared(Quiet)`
    select d.id, d.organization_id, d.profile_id, d.site_id, d.batch_id, coalesce(d.last_seen_at, d.created_at) as heard_at
    from tel_device d
    where d.tenant_id = ${tx.tenantId} and d.organization_id = ${rule.organization_id} and d.deleted_at is null
      ${rule.device_id ? sql.fragment`and d.id = ${rule.device_id}` : sql.fragment``} ${of('profile_id')} ${of('site_id')} ${of('batch_id')}
      and coalesce(d.last_seen_at, d.created_at) < ${asOf.toISOString()}::timestamptz - make_interval(secs => ${seconds + SLACK_SECONDS})
      and not exists (
        select from tel_rule_state s
        where s.tenant_id = d.tenant_id and s.device_id = d.id and s.rule_id = ${rule.id} and s.rule_version = ${rule.version}
          and (s.leaves -> ${place}::int ->> 'on')::boolean)
    order by d.id limit ${BATCH} for update of d skip locked`)
  if (quiet.length === 0) return 0
  const live = await tx.maybeOne(sql.prepared(Id)`
    select id from tel_rule where tenant_id = ${tx.tenantId} and id = ${rule.id} and version = ${rule.version} and deleted_at is null for share`)
  if (!live) return 0
  const states = await lockStates(
    tx,
    quiet.map(({ id }) => id),
  )
  await keep(
    tx,
    quiet.map(({ heard_at, ...row }) => {
      const device = subjectOf(row)
      const state = states.get(`${rule.id} ${row.id}`)
      const before = state?.rule_version === rule.version ? state.leaves : rule.leaves.map(() => OFF)
      const since = Date.parse(heard_at) + seconds * 1000
      const leaves = before.with(place, { since, on: true })
      return turnedOn({ rule, device, leaves: before, alert: state?.alert_id ?? null, kept: state !== undefined }, leaves, {
        metric: null,
        value: null,
      })
    }),
  )
  return quiet.length
}

/** What becomes of a rule on a device when time turns one of its leaves on. */
function turnedOn(
  before: Omit<Evaluated, 'readings'>,
  leaves: readonly LeafState[],
  of: Pick<NewAlert, 'metric' | 'value'>,
): Evaluated & { outcome: Outcome } {
  const { rule, device, alert } = before
  const raises = alert === null && isOn(rule.condition, leaves)
  const raised = raises ? [alertOf(rule, device, { ...of, raisedAt: onSince(rule.condition, leaves) })] : []
  return { ...before, readings: [], outcome: { leaves, ended: null, raised } }
}

const Due = Type.Object({ ...State.properties, value: nullable(Type.Number()) }, { additionalProperties: false })

/**
 * One threshold of one rule that must be exceeded for some seconds, on a batch of devices whose last value has exceeded it
 * for so long and that are not silent: heard of within ten times their interval. Those whose readings are just written are
 * locked, and left out: to wait for them with a lock of their state would be a deadlock. Returns how many there were.
 */
async function durationOf(tx: Tx, rule: WatchedRule, place: number, asOf: Date): Promise<number> {
  const leaf = rule.leaves[place]!
  if (leaf.kind !== 'threshold') return 0
  const due = asOf.getTime() - (leaf.for_seconds ?? 0) * 1000
  const found = await tx.any(sql.prepared(Due)`
    select s.rule_id, s.device_id, s.rule_version, s.leaves, s.alert_id, (
      select m.value from tel_series x
      join tel_metric n on n.tenant_id = x.tenant_id and n.id = x.metric_id and n.code = ${leaf.metric}
      join tel_measurement m on m.tenant_id = x.tenant_id and m.series_id = x.series_id
      where x.tenant_id = s.tenant_id and x.device_id = s.device_id and m.ts < now() + interval '1 day' and m.quality <> ${QUALITIES.bad}
      order by m.ts desc limit 1) as value
    from tel_rule_state s
    join tel_device d on d.tenant_id = s.tenant_id and d.id = s.device_id
    where s.tenant_id = ${tx.tenantId} and s.rule_id = ${rule.id} and s.rule_version = ${rule.version}
      and (s.leaves -> ${place}::int ->> 'since')::float8 <= ${due} and not (s.leaves -> ${place}::int ->> 'on')::boolean
      and d.last_seen_at > ${asOf.toISOString()}::timestamptz - 10 * ${intervalOf((name) => sql.fragment`${sql.identifier(['d', name])}`)}
    order by s.device_id limit ${BATCH} for update of s skip locked for share of d skip locked`)
  if (found.length === 0) return 0
  const pairs = found.map((state) => ({ ...state, rule, device: { id: state.device_id } as Subject }))
  const applicable = pairs.filter(await lockApplicable(tx, pairs))
  if (applicable.length === 0) return 0
  await keep(
    tx,
    applicable.map(({ leaves, alert_id, value, device }) => {
      const since = leaves[place]!.since!
      return turnedOn({ rule, device, leaves, alert: alert_id, kept: true }, leaves.with(place, { since, on: true }), {
        metric: leaf.metric,
        value,
      })
    }),
  )
  return found.length
}
