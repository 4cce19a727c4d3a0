// Brings everything to this code: the control plane, the catalogs, then every tenant's own schema or database.
import { Pool } from 'pg'
import type { Home } from '../domain/tenancy/index.ts'
import type { Config } from './config.ts'
import { dataVersion, inParallel, type MigrationResult, type MigrationTarget, migrate, pendingOf } from './migrations.ts'
import { targetsOf } from './start.ts'
import { targetOf } from './storage.ts'

/** A target, and the tenant whose it alone is. */
type Task = MigrationTarget & { tenantId?: string }

export interface MigrateOptions {
  /** Targets at once. Each holds one connection. */
  concurrency?: number
  /** Says what would be applied and applies nothing. */
  dryRun?: boolean
  progress?: (done: number, total: number, failed: number) => void
}

/**
 * Migrates all targets. One that fails is reported, and its tenant is not served until it is mended (`tenant_migrating`);
 * no other is concerned. How far each is stands in `platform_migrations`; a run that was stopped is taken up by the next.
 */
export async function migrateEverything(
  config: Config,
  { concurrency = 8, dryRun = false, progress = () => {} }: MigrateOptions = {},
): Promise<MigrationResult[]> {
  const one = dryRun ? pendingOf : migrate
  const [control, ...catalogs] = targetsOf(config)
  const first = await one(control!)
  // Without its own tables the control plane knows no tenants and can note nothing.
  if (first.error) return [first]
  const notes = new Pool({ connectionString: config.CONTROL_DATABASE_URL, application_name: 'tenantry-migrate', max: 2 })
  try {
    const known = await notes.query<{ made: boolean }>(`select to_regclass('platform_migrations') is not null as made`)
    const noting = known.rows[0]!.made && !dryRun
    await note(notes, noting, control!, first)
    const results = [first]
    const run = (tasks: readonly Task[]) =>
      inParallel(tasks, concurrency, async (task) => {
        if (noting) await begin(notes, task)
        const result = await one(task)
        await note(notes, noting, task, result)
        results.push(result)
        progress(results.length, total, results.filter(({ error }) => error).length)
      })
    const homes = known.rows[0]!.made ? await homesOf(notes, config.DATA_OWNER_CATALOG ?? config.DATA_CATALOG) : []
    const total = 1 + catalogs.length + homes.length
    await run(catalogs)
    await run(homes)
    return results
  } finally {
    await notes.end()
  }
}

/** Every schema and database that belongs to one tenant, those first that are furthest behind. */
async function homesOf(control: Pool, owners: Readonly<Record<string, string>>): Promise<Task[]> {
  const { rows } = await control.query<Home & { tenant_id: string; slug: string }>(`
    select p.tenant_id, t.slug, p.mode, p.catalog_key, p.telemetry_key, p.schema_name, p.database_name, p.state, p.migration_version
    from tenant_connection_profiles p join tenants t on t.id = p.tenant_id
    where p.mode <> 'shared' and p.state in ('ready', 'moving') order by p.migration_version, p.tenant_id`)
  return rows
    .filter(({ catalog_key }) => owners[catalog_key])
    .map((home) => ({ ...targetOf(owners, home, `tenant:${home.slug}`), tenantId: home.tenant_id }))
}

const begin = (notes: Pool, { name, plane, tenantId }: Task) =>
  notes.query(
    `insert into platform_migrations (target, plane, tenant_id, state) values ($1, $2, $3, 'running')
     on conflict (target) do update set state = 'running', tenant_id = excluded.tenant_id, error = null, started_at = now(), finished_at = null`,
    [name, plane, tenantId ?? null],
  )

/** So many migrations have the homes that a run has brought up to this code. */
const VERSION = dataVersion()

async function note(notes: Pool, noting: boolean, { name, plane, tenantId }: Task, { applied, error }: MigrationResult): Promise<void> {
  if (!noting) return
  await notes.query(
    `insert into platform_migrations (target, plane, tenant_id, state, applied, error, finished_at) values ($1, $2, $3, $4, $5, $6, now())
     on conflict (target) do update set state = excluded.state, error = excluded.error, finished_at = excluded.finished_at,
       applied = case when cardinality(excluded.applied) > 0 then excluded.applied else platform_migrations.applied end`,
    [name, plane, tenantId ?? null, error ? 'failed' : 'done', applied, error ?? null],
  )
  if (tenantId && !error) {
    await notes.query(
      `update tenant_connection_profiles set migration_version = $2, version = version + 1, updated_at = now() where tenant_id = $1 and migration_version <> $2`,
      [tenantId, VERSION],
    )
  }
}
