// Takes up the move of a tenant, and goes on where whoever worked on it before was.
import { setTimeout as wait } from 'node:timers/promises'
import { Client } from 'pg'
import { Failure } from '../domain/kernel/index.ts'
import { type MoverDependencies, MoveWork } from './move/work.ts'

/** Advisory lock on the control plane: one worker a move. */
const MOVE_LOCK = 7266
const LOOK_MS = 250

/** Does what the state of a move asks for, until it has ended or waits for staff. Throws what a later try may mend. */
export async function carryOut(deps: MoverDependencies, tenantId: string, moveId: string, signal: AbortSignal): Promise<void> {
  const lock = await soleWorker(deps.controlUrl, moveId, signal)
  if (!lock) return
  try {
    const work = new MoveWork(deps, tenantId, moveId, signal)
    await work.begin()
    while (await work.next());
  } catch (error) {
    if (!(error instanceof Failure && error.detail === 'not_found')) throw error
    deps.log.warn({ tenant_id: tenantId, move_id: moveId }, 'there is no such move')
  } finally {
    await lock.end().catch(() => {})
  }
}

/** A connection whose end, however it comes, lets the next worker on. Null when told to stop before it was one's turn. */
async function soleWorker(controlUrl: string, moveId: string, signal: AbortSignal): Promise<Client | null> {
  const client = new Client({ connectionString: controlUrl, application_name: 'tenantry-mover', connectionTimeoutMillis: 5_000 })
  client.on('error', () => {})
  await client.connect()
  while (!signal.aborted) {
    const { rows } = await client.query<{ mine: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as mine', [MOVE_LOCK, moveId])
    if (rows[0]!.mine) return client
    await wait(LOOK_MS)
  }
  await client.end()
  return null
}
