// A worker for imports and exports in a process of its own, which a test kills: its argument is configuration that differs.
import { startWorkers } from '../../server/workers.ts'
import { quietLog, testRuntime } from './services.ts'

const runtime = await testRuntime(JSON.parse(process.argv[2]!) as Record<string, string>)
await startWorkers(runtime, quietLog, ['exchange'])
