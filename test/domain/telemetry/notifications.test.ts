// Notifications of alerts by mail: to whom, once each, again, to the next channel, and when not.
import t from 'tap'
import { Database, newId, sql } from '../../../domain/kernel/index.ts'
import { notifyOfAlerts } from '../../../domain/telemetry/index.ts'
import { startWorkers } from '../../../server/workers.ts'
import { queueAlertMails } from '../../../workers/alert-notifier.ts'
import { eventually, type TestTenant, testApp, times } from '../../support/app.ts'
import { connectTo, quietLog, testServices } from '../../support/services.ts'
import { mailsTo, mailTo } from '../../support/smtp.ts'
import { probes } from '../../support/telemetry.ts'

const { tenant, runtime } = await testApp(t)
const workers = await startWorkers(runtime, quietLog, ['mail'])
t.teardown(() => workers.stop())
const probe = probes(runtime)
const { planes } = runtime.services
const telemetry = planes.telemetry.get('main')!
const start = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const at = (second: number, value: number) => ({ ts: new Date(start + second * 1000).toISOString(), value })
const path = '/telemetry/notification-channels'
const ruleOf = async (acme: TestTenant, extra: object = {}) =>
  (await acme.admin.post('/telemetry/rules', { name: 'Too hot', condition: { kind: 'threshold', metric: 'm', above: 30 }, ...extra })).data
const channelOf = async (acme: TestTenant, body: object) => {
  const created = await acme.manager.post(path, { name: 'Channel', ...body })
  if (created.status !== 201) throw new Error(JSON.stringify(created.body))
  return created.data
}
const address = () => `alert-${newId().slice(-12)}@mail.example`
const notify = (acme: TestTenant) => notifyOfAlerts(telemetry, acme.id, (message) => queueAlertMails(planes.control, acme.id, message))
const sent = async (
  acme: TestTenant,
  query = '',
): Promise<{ kind: string; channel_id: string; number: number; sent_at: string | null }[]> =>
  (await acme.viewer.get(`/telemetry/alert-notifications?sort=created_at${query}`)).data
const kinds = async (acme: TestTenant, channel: { id: string }) => (await sent(acme, `&channel_id=${channel.id}`)).map(({ kind }) => kind)
/** Moves what was sent so far back in time. */
const minutesPass = (acme: TestTenant, minutes: number) =>
  telemetry.write(acme.scope, (tx) =>
    tx.query(
      sql.run`update tel_alert_notification set created_at = created_at - make_interval(mins => ${minutes}) where tenant_id = ${acme.id}`,
    ),
  )

t.test('a channel is refused without recipients, with half of a pair, with foreign rules and channels', async (t) => {
  const [acme, globex] = [await tenant(), await tenant()]
  const theirs = await channelOf(globex, { addresses: [address()] })
  const foreign = await ruleOf(globex)
  const addresses = [address()]
  for (const [body, detail] of [
    [{}, 'invalid_value'],
    [{ addresses: ['nobody'] }, 'invalid_value'],
    [{ addresses: ['a@b.example\r\nBcc: c@d.example'] }, 'invalid_value'],
    [{ addresses, escalate_after_minutes: 5 }, 'invalid_value'],
    [{ addresses, quiet_from: '22:00' }, 'invalid_value'],
    [{ addresses, quiet_from: '22:00', quiet_until: '06:00', time_zone: '+02:00' }, 'invalid_value'],
    // Zones that Node knows and PostgreSQL does not: quiet hours would fail for all channels of the tenant.
    [{ addresses, time_zone: 'PNT' }, 'invalid_value'],
    [{ addresses, rule_ids: [foreign.id] }, 'invalid_reference'],
    [{ addresses, escalate_to_id: theirs.id, escalate_after_minutes: 5 }, 'invalid_reference'],
    [{ addresses, kind: 'webhook' }, 'invalid_body'],
    [{ addresses, quiet_from: '25:00', quiet_until: '06:00' }, 'invalid_body'],
    [{ addresses, repeat_minutes: 1 }, 'invalid_body'],
  ] as const)
    t.match(await acme.manager.post(path, { name: 'C', ...body }), { status: 400, body: { detail } }, JSON.stringify(body))
  t.match(await acme.viewer.post(path, { name: 'C', addresses }), { status: 403 })
  t.match(await acme.operator.post(path, { name: 'C', addresses }), { status: 403 })
  t.match(await acme.manager.get(`${path}/${theirs.id}`), { status: 404 })
  t.match(await acme.manager.patch(`${path}/${theirs.id}`, { enabled: false, version: 1 }), { status: 404 })
  const last = await channelOf(acme, { addresses })
  const first = await channelOf(acme, { user_ids: [acme.viewer.userId], escalate_to_id: last.id, escalate_after_minutes: 5 })
  t.match(await acme.manager.patch(`${path}/${last.id}`, { escalate_to_id: last.id, escalate_after_minutes: 5, version: 1 }), {
    status: 400,
  })
  t.match(await acme.manager.patch(`${path}/${first.id}`, { user_ids: [], version: 1 }), { status: 400, body: { detail: 'invalid_value' } })
  t.match(await acme.manager.patch(`${path}/${first.id}`, { name: 'X', version: 7 }), { status: 409, body: { detail: 'version_conflict' } })
  t.match(await acme.manager.delete(`${path}/${last.id}`, { 'if-match': '"1"' }), { status: 409, body: { detail: 'in_use' } })
  t.equal((await acme.viewer.get(path)).data.length, 2)
})

t.test('users and addresses get one mail each, however many workers look, and one when it is over', async (t) => {
  const acme = await tenant()
  const to = address()
  const devices = await Promise.all(times(3, () => probe(acme)))
  await ruleOf(acme, { severity: 'critical' })
  await devices[0]!.send([at(0, 40)])
  const channel = await channelOf(acme, { user_ids: [acme.viewer.userId, newId()], addresses: [to] })
  await notify(acme)
  t.same(await sent(acme), [], 'alerts from before the channel are not its own')
  for (const device of devices) await device.send([at(10, 10), at(20, 41)])
  await Promise.all(times(20, () => notify(acme)))
  await notify(acme)
  t.same(await kinds(acme, channel), ['raised', 'raised', 'raised'])
  t.ok((await sent(acme)).every(({ sent_at }) => sent_at !== null))
  for (const recipient of [to, acme.viewer.email]) {
    const mail = await mailTo(recipient)
    t.match(mail.subject, `Alert at ${acme.slug}: 3`)
    t.match(mail.text, /\[critical\] Too hot · Probe \(probe-.*\) · m 41 · \d{4}-/)
  }
  await devices[0]!.send([at(30, 10)])
  await Promise.all(times(5, () => notify(acme)))
  t.match((await mailTo(to, 2)).subject, `Alert over at ${acme.slug}: 1`)
  await notify(acme)
  // Later mails than those that are looked for have come when the next ones have.
  const other = address()
  await channelOf(acme, { addresses: [other] })
  await devices[0]!.send([at(40, 42)])
  await notify(acme)
  await mailTo(other)
  await mailTo(to, 3)
  t.equal(mailsTo(to).length, 3)
  const toViewer = async () => mailsTo(acme.viewer.email).filter(({ subject }) => subject.startsWith('Alert')).length
  t.equal(await eventually(toViewer, (count) => count >= 3, 20), 3)
})

t.test('a worker that ends between sending and noting sends nothing twice', async (t) => {
  const acme = await tenant()
  const to = address()
  const device = await probe(acme)
  await ruleOf(acme)
  await channelOf(acme, { addresses: [to] })
  await device.send([at(0, 40)])
  const dies = notifyOfAlerts(telemetry, acme.id, async (message) => {
    await queueAlertMails(planes.control, acme.id, message)
    throw new Error('killed')
  })
  await t.rejects(dies, /killed/)
  t.match(await sent(acme), [{ sent_at: null }])
  await notify(acme)
  t.not((await sent(acme))[0]!.sent_at, null)
  await mailTo(to)
  await device.send([at(10, 10)])
  await notify(acme)
  await mailTo(to, 2)
  t.same(
    mailsTo(to).map(({ subject }) => subject),
    [`Alert at ${acme.slug}: 1`, `Alert over at ${acme.slug}: 1`],
  )
})

t.test('an alert that no user acknowledges is repeated and escalated, from channel to channel; acknowledging ends that', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  await ruleOf(acme)
  const [third, second, first] = await (async () => {
    const third = await channelOf(acme, { name: '3', addresses: [address()], on_raise: false })
    const next = (id: string) => ({ escalate_to_id: id, escalate_after_minutes: 15 })
    const second = await channelOf(acme, { name: '2', addresses: [address()], on_raise: false, on_clear: false, ...next(third.id) })
    return [third, second, await channelOf(acme, { name: '1', addresses: [address()], repeat_minutes: 10, ...next(second.id) })]
  })()
  await device.send([at(0, 40)])
  await notify(acme)
  t.same([await kinds(acme, first), await kinds(acme, second)], [['raised'], []])
  await minutesPass(acme, 11)
  await Promise.all(times(5, () => notify(acme)))
  t.same([await kinds(acme, first), await kinds(acme, second)], [['raised', 'repeated'], []])
  await minutesPass(acme, 5)
  await Promise.all(times(5, () => notify(acme)))
  t.same([await kinds(acme, second), await kinds(acme, third)], [['escalated'], []])
  t.match((await mailTo(second.addresses[0])).subject, `Escalated alert at ${acme.slug}: 1`)
  await minutesPass(acme, 16)
  await notify(acme)
  t.same(await kinds(acme, third), ['escalated'])
  const [alert] = (await acme.viewer.get('/telemetry/alerts')).data
  t.equal((await acme.operator.post(`/telemetry/alerts/${alert.id}/acknowledge`, { version: 1 })).status, 200)
  const before = (await sent(acme)).length
  await minutesPass(acme, 60)
  await notify(acme)
  t.equal((await sent(acme)).length, before, 'acknowledged')
  await device.send([at(10, 10)])
  await notify(acme)
  t.same(
    [(await kinds(acme, first)).at(-1), await kinds(acme, second), (await kinds(acme, third)).at(-1)],
    ['cleared', ['escalated'], 'cleared'],
  )
})

t.test('a flapping alert, a snoozed and a quiet channel, other severities and other rules are not told of', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const [critical, info] = [await ruleOf(acme, { severity: 'critical' }), await ruleOf(acme, { severity: 'info' })]
  const addresses = [address()]
  const hour = (offset: number) => `${String((new Date().getUTCHours() + offset + 24) % 24).padStart(2, '0')}:00`
  const channels = {
    flap: await channelOf(acme, { addresses, flap_limit: 2, on_clear: false, rule_ids: [critical.id] }),
    severity: await channelOf(acme, { addresses, severities: ['critical'], on_clear: false }),
    rule: await channelOf(acme, { addresses, rule_ids: [info.id], on_clear: false }),
    snoozed: await channelOf(acme, { addresses, snoozed_until: new Date(Date.now() + 3_600_000).toISOString() }),
    quiet: await channelOf(acme, { addresses, quiet_from: hour(-1), quiet_until: hour(2) }),
    loud: await channelOf(acme, { addresses, quiet_from: hour(2), quiet_until: hour(-1), on_clear: false }),
    off: await channelOf(acme, { addresses, enabled: false }),
  }
  for (let n = 0; n < 4; n++) {
    await device.send([at(20 * n, 40)])
    await notify(acme)
    await device.send([at(20 * n + 10, 10)])
  }
  const counts = async () =>
    Object.fromEntries(
      await Promise.all(Object.entries(channels).map(async ([name, channel]) => [name, (await kinds(acme, channel)).length] as const)),
    )
  t.same(await counts(), { flap: 2, severity: 4, rule: 4, snoozed: 0, quiet: 0, loud: 8, off: 0 })
  await device.send([at(100, 40)])
  const { id } = channels.snoozed
  t.equal((await acme.manager.patch(`${path}/${id}`, { snoozed_until: null, version: 1 })).status, 200)
  await notify(acme)
  t.equal((await counts()).snoozed, 2, 'what is still open after the snooze is sent then')
  await eventually(async () => (await sent(acme)).every(({ sent_at }) => sent_at !== null), Boolean)
})

t.test('with 30,000 alerts of the past, what is due is found by indexes', async (t) => {
  const acme = await tenant()
  const device = await probe(acme)
  const rule = await ruleOf(acme)
  const channel = await channelOf(acme, { addresses: [address()], repeat_minutes: 10 })
  const services = testServices()
  const admin = await connectTo(t, services.admin.telemetry)
  const organization = acme.organizations[0]!.id
  await admin.query(
    `insert into tel_alert (id, tenant_id, organization_id, rule_id, device_id, name, severity, status, raised_at, cleared_at, created_at, updated_at)
     select gen_random_uuid(), $1, $2, $3, $4, 'Old', 'info', 'cleared', now() - n * interval '1 hour', now() - n * interval '1 hour', now() - n * interval '1 hour', now() - n * interval '1 hour'
     from generate_series(100, 30099) n`,
    [acme.id, organization, rule.id, device.id],
  )
  await admin.query(
    `insert into tel_alert_notification (id, tenant_id, organization_id, alert_id, channel_id, kind, message_id, sent_at, created_at)
     select gen_random_uuid(), tenant_id, organization_id, id, $2, 'raised', gen_random_uuid(), created_at, created_at from tel_alert where tenant_id = $1`,
    [acme.id, channel.id],
  )
  await admin.query('analyze tel_alert, tel_alert_notification')
  const asked: { sql: string; values: readonly unknown[] }[] = []
  const capture = {
    name: 'capture',
    beforeQueryExecution: (_: unknown, query: { sql: string; values: readonly unknown[] }) => void asked.push(query),
  }
  const database = new Database(services.app.telemetry, { max: 1, interceptors: [capture as never] })
  t.teardown(() => database.close())
  await notifyOfAlerts(database, acme.id, async () => {})
  const reader = await connectTo(t, services.app.telemetry)
  await reader.query(`select set_config('tenantry.tenant_id', $1, false)`, [acme.id])
  const statements = asked.filter(({ sql }) => sql.includes('tel_alert_notification'))
  t.equal(statements.length, 2)
  for (const { sql, values } of statements) {
    const { rows } = await reader.query(`explain ${sql}`, [...values])
    const plan = rows.map((line) => line['QUERY PLAN']).join('\n')
    t.notMatch(plan, /Seq Scan on (tel_alert|tel_alert_notification)\b/, plan)
  }
})
