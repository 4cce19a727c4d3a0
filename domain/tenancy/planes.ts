// Where a tenant's rows live.
import { type Database, failure } from '../kernel/index.ts'
import type { Tenant } from './tenant.ts'

export type Plane = 'control' | 'data' | 'telemetry'

/** Every database that this process may use, by plane and catalog key. */
export interface Planes {
  control: Database
  data: ReadonlyMap<string, Database>
  telemetry: ReadonlyMap<string, Database>
}

/** Each database with its name: `control`, `data:main` … */
export const namedDatabases = ({ control, data, telemetry }: Planes): [name: string, database: Database][] => [
  ['control', control],
  ...[...data].map(([key, database]): [string, Database] => [`data:${key}`, database]),
  ...[...telemetry].map(([key, database]): [string, Database] => [`telemetry:${key}`, database]),
]

/** The database of a tenant's plane. Refuses with `tenant_migrating` while the tenant is not ready there. */
export function databaseOf(planes: Planes, plane: Plane, tenant: Tenant): Database {
  if (plane === 'control') return planes.control
  if (tenant.state !== 'ready') throw failure('tenant_migrating')
  const database = plane === 'data' ? planes.data.get(tenant.catalog_key) : planes.telemetry.get(tenant.telemetry_key)
  if (!database) throw failure('database_unavailable')
  return database
}
