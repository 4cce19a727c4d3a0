// Starts any set of workers on a runtime: relay, events, telemetry, jobs.

import { Registry } from 'prom-client'
import { newId } from '../domain/kernel/index.ts'
import { remindOfTrials } from '../domain/platform/index.ts'
import { AlertNotifier } from '../workers/alert-notifier.ts'
import { ConsumerWatch } from '../workers/consumer-watch.ts'
import { deadLetterConsumer } from '../workers/dead-letters.ts'
import { EventConsumer, type EventHandler } from '../workers/event-consumer.ts'
import { carryExport, carryImport, startsOf } from '../workers/exchanger.ts'
import { removeExpiredFiles } from '../workers/expired-files.ts'
import { eventHandlers } from '../workers/handlers.ts'
import { hourSums } from '../workers/hour-sums.ts'
import { jobConsumer } from '../workers/job-consumer.ts'
import { type Jobs, startJobs } from '../workers/jobs.ts'
import type { ConsumerState } from '../workers/kafka.ts'
import { mailer } from '../workers/mailer.ts'
import { carryOut } from '../workers/mover.ts'
import { provision } from '../workers/provisioner.ts'
import { catalogCharge, outboxName, ownCharge, Relay } from '../workers/relay.ts'
import { relayMetrics } from '../workers/relay-metrics.ts'
import { SilenceWatch } from '../workers/silence-watch.ts'
import { telemetryConsumer } from '../workers/telemetry-consumer.ts'
import type { Log } from './log.ts'
import type { Runtime } from './runtime.ts'
import { ownedStorage } from './storage.ts'

export const WORKERS = ['relay', 'events', 'telemetry', 'jobs', 'mail', 'tenants', 'moves', 'exchange'] as const
export type WorkerName = (typeof WORKERS)[number]

export interface RunningWorkers {
  jobs: Jobs
  metrics: Registry
  /** Resolves when every consumer has its partitions, or after `ms`. */
  assigned(ms: number): Promise<unknown>
  stop(): Promise<void>
}

/** Starts the named workers; `stop` ends them in order: take nothing new, finish, commit, leave. */
export async function startWorkers(
  runtime: Runtime,
  log: Log,
  only: readonly WorkerName[] = WORKERS,
  handlers: readonly EventHandler[] = eventHandlers,
): Promise<RunningWorkers> {
  const {
    services: { planes, tenants, settings, vault, files, announcements },
    kafka,
    producer,
    config,
  } = runtime
  const workerLog = log.root
  const metrics = new Registry()
  const jobs = await startJobs(config.CONTROL_DATABASE_URL, workerLog)
  const storage = ownedStorage(config.DATA_OWNER_CATALOG ?? {})
  const running: { stop(): Promise<void>; assigned?(ms: number): Promise<void>; states?(): ConsumerState[] }[] = []
  if (only.includes('relay')) {
    const urls = new Map([
      [config.CONTROL_DATABASE_URL, planes.control],
      ...Object.entries(config.DATA_CATALOG).map(([key, url]) => [url, planes.data.get(key)!] as const),
      ...Object.entries(config.TELEMETRY_CATALOG).map(([key, url]) => [url, planes.telemetry.get(key)!] as const),
    ])
    const charges = [
      ...[...urls].map(([url, database]) => catalogCharge(database, url)),
      ownCharge(planes, tenants, config.CONTROL_DATABASE_URL),
    ]
    const relays = charges.map((charge) => new Relay(charge, producer, workerLog))
    for (const relay of relays) relay.start()
    running.push(...relays)
    relayMetrics(metrics, relays, new Map([...urls].map(([url, database]) => [outboxName(url), database])))
  }
  const consumers = new Map(
    handlers.map((handler) => [
      handler.consumer,
      new EventConsumer(handler, { kafka, planes, tenants, producer, log: workerLog, retryLater: jobs.retryLater }),
    ]),
  )
  if (only.includes('events')) {
    for (const consumer of [...consumers.values(), deadLetterConsumer(kafka, planes.control, workerLog)]) {
      await consumer.start()
      running.push(consumer)
    }
  }
  if (only.includes('telemetry')) {
    const consumer = telemetryConsumer({
      kafka,
      planes,
      tenants,
      keepDays: config.TELEMETRY_KEEP_DAYS,
      announce: (tenantId) => announcements.say('readings', tenantId),
      registry: metrics,
      producer,
      log: workerLog,
    })
    await consumer.start()
    const silence = new SilenceWatch(planes, tenants, workerLog)
    silence.start()
    const notifier = new AlertNotifier(planes, tenants, workerLog)
    notifier.start()
    running.push(consumer, silence, notifier)
  }
  if (only.includes('jobs'))
    await jobs.work(consumers, planes, tenants, {
      sealKey: settings.sealKey,
      files,
      keepReadingsDays: config.TELEMETRY_KEEP_DAYS,
      sumUpHours: hourSums(planes, metrics, workerLog),
      remind: () => remindOfTrials(planes.control, newId()),
      removeExpiredFiles: async () => removeExpiredFiles({ planes, tenants, files, log: workerLog }, await tenants.kept()),
    })
  if (only.includes('tenants')) {
    await jobs.workTenants((tenantId) => provision(planes.control, storage, tenantId))
  }
  if (only.includes('moves')) {
    const mover = { planes, storage, controlUrl: config.CONTROL_DATABASE_URL, log: workerLog }
    const moves = jobConsumer(kafka, producer, workerLog, {
      job: 'tenant-move',
      handle: (job, signal) => carryOut(mover, job.tenant_id, job.entity_id, signal),
    })
    await moves.start()
    running.push(moves)
  }
  if (only.includes('exchange')) {
    const exchange = { planes, tenants, vault, files, log: workerLog, keepExportsDays: config.EXPORT_KEEP_DAYS }
    for (const consumer of [
      jobConsumer(kafka, producer, workerLog, {
        job: 'data-import',
        handle: (job, signal) => carryImport(exchange, job, signal),
        starts: startsOf(exchange, 'data-import'),
      }),
      jobConsumer(kafka, producer, workerLog, {
        job: 'data-export',
        handle: (job) => carryExport(exchange, job),
        starts: startsOf(exchange, 'data-export'),
      }),
    ]) {
      await consumer.start()
      running.push(consumer)
    }
  }
  if (only.includes('mail')) {
    const send = mailer(
      planes.control,
      {
        smtpUrl: config.SMTP_URL,
        directory: config.MAIL_DIRECTORY,
        from: config.MAIL_FROM,
        publicUrl: config.PUBLIC_URL,
        baseDomain: config.BASE_DOMAIN,
      },
      workerLog,
    )
    await jobs.workMail(send)
  }
  const watch = new ConsumerWatch(planes.control, () => running.flatMap((worker) => worker.states?.() ?? []), metrics, workerLog)
  watch.start()
  return {
    jobs,
    metrics,
    assigned: (ms) => Promise.all(running.map((worker) => worker.assigned?.(ms))),
    stop: async () => {
      await Promise.allSettled(running.map((worker) => worker.stop()))
      await watch.stop()
      await jobs.stop()
    },
  }
}
