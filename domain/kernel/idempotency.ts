// The same POST twice has one effect and one answer.
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import type { Around } from './database.ts'
import { failure } from './errors.ts'
import { prepared, sql } from './sql.ts'

const Kept = Type.Object({ fingerprint: Type.String(), answer: Type.Unknown() }, { additionalProperties: false })
const Made = Type.Object({ key: Type.String() }, { additionalProperties: false })

/** What makes two requests the same: method, path and body. */
export const fingerprintOf = (method: string, url: string, body: unknown): string =>
  createHash('sha256')
    .update(`${method} ${url}\n${JSON.stringify(body) ?? ''}`)
    .digest('hex')

/**
 * Runs an effect once for a key. The key's row is inserted first: the primary key makes a second request wait until the
 * first has committed (then it gets the first one's answer) or failed (then it is the first). The answer is written with
 * the effect, so a crash after the commit loses nothing. Another body under the key is `idempotency_key_reused`.
 */
export const once =
  (key: string, fingerprint: string, onReplay: () => void): Around =>
  async (tx, effect) => {
    const actor = tx.actor.userId ?? tx.tenantId
    const mine = await tx.maybeOne(
      prepared(sql.type(Made)`
    insert into plane.idempotency_keys as k (tenant_id, actor_id, key, fingerprint, created_at)
    values (${tx.tenantId}, ${actor}, ${key}, decode(${fingerprint}, 'hex'), ${tx.now.toISOString()})
    on conflict (tenant_id, actor_id, key) do update set fingerprint = excluded.fingerprint, answer = null, created_at = excluded.created_at
      where k.created_at < excluded.created_at - interval '24 hours'
    returning key`),
    )
    if (!mine) {
      const kept = await tx.one(sql.prepared(Kept)`
      select encode(fingerprint, 'hex') as fingerprint, answer from plane.idempotency_keys
      where tenant_id = ${tx.tenantId} and actor_id = ${actor} and key = ${key}`)
      if (kept.fingerprint !== fingerprint) throw failure('idempotency_key_reused', { key })
      onReplay()
      return kept.answer as never
    }
    const answer = await effect()
    await tx.query(
      prepared(sql.run`
    update plane.idempotency_keys set answer = ${JSON.stringify(answer ?? null)}::jsonb
    where tenant_id = ${tx.tenantId} and actor_id = ${actor} and key = ${key}`),
    )
    return answer
  }
