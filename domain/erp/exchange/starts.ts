// A job that ends the process it runs in would be given to one worker after the other: its starts are counted.
import { Type } from 'typebox'
import { sql, type Tx } from '../../kernel/index.ts'
import { noteExported } from './export.ts'
import { settleImport } from './import.ts'

/** How often a job may begin without an orderly end. */
export const MAX_STARTS = 3

const TABLES = { 'data-import': 'erp_import', 'data-export': 'erp_export' } as const
export type ExchangeJob = keyof typeof TABLES
const Starts = Type.Object({ starts: Type.Integer() }, { additionalProperties: false })
const atWork = sql.fragment`status in ('reading', 'applying', 'queued')`

/**
 * Counts a start of a job, in a transaction of its own that commits before the work begins, so that the end of the process
 * cannot undo it. The row's lock makes each of several workers count. False when the job was set aside: it has begun
 * `MAX_STARTS` times without an orderly end and is `failed` now, with the reason and an event. Jobs that are done already
 * are not counted.
 */
export async function countStart(tx: Tx, job: ExchangeJob, id: string): Promise<boolean> {
  const counted = await tx.maybeOne(sql.prepared(Starts)`
    update ${sql.identifier([TABLES[job]])} set starts = starts + 1
    where tenant_id = ${tx.tenantId} and id = ${id} and ${atWork} returning starts`)
  if (!counted || counted.starts <= MAX_STARTS) return true
  const failure = {
    detail: 'processing_aborted',
    message: `Processing was started ${MAX_STARTS} times and never came to an end. Nothing was taken. Use a smaller file, or ask for help.`,
    details: { starts: MAX_STARTS },
  }
  if (job === 'data-import') await settleImport(tx, id, 'fail', { failure })
  else await noteExported(tx, id, { failure })
  return false
}

/** Takes a start back: the worker stopped in order, and the job goes on in another one. */
export async function withdrawStart(tx: Tx, job: ExchangeJob, id: string): Promise<void> {
  await tx.query(sql.run`
    update ${sql.identifier([TABLES[job]])} set starts = greatest(starts - 1, 0)
    where tenant_id = ${tx.tenantId} and id = ${id} and ${atWork}`)
}
