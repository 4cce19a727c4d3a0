// `npm run tenant -- flora 'Flora Ltd' ana@flora.example 'Ana Flores'`: a tenant on trial with one organization, and its administrator invited by mail.

import { Value } from 'typebox/value'
import { assignRole } from '../domain/access/index.ts'
import { inviteUser, requireEmail } from '../domain/identity/index.ts'
import { Failure, failure, newId } from '../domain/kernel/index.ts'
import { checkNames, createTenant, Slug } from '../domain/tenancy/index.ts'
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
  checkNames({ slug, name, person })
  if (!Value.Check(Slug, slug))
    throw failure('invalid_value', {
      path: '/slug',
      rule: 'pattern',
      message: 'is small letters, digits and single hyphens, 3 to 40 of them',
    })
  const organizations = [{ code: 'main', name, workspaces: [] }]
  const administrator = { email: requireEmail(email), name: person }
  // One transaction: a tenant without its administrator would be there for nobody.
  await createTenant(control, { slug, name, terms: 'trial', plan: 'professional', organizations }, newId(), async (tx, made) => {
    const { id } = await inviteUser(tx, administrator)
    await assignRole(tx, id, made.roles.admin)
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
