// `npm run tenant -- flora 'Flora Ltd' ana@flora.example 'Ana Flores'`: a tenant on trial with one organization, and its administrator invited by mail.
import { assignRole } from '../domain/access/index.ts'
import { inviteUser } from '../domain/identity/index.ts'
import { Failure, newId, systemScope } from '../domain/kernel/index.ts'
import { createTenant } from '../domain/tenancy/index.ts'
import { createLog } from './log.ts'
import { createRuntime } from './runtime.ts'
import { configOrExit } from './start.ts'

const [slug, name, email, person = email] = process.argv.slice(2)
if (!slug || !name || !email || !person) {
  process.stderr.write("Which tenant? npm run tenant -- flora 'Flora Ltd' ana@flora.example 'Ana Flores'\n")
  process.exit(1)
}
const config = configOrExit()
const runtime = await createRuntime(config, createLog('tenant', 'error'))
const { control } = runtime.services.planes
try {
  const organizations = [{ code: 'main', name, workspaces: [] }]
  const made = await createTenant(control, { slug, name, terms: 'trial', plan: 'professional', organizations }, newId())
  await control.write(systemScope(made.id, 'tenant command', newId()), async (tx) => {
    const administrator = await inviteUser(tx, { email, name: person })
    await assignRole(tx, administrator.id, made.roles.admin)
  })
  process.stdout.write(`${slug}.${config.BASE_DOMAIN} is there; ${email} is invited by mail.\n`)
} catch (error) {
  if (!(error instanceof Failure)) throw error
  process.stderr.write(`${error.message} ${JSON.stringify(error.details)}\n`)
  process.exitCode = 1
} finally {
  await runtime.close()
}
process.exit()
