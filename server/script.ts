// `npm run script -- name [--execute] [--confirm-production=production] [flags]`: governed one-off work, recorded at start and end.
import { readdirSync } from 'node:fs'
import { userInfo } from 'node:os'
import path from 'node:path'
import { Type } from 'typebox'
import { Database, newId, type Queries, sql } from '../domain/kernel/index.ts'
import { Vault } from '../domain/tenancy/index.ts'
import type { Config } from './config.ts'
import type { Script } from './define-script.ts'
import { configOrExit } from './start.ts'

const folder = path.join(import.meta.dirname, 'scripts')
const MAX_ERROR = 2000
const TENANT = '--tenant='
const Found = Type.Object({ slug: Type.String() })

/** Ends a dry run's transaction. */
class DryRun extends Error {
  readonly affected: number
  constructor(affected: number) {
    super('dry run')
    this.affected = affected
  }
}

export interface RunOptions {
  execute: boolean
  flags: ReadonlySet<string>
  say: (text: string) => void
  progress: (done: number, total: number) => void
}

/** Throws for a flag that the script does not declare, and for a second --tenant. */
function checkFlags({ name, flags: declared = [] }: Script, flags: ReadonlySet<string>): void {
  const unknown = [...flags].filter((flag) => !declared.includes(flag.startsWith(TENANT) ? '--tenant=slug' : flag))
  if (unknown.length > 0)
    throw new Error(`${name} has no flag ${unknown.join(', ')}; it takes ${declared.length > 0 ? declared.join(', ') : 'none'}`)
  if ([...flags].filter((flag) => flag.startsWith(TENANT)).length > 1) throw new Error(`${TENANT} is given more than once`)
}

/** The tenant that --tenant names, or null. Throws when there is no such tenant. */
async function namedTenant(queries: Queries, flags: ReadonlySet<string>): Promise<string | null> {
  const slug = [...flags].find((flag) => flag.startsWith(TENANT))?.slice(TENANT.length)
  if (slug === undefined) return null
  const found = await queries.any(sql.type(Found)`select slug from tenants where slug = ${slug} and status <> 'closed'`)
  if (found.length === 0) throw new Error(`There is no tenant '${slug}'`)
  return slug
}

/**
 * Runs a script as the owner of the control plane. Its start and its end are recorded, whatever happens between; without
 * `execute` nothing else stays. Returns how many rows it changed, or would have. Throws for unknown flags and tenants.
 */
export async function runScript(script: Script, config: Config, { execute, flags, say, progress }: RunOptions): Promise<number> {
  checkFlags(script, flags)
  const control = new Database(config.CONTROL_DATABASE_URL, { max: 3, deadlineMs: 3_600_000 })
  const execution = newId()
  const note = (status: 'started' | 'succeeded' | 'failed', affected: number | null, error: string | null) =>
    control.platform((queries) =>
      queries.query(sql.run`
      insert into script_executions (id, script, environment, executor, dry_run, status, affected_rows, error, execution_id)
      values (${newId()}, ${script.name}, ${config.NODE_ENV}, ${userInfo().username}, ${!execute}, ${status}, ${affected}, ${error}, ${execution})`),
    )
  const run = async (queries: Queries) => {
    const tenant = await namedTenant(queries, flags)
    const context = { config, vault: new Vault(control, config.MASTER_KEY), flags, tenant, queries, now: new Date(), say, progress }
    const affected = await script.run(context)
    if (!execute) throw new DryRun(affected)
    return affected
  }
  try {
    await note('started', null, null)
    const affected = await control.platform(run).catch((error: unknown) => {
      if (error instanceof DryRun) return error.affected
      throw error
    })
    await note('succeeded', affected, null)
    return affected
  } catch (error) {
    await note('failed', null, String((error as Error).message).slice(0, MAX_ERROR)).catch(() => {})
    throw error
  } finally {
    await control.close()
  }
}

if (import.meta.main) {
  const [name, ...given] = process.argv.slice(2)
  const known = readdirSync(folder).map((file) => path.basename(file, '.ts'))
  const fail = (text: string): never => {
    process.stderr.write(`${text}\n`)
    process.exit(1)
  }
  if (!name || !known.includes(name)) fail(`Which script? There are: ${known.join(', ')}.`)
  const { default: script } = (await import(path.join(folder, `${name}.ts`))) as { default: Script }
  const config = configOrExit()
  const execute = given.includes('--execute')
  if (execute && config.NODE_ENV === 'production' && !given.includes('--confirm-production=production')) {
    fail('This is production: add --confirm-production=production to say that you know.')
  }
  const flags = new Set(given.filter((flag) => flag !== '--execute' && flag !== '--confirm-production=production'))
  process.stdout.write(`${script.name}: ${script.description}\n`)
  const affected = await runScript(script, config, {
    execute,
    flags,
    say: (text) => process.stdout.write(`${text}\n`),
    progress: (done, total) => process.stderr.write(`\r${done} of ${total}${done === total ? '\n' : ''}`),
  }).catch((error) => fail(`${script.name} failed, nothing was changed: ${error.message}`))
  process.stdout.write(execute ? `${affected} rows changed\n` : `Dry run: ${affected} rows would change. Add --execute to do it.\n`)
  process.exit(0)
}
