// That a rule is on for a device: raised, seen by somebody, cleared when it is over.
import { type Static, Type } from 'typebox'
import { type ListSpec, lifecycle, newId, nullable, oneOf, row, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

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
})

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
    clear: { from: ['raised', 'acknowledged'], to: 'cleared', summary: 'What it was raised for is over', internal: true },
  },
})

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
  ['id', 'version', 'organization_id', 'rule_id', 'device_id', 'name', 'severity', 'status', 'metric', 'value', 'raised_at', 'cleared_at'],
  { additionalProperties: false },
)
const told = sql.fragment`id, version, organization_id, rule_id, device_id, name, severity, status, metric, value, raised_at, cleared_at`

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
    insert into tel_alert (id, tenant_id, organization_id, rule_id, device_id, name, severity, metric, value, raised_at, cleared_at, status, created_at, updated_at)
    select a.id, ${tx.tenantId}, a.organization_id, a.rule_id, a.device_id, a.name, a.severity, a.metric, a.value, a.raised_at, a.cleared_at,
      case when a.cleared_at is null then 'raised' else 'cleared' end, ${tx.now.toISOString()}, ${tx.now.toISOString()}
    from ${sql.unnest(rows, ['uuid', 'uuid', 'uuid', 'uuid', 'text', 'text', 'text', 'float8', 'timestamptz', 'timestamptz'])}
      as a (id, organization_id, rule_id, device_id, name, severity, metric, value, raised_at, cleared_at)
    returning ${told}`)
  for (const alert of made) tell(tx, 'raised', { ...alert, status: 'raised', cleared_at: null })
  for (const alert of made) if (alert.status === 'cleared') tell(tx, 'cleared', alert)
  return rows.map(([id]) => id as string)
}

/** Clears alerts that are still open, each at its moment, and says so. */
export async function endAlerts(tx: Tx, ended: readonly { id: string; at: number }[]): Promise<void> {
  if (ended.length === 0) return
  const cleared = await tx.any(sql.prepared(Told)`
    update tel_alert as a
    set status = 'cleared', cleared_at = greatest(e.at, a.raised_at), version = a.version + 1, updated_at = ${tx.now.toISOString()}
    from ${sql.unnest(
      ended.map(({ id, at }) => [id, new Date(at).toISOString()]),
      ['uuid', 'timestamptz'],
    )} as e (ended, at)
    where a.tenant_id = ${tx.tenantId} and a.id = e.ended and a.status <> 'cleared'
    returning ${told}`)
  for (const alert of cleared) tell(tx, 'cleared', alert)
}

const Open = Type.Object({ id: Uuid }, { additionalProperties: false })

/** Ends what a rule or a device has open, and forgets what was true of them. Who watches waits for the states' locks, and sees that they are gone. */
export async function clearAlerts(tx: Tx, of: 'rule_id' | 'device_id', id: string): Promise<void> {
  const column = sql.identifier([of])
  await tx.query(sql.run`delete from tel_rule_state where tenant_id = ${tx.tenantId} and ${column} = ${id}`)
  const open = await tx.any(sql.prepared(Open)`
    select id from tel_alert where tenant_id = ${tx.tenantId} and ${column} = ${id} and status <> 'cleared' order by id for update`)
  await endAlerts(
    tx,
    open.map(({ id }) => ({ id, at: tx.now.getTime() })),
  )
}
