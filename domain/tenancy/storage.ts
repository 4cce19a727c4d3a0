// The schema or database that a tenant has to itself.
import type { Client } from 'pg'
import { type Database, failure, sql, systemScope } from '../kernel/index.ts'
import type { Home } from './planes.ts'
import { type Tenant, tenantOf } from './tenant.ts'

/** Makes and removes what holds a tenant's rows. It takes rights that nothing that serves requests has. */
export interface Storage {
  /** Makes the schema or database, or brings it to this code; returns how many migrations it has. Doing it again changes nothing. */
  make(place: Place): Promise<number>
  drop(place: Place): Promise<void>
  /** A connection to the database of a place, as the owner of its tables; whoever asks for it ends it. */
  connect(place: Place): Promise<Client>
}

export type Place = Pick<Home, 'mode' | 'catalog_key' | 'schema_name' | 'database_name'>

/** Where a tenant will be: its schema or database is named by its id, which no change of name touches. */
export function placeFor(tenantId: string, mode: Tenant['mode'], catalogKey: string): Place {
  const name = `t_${tenantId.replaceAll('-', '')}`
  return {
    mode,
    catalog_key: catalogKey,
    schema_name: mode === 'schema' ? name : null,
    database_name: mode === 'database' ? `tenantry_${name}` : null,
  }
}

/** Whose a database is, by its name; null for one that is no tenant's. */
export function tenantIdOf(databaseName: string): string | null {
  const parts = databaseName.match(/^tenantry_t_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/)
  return parts?.slice(1).join('-') ?? null
}

/** Makes a tenant's home and says so: from then on it is served. Doing it again changes nothing. */
export async function makeHome(control: Database, storage: Storage, tenantId: string): Promise<void> {
  const scope = systemScope(tenantId, 'provisioning', '')
  const tenant = await control.read(scope, tenantOf)
  const version = tenant.mode === 'shared' ? 0 : await storage.make(tenant)
  await control.write(scope, async (tx) => {
    const { rowCount } = await tx.query(sql.run`
      update tenant_connection_profiles set state = 'ready', migration_version = ${version}, version = version + 1, updated_at = ${tx.now.toISOString()}
      where tenant_id = ${tx.tenantId} and catalog_key = ${tenant.catalog_key} and mode = ${tenant.mode}`)
    if (rowCount === 0) throw failure('version_conflict') // moved meanwhile
  })
}
