// Brings every database, the job queues and the topics to what this code needs. Safe to run again.

import { migrateJobs } from '../workers/jobs.ts'
import { createTopics } from '../workers/kafka.ts'
import { topicDeclarations } from '../workers/topics.ts'
import { migrateAll } from './migrations.ts'
import { kafkaOptions } from './runtime.ts'
import { configOrExit, targetsOf } from './start.ts'

const config = configOrExit()
const results = await migrateAll(targetsOf(config))
for (const { target, applied, error } of results) {
  process.stdout.write(`${target}: ${error ? `FAILED ${error}` : applied.length === 0 ? 'up to date' : `applied ${applied.join(', ')}`}\n`)
}
let failed = results.some((result) => result.error)
const step = async (name: string, work: () => Promise<void>) => {
  try {
    await work()
    process.stdout.write(`${name}: up to date\n`)
  } catch (error) {
    failed = true
    process.stdout.write(`${name}: FAILED ${(error as Error).message}\n`)
  }
}
if (!results.find((result) => result.target === 'control')?.error) await step('job queues', () => migrateJobs(config.CONTROL_DATABASE_URL))
await step('topics', () => createTopics(kafkaOptions(config), topicDeclarations, config.KAFKA_REPLICATION))
process.exit(failed ? 1 : 0)
