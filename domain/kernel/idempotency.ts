// The same POST twice has one effect and one answer.
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { Tx } from './context.ts'
import { failure } from './errors.ts'
import { type Fragment, prepared, sql } from './sql.ts'

/** A unit of work that happens once for its key, owner and tenant. */
export interface Once {
  key: string
  fingerprint: string
  /** The owner of the key, as a UUID: a user, an API key or a member of staff, each in a scope. */
  owner: string
  /** Told when the answer is an earlier one. */
  onReplay(): void
}

const Kept = Type.Object({ fingerprint: Type.String(), answer: Type.Unknown() }, { additionalProperties: false })
const Made = Type.Object({ key: Type.String() }, { additionalProperties: false })

/** What makes two requests the same: method, path and body. */
export const fingerprintOf = (method: string, url: string, body: unknown): string =>
  createHash('sha256')
    .update(`${method} ${url}\n${JSON.stringify(body) ?? ''}`)
    .digest('hex')

/** The owner of idempotency keys: the same text names the same owner. */
export function ownerOf(...parts: (string | null | undefined)[]): string {
  const hex = createHash('sha256').update(JSON.stringify(parts)).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/**
 * Claims the key before the effect, in its transaction: the primary key makes a second request wait until the first has
 * committed (then it gets the first one's answer) or failed (then it is the first). Null means: go ahead. Another body
 * under the key is `idempotency_key_reused`. `settings` are evaluated in the same statement.
 */
export async function claim(tx: Tx, { key, fingerprint, owner, onReplay }: Once, settings: Fragment): Promise<{ answer: unknown } | null> {
  const mine = await tx.maybeOne(
    prepared(sql.type(Made)`
    insert into plane.idempotency_keys as k (tenant_id, actor_id, key, fingerprint, created_at)
    select ${tx.tenantId}::uuid, ${owner}::uuid, ${key}, decode(${fingerprint}, 'hex'), ${tx.now.toISOString()}::timestamptz
    from (select ${settings}) as bound
    on conflict (tenant_id, actor_id, key) do update set fingerprint = excluded.fingerprint, answer = null, created_at = excluded.created_at
      where k.created_at < excluded.created_at - interval '24 hours'
    returning key`),
  )
  if (mine) return null
  const kept = await tx.one(sql.prepared(Kept)`
    select encode(fingerprint, 'hex') as fingerprint, answer from plane.idempotency_keys
    where tenant_id = ${tx.tenantId} and actor_id = ${owner} and key = ${key}`)
  if (kept.fingerprint !== fingerprint) throw failure('idempotency_key_reused', { key })
  onReplay()
  return { answer: kept.answer }
}

/** The statement that keeps the answer, to be run with the effect: a crash after the commit loses nothing. */
export const keepAnswer = (tx: Tx, { key, owner }: Once, answer: unknown): Fragment => sql.fragment`
  update plane.idempotency_keys set answer = ${JSON.stringify(answer ?? null)}::jsonb
  where tenant_id = ${tx.tenantId} and actor_id = ${owner} and key = ${key}`
