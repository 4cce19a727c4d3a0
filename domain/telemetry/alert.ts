// Alerts: raised by a rule on a device, acknowledged by a user, cleared when the condition ends.
import { type Static, Type } from 'typebox'
import {
  type Fragment,
  type ListSpec,
  lifecycle,
  newId,
  nullable,
  oneOf,
  Reasoned,
  row,
  sql,
  Timestamp,
  type Tx,
  Uuid,
} from '../kernel/index.ts'

export const SEVERITIES = ['info', 'warning', 'critical'] as const

export const Alert = row('tel_alert', {
  rule_id: Uuid,
  device_id: Uuid,
  /** As they were when it was raised. */
  name: Type.String({ description: 'Of the rule, when it was raised' }),
  severity: oneOf(SEVERITIES),
  status: oneOf(['raised', 'acknowledged', 'cleared']),
  metric: nullable(Type.String({ description: 'Of the reading that raised it; null for silence' })),
  value: nullable(Type.Number()),
  raised_at: { ...Timestamp, description: 'By the time of the reading' },
  acknowledged_at: nullable(Timestamp),
  acknowledged_by: nullable(Uuid),
  cleared_at: nullable(Timestamp),
  cleared_by: nullable(Uuid),
  cleared_cause: nullable(
    oneOf(['condition', 'user', 'rule', 'device'], {
      description: 'Condition: no longer true; user: cleared by hand; rule, device: changed so that the rule no longer applies',
    }),
  ),
  clear_reason: nullable(Type.String({ description: 'Of the user who cleared it' })),
})
export type ClearedCause = 'condition' | 'rule' | 'device'

export const alertList: ListSpec = {
  row: Alert,
  filter: ['status', 'severity', 'device_id', 'rule_id', 'raised_at', 'created_at'],
  sort: ['raised_at', 'created_at'],
}

export const alertLifecycle = lifecycle(Alert, {
  initial: 'raised',
  permission: 'telemetry.alert',
  transitions: {
    acknowledge: {
      from: 'raised',
      to: 'acknowledged',
      summary: 'Say that somebody sees to it',
      effect: async (tx) => ({ acknowledged_at: tx.now.toISOString(), acknowledged_by: tx.actor.userId }),
    },
    clear: {
      from: ['raised', 'acknowledged'],
      to: 'cleared',
      summary: 'Clear an alert by hand',
      input: Reasoned,
      effect: async (tx, { id, raised_at }, { reason }: Reasoned) => {
        await tx.query(sql.run`update tel_rule_state set alert_id = null where tenant_id = ${tx.tenantId} and alert_id = ${id}`)
        // A reading may be stamped a moment ahead of our clock; no alert ends before it was raised.
        const cleared_at = new Date(Math.max(tx.now.getTime(), Date.parse(raised_at))).toISOString()
        return { cleared_at, cleared_by: tx.actor.userId, cleared_cause: 'user', clear_reason: reason }
      },
    },
  },
})

/**
 * A user's transition of an alert. The state of its rule on the device is locked before the alert, in the order in which
 * rule evaluation locks them, so that the two do not deadlock. The state stays and loses its alert: the next reading beyond
 * the limit raises another one; an alert of silence is raised again only after the device was heard.
 */
export async function moveAlert(tx: Tx, name: string, id: string, version: number, input: object) {
  if (name === 'clear') await tx.query(sql.run`select from tel_rule_state where tenant_id = ${tx.tenantId} and alert_id = ${id} for update`)
  return alertLifecycle.move(tx, name, id, version, input)
}

/** An alert that is to be raised. */
export interface NewAlert {
  ruleId: string
  organizationId: string
  deviceId: string
  name: string
  severity: string
  metric: string | null
  value: number | null
  /** Milliseconds since 1970. */
  raisedAt: number
  /** Null while it lasts. */
  clearedAt: number | null
}

const Told = Type.Pick(
  Alert.schema,
  [
    'id',
    'version',
    'organization_id',
    'rule_id',
    'device_id',
    'name',
    'severity',
    'status',
    'metric',
    'value',
    'raised_at',
    'cleared_at',
    'cleared_cause',
  ],
  { additionalProperties: false },
)
const told = sql.fragment`id, version, organization_id, rule_id, device_id, name, severity, status, metric, value, raised_at, cleared_at, cleared_cause`

const tell = (tx: Tx, what: 'raised' | 'cleared', { id, version, ...data }: Static<typeof Told>) =>
  tx.emit({ type: `telemetry.alert.${what}`, entity_id: id, version, data })

/**
 * Raises alerts, and says so; those that are over already are cleared with it. Returns their ids, in order. One open alert
 * a rule and device: a unique index, so that of two who raise the same the second throws `already_exists`.
 */
export async function raiseAlerts(tx: Tx, alerts: readonly NewAlert[]): Promise<string[]> {
  if (alerts.length === 0) return []
  const time = (at: number | null) => (at === null ? null : new Date(at).toISOString())
  const rows = alerts.map((a) => [
    newId(),
    a.organizationId,
    a.ruleId,
    a.deviceId,
    a.name,
    a.severity,
    a.metric,
    a.value,
    time(a.raisedAt),
    time(a.clearedAt),
  ])
  const made = await tx.any(sql.prepared(Told)`
    insert into tel_alert (id, tenant_id, organization_id, rule_id, device_id, name, severity, metric, value, raised_at, cleared_at, status, cleared_cause, created_at, updated_at)
    select a.id, ${tx.tenantId}, a.organization_id, a.rule_id, a.device_id, a.name, a.severity, a.metric, a.value, a.raised_at, a.cleared_at,
      case when a.cleared_at is null then 'raised' else 'cleared' end, case when a.cleared_at is not null then 'condition' end, ${tx.now.toISOString()}, ${tx.now.toISOString()}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'uuid', 'uuid', 'text', 'text', 'text', 'float8', 'timestamptz', 'timestamptz'])}
      as a (id, organization_id, rule_id, device_id, name, severity, metric, value, raised_at, cleared_at)
    returning ${told}`)
  for (const alert of made) tell(tx, 'raised', { ...alert, status: 'raised', cleared_at: null, cleared_cause: null })
  for (const alert of made) if (alert.status === 'cleared') tell(tx, 'cleared', alert)
  return rows.map(([id]) => id as string)
}

/** Clears alerts that are still open, each at its time, and emits their events. */
export async function endAlerts(tx: Tx, ended: readonly { id: string; at: number }[], cause: ClearedCause = 'condition'): Promise<void> {
  if (ended.length === 0) return
  const cleared = await tx.any(sql.prepared(Told)`
    update tel_alert as a
    set status = 'cleared', cleared_at = greatest(e.at, a.raised_at), cleared_cause = ${cause}, version = a.version + 1, updated_at = ${tx.now.toISOString()}
    from ${sql.unnest(
      ended.map(({ id, at }) => [id, new Date(at).toISOString()]),
      ['uuid', 'timestamptz'],
    )} as e (ended, at)
    where a.tenant_id = ${tx.tenantId} and a.id = e.ended and a.status <> 'cleared'
    returning ${told}`)
  for (const alert of cleared) tell(tx, 'cleared', alert)
}

const Open = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Whether a rule (`r`) applies to a device (`d`): the condition of `isOf` in rule.ts, for rules and devices that exist. */
const applies: Fragment = sql.fragment`coalesce(
  r.enabled and r.deleted_at is null and d.deleted_at is null and r.organization_id = d.organization_id
  and (r.device_id is null or r.device_id = d.id) and (r.profile_id is null or r.profile_id = d.profile_id)
  and (r.site_id is null or r.site_id = d.site_id) and (r.batch_id is null or r.batch_id = d.batch_id), false)`

/**
 * Ends the alerts of rules that no longer apply to their devices, and drops the state of their evaluation. To be called in
 * the transaction that changed the rule or the devices. Rule evaluation locks states, then rules and devices, and skips
 * those that changed: an alert is either there to be ended here, or is not raised.
 * @param metrics those of a rule whose condition has changed: alerts of other metrics end, too; null is silence
 */
export async function endInapplicable(
  tx: Tx,
  of: 'rule_id' | 'device_id',
  ids: readonly string[],
  metrics?: readonly (string | null)[],
): Promise<void> {
  const given = sql.array([...ids], 'uuid')
  const column = (alias: string) => sql.identifier([alias, of])
  const named = metrics?.filter((metric) => metric !== null) ?? []
  const foreign = metrics
    ? sql.fragment`or case when a.metric is null then ${!metrics.includes(null)}::boolean else a.metric <> all(${sql.array(named, 'text')}) end`
    : sql.fragment``
  await tx.query(sql.run`
    select from tel_rule_state s where s.tenant_id = ${tx.tenantId} and ${column('s')} = any(${given}) order by s.device_id, s.rule_id for update`)
  const open = await tx.any(sql.prepared(Open)`
    select a.id from tel_alert a
    join tel_rule r on r.tenant_id = a.tenant_id and r.id = a.rule_id
    join tel_device d on d.tenant_id = a.tenant_id and d.id = a.device_id
    where a.tenant_id = ${tx.tenantId} and ${column('a')} = any(${given}) and a.status <> 'cleared' and (not ${applies} ${foreign})
    order by a.id for update of a`)
  await tx.query(sql.run`
    delete from tel_rule_state s using tel_rule r, tel_device d
    where s.tenant_id = ${tx.tenantId} and ${column('s')} = any(${given})
      and r.tenant_id = s.tenant_id and r.id = s.rule_id and d.tenant_id = s.tenant_id and d.id = s.device_id
      and (not ${applies} or s.alert_id = any(${sql.array(
        open.map(({ id }) => id),
        'uuid',
      )}))`)
  await endAlerts(
    tx,
    open.map(({ id }) => ({ id, at: tx.now.getTime() })),
    of === 'rule_id' ? 'rule' : 'device',
  )
}
