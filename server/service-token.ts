// `npm run service-token -- monitor`: a token for /internal, good for five minutes.
import { serviceToken } from '../domain/identity/index.ts'
import { createLog } from './log.ts'
import { createRuntime } from './runtime.ts'
import { configOrExit } from './start.ts'

const [service] = process.argv.slice(2)
if (!service || !/^[a-z][a-z0-9-]{0,62}$/.test(service)) {
  process.stderr.write('For whom? npm run service-token -- monitor\n')
  process.exit(1)
}
const runtime = await createRuntime(configOrExit(), createLog('service-token', 'error'))
process.stdout.write(`${await serviceToken(runtime.services.keys, service)}\n`)
await runtime.close()
process.exit(0)
