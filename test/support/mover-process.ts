// A worker that moves a tenant in a process of its own, and is killed before a step: its argument says what and where.
import { Database } from '../../domain/kernel/index.ts'
import { OwnDatabases } from '../../domain/tenancy/index.ts'
import { createLog } from '../../server/log.ts'
import { dataVersion } from '../../server/migrations.ts'
import { onServer, ownedStorage } from '../../server/storage.ts'
import { carryOut } from '../../workers/mover.ts'

export interface MoverOrder {
  controlUrl: string
  catalog: Record<string, string>
  owners: Record<string, string>
  tenantId: string
  moveId: string
  /** The step before which it dies. */
  dieAt: string
}

// What of a runtime moving takes, and no more: the tests start many of these.
const { controlUrl, catalog, owners, tenantId, moveId, dieAt } = JSON.parse(process.argv[2]!) as MoverOrder
const open = (url: string) => new Database(url, { max: 2 })
const planes = {
  control: open(controlUrl),
  data: new Map(Object.entries(catalog).map(([key, url]) => [key, open(url)])),
  telemetry: new Map<string, Database>(),
  own: new OwnDatabases((key, name) => open(onServer(catalog[key]!, name)), 4),
  dataVersion: dataVersion(),
}
const onStep = (step: string) => {
  if (step === dieAt) process.kill(process.pid, 'SIGKILL')
}
const log = createLog('test', 'silent').root
await carryOut({ planes, storage: ownedStorage(owners), controlUrl, log, onStep }, tenantId, moveId, new AbortController().signal)
process.exit(0)
