// The worker process: `npm run worker -- --only=events,telemetry`.
import { collectDefaultMetrics } from 'prom-client'
import { folderProblems } from './files.ts'
import { onStop } from './lifetime.ts'
import { createLog } from './log.ts'
import { serveMetrics } from './metrics-server.ts'
import { createRuntime } from './runtime.ts'
import { SafetyCheck } from './safety.ts'
import { configOrExit, explainListenError, refuseToStart } from './start.ts'
import { startWorkers, WORKERS, type WorkerName } from './workers.ts'

const only = process.argv
  .find((argument) => argument.startsWith('--only='))
  ?.slice(7)
  .split(',') ?? [...WORKERS]
const unknown = only.filter((name) => !WORKERS.includes(name as WorkerName))
if (unknown.length > 0) {
  process.stderr.write(`There is no worker ${unknown.join(', ')}: choose of ${WORKERS.join(', ')}.\n`)
  process.exit(1)
}
const config = configOrExit()
const log = createLog('worker', config.LOG_LEVEL)
const unwritable = only.includes('exchange') || only.includes('jobs') ? await folderProblems(config) : []
if (unwritable.length > 0) refuseToStart(unwritable)
const safety = new SafetyCheck(config, log, refuseToStart)
await safety.start()
// Jobs and locks live on the control plane: nothing begins before it was found safe.
await safety.untilPassed(config.CONTROL_DATABASE_URL)
const runtime = await createRuntime(config, log, [], safety)
const workers = await startWorkers(runtime, log, only as WorkerName[])
collectDefaultMetrics({ register: workers.metrics })
const metrics = await serveMetrics(workers.metrics, config, config.WORKER_METRICS_PORT).catch((error) =>
  explainListenError(error, config.WORKER_METRICS_PORT, 'WORKER_METRICS_PORT'),
)
const { port: metricsPort } = metrics.address() as { port: number }
log.root.info({ workers: only, metrics_port: metricsPort }, 'working')
onStop(
  log,
  [async () => safety.stop(), () => workers.stop(), async () => metrics.close(), () => runtime.close()],
  config.STOP_DEADLINE_SECONDS,
)
