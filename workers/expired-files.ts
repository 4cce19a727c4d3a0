// Removes files whose time is over: those of exports, some days after they were written.
import { expiredFiles, type FileKeeper, noteExpired } from '../domain/files/index.ts'
import { newId, systemScope } from '../domain/kernel/index.ts'
import { databaseOf, type Planes, type Tenant, type TenantDirectory, writeAtHome } from '../domain/tenancy/index.ts'
import type { WorkerLog } from './log.ts'

export interface ExpiryDependencies {
  planes: Planes
  tenants: TenantDirectory
  files: FileKeeper
  log: WorkerLog
}

/** Files that are looked up at once. */
const BATCH = 500

/**
 * Removes the expired files of these tenants, one tenant after the other; a failure stops no other tenant, and the rest is
 * done in the next run. Bytes go first, the row after them: a run that stops in between is taken up by the next one, and
 * no expired file is served meanwhile, because every read looks at `expires_at`. A download that has begun keeps
 * its open file.
 */
export async function removeExpiredFiles(deps: ExpiryDependencies, tenants: readonly Tenant[]): Promise<void> {
  for (const tenant of tenants) {
    await removeOf(deps, tenant).catch((error) =>
      deps.log.warn({ err: error, tenant_id: tenant.id }, 'expired files not removed, it is tried again in an hour'),
    )
  }
}

async function removeOf({ planes, tenants, files }: ExpiryDependencies, tenant: Tenant): Promise<void> {
  const scope = systemScope(tenant.id, 'expired files', newId())
  for (;;) {
    const ids = await databaseOf(planes, 'data', tenant).read(scope, (tx) => expiredFiles(tx, BATCH))
    for (const id of ids) {
      await files.remove(tenant.id, id)
      await writeAtHome(planes, tenants, 'data', tenant, (database) => database.write(scope, (tx) => noteExpired(tx, id)))
    }
    if (ids.length < BATCH) return
  }
}
