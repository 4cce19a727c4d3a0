// Where a tenant's rows live.
import { setTimeout as wait } from 'node:timers/promises'
import { type Database, Failure, failure, OpenPools } from '../kernel/index.ts'
import type { TenantDirectory } from './directory.ts'
import type { Tenant } from './tenant.ts'

export type Plane = 'control' | 'data' | 'telemetry'

/** Every database that this process may use, by plane and catalog key. */
export interface Planes {
  control: Database
  data: ReadonlyMap<string, Database>
  telemetry: ReadonlyMap<string, Database>
  /** Databases that belong to one tenant each, on the servers of the data plane. */
  own: OwnDatabases
  /** How many migrations of the data plane this code needs: a schema or database that has fewer is not served. */
  dataVersion: number
}

/** Each database of the catalogs with its name: `control`, `data:main` … */
export const namedDatabases = ({ control, data, telemetry }: Planes): [name: string, database: Database][] => [
  ['control', control],
  ...[...data].map(([key, database]): [string, Database] => [`data:${key}`, database]),
  ...[...telemetry].map(([key, database]): [string, Database] => [`telemetry:${key}`, database]),
]

/** What of a tenant says where its rows are. */
export type Home = Pick<Tenant, 'mode' | 'catalog_key' | 'telemetry_key' | 'schema_name' | 'database_name' | 'state' | 'migration_version'>

/** Whether a tenant's home is there; while it moves it works on in the old one. */
export const isServed = ({ state }: Pick<Home, 'state'>): boolean => state === 'ready' || state === 'moving'

/** The database of a tenant's plane. Refuses with `tenant_migrating` while the tenant is not ready there, or behind this code. */
export function databaseOf(planes: Planes, plane: Plane, tenant: Home): Database {
  if (plane === 'control') return planes.control
  if (!isServed(tenant)) throw failure('tenant_migrating')
  if (plane === 'data' && tenant.mode !== 'shared' && tenant.migration_version < planes.dataVersion) throw failure('tenant_migrating')
  return homeOf(planes, plane, tenant)
}

/** How long a writer waits for a tenant that is just being switched, and how often he looks. */
const SWITCH_PATIENCE_MS = 3_000
const LOOK_MS = 20

/**
 * Writes where a tenant lives. A write that meets the moment in which the tenant is switched to another place is done
 * there as soon as that is over; it was not done before, because a unit of work is done whole or not at all. Throws
 * `tenant_migrating` when it takes too long, or while the tenant is behind this code.
 */
export async function writeAtHome<T>(
  planes: Planes,
  tenants: TenantDirectory,
  plane: Plane,
  tenant: Tenant,
  write: (database: Database, tenant: Tenant) => Promise<T>,
): Promise<T> {
  const until = Date.now() + SWITCH_PATIENCE_MS
  for (let home = tenant; ; ) {
    try {
      if (plane === 'data' && !home.writable) throw failure('tenant_migrating')
      return await write(databaseOf(planes, plane, home), home)
    } catch (error) {
      if (!(error instanceof Failure && error.detail === 'tenant_migrating') || home.state !== 'moving' || Date.now() > until) throw error
    }
    await wait(LOOK_MS)
    home = (await tenants.byId(tenant.id)) ?? home
  }
}

/** The same without asking whether it is ready: for whoever makes it so. Throws `database_unavailable` for a key that is not in the catalog. */
export function homeOf(
  planes: Planes,
  plane: 'data' | 'telemetry',
  { mode, catalog_key, telemetry_key, schema_name, database_name }: Home,
): Database {
  const catalog = plane === 'data' ? planes.data.get(catalog_key) : planes.telemetry.get(telemetry_key)
  if (!catalog) throw failure('database_unavailable')
  // Readings lie together in every mode: their tables are partitioned by time, and a thousand tenants' own would be a thousand times as many.
  if (plane === 'telemetry' || mode === 'shared') return catalog
  return mode === 'schema' ? catalog.inSchema(schema_name!) : planes.own.get(catalog_key, database_name!)
}

/**
 * Tenants' own databases, made known at their first use. Many tenants must not mean as many connections: each pool is
 * small, and only so many of them are open at once.
 */
export class OwnDatabases {
  readonly #make: (catalogKey: string, name: string, open: OpenPools) => Database
  readonly #open: OpenPools
  readonly #databases = new Map<string, Database>()

  /** @param max pools that are open at once */
  constructor(make: (catalogKey: string, name: string, open: OpenPools) => Database, max: number) {
    this.#make = make
    this.#open = new OpenPools(max)
  }

  get(catalogKey: string, name: string): Database {
    const key = `${catalogKey}/${name}`
    const database = this.#databases.get(key) ?? this.#make(catalogKey, name, this.#open)
    this.#databases.set(key, database)
    return database
  }

  /** Forgets one that is moved or dropped. */
  async close(catalogKey: string, name: string): Promise<void> {
    const key = `${catalogKey}/${name}`
    const database = this.#databases.get(key)
    this.#databases.delete(key)
    await database?.close()
  }

  async closeAll(): Promise<void> {
    const all = [...this.#databases.values()]
    this.#databases.clear()
    await Promise.allSettled(all.map((database) => database.close()))
  }
}
