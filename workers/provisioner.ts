// Makes an approved tenant, step by step. Begun again it goes on where it stopped.
import { assignRole, roleIdOf } from '../domain/access/index.ts'
import { inviteUser } from '../domain/identity/index.ts'
import { type Database, failure, newId, systemScope, type Tx } from '../domain/kernel/index.ts'
import {
  type Applicant,
  activate,
  applicantOf,
  createOrganization,
  doStep,
  isDone,
  makeHome,
  markStep,
  offerPlan,
  STEPS,
  type Step,
  type Storage,
  seedRoles,
} from '../domain/tenancy/index.ts'

/** What each step does in its own transaction. `storage` comes before: it works in another database, and may be done twice. */
const EFFECTS: Record<Exclude<Step, 'storage'>, (tx: Tx, applicant: Applicant) => Promise<unknown>> = {
  plan: (tx, { plan }) => offerPlan(tx, plan, 'trial'),
  roles: (tx) => seedRoles(tx),
  organization: (tx, { name }) => createOrganization(tx, { code: 'main', name, workspaces: [] }),
  administrator: async (tx, { email, person }) => {
    if (!email) throw failure('not_found')
    const { id } = await inviteUser(tx, { email, name: person ?? email })
    await assignRole(tx, id, await roleIdOf(tx, 'admin'))
  },
  activation: (tx) => activate(tx),
}

/**
 * Makes a tenant that was approved. Each step is done once, whoever begins it however often; the one that fails says why
 * and is thrown, so that the job is tried again.
 */
export async function provision(control: Database, storage: Storage, tenantId: string): Promise<void> {
  const scope = systemScope(tenantId, 'provisioning', newId())
  const applicant = await control.read(scope, applicantOf)
  for (const step of STEPS) {
    try {
      if (await control.read(scope, (tx) => isDone(tx, step))) continue
      if (step === 'storage') await makeHome(control, storage, tenantId)
      await control.write(scope, (tx) => doStep(tx, step, async () => step !== 'storage' && EFFECTS[step](tx, applicant)))
    } catch (error) {
      await control.write(scope, (tx) => markStep(tx, step, 'failed', (error as Error).message.slice(0, 500))).catch(() => {})
      throw error
    }
  }
}
