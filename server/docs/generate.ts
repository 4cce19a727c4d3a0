// `npm run docs` writes the reference pages; `npm run docs -- --check` fails where they differ.
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { newSigningKey } from '../../domain/identity/index.ts'
import { buildApp } from '../app.ts'
import { readConfig } from '../config.ts'
import { prepareServer, startPostgres } from '../embedded/postgres.ts'
import { createLog } from '../log.ts'
import { migrateAll } from '../migrations.ts'
import { createRuntime } from '../runtime.ts'
import { targetsOf } from '../start.ts'
import { configurationPage, erdPage, errorsPage, eventsPage, permissionsPage, planeSection } from './pages.ts'

const docs = path.join(import.meta.dirname, '..', '..', 'docs')
const check = process.argv.includes('--check')
const work = mkdtempSync(path.join(tmpdir(), 'tenantry-docs-'))
chmodSync(work, 0o755)

const postgres = await startPostgres(path.join(work, 'postgres'), { fast: true })
let different: string[] = []
try {
  const names = { control: 'docs_control', data: 'docs_data', telemetry: 'docs_telemetry' }
  await prepareServer(postgres.url('postgres'), Object.values(names))
  const config = readConfig({
    NODE_ENV: 'test',
    BASE_DOMAIN: 'localhost',
    LOG_LEVEL: 'silent',
    KAFKA_BROKERS: '127.0.0.1:1',
    MASTER_KEY: Buffer.alloc(32, 1).toString('base64'),
    JWT_KEYS: JSON.stringify([newSigningKey()]),
    CONTROL_DATABASE_URL: postgres.url(names.control),
    DATA_CATALOG: JSON.stringify({ main: postgres.url(names.data) }),
    TELEMETRY_CATALOG: JSON.stringify({ main: postgres.url(names.telemetry) }),
  })
  for (const { target, error } of await migrateAll(targetsOf(config))) if (error) throw new Error(`${target}: ${error}`)
  const log = createLog('docs', 'silent')
  const runtime = await createRuntime(config, log)
  const app = await buildApp(runtime.services, log)
  await app.ready()
  const sections = [
    await planeSection('Control plane', postgres.url(names.control)),
    await planeSection('Data plane', postgres.url(names.data)),
    await planeSection('Telemetry plane', postgres.url(names.telemetry)),
  ]
  const pages: Record<string, string> = {
    'errors.md': errorsPage(),
    'configuration.md': configurationPage(),
    'permissions.md': permissionsPage(app),
    'events.md': eventsPage(),
    'erd.md': erdPage(sections),
  }
  await app.close()
  await runtime.close()
  for (const [name, text] of Object.entries(pages)) {
    const file = path.join(docs, name)
    if (check) {
      if (!existsSync(file) || readFileSync(file, 'utf8') !== text) different = [...different, name]
    } else writeFileSync(file, text)
  }
} finally {
  await postgres.stop()
  rmSync(work, { recursive: true, force: true })
}
if (different.length > 0) process.stderr.write(`docs/${different.join(', docs/')} differ from the code: run npm run docs and commit.\n`)
else process.stdout.write(check ? 'generated pages are up to date\n' : 'generated pages are written\n')
process.exit(different.length > 0 ? 1 : 0)
