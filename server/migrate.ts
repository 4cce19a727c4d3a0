// `npm run migrate [-- --dry-run] [--concurrency=8]`: brings every database, the job queues and the topics to what this code needs. Safe to run again.

import { migrateJobs } from '../workers/jobs.ts'
import { createTopics } from '../workers/kafka.ts'
import { topicDeclarations } from '../workers/topics.ts'
import { migrateEverything } from './migrate-all.ts'
import { kafkaOptions } from './runtime.ts'
import { configOrExit } from './start.ts'

const config = configOrExit()
const dryRun = process.argv.includes('--dry-run')
const given = process.argv.find((argument) => argument.startsWith('--concurrency='))?.slice('--concurrency='.length)
const say = (text: string) => process.stdout.write(`${text}\n`)

const WIDTH = 40
/** A bar in a terminal; nothing where the output goes into a file. */
function progress(done: number, total: number, failed: number): void {
  if (!process.stderr.isTTY) return
  const filled = Math.round((WIDTH * done) / total)
  process.stderr.write(
    `\r[${'='.repeat(filled)}${' '.repeat(WIDTH - filled)}] ${done} of ${total}, ${failed} failed${done === total ? '\n' : ''}`,
  )
}

const results = await migrateEverything(config, { dryRun, concurrency: Number(given) || 8, progress })
for (const { target, applied, error } of results) {
  const done = applied.length === 0 ? 'up to date' : `${dryRun ? 'would apply' : 'applied'} ${applied.join(', ')}`
  say(`${target}: ${error ? `FAILED ${error}` : done}`)
}
const behind = results.filter(({ error }) => error)
if (behind.length > 0)
  say(`${behind.length} of ${results.length} failed: their tenants answer 503 tenant_migrating until this is mended and run again`)
let failed = behind.length > 0
const step = async (name: string, work: () => Promise<void>) => {
  try {
    await work()
    say(`${name}: up to date`)
  } catch (error) {
    failed = true
    say(`${name}: FAILED ${(error as Error).message}`)
  }
}
if (!dryRun) {
  if (!results.find(({ target }) => target === 'control')?.error) await step('job queues', () => migrateJobs(config.CONTROL_DATABASE_URL))
  await step('topics', () => createTopics(kafkaOptions(config), topicDeclarations, config.KAFKA_REPLICATION))
}
process.exit(failed ? 1 : 0)
