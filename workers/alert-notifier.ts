// Sends notifications of alerts every few seconds: noted in the telemetry plane, put into the mail queue of the control plane.
import type { AlertMailKind, MailJob } from '../domain/identity/index.ts'
import { type Database, sql, systemScope } from '../domain/kernel/index.ts'
import { type AlertMessage, isIngested, notifyOfAlerts, tenantsWithChannels } from '../domain/telemetry/index.ts'
import type { Planes, TenantDirectory } from '../domain/tenancy/index.ts'
import type { WorkerLog } from './log.ts'
import { PeriodicTask } from './periodic-task.ts'

const EVERY_MS = 5_000
const KINDS: Record<AlertMessage['kind'], AlertMailKind> = {
  raised: 'alert_raised',
  repeated: 'alert_repeated',
  escalated: 'alert_escalated',
  cleared: 'alert_cleared',
}

/**
 * Puts a message's mails into the queue, one for each recipient. Once: the key of the inbox, which is written in the same
 * transaction, makes a second call change nothing.
 */
export async function queueAlertMails(control: Database, tenantId: string, message: AlertMessage): Promise<void> {
  const { message_id, kind, user_ids, addresses, count, lines } = message
  const more = count > lines.length ? [`… +${count - lines.length}`] : []
  const facts = { count: String(count), lines: [...lines, ...more].join('\n') }
  const jobs: MailJob[] = [
    ...user_ids.map((user_id) => ({ kind: KINDS[kind], tenant_id: tenantId, user_id, facts })),
    ...addresses.map((to) => ({ kind: KINDS[kind], tenant_id: tenantId, user_id: null, facts: { ...facts, to } })),
  ]
  await control.write(systemScope(tenantId, 'alert-mail', message_id), async (tx) => {
    const { rowCount } = await tx.query(sql.run`
      insert into plane.consumer_inbox (tenant_id, consumer, event_id) values (${tenantId}, ${`alert-mail.${kind}`}, ${message_id}) on conflict do nothing`)
    if (rowCount > 0) for (const job of jobs) tx.enqueue({ queue: 'mail', data: { ...job } })
  })
}

/** Looks after all tenants, one after the other. In many processes at once it sends nothing twice. */
export class AlertNotifier extends PeriodicTask {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #log: WorkerLog

  constructor(planes: Planes, tenants: TenantDirectory, log: WorkerLog) {
    super(EVERY_MS)
    this.#planes = planes
    this.#tenants = tenants
    this.#log = log
  }

  async #look(database: Database, signal: AbortSignal): Promise<void> {
    for (const id of await tenantsWithChannels(database)) {
      if (signal.aborted) return
      if (!isIngested(await this.#tenants.byId(id))) continue
      await notifyOfAlerts(database, id, (message) => queueAlertMails(this.#planes.control, id, message)).catch((error) =>
        this.#log.warn({ err: error, tenant_id: id }, 'alerts not notified of, it is tried again in a moment'),
      )
    }
  }

  protected async work(signal: AbortSignal): Promise<void> {
    for (const database of this.#planes.telemetry.values()) {
      await this.#look(database, signal).catch((error) =>
        this.#log.warn({ err: error }, 'alerts not notified of, it is tried again in a moment'),
      )
    }
  }
}
