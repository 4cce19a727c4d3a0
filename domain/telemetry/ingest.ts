// Readings into the table: by batches, set-based, exactly once by primary key.
import { Type } from 'typebox'
import { Failure, type Fragment, isCausedByData, sql, systemScope, type Tx } from '../kernel/index.ts'
import { accessMode, databaseOf, type Planes, type Tenant, type TenantDirectory } from '../tenancy/index.ts'
import { type DeviceCalibrations, KnownCalibrations } from './calibration.ts'
import { intervalOf } from './device.ts'
import { authenticateDevices, hashKey, type KnownDevice } from './device-key.ts'
import { minuteOf, noteIntake, receivedWithin, roomIn } from './intake.ts'
import { claimIn, type GoodReading, MAX_DEVICE, type Parsed, parseMessage, RefusedCounts, type RejectionReason } from './message.ts'
import { ensureSeries, type LimitReason, type SeriesName, type SeriesOfDevice } from './new-series.ts'
import { type Conversions, KnownConversions, NO_CONVERSIONS } from './profile.ts'
import { countRejections, type MessagePosition, type Rejection } from './rejection.ts'
import { KnownRules, type WatchedRule } from './rule.ts'
import { SeriesIds } from './series-ids.ts'
import { type LateHour, noteLateHours, readingsLateBefore } from './sums.ts'
import { type Heard, type SeriesOf, watchReadings } from './watch.ts'

export interface IncomingReadings {
  value: Buffer | null
  /** The `device-key` header. */
  key: string | undefined
  /** What the rejected topic is keyed by. */
  device: string | null
  /** When Kafka had it, milliseconds since 1970. Defaults to now, also for a time that Kafka cannot have had. */
  receivedAt?: number
  position?: MessagePosition
}

export interface IngestResult {
  /** Readings written or already there. */
  accepted: number
  rejections: Rejection[]
}

export interface IngestOf {
  /** Whether the batch before is written: where readings are watched by rules theirs come first. False: it never will be. */
  before?: Promise<boolean>
  /** What became of the tenants that are done, by slug: when the same batch comes again, they are left alone. */
  settled?: Map<string, IngestResult>
  /** Milliseconds since 1970. */
  now?: number
}

interface Attributed {
  parsed: Parsed
  hash: string
  /** The minute in which it was received, milliseconds since 1970. */
  minute: number
  position?: MessagePosition | undefined
}

/** What one message brought, by a device that is known. */
interface Group {
  device: KnownDevice
  tenant: string
  /** The code by which the device calls itself. */
  code: string
  readings: readonly GoodReading[]
  /** The minute in which it was received. */
  minute: number
  position?: MessagePosition | undefined
}

/** Characters of a database's error that are kept with a message that it refused. */
const MAX_ERROR = 300
const Differing = Type.Object({ series_id: Type.Integer(), at: Type.Number(), value: Type.Number() }, { additionalProperties: false })
const Written = Type.Object({ series_id: Type.Integer(), at: Type.Number() }, { additionalProperties: false })
const MODULE = 'telemetry.devices'
const HOUR_MS = 3_600_000

export interface IngestOptions {
  /** Older readings are refused: they would be gone with the next upkeep. */
  keepDays?: number
  /** Told of a tenant that has new readings. */
  announce?: (tenantId: string) => void
}

/** Turns batches of messages into rows. Keeps the ids of series in memory: they never change. */
export class TelemetryIngest {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #keepDays: number
  readonly #announce: (tenantId: string) => void
  readonly #series = new SeriesIds()
  readonly #conversions = new KnownConversions()
  readonly #calibrations = new KnownCalibrations()
  readonly #rules = new KnownRules()

  constructor(planes: Planes, tenants: TenantDirectory, { keepDays = 3_653, announce = () => {} }: IngestOptions = {}) {
    this.#keepDays = keepDays
    this.#announce = announce
    this.#planes = planes
    this.#tenants = tenants
  }

  /** One transaction a tenant. Throws when a database is away: then the whole batch comes again, and nothing doubles. */
  async ingest(
    messages: readonly IncomingReadings[],
    correlationId: string,
    { before = Promise.resolve(true), settled = new Map(), now = Date.now() }: IngestOf = {},
  ): Promise<IngestResult> {
    const rejections: Rejection[] = []
    const byTenant = new Map<string, Attributed[]>()
    for (const { value, key, device, receivedAt = now, position } of messages) {
      let parsed = parseMessage(value, now, this.#keepDays)
      if (typeof parsed === 'string') {
        const claim = value && claimIn(value)
        if (!claim) {
          // Whoever sends chooses it, and it may be as long as a message.
          rejections.push({ tenant: null, device: (device ?? '').slice(0, MAX_DEVICE), reason: parsed, count: 1, ...positioned(position) })
          continue
        }
        // Counted for the device, when its key is right.
        parsed = { ...claim, good: [], rejected: [{ reason: parsed, count: 1 }] }
      }
      const own = byTenant.get(parsed.tenant) ?? []
      own.push({ parsed, hash: hashKey(key ?? ''), minute: minuteOf(receivedWithin(receivedAt, now)), position })
      byTenant.set(parsed.tenant, own)
    }
    let accepted = 0
    // Who sent little first: nobody waits for the transaction of one who sends fifty times as much.
    for (const [slug, own] of [...byTenant].sort(([, a], [, b]) => readingsIn(a) - readingsIn(b))) {
      const done = settled.get(slug)
      if (done) {
        accepted += done.accepted
        rejections.push(...done.rejections)
        continue
      }
      const tenant = await this.#tenants.bySlug(slug)
      const refused = refusalOf(tenant, now)
      if (refused) {
        rejections.push(...own.map((message) => wholly(message, refused)))
        continue
      }
      const rules = await this.#rules.of(databaseOf(this.#planes, 'telemetry', tenant!), tenant!.id)
      // Not within the transaction: the one before may want a row that this one would hold.
      if (rules.length > 0 && !(await before)) throw new Error('the batch before was not written')
      const result = await this.#ingestIsolating(tenant!, own, rules, correlationId)
      settled.set(slug, result)
      accepted += result.accepted
      if (result.accepted > 0) this.#announce(tenant!.id)
      rejections.push(...result.rejections)
    }
    return { accepted, rejections }
  }

  /**
   * Ingests messages of a tenant; one that the database refuses is set aside as `unprocessable`, and all others go on:
   * the batch is halved until the message is found. Throws for causes that have nothing to do with the messages.
   */
  async #ingestIsolating(
    tenant: Tenant,
    messages: readonly Attributed[],
    rules: readonly WatchedRule[],
    correlationId: string,
  ): Promise<IngestResult> {
    try {
      return await this.#ingestTenant(tenant, messages, rules, correlationId, 'new').catch((error: unknown) => {
        if (error instanceof Failure && error.detail === 'already_exists')
          return this.#ingestTenant(tenant, messages, rules, correlationId, 'again')
        throw error
      })
    } catch (error) {
      if (!isCausedByData(error)) throw error
      if (messages.length === 1) return this.#setAside(tenant, messages[0]!, correlationId, error)
    }
    const middle = messages.length >> 1
    const first = await this.#ingestIsolating(tenant, messages.slice(0, middle), rules, correlationId)
    const second = await this.#ingestIsolating(tenant, messages.slice(middle), rules, correlationId)
    return { accepted: first.accepted + second.accepted, rejections: [...first.rejections, ...second.rejections] }
  }

  async #setAside(tenant: Tenant, message: Attributed, correlationId: string, error: unknown): Promise<IngestResult> {
    const rejection = { ...wholly(message, 'unprocessable'), error: String(error).slice(0, MAX_ERROR) }
    await databaseOf(this.#planes, 'telemetry', tenant)
      .write(systemScope(tenant.id, 'telemetry', correlationId), (tx) => countRejections(tx, [rejection]))
      .catch((counting: unknown) => {
        if (!isCausedByData(counting)) throw counting // its name cannot be stored either
      })
    return { accepted: 0, rejections: [rejection] }
  }

  /** @param readings `new`: none of them is there, else `already_exists`; `again`: some may be, and change nothing */
  async #ingestTenant(
    tenant: Tenant,
    messages: readonly Attributed[],
    rules: readonly WatchedRule[],
    correlationId: string,
    readings: 'new' | 'again',
  ): Promise<IngestResult> {
    const database = databaseOf(this.#planes, 'telemetry', tenant)
    let found: readonly SeriesOfDevice[] = []
    const result = await database.write(systemScope(tenant.id, 'telemetry', correlationId), async (tx) => {
      const lateBefore = await readingsLateBefore(tx)
      const rejections: Rejection[] = []
      const pairs = new Map(messages.map(({ parsed, hash }) => [`${parsed.device} ${hash}`, [parsed.device, hash] as const]))
      const known = await authenticateDevices(tx, [...pairs.values()])
      const conversions = await this.#conversions.of(
        tx,
        new Map([...known.values()].flatMap(({ profileId, profileVersion }) => (profileId ? [[profileId, profileVersion] as const] : []))),
      )
      const calibrations = await this.#calibrations.of(
        tx,
        new Map([...known.values()].map(({ id, calibrationVersion }) => [id, calibrationVersion])),
      )
      const groups: Group[] = []
      const limit = tenant.limits.readings ?? null
      const room =
        limit === null
          ? null
          : await roomIn(
              tx,
              limit,
              messages.map(({ minute }) => minute),
            )
      const taken = new Map<number, number>()
      let written: readonly Group[] = []
      const heard = new Map<string, KnownDevice>()
      for (const message of messages) {
        const { parsed, hash, minute, position } = message
        const device = known.get(`${parsed.device} ${hash}`)
        if (!device) {
          rejections.push(wholly(message, 'unauthorized'))
          continue
        }
        heard.set(device.id, device)
        const { readings, rejected } = converted(
          parsed,
          device.profileId ? conversions.get(device.profileId) : undefined,
          calibrations.get(device.id),
        )
        for (const refused of rejected)
          rejections.push({ tenant: parsed.tenant, device: parsed.device, ...refused, ...positioned(position) })
        if (readings.length === 0) continue
        const used = taken.get(minute) ?? 0
        if (room && used + readings.length > room.get(minute)!) {
          rejections.push({ ...wholly(message, 'over_limit'), count: readings.length })
          continue
        }
        taken.set(minute, used + readings.length)
        groups.push({ device, tenant: tenant.slug, code: parsed.device, readings, minute, position })
      }
      const { ids, unknown } = this.#knownSeries(tx.tenantId, groups)
      const ensured = await ensureSeries(tx, unknown, tenant.limits)
      found = ensured.series
      for (const { device_id, metric, series_id } of found) ids.get(device_id)!.set(metric, series_id)
      withinLimits(groups, ensured.refused, rejections)
      const accepted = groups.reduce((sum, { readings }) => sum + readings.length, 0)
      if (accepted > 0) {
        const seriesOf = (device: string, metric: string) => ids.get(device)!.get(metric)!
        written = await insert(tx, groups, seriesOf, readings)
        if (written !== groups) rejections.push(...(await alreadyRecorded(tx, groups, seriesOf)))
        await noteLateHours(tx, lateHours(groups, seriesOf, lateBefore))
      }
      // A device whose readings are all refused is there, all the same.
      await markSeen(tx, new Set(heard.keys()))
      if (rules.length > 0) {
        const seriesOf = (device: string, metric: string) => ids.get(device)!.get(metric)!
        await watchReadings(
          tx,
          rules,
          byDevice(
            [...heard.values()].map((device) => ({ device, readings: [] })),
            written,
          ),
          seriesOf,
        )
      }
      await countRejections(tx, rejections)
      await noteIntake(tx, byMinute(written))
      return { accepted, rejections }
    })
    // Only what was committed is remembered.
    for (const { device_id, metric, series_id } of found) this.#series.set(tenant.id, device_id, metric, series_id)
    return result
  }

  /**
   * Ids of the series in memory, by device and metric, and the series that are not there, each once, in the order in which
   * they came. The ids are copied, because another batch may push them out of memory while this one waits.
   */
  #knownSeries(tenantId: string, groups: readonly Group[]): { ids: Map<string, Map<string, number>>; unknown: SeriesName[] } {
    const ids = new Map<string, Map<string, number>>()
    const unknown = new Map<string, SeriesName>()
    for (const { device, readings } of groups) {
      const own = ids.get(device.id) ?? new Map<string, number>()
      ids.set(device.id, own)
      for (const { metric } of readings) {
        if (own.has(metric)) continue
        const id = this.#series.get(tenantId, device.id, metric)
        if (id === undefined) unknown.set(`${device.id} ${metric}`, [device.id, metric])
        else own.set(metric, id)
      }
    }
    return { ids, unknown: [...unknown.values()] }
  }
}

/** Takes readings of series that were refused out of their messages and counts them by reason; the rest of a message stays. */
function withinLimits(groups: Group[], refused: ReadonlyMap<string, LimitReason>, rejections: Rejection[]): void {
  if (refused.size === 0) return
  for (const group of groups) {
    const counts = new RefusedCounts()
    group.readings = group.readings.filter((reading) => {
      const reason = refused.get(`${group.device.id} ${reading.metric}`)
      if (reason) counts.add(reason, sentAs(reading))
      return !reason
    })
    for (const refused of counts.list())
      rejections.push({ tenant: group.tenant, device: group.code, ...refused, ...positioned(group.position) })
  }
}

const readingsIn = (messages: readonly Attributed[]): number => messages.reduce((sum, { parsed }) => sum + parsed.good.length, 0)

/** The readings of a message as they are kept, by profile and calibrations, and what its device's profile refuses. */
function converted(
  { good, rejected }: Parsed,
  conversions: Conversions | undefined,
  calibrations: DeviceCalibrations | undefined,
): Pick<Parsed, 'rejected'> & { readings: GoodReading[] } {
  if (!conversions && !calibrations) return { readings: good, rejected }
  const readings: GoodReading[] = []
  const counts = new RefusedCounts(rejected)
  for (const reading of good) {
    const correct = calibrations && ((metric: string, value: number) => calibrations.apply(metric, reading.at, value))
    const value = (conversions ?? NO_CONVERSIONS).apply(reading.metric, reading.value, correct)
    if (typeof value === 'string') counts.add(value, sentAs(reading))
    else readings.push(value === reading.value ? reading : { ...reading, value })
  }
  return { readings, rejected: counts.list() }
}

const sentAs = ({ at, metric, value }: GoodReading) => ({ ts: new Date(at).toISOString(), metric, value })

const positioned = (position: MessagePosition | undefined): { position?: MessagePosition } => (position ? { position } : {})

/** The rejection of all readings of a message, for one reason. */
const wholly = ({ parsed, position }: Attributed, reason: RejectionReason): Rejection => ({
  tenant: parsed.tenant,
  device: parsed.device,
  reason,
  count: parsed.good.length || 1,
  ...positioned(position),
})

/** Notes that devices sent something; twice within their interval, and at most every ten seconds. */
const markSeen = async (tx: Tx, devices: ReadonlySet<string>): Promise<void> => {
  if (devices.size === 0) return
  await tx.query(sql.run`
    update tel_device d set last_seen_at = ${tx.now.toISOString()}
    where d.tenant_id = ${tx.tenantId} and d.id = any(${sql.array([...devices].sort(), 'uuid')})
      and (d.last_seen_at is null
        or d.last_seen_at < ${tx.now.toISOString()}::timestamptz - least(interval '10 seconds', ${intervalOf((name) => sql.fragment`${sql.identifier(['d', name])}`)} / 2))`)
}

/** Whether what a tenant's devices send is taken. */
export const isIngested = (tenant: Tenant | null): boolean => refusalOf(tenant, Date.now()) === null

function refusalOf(tenant: Tenant | null, now: number): RejectionReason | null {
  if (!tenant) return 'unknown_tenant'
  if (accessMode(tenant, 'worker', now).mode === 'blocked') return 'tenant_blocked'
  return tenant.modules[MODULE] === 'enabled' ? null : 'module_unavailable'
}

/** Series and hours of the readings that are late, each once. */
function lateHours(groups: readonly Group[], seriesOf: SeriesOf, before: number): LateHour[] {
  const found = new Map<string, LateHour>()
  for (const { device, readings } of groups) {
    for (const { metric, at } of readings) {
      if (at >= before) continue
      const late: LateHour = [seriesOf(device.id, metric), new Date(Math.floor(at / HOUR_MS) * HOUR_MS).toISOString()]
      found.set(late.join(' '), late)
    }
  }
  return [...found.values()]
}

/**
 * All readings in one statement, columns as arrays. A redelivery meets the primary key and changes nothing; to look for
 * it with every row halves the rate, so that is done where the key has said that there is one. Returns what was not there.
 *
 * The arrays are written as PostgreSQL's literals of plain numbers, times as milliseconds: nothing is quoted element by
 * element. Together with reading messages by hand this took the bench from 0.17 to 0.21 of COPY (short run).
 */
async function insert(tx: Tx, groups: readonly Group[], seriesOf: SeriesOf, are: 'new' | 'again'): Promise<readonly Group[]> {
  const statement = sql.fragment`
    insert into tel_measurement (tenant_id, series_id, ts, value, quality)
    select ${tx.tenantId}, r.series_id, to_timestamp(r.ms / 1000), r.value, r.quality from ${rowsOf(groups, seriesOf)}`
  if (are === 'new') {
    await tx.query(sql.run`${statement}`)
    return groups
  }
  const found = await tx.any(sql.type(Written)`
    ${statement} on conflict (series_id, ts) do nothing returning series_id, extract(epoch from ts)::float8 * 1000 as at`)
  const written = new Set(found.map(({ series_id, at }) => `${series_id} ${Math.round(at)}`))
  return groups.map((group) => ({
    ...group,
    // Of two readings with one time the first was written, and it alone counts.
    readings: group.readings.filter(({ metric, at }) => written.delete(`${seriesOf(group.device.id, metric)} ${at}`)),
  }))
}

/** Readings as rows `r (series_id, ms, value, quality)`. */
function rowsOf(groups: readonly Group[], seriesOf: SeriesOf): Fragment {
  const series: number[] = []
  const times: number[] = []
  const values: number[] = []
  const qualities: number[] = []
  for (const { device, readings } of groups) {
    for (const { metric, at, value, quality } of readings) {
      series.push(seriesOf(device.id, metric))
      times.push(at)
      values.push(value)
      qualities.push(quality)
    }
  }
  const literal = (numbers: number[]) => `{${numbers.join(',')}}`
  return sql.fragment`unnest(${literal(series)}::int8[], ${literal(times)}::float8[], ${literal(values)}::float8[], ${literal(qualities)}::int2[])
    as r (series_id, ms, value, quality)`
}

/**
 * Finds readings that were not written because their series has another value at the same millisecond: the first one is
 * kept. Redelivered readings have the same value and are no rejections.
 */
async function alreadyRecorded(tx: Tx, groups: readonly Group[], seriesOf: SeriesOf): Promise<Rejection[]> {
  const differing = await tx.any(sql.type(Differing)`
    select r.series_id, r.ms as at, r.value from ${rowsOf(groups, seriesOf)}
    join tel_measurement m on m.tenant_id = ${tx.tenantId} and m.series_id = r.series_id and m.ts = to_timestamp(r.ms / 1000)
    where m.value <> r.value`)
  if (differing.length === 0) return []
  const keys = new Set(differing.map(({ series_id, at, value }) => `${series_id} ${at} ${value}`))
  return groups.flatMap(({ device, code, readings, position, tenant }) => {
    const counts = new RefusedCounts()
    for (const reading of readings)
      if (keys.has(`${seriesOf(device.id, reading.metric)} ${reading.at} ${reading.value}`)) counts.add('already_recorded', sentAs(reading))
    return counts.list().map((refused) => ({ tenant, device: code, ...refused, ...positioned(position) }))
  })
}

/** How many readings came in each minute. */
function byMinute(groups: readonly Group[]): Map<number, number> {
  const found = new Map<number, number>()
  for (const { minute, readings } of groups) if (readings.length > 0) found.set(minute, (found.get(minute) ?? 0) + readings.length)
  return found
}

/** What came of each device, in one piece. */
function byDevice(heard: readonly Heard[], written: readonly Heard[]): Heard[] {
  const found = new Map<string, { device: Heard['device']; readings: GoodReading[] }>()
  for (const { device, readings } of [...heard, ...written]) {
    const one = found.get(device.id) ?? { device, readings: [] }
    one.readings.push(...readings)
    found.set(device.id, one)
  }
  return [...found.values()]
}
