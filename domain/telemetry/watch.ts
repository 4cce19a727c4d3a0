// Rules against readings as they come, and against devices of which nothing comes.
import { type Static, Type } from 'typebox'
import { type Database, nullable, sql, systemScope, Timestamp, type Tx, Uuid } from '../kernel/index.ts'
import { endAlerts, type NewAlert, raiseAlerts } from './alert.ts'
import { after, isOn, type LeafState, OFF } from './condition.ts'
import type { GoodReading } from './message.ts'
import { isOf, type Subject, type WatchedRule, watchedRules } from './rule.ts'

/** A device and what it has sent, in any order. */
export interface Heard {
  device: Subject
  readings: readonly GoodReading[]
}

/** A rule on a device, with what was true of it before. */
interface Watched {
  rule: WatchedRule
  device: Subject
  /** By time. */
  readings: readonly GoodReading[]
  leaves: readonly LeafState[]
  /** Of the alert that is open; null where none is. */
  alert: string | null
  /** Whether it is kept in the table. */
  kept: boolean
}

/** What became of it. */
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
const Value = Type.Object({ series_id: Type.Integer(), at: Type.Number(), value: Type.Number() }, { additionalProperties: false })

/** Where a series is found: what the ingest knows. */
export type SeriesOf = (device: string, metric: string) => number

/** Values of a series by time, for what has changed within some time. */
type Past = ReadonlyMap<number, readonly { at: number; value: number }[]>

/** Walks through the readings of a device, one after the other, and sees what becomes of a rule. */
function walk({ rule, device, readings, leaves: before, alert }: Watched, past: Past, seriesOf: SeriesOf, now: number): Outcome {
  // It was heard of, whatever it said.
  const leaves = before.map((state, place) => (rule.leaves[place]!.kind === 'silence' ? OFF : state))
  const raised: NewAlert[] = []
  let ended: number | null = null
  let open = alert !== null
  for (const { metric, at, value } of readings) {
    for (const [place, leaf] of rule.leaves.entries()) {
      if (leaf.kind === 'silence' || leaf.metric !== metric) continue
      if (leaf.kind === 'threshold') leaves[place] = after(leaf, leaves[place]!, at, value)
      else {
        const first = past.get(seriesOf(device.id, metric))?.find((one) => one.at >= at - leaf.within_seconds * 1000)
        leaves[place] = after(leaf, leaves[place]!, at, first ? value - first.value : 0)
      }
    }
    const on = isOn(rule.condition, leaves)
    if (on && !open) raised.push(alertOf(rule, device, { metric, value, raisedAt: at }))
    if (!on && open) {
      if (raised.length > 0) raised.at(-1)!.clearedAt = at
      else ended = at
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
const hasChanged = ({ leaves }: Watched, outcome: Outcome) =>
  outcome.raised.length > 0 || outcome.ended !== null || !isSame(leaves, outcome.leaves)

/**
 * Holds readings that were just written against the rules of their devices: raises and clears alerts in the transaction
 * that wrote the readings, so each is weighed exactly once. Readings that are older than one that was there before are
 * weighed by nobody: what was true then is over.
 *
 * The order of batches is the caller's to keep. States are locked, so that the watch for silence, and whoever changes a
 * rule, come before or after; two who raise the same at once meet at the alert's key, and the second throws `already_exists`.
 */
export async function watchReadings(tx: Tx, rules: readonly WatchedRule[], heard: readonly Heard[], seriesOf: SeriesOf): Promise<void> {
  const pairs = heard.flatMap(({ device, readings }) => {
    const metrics = new Set(readings.map(({ metric }) => metric))
    const byTime = readings.toSorted((a, b) => a.at - b.at)
    return rules
      .filter((rule) => isOf(rule, device) && (rule.watchesSilence || [...rule.metrics].some((metric) => metrics.has(metric))))
      .map((rule) => ({ rule, device, readings: byTime }))
  })
  if (pairs.length === 0) return
  const states = await lockStates(tx, [...new Set(pairs.map(({ device }) => device.id))])
  const watched = pairs.map((pair): Watched => {
    const state = states.get(`${pair.rule.id} ${pair.device.id}`)
    const isCurrent = state?.rule_version === pair.rule.version
    const leaves = isCurrent ? state.leaves : pair.rule.leaves.map(() => OFF)
    return { ...pair, leaves, alert: state?.alert_id ?? null, kept: state !== undefined }
  })
  const past = await pastOf(tx, watched, seriesOf)
  const now = tx.now.getTime()
  const changing = watched.filter((one) => hasChanged(one, walk(one, past, seriesOf, now)))
  if (changing.length === 0) return
  const newest = await newestBefore(tx, changing, seriesOf)
  const live = await rulesInForce(tx, changing)
  const settled = changing
    .filter(({ rule }) => live.has(rule.id))
    .map((one) => ({
      ...one,
      readings: one.readings.filter(({ metric, at }) => at > (newest.get(seriesOf(one.device.id, metric)) ?? Number.NEGATIVE_INFINITY)),
    }))
    .map((one) => ({ ...one, outcome: walk(one, past, seriesOf, now) }))
    .filter((one) => hasChanged(one, one.outcome))
  await keep(tx, settled)
}

async function lockStates(tx: Tx, devices: readonly string[]): Promise<ReadonlyMap<string, Static<typeof State>>> {
  const found = await tx.any(sql.prepared(State)`
    select rule_id, device_id, rule_version, leaves, alert_id from tel_rule_state
    where tenant_id = ${tx.tenantId} and device_id = any(${sql.array([...devices], 'uuid')}) order by device_id, rule_id for update`)
  return new Map(found.map((state) => [`${state.rule_id} ${state.device_id}`, state]))
}

/** What the series have been in the time before that rules of change look back on. */
async function pastOf(tx: Tx, watched: readonly Watched[], seriesOf: SeriesOf): Promise<Past> {
  const since = new Map<number, number>()
  for (const { rule, device, readings } of watched) {
    for (const leaf of rule.leaves) {
      if (leaf.kind !== 'change') continue
      const first = readings.find(({ metric }) => metric === leaf.metric)
      if (!first) continue
      const series = seriesOf(device.id, leaf.metric)
      since.set(series, Math.min(since.get(series) ?? Number.POSITIVE_INFINITY, first.at - leaf.within_seconds * 1000))
    }
  }
  const past = new Map<number, { at: number; value: number }[]>()
  if (since.size === 0) return past
  const found = await tx.any(sql.prepared(Value)`
    select s.series_id, extract(epoch from m.ts)::float8 * 1000 as at, m.value
    from ${sql.unnest(
      [...since].map(([series, at]) => [series, new Date(at).toISOString()]),
      ['int8', 'timestamptz'],
    )} as s (series_id, since)
    join tel_measurement m on m.tenant_id = ${tx.tenantId} and m.series_id = s.series_id and m.ts >= s.since
    order by s.series_id, m.ts`)
  for (const { series_id, at, value } of found) {
    const one = past.get(series_id) ?? []
    one.push({ at: Math.round(at), value })
    past.set(series_id, one)
  }
  return past
}

const Newest = Type.Object({ series_id: Type.Integer(), at: Type.Number() }, { additionalProperties: false })

/** The newest reading of each series that was there before those that have just been written, where it is newer than the first of these. */
async function newestBefore(tx: Tx, watched: readonly Watched[], seriesOf: SeriesOf): Promise<ReadonlyMap<number, number>> {
  const own = new Map<number, string[]>()
  for (const { device, readings } of watched) {
    for (const { metric, at } of readings) {
      const series = seriesOf(device.id, metric)
      const times = own.get(series) ?? []
      times.push(new Date(at).toISOString())
      own.set(series, times)
    }
  }
  const rows = [...own].map(([series, times]) => [series, JSON.stringify([...new Set(times)])])
  const found = await tx.any(sql.prepared(Newest)`
    select s.series_id, extract(epoch from m.ts)::float8 * 1000 as at
    from (
      select series_id, array(select t::timestamptz from jsonb_array_elements_text(own) as t order by 1) as own
      from ${sql.unnest(rows, ['int8', 'jsonb'])} as given (series_id, own)
    ) as s
    cross join lateral (
      select ts from tel_measurement m
      where m.tenant_id = ${tx.tenantId} and m.series_id = s.series_id and m.ts > s.own[1] and m.ts < now() + interval '1 day' and m.ts <> all(s.own)
      order by ts desc limit 1
    ) as m`)
  return new Map(found.map(({ series_id, at }) => [series_id, Math.round(at)]))
}

const Id = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Which of these rules are still as they were read: held against who changes them until this is done. */
async function rulesInForce(tx: Tx, watched: readonly Watched[]): Promise<ReadonlySet<string>> {
  const versions = new Map(watched.map(({ rule }) => [rule.id, rule.version]))
  const found = await tx.any(sql.prepared(Id)`
    select r.id from tel_rule r join ${sql.unnest([...versions], ['uuid', 'int4'])} as w (id, version) on w.id = r.id and w.version = r.version
    where r.tenant_id = ${tx.tenantId} and r.deleted_at is null order by r.id for share of r`)
  return new Set(found.map(({ id }) => id))
}

/** Writes what became of rules on devices: alerts that ended and that were raised, and what is true now. */
async function keep(tx: Tx, settled: readonly (Watched & { outcome: Outcome })[]): Promise<void> {
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

/** The tenants that have a rule of silence in a database. */
export const tenantsWatchingSilence = async (database: Database): Promise<readonly string[]> =>
  (await database.platform((queries) => queries.one(sql.prepared(Ids)`select plane.tenants_watching_silence() as ids`))).ids

/** When a device was heard of is written every ten seconds at most, so a device is given so much longer. */
const SLACK_SECONDS = 10
const AT_ONCE = 1_000
const Quiet = Type.Object(
  {
    id: Uuid,
    organization_id: Uuid,
    profile_id: nullable(Uuid),
    site_id: nullable(Uuid),
    batch_id: nullable(Uuid),
    heard_at: Timestamp,
  },
  { additionalProperties: false },
)

/**
 * Looks for devices of which nothing was heard for as long as a rule says, and raises its alert where that makes it so.
 * What is heard of meanwhile is left out: its row is locked by who writes its readings. Says how many rules were looked at.
 */
export async function watchSilence(database: Database, tenantId: string): Promise<number> {
  const scope = systemScope(tenantId, 'telemetry-watch', 'telemetry-watch')
  const rules = (await database.read(scope, watchedRules)).filter(({ watchesSilence }) => watchesSilence)
  for (const rule of rules) {
    for (const [place, leaf] of rule.leaves.entries()) {
      if (leaf.kind !== 'silence') continue
      while ((await database.write(scope, (tx) => silenceOf(tx, rule, place, leaf.seconds))) === AT_ONCE);
    }
  }
  return rules.length
}

/** One leaf of silence of one rule, on as many devices as are looked at in one go. Returns how many were found. */
async function silenceOf(tx: Tx, rule: WatchedRule, place: number, seconds: number): Promise<number> {
  const of = (name: 'profile_id' | 'site_id' | 'batch_id') =>
    rule[name] ? sql.fragment`and ${sql.identifier(['d', name])} = ${rule[name]}` : sql.fragment``
  const quiet = await tx.any(sql.prepared(Quiet)`
    select d.id, d.organization_id, d.profile_id, d.site_id, d.batch_id, coalesce(d.last_seen_at, d.created_at) as heard_at
    from tel_device d
    where d.tenant_id = ${tx.tenantId} and d.organization_id = ${rule.organization_id} and d.deleted_at is null
      ${rule.device_id ? sql.fragment`and d.id = ${rule.device_id}` : sql.fragment``} ${of('profile_id')} ${of('site_id')} ${of('batch_id')}
      and coalesce(d.last_seen_at, d.created_at) < ${tx.now.toISOString()}::timestamptz - make_interval(secs => ${seconds + SLACK_SECONDS})
      and not exists (
        select from tel_rule_state s
        where s.tenant_id = d.tenant_id and s.device_id = d.id and s.rule_id = ${rule.id} and s.rule_version = ${rule.version}
          and (s.leaves -> ${place}::int ->> 'on')::boolean)
    order by d.id limit ${AT_ONCE} for update of d skip locked`)
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
    quiet.map(({ id, organization_id, profile_id, site_id, batch_id, heard_at }) => {
      const device = { id, organizationId: organization_id, profileId: profile_id, siteId: site_id, batchId: batch_id }
      const state = states.get(`${rule.id} ${id}`)
      const before = state?.rule_version === rule.version ? state.leaves : rule.leaves.map(() => OFF)
      const since = Date.parse(heard_at) + seconds * 1000
      const leaves = before.with(place, { since, on: true })
      const alert = state?.alert_id ?? null
      const raised = !alert && isOn(rule.condition, leaves) ? [alertOf(rule, device, { metric: null, value: null, raisedAt: since })] : []
      return { rule, device, readings: [], leaves: before, alert, kept: state !== undefined, outcome: { leaves, ended: null, raised } }
    }),
  )
  return quiet.length
}
