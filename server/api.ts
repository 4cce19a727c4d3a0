// The API process.
import { buildApp } from './app.ts'
import { folderProblems } from './files.ts'
import { onStop } from './lifetime.ts'
import { createLog } from './log.ts'
import { serveMetrics } from './metrics-server.ts'
import { createRuntime } from './runtime.ts'
import { SafetyCheck } from './safety.ts'
import { configOrExit, explainListenError, refuseToStart } from './start.ts'

const config = configOrExit()
const log = createLog('api', config.LOG_LEVEL)
const unwritable = await folderProblems(config)
if (unwritable.length > 0) refuseToStart(unwritable)
const safety = new SafetyCheck(config, log, refuseToStart)
await safety.start()
const runtime = await createRuntime(config, log, [], safety)
const app = await buildApp(runtime.services, log)
const metrics = await serveMetrics(app.metrics, config, config.METRICS_PORT).catch((error) =>
  explainListenError(error, config.METRICS_PORT, 'METRICS_PORT'),
)
await app.listen({ host: config.HOST, port: config.PORT }).catch((error) => explainListenError(error, config.PORT, 'PORT'))
log.root.info({ port: config.PORT }, 'listening')
onStop(
  log,
  [async () => safety.stop(), () => app.close(), async () => metrics.close(), () => runtime.close()],
  config.STOP_DEADLINE_SECONDS,
)
