// What is to be watched: a condition, and the devices that it is watched on.
import { type Static, Type } from 'typebox'
import { type Database, failure, Name, nullable, oneOf, resource, row, sql, systemScope, type Tx, Uuid } from '../kernel/index.ts'
import { endInapplicable, SEVERITIES } from './alert.ts'
import { Condition, type Leaf, leavesOf } from './condition.ts'
import { Device } from './device.ts'
import { DeviceProfile } from './profile.ts'

/** A condition, and the devices that it is watched on: those that are all of what is said, all of them where nothing is. */
export const Rule = row('tel_rule', {
  name: Name,
  condition: Condition,
  severity: oneOf(SEVERITIES, { default: 'warning' }),
  enabled: Type.Boolean({ default: true }),
  device_id: nullable(Uuid),
  profile_id: nullable(Uuid),
  site_id: nullable({ ...Uuid, description: 'On devices that watch this location' }),
  batch_id: nullable({ ...Uuid, description: 'On devices that watch this batch' }),
})

/** Limits that something can be outside of. Throws `invalid_value`. */
async function makesSense(_tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
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

const metricsOf = (condition: unknown): (string | null)[] =>
  leavesOf(condition as Condition).map((leaf) => (leaf.kind === 'silence' ? null : leaf.metric))

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
