// What a worker is asked for, and in whose name: what it makes is made by who asked.
import type { ActorKind, Id, Tx } from '../../kernel/index.ts'

/** What is in a job beside what it is about. */
export interface AskedBy {
  organization_id: Id | null
  workspace_id: Id | null
  user_id: Id | null
  kind: ActorKind
}

/** Asks for work on a record, once the transaction has committed. */
export function askWorker(tx: Tx, job: 'data-import' | 'data-export', { id, version }: { id: string; version: number }): void {
  const { organizationId: organization_id, workspaceId: workspace_id } = tx.context
  const by: AskedBy = { organization_id, workspace_id, user_id: tx.actor.userId, kind: tx.actor.kind }
  tx.emit({ type: `job.${job}`, entity_id: id, version, data: { ...by } })
}
