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
  hasOrganization,
  isDone,
  makeHome,
  markStep,
  offerPlan,
  STEPS,
  type Step,
  type Storage,
  seedRoles,
  tenantOf,
} from '../domain/tenancy/index.ts'

/** What each step does in its own transaction. `storage` comes before: it works in another database, and may be done twice. */
const EFFECTS: Record<Exclude<Step, 'storage'>, (tx: Tx, applicant: Applicant) => Promise<unknown>> = {
  plan: (tx, { plan }) => offerPlan(tx, plan, 'trial'),
  roles: (tx) => seedRoles(tx),
  organization: async (tx, { name }) => {
    if (!(await hasOrganization(tx))) await createOrganization(tx, { code: 'main', name, workspaces: [] })
  },
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
  const { decision } = await control.read(scope, applicantOf)
  if (decision === 'rejected') return giveUp(control, storage, tenantId)
  for (const step of STEPS) {
    try {
      if (await control.read(scope, (tx) => isDone(tx, step))) continue
      if (step === 'storage') await makeHome(control, storage, tenantId)
      // Read with the tenant locked: staff may have corrected or withdrawn the approval meanwhile.
      await control.write(scope, (tx) =>
        doStep(tx, step, async () => {
          const applicant = await applicantOf(tx)
          if (applicant.decision === 'rejected') throw failure('invalid_transition', { status: 'rejected', transition: step })
          if (step !== 'storage') await EFFECTS[step](tx, applicant)
        }),
      )
    } catch (error) {
      await control.write(scope, (tx) => markStep(tx, step, 'failed', (error as Error).message.slice(0, 500))).catch(() => {})
      throw error
    }
  }
}

/** Removes the schema or database of a registration that was approved and rejected before it was open. */
async function giveUp(control: Database, storage: Storage, tenantId: string): Promise<void> {
  const scope = systemScope(tenantId, 'provisioning', newId())
  const [tenant, wasOpen] = await control.read(scope, async (tx) => [await tenantOf(tx), await isDone(tx, 'activation')] as const)
  if (tenant.status === 'closed' && !wasOpen && tenant.mode !== 'shared') await storage.drop(tenant)
}
