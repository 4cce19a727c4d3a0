// Rules: a condition, and the devices that it is evaluated on.
import { type Static, Type } from 'typebox'
import {
  type Computed,
  type Database,
  failure,
  Name,
  nullable,
  oneOf,
  resource,
  row,
  sql,
  systemScope,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { endInapplicable, SEVERITIES } from './alert.ts'
import { Condition, type Leaf, leavesOf } from './condition.ts'
import { derivedAmong } from './derived-codes.ts'
import { Device } from './device.ts'
import { DeviceProfile } from './profile.ts'

const Warning = Type.Object(
  { code: oneOf(['metric_not_received']), metric: Type.String() },
  {
    additionalProperties: false,
    description: 'metric_not_received: no reading of this metric was ever received, by the named device or at all',
  },
)

/** Metrics of the condition that no device has sent, or that the rule's own device has not. */
const warningsOf: Computed = (column) => sql.fragment`
  coalesce((
    select jsonb_agg(jsonb_build_object('code', 'metric_not_received', 'metric', used.metric) order by used.metric)
    from (select distinct metric #>> '{}' as metric from jsonb_path_query(${column('condition')}, '$.**.metric') as metric) as used
    where not exists (
      select from tel_metric n join tel_series s on s.tenant_id = n.tenant_id and s.metric_id = n.id
      where n.tenant_id = ${column('tenant_id')} and n.code = used.metric and (${column('device_id')} is null or s.device_id = ${column('device_id')}))
  ), '[]')`

/** A condition, and the devices that it is evaluated on: those that match all that is set, all of them where nothing is. */
export const Rule = row(
  'tel_rule',
  {
    name: Name,
    condition: Condition,
    severity: oneOf(SEVERITIES, { default: 'warning' }),
    enabled: Type.Boolean({ default: true }),
    device_id: nullable(Uuid),
    profile_id: nullable(Uuid),
    site_id: nullable({ ...Uuid, description: 'On devices that watch this location' }),
    batch_id: nullable({ ...Uuid, description: 'On devices that watch this batch' }),
    warnings: Type.Array(Warning, { description: 'Why it may never raise an alert' }),
  },
  { computed: { warnings: warningsOf } },
)

/** Metrics of a condition; null stands for silence. */
const metricsOf = (condition: unknown): (string | null)[] =>
  leavesOf(condition as Condition).map((leaf) => (leaf.kind === 'silence' ? null : leaf.metric))

const Listed = Type.Object({ id: Uuid, code: Type.String(), metrics: Type.Array(Type.String()) }, { additionalProperties: false })
type Draft = { condition?: Condition; device_id?: string | null; profile_id?: string | null }

/** Refuses metrics that the profile of the rule, or of its device, does not take. Throws `invalid_value`. */
async function requireMetricsOfProfile(tx: Tx, rules: readonly Draft[]): Promise<void> {
  const ids = rules.flatMap(({ device_id, profile_id }) => [device_id ?? [], profile_id ?? []].flat())
  if (ids.length === 0) return
  const given = sql.array([...new Set(ids)], 'uuid')
  const found = await tx.any(sql.prepared(Listed)`
    select of.id, p.code, array(select m ->> 'metric' from jsonb_array_elements(p.metrics) as m) as metrics
    from (
      select d.id, d.profile_id from tel_device d where d.tenant_id = ${tx.tenantId} and d.id = any(${given})
      union all select id, id from tel_device_profile where tenant_id = ${tx.tenantId} and id = any(${given})
    ) as of
    join tel_device_profile p on p.tenant_id = ${tx.tenantId} and p.id = of.profile_id
    where not p.other_metrics and jsonb_array_length(p.metrics) > 0`)
  const listed = new Map(found.map((profile) => [profile.id, profile]))
  for (const { condition, device_id, profile_id } of rules) {
    for (const id of [device_id, profile_id]) {
      const profile = listed.get(id ?? '')
      const missing = profile && metricsOf(condition).find((metric) => metric !== null && !profile.metrics.includes(metric))
      if (!missing) continue
      throw failure('invalid_value', {
        path: '/condition',
        rule: 'metric',
        message: `of ${missing}: the profile ${profile.code} has no such metric`,
      })
    }
  }
}

/** Refuses conditions on derived metrics: they are computed when they are asked for, and rules are evaluated with ingest. */
async function requireSentMetrics(tx: Tx, rules: readonly Draft[]): Promise<void> {
  const metrics = rules.flatMap(({ condition }) => (condition ? metricsOf(condition) : [])).filter((metric) => metric !== null)
  const [derived] = await derivedAmong(tx, [...new Set(metrics)])
  if (derived !== undefined)
    throw failure('invalid_value', {
      path: '/condition',
      rule: 'derived',
      message: `of ${derived}: rules are evaluated on metrics that devices send, and this one is derived`,
    })
}

/** Limits that a value can be outside of, of metrics that can be received. Throws `invalid_value`. */
async function makesSense(tx: Tx, rows: readonly Record<string, unknown>[], before?: Record<string, unknown>): Promise<void> {
  const decides = ({ condition, device_id, profile_id }: Draft) => JSON.stringify([condition, device_id, profile_id])
  // What a profile has lost since is no reason to refuse another name, or to disable the rule.
  await requireSentMetrics(tx, rows)
  await requireMetricsOfProfile(tx, before ? rows.filter((rule) => decides(rule) !== decides(before)) : rows)
  for (const { condition } of rows as { condition?: Condition }[]) {
    if (!condition) continue
    const leaves = leavesOf(condition)
    const refuse = (rule: string, message: string) => failure('invalid_value', { path: '/condition', rule, message })
    if (leaves.length > 20) throw refuse('size', 'is made of at most 20 things')
    for (const leaf of leaves) {
      if (leaf.kind === 'silence') continue
      const { above, below, hysteresis = 0 } = leaf
      if (above === undefined && below === undefined) throw refuse('limits', `of ${leaf.metric}: say what it is above or below`)
      if (above === undefined || below === undefined) continue
      if (below > above) throw refuse('range', `of ${leaf.metric}: below ${below} or above ${above} is always so`)
      if (hysteresis > 0 && below + hysteresis > above - hysteresis)
        throw refuse('hysteresis', `of ${leaf.metric}: with ${hysteresis} it could not end between ${below} and ${above}`)
    }
  }
}

const ruleRows = resource(Rule, {
  module: 'telemetry.devices',
  permission: 'telemetry.rule',
  search: ['name'],
  filter: ['enabled', 'severity', 'device_id', 'profile_id', 'site_id', 'batch_id', 'created_at'],
  sort: ['name', 'created_at'],
  references: { device_id: () => Device, profile_id: () => DeviceProfile },
  check: makesSense,
})

/**
 * Rules. One that is disabled, deleted or moved to other devices ends the alerts of those that it no longer applies to; one
 * whose metrics change, those of metrics that it no longer has. Its other alerts stay until a reading ends them. Evaluation
 * starts again when the condition changes, and goes on when it does not.
 */
export const rules: typeof ruleRows = {
  ...ruleRows,
  update: async (tx, id, version, patch) => {
    const before = await ruleRows.get(tx, id)
    const changed = await ruleRows.update(tx, id, version, patch)
    const isSame = JSON.stringify(before.condition) === JSON.stringify(changed.condition)
    await endInapplicable(tx, 'rule_id', [id], isSame ? undefined : metricsOf(changed.condition))
    if (isSame)
      await tx.query(sql.run`
        update tel_rule_state set rule_version = ${changed.version}
        where tenant_id = ${tx.tenantId} and rule_id = ${id} and rule_version = ${before.version}`)
    return changed
  },
  softDelete: async (tx, id, version) => {
    await ruleRows.softDelete(tx, id, version)
    await endInapplicable(tx, 'rule_id', [id])
  },
}

const Watched = Type.Object(
  {
    ...Type.Pick(Rule.schema, ['id', 'version', 'name', 'severity', 'condition', 'device_id', 'profile_id', 'site_id', 'batch_id'])
      .properties,
    organization_id: Uuid,
  },
  { additionalProperties: false },
)

/** A rule as it is watched. */
export interface WatchedRule extends Static<typeof Watched> {
  leaves: readonly Leaf[]
  /** Those that it takes readings of. */
  metrics: ReadonlySet<string>
  watchesSilence: boolean
}

/** What of a device decides which rules are watched on it. */
export interface Subject {
  id: string
  organizationId: string
  profileId: string | null
  siteId: string | null
  batchId: string | null
}

/** Whether a rule is watched on a device. */
export const isOf = (rule: WatchedRule, device: Subject): boolean =>
  rule.organization_id === device.organizationId &&
  (rule.device_id ?? device.id) === device.id &&
  (rule.profile_id ?? device.profileId) === device.profileId &&
  (rule.site_id ?? device.siteId) === device.siteId &&
  (rule.batch_id ?? device.batchId) === device.batchId

/** The rules of a tenant that are switched on. */
export async function watchedRules(tx: Tx): Promise<readonly WatchedRule[]> {
  const found = await tx.any(sql.prepared(Watched)`
    select id, version, organization_id, name, severity, condition, device_id, profile_id, site_id, batch_id
    from tel_rule where tenant_id = ${tx.tenantId} and enabled and deleted_at is null order by id`)
  return (found as readonly Static<typeof Watched>[]).map((rule) => {
    const leaves = leavesOf(rule.condition)
    const metrics = new Set(leaves.flatMap((leaf) => (leaf.kind === 'silence' ? [] : [leaf.metric])))
    return { ...rule, leaves, metrics, watchesSilence: leaves.some(({ kind }) => kind === 'silence') }
  })
}

/** How long a change of rules may take to be noticed, milliseconds. */
const FRESH_MS = 1_000

/** Rules of tenants, read again when they are a second old. */
export class KnownRules {
  readonly #known = new Map<string, { read: number; rules: Promise<readonly WatchedRule[]> }>()

  of(database: Database, tenantId: string): Promise<readonly WatchedRule[]> {
    const known = this.#known.get(tenantId)
    if (known && Date.now() - known.read < FRESH_MS) return known.rules
    if (this.#known.size > 10_000) this.#known.clear()
    const rules = database.read(systemScope(tenantId, 'telemetry', 'telemetry-rules'), watchedRules)
    this.#known.set(tenantId, { read: Date.now(), rules })
    rules.catch(() => this.#known.delete(tenantId))
    return rules
  }
}
