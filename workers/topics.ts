import type { Message, OutgoingMessage, TopicDeclaration } from './kafka.ts'

const DAY = 86_400_000

/** Every topic of the product: `npm run migrate` creates them. */
export const TOPICS = {
  events: 'tenantry.events.v1',
  telemetry: 'tenantry.telemetry.v1',
  telemetryAside: 'tenantry.telemetry.aside.v1',
  telemetryRejected: 'tenantry.telemetry.rejected.v1',
  jobs: 'tenantry.jobs.v1',
} as const

/** Every kind of work that is asked for on the topic of jobs. */
export const JOB_KINDS = ['tenant-move', 'data-import', 'data-export'] as const
export type JobKind = (typeof JOB_KINDS)[number]
export const isJobType = (type: string): boolean => JOB_KINDS.some((kind) => type === `job.${kind}`)

/** What is asked for (`job.tenant-move`) goes another way than what has happened (`erp.party.created`). */
export const topicOf = (type: string): string => (type.startsWith('job.') ? TOPICS.jobs : TOPICS.events)

export const deadLetter = (topic: string): string => `${topic}.dlq`

export interface DeadLetterCause {
  consumer: string
  /** An error, or a sentence. */
  error: unknown
  /** How often it was tried. Defaults to once. */
  attempts?: number
  /** When it was tried first. Defaults to now. */
  firstAt?: string
  /** Where it lay: several consumers that give it up make one dead letter of it. */
  source?: string | undefined
}

/** A message that could not be handled, for the dead-letter topic of its own. */
export function asDeadLetter(
  { topic, key, value }: Pick<Message, 'topic' | 'key'> & { value: Buffer | string | null },
  { consumer, error, attempts = 1, firstAt, source }: DeadLetterCause,
): OutgoingMessage {
  const now = new Date().toISOString()
  return {
    topic: deadLetter(topic),
    key: key ?? '',
    value: value ?? '',
    headers: {
      consumer,
      error: String((error as Error)?.message ?? error).slice(0, 500),
      attempts: String(attempts),
      'first-at': firstAt ?? now,
      'last-at': now,
      ...(source ? { source } : {}),
    },
  }
}

/**
 * Settings of a topic that devices write to. A plan's limit is counted by the minute of a message: producers must not choose
 * it. And the broker packs every batch with a codec that each build of the client can read, whatever the device used.
 */
const OF_DEVICES = { 'message.timestamp.type': 'LogAppendTime', 'compression.type': 'lz4' }

export const topicDeclarations: readonly TopicDeclaration[] = [
  { topic: TOPICS.events, partitions: 12, retentionMs: 7 * DAY },
  { topic: TOPICS.telemetry, partitions: 24, retentionMs: 3 * DAY, config: OF_DEVICES },
  { topic: TOPICS.telemetryAside, partitions: 24, retentionMs: 3 * DAY },
  { topic: TOPICS.telemetryRejected, partitions: 6, retentionMs: 7 * DAY },
  { topic: TOPICS.jobs, partitions: 12, retentionMs: 7 * DAY },
  { topic: deadLetter(TOPICS.events), partitions: 3, retentionMs: 30 * DAY },
  { topic: deadLetter(TOPICS.jobs), partitions: 3, retentionMs: 30 * DAY },
]
