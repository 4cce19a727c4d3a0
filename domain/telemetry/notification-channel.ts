// Notification channels: who is told of which alerts, how often, and who next where no user acknowledges them.
import { type Static, Type } from 'typebox'
import { canonicalEmail } from '../identity/index.ts'
import {
  type Database,
  failure,
  type ListSpec,
  Name,
  nullable,
  oneOf,
  requireTimeZone,
  resource,
  row,
  sql,
  systemScope,
  Timestamp,
  TimeZone,
  type Tx,
  Uuid,
} from '../kernel/index.ts'
import { SEVERITIES } from './alert.ts'

const TimeOfDay = Type.String({ pattern: '^([01]\\d|2[0-3]):[0-5]\\d$', examples: ['22:00'] })
const ids = (description: string, maxItems: number) => Type.Array(Uuid, { maxItems, uniqueItems: true, default: [], description })

/** Who is told of alerts of its organization. Other kinds than mail may follow: what is of mail alone is empty for them. */
export const NotificationChannel = row('tel_notification_channel', {
  name: Name,
  kind: oneOf(['mail'], { default: 'mail' }),
  enabled: Type.Boolean({ default: true }),
  user_ids: ids('Users of the tenant, at their own addresses and in their languages', 50),
  addresses: Type.Array(Type.String({ maxLength: 254 }), {
    maxItems: 20,
    uniqueItems: true,
    default: [],
    description: 'Further addresses',
  }),
  severities: Type.Array(oneOf(SEVERITIES), { maxItems: 3, uniqueItems: true, default: [], description: 'Of which alerts; none is all' }),
  rule_ids: ids('Of which rules; none is all', 200),
  on_raise: Type.Boolean({
    default: true,
    description: 'Whether alerts go to it when they are raised; false for one that is escalated to alone',
  }),
  on_clear: Type.Boolean({ default: true, description: 'Whether it is told when an alert that it was told of is cleared' }),
  repeat_minutes: nullable(
    Type.Integer({
      minimum: 5,
      maximum: 10_080,
      description: 'How often it is told again while the alert is neither acknowledged nor cleared',
    }),
  ),
  escalate_to_id: nullable({ ...Uuid, description: 'The channel that is told next' }),
  escalate_after_minutes: nullable(
    Type.Integer({
      minimum: 1,
      maximum: 10_080,
      description: 'How long after this one, where the alert is neither acknowledged nor cleared',
    }),
  ),
  flap_limit: Type.Integer({
    minimum: 1,
    maximum: 1_000,
    default: 4,
    description: 'Of how many alerts of one rule and device it is told when they are raised, in an hour',
  }),
  quiet_from: nullable({
    ...TimeOfDay,
    description: 'Nothing is sent from this time of the day on; what is still open afterwards is sent then',
  }),
  quiet_until: nullable(TimeOfDay),
  time_zone: { ...TimeZone, default: 'UTC', description: 'Of the quiet hours: an IANA name' },
  snoozed_until: nullable({ ...Timestamp, description: 'Nothing is sent until then; what is still open afterwards is sent then' }),
})

const Rule = Type.Object({ id: Uuid }, { additionalProperties: false })
type Draft = Partial<Static<typeof NotificationChannel.schema>>

/** Notification channels of an organization: each may send to 20 addresses. */
const MAX_CHANNELS = 20
const Channels = Type.Object({ channels: Type.Integer() }, { additionalProperties: false })
const Known = Type.Object({ known: Type.Boolean() }, { additionalProperties: false })

/** Refuses a zone that Node or PostgreSQL does not know: quiet hours are decided by PostgreSQL. Throws `invalid_value`. */
async function requireZoneOfDatabase(tx: Tx, name: string): Promise<void> {
  requireTimeZone(name, '/time_zone')
  const { known } = await tx.one(sql.prepared(Known)`select exists (select from pg_timezone_names where name = ${name}) as known`)
  if (!known) throw failure('invalid_value', { path: '/time_zone', rule: 'time_zone', message: 'is an IANA name such as Europe/Madrid' })
}

/** Recipients that can be written to, pairs that are complete, rules that exist. Throws `invalid_value`, `invalid_reference`. */
async function makesSense(tx: Tx, rows: readonly Record<string, unknown>[]): Promise<void> {
  const refuse = (path: string, rule: string, message: string) => failure('invalid_value', { path, rule, message })
  for (const draft of rows as readonly Draft[]) {
    const { id, user_ids = [], addresses = [], escalate_to_id, escalate_after_minutes, quiet_from, quiet_until, time_zone } = draft
    if (user_ids.length + addresses.length === 0) throw refuse('/user_ids', 'required', 'or addresses: name at least one recipient')
    for (const [n, address] of addresses.entries())
      if (canonicalEmail(address) === null) throw refuse(`/addresses/${n}`, 'email', 'is an address such as ana@example.com')
    if (((escalate_to_id ?? null) === null) !== ((escalate_after_minutes ?? null) === null))
      throw refuse('/escalate_after_minutes', 'pair', 'goes with escalate_to_id')
    if (id && escalate_to_id === id) throw refuse('/escalate_to_id', 'self', 'is another channel')
    if (((quiet_from ?? null) === null) !== ((quiet_until ?? null) === null)) throw refuse('/quiet_until', 'pair', 'goes with quiet_from')
    if (time_zone) await requireZoneOfDatabase(tx, time_zone)
  }
  const added = (rows as readonly Draft[]).filter(({ id }) => !id).length
  if (added > 0) {
    const { channels } = await tx.one(sql.prepared(Channels)`
      select count(*) as channels from tel_notification_channel
      where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and deleted_at is null`)
    if (channels + added > MAX_CHANNELS)
      throw failure('invalid_value', { path: '', rule: 'channels' }, `An organization has at most ${MAX_CHANNELS} notification channels.`)
  }
  const wanted = [...new Set((rows as readonly Draft[]).flatMap(({ rule_ids = [] }) => rule_ids))]
  if (wanted.length === 0) return
  const found = await tx.any(sql.prepared(Rule)`
    select id from tel_rule where tenant_id = ${tx.tenantId} and organization_id = ${tx.context.organizationId} and id = any(${sql.array(wanted, 'uuid')})`)
  const known = new Set(found.map(({ id }) => id))
  const missing = wanted.filter((id) => !known.has(id))
  if (missing.length > 0) throw failure('invalid_reference', { path: 'rule_ids', ids: missing.slice(0, 20) })
}

export const notificationChannels = resource(NotificationChannel, {
  module: 'telemetry.devices',
  permission: 'telemetry.notification_channel',
  search: ['name'],
  filter: ['enabled', 'created_at'],
  sort: ['name', 'created_at'],
  references: { escalate_to_id: () => NotificationChannel },
  usedBy: [{ table: 'tel_notification_channel', column: 'escalate_to_id' }],
  check: makesSense,
})

/** That a channel was told of an alert. */
export const AlertNotification = row(
  'tel_alert_notification',
  {
    alert_id: Uuid,
    channel_id: Uuid,
    kind: oneOf(['raised', 'repeated', 'escalated', 'cleared']),
    number: Type.Integer({ description: 'Of repeated ones: which' }),
    message_id: { ...Uuid, description: 'Notifications with one id went out as one message' },
    sent_at: nullable({ ...Timestamp, description: 'When it was put into the mail queue' }),
  },
  { softDelete: false },
)
export const alertNotificationList: ListSpec = {
  row: AlertNotification,
  filter: ['alert_id', 'channel_id', 'created_at'],
  sort: ['created_at'],
}

const Ids = Type.Object({ ids: Type.Array(Uuid) }, { additionalProperties: false })

/** The tenants of a database that have notification channels. */
export const tenantsWithChannels = async (database: Database): Promise<readonly string[]> =>
  (await database.platform((queries) => queries.one(sql.prepared(Ids)`select plane.tenants_with_notification_channels() as ids`))).ids

const BATCH = 1_000

/**
 * Notes the notifications that are due, as rows to be sent; each once, by the table's key, however many workers look. Alerts
 * that were acknowledged or cleared before are not told of. A channel that is snoozed or quiet is left out: what is still due
 * afterwards is found then. Alerts from before the channel are not its own. Returns how many were noted.
 */
async function noteNotifications(tx: Tx): Promise<number> {
  const now = sql.fragment`${tx.now.toISOString()}::timestamptz`
  const { rowCount } = await tx.query(sql.run`
    with c as materialized (
      select c.*, gen_random_uuid() as message_id from tel_notification_channel c
      where c.tenant_id = ${tx.tenantId} and c.enabled and c.deleted_at is null
        and coalesce(c.snoozed_until <= ${now}, true)
        and not coalesce(case
          when c.quiet_from is null then false
          when c.quiet_from <= c.quiet_until then (${now} at time zone c.time_zone)::time >= c.quiet_from::time and (${now} at time zone c.time_zone)::time < c.quiet_until::time
          else (${now} at time zone c.time_zone)::time >= c.quiet_from::time or (${now} at time zone c.time_zone)::time < c.quiet_until::time
        end, false)
    ), due as (
      select a.organization_id, a.id as alert_id, c.id as channel_id, 'raised' as kind, 0 as number, c.message_id
      from c join tel_alert a on a.tenant_id = c.tenant_id and a.organization_id = c.organization_id and a.status = 'raised' and a.created_at >= c.created_at
      where c.on_raise and (c.severities = '{}' or a.severity = any(c.severities)) and (c.rule_ids = '{}' or a.rule_id = any(c.rule_ids))
        and not exists (select from tel_alert_notification n where n.tenant_id = a.tenant_id and n.alert_id = a.id and n.channel_id = c.id)
        and (
          select count(*) from tel_alert_notification n join tel_alert b on b.tenant_id = n.tenant_id and b.id = n.alert_id
          where n.tenant_id = c.tenant_id and n.channel_id = c.id and n.created_at > ${now} - interval '1 hour' and n.kind = 'raised'
            and b.rule_id = a.rule_id and b.device_id = a.device_id) < c.flap_limit
      union all
      select a.organization_id, a.id, c.id, 'repeated', told.number + 1, c.message_id
      from c join tel_alert a on a.tenant_id = c.tenant_id and a.organization_id = c.organization_id and a.status = 'raised'
      cross join lateral (
        select max(n.created_at) as last, max(n.number) as number from tel_alert_notification n
        where n.tenant_id = a.tenant_id and n.alert_id = a.id and n.channel_id = c.id
      ) as told
      where told.last <= ${now} - make_interval(mins => c.repeat_minutes)
      union all
      select distinct a.organization_id, a.id, c.id, 'escalated', 0, c.message_id
      from tel_alert a
      join tel_alert_notification n on n.tenant_id = a.tenant_id and n.alert_id = a.id and n.kind in ('raised', 'escalated')
      join tel_notification_channel f on f.tenant_id = n.tenant_id and f.id = n.channel_id and f.enabled and f.deleted_at is null
      join c on c.id = f.escalate_to_id
      where a.tenant_id = ${tx.tenantId} and a.status = 'raised' and n.created_at <= ${now} - make_interval(mins => f.escalate_after_minutes)
        and not exists (select from tel_alert_notification e where e.tenant_id = a.tenant_id and e.alert_id = a.id and e.channel_id = c.id)
      union all
      select a.organization_id, a.id, c.id, 'cleared', 0, c.message_id
      from c join tel_alert a on a.tenant_id = c.tenant_id and a.organization_id = c.organization_id and a.status = 'cleared' and a.updated_at > ${now} - interval '1 day'
      where c.on_clear
        and exists (select from tel_alert_notification n where n.tenant_id = a.tenant_id and n.alert_id = a.id and n.channel_id = c.id)
        and not exists (select from tel_alert_notification n where n.tenant_id = a.tenant_id and n.alert_id = a.id and n.channel_id = c.id and n.kind = 'cleared')
      order by alert_id limit ${BATCH}
    )
    insert into tel_alert_notification (id, tenant_id, organization_id, alert_id, channel_id, kind, number, message_id, created_at, updated_at)
    select gen_random_uuid(), ${tx.tenantId}, d.organization_id, d.alert_id, d.channel_id, d.kind, d.number, d.message_id, ${now}, ${now} from due d
    on conflict (tenant_id, alert_id, channel_id, kind, number) do nothing`)
  return rowCount
}

const Message = Type.Object(
  {
    message_id: Uuid,
    kind: AlertNotification.properties.kind,
    user_ids: Type.Array(Uuid),
    addresses: Type.Array(Type.String()),
    count: Type.Integer(),
    lines: Type.Array(Type.String()),
  },
  { additionalProperties: false },
)
/** What is to be sent to the recipients of a channel, in one message: alerts of one kind of notification. */
export type AlertMessage = Static<typeof Message>

/** Alerts that a message names; of those beyond it gives the number. */
const NAMED = 20

/** Messages that are not sent yet, the oldest first. */
async function unsentMessages(tx: Tx): Promise<readonly AlertMessage[]> {
  return tx.any(sql.prepared(Message)`
    select u.message_id, u.kind, c.user_ids, c.addresses, u.count::int as count, u.lines
    from (
      select n.message_id, n.kind, n.channel_id, count(*) as count, min(n.created_at) as since, (array_agg(
        '[' || a.severity || '] ' || a.name || ' · ' || d.name || ' (' || d.code || ')'
          || case when a.metric is null then '' else ' · ' || a.metric || ' ' || a.value end
          || ' · ' || to_char(a.raised_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
          || case when n.kind = 'cleared' then ' – ' || to_char(a.cleared_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"') else '' end
        order by a.severity = 'critical' desc, a.raised_at, a.id))[1:${NAMED}::int] as lines
      from tel_alert_notification n
      join tel_alert a on a.tenant_id = n.tenant_id and a.id = n.alert_id
      join tel_device d on d.tenant_id = a.tenant_id and d.id = a.device_id
      where n.tenant_id = ${tx.tenantId} and n.sent_at is null
      group by n.message_id, n.kind, n.channel_id
    ) as u
    join tel_notification_channel c on c.tenant_id = ${tx.tenantId} and c.id = u.channel_id
    order by u.since, u.message_id, u.kind limit 100`)
}

/**
 * Notes what is due and sends what is noted. `send` must do nothing for a message that it has sent before: a process that
 * ends between sending and noting sends it again. Returns how many messages were sent.
 */
export async function notifyOfAlerts(
  database: Database,
  tenantId: string,
  send: (message: AlertMessage) => Promise<void>,
): Promise<number> {
  const scope = systemScope(tenantId, 'telemetry-notifier', 'telemetry-notifier')
  await database.write(scope, noteNotifications)
  const messages = await database.read(scope, unsentMessages)
  for (const message of messages) {
    await send(message)
    await database.write(scope, (tx) =>
      tx.query(sql.run`
        update tel_alert_notification set sent_at = ${tx.now.toISOString()}, updated_at = ${tx.now.toISOString()}
        where tenant_id = ${tx.tenantId} and message_id = ${message.message_id} and kind = ${message.kind} and sent_at is null`),
    )
  }
  return messages.length
}
