// Makes and drops tenants' own schemas and databases, as the owner of the servers.
import { Client } from 'pg'
import { failure } from '../domain/kernel/index.ts'
import type { Place, Storage } from '../domain/tenancy/index.ts'
import { dataVersion, type MigrationTarget, migrate } from './migrations.ts'

/** The URL of another database on the same server. */
export const onServer = (url: string, database: string): string => Object.assign(new URL(url), { pathname: `/${database}` }).href

/** The migration target of a tenant's own home. */
export const targetOf = (owners: Readonly<Record<string, string>>, home: Place, name: string): MigrationTarget => {
  const url = owners[home.catalog_key]
  if (!url) throw failure('database_unavailable')
  return home.mode === 'schema'
    ? { name, plane: 'data', url, schema: home.schema_name! }
    : { name, plane: 'data', url: onServer(url, home.database_name!) }
}

async function connect(url: string | undefined): Promise<Client> {
  if (!url) throw failure('database_unavailable')
  const client = new Client({ connectionString: url, application_name: 'tenantry-storage', connectionTimeoutMillis: 5_000 })
  client.on('error', () => {}) // a lost connection: the next statement says so
  await client.connect()
  return client
}

async function asOwner<T>(url: string | undefined, work: (client: Client) => Promise<T>): Promise<T> {
  const client = await connect(url)
  try {
    return await work(client)
  } finally {
    await client.end().catch(() => {})
  }
}

/** @param owners catalog key → URL of a role that may create schemas and databases */
export const ownedStorage = (owners: Readonly<Record<string, string>>): Storage => ({
  make: async (home) => {
    if (home.mode === 'shared') return 0
    if (home.mode === 'database') {
      await asOwner(owners[home.catalog_key], async (client) => {
        const { rowCount } = await client.query('select from pg_database where datname = $1', [home.database_name])
        if (rowCount === 0) {
          await client
            .query(`create database ${client.escapeIdentifier(home.database_name!)} template template0 encoding 'UTF8'`)
            .catch((error: { code?: string }) => {
              if (error.code !== '42P04' && error.code !== '23505') throw error // another made it meanwhile
            })
        }
      })
    }
    const { error } = await migrate(targetOf(owners, home, 'home'))
    if (error) throw new Error(error)
    return dataVersion()
  },
  connect: async (place) => connect(place.mode === 'database' ? targetOf(owners, place, '').url : owners[place.catalog_key]),
  drop: (home) =>
    asOwner(owners[home.catalog_key], async (client) => {
      if (home.mode === 'schema') await client.query(`drop schema if exists ${client.escapeIdentifier(home.schema_name!)} cascade`)
      if (home.mode === 'database')
        await client.query(`drop database if exists ${client.escapeIdentifier(home.database_name!)} with (force)`)
    }),
})
