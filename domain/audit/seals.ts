// The trail proves itself: each hour of a tenant's trail is sealed, each seal chained to the one before.
import { createHash, createHmac, type KeyObject } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { type Database, nullable, oneOf, sql, systemScope, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

const HOUR_MS = 3_600_000
/** An hour is sealed when no unit of work that began in it can still commit: these end by themselves much sooner. */
const SETTLE_MS = 5 * 60_000
/** Hours sealed in one transaction at most. */
const MAX_HOURS = 500
const LEAF_BYTES = 32

const sha256 = (...parts: Buffer[]) => createHash('sha256').update(Buffer.concat(parts)).digest()
const [LEAF, NODE] = [Buffer.from([0]), Buffer.from([1])]

/** The Merkle tree hash of RFC 6962, 2.1: leaves and nodes are marked, so that neither can pass for the other. */
export function merkleRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return createHash('sha256').digest()
  let level: Buffer[] = leaves.map((leaf) => sha256(LEAF, leaf))
  while (level.length > 1) {
    const above: Buffer[] = []
    // A left-over node rises as it is; for a tree cut at powers of two this is the same tree.
    for (let at = 0; at < level.length; at += 2) above.push(at + 1 < level.length ? sha256(NODE, level[at]!, level[at + 1]!) : level[at]!)
    level = above
  }
  return level[0]!
}

/** What binds an hour to all hours before it. */
const sealOf = (key: KeyObject, previous: Buffer | null, hour: string, leaves: readonly Buffer[]): Buffer =>
  createHmac('sha256', key)
    .update(Buffer.concat([previous ?? Buffer.alloc(0), Buffer.from(hour), merkleRoot(leaves)]))
    .digest()

const bytes = (hex: string | null): Buffer | null => (hex === null ? null : Buffer.from(hex, 'hex'))
const split = (leaves: Buffer): Buffer[] =>
  Array.from({ length: leaves.length / LEAF_BYTES }, (_, at) => leaves.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES))

const Hour = Type.Object({ hour: Timestamp, leaves: Type.String() }, { additionalProperties: false })
const Last = Type.Object({ hour: Timestamp, root: Type.String() }, { additionalProperties: false })

/**
 * Seals the hours of a tenant that have ended and are not sealed; empty ones need no seal. Reads, and adds rows of its
 * own: nobody who writes to the trail waits for it. Of two that seal at once the primary key lets one.
 */
export async function sealTrail(database: Database, tenantId: string, key: KeyObject, now = Date.now()): Promise<number> {
  const until = new Date(Math.floor((now - SETTLE_MS) / HOUR_MS) * HOUR_MS).toISOString()
  return database.write(systemScope(tenantId, 'audit seals', ''), async (tx) => {
    const last = await tx.maybeOne(sql.prepared(Last)`
      select hour, encode(root, 'hex') as root from plane.audit_seals where tenant_id = ${tenantId} order by hour desc limit 1`)
    const from = last ? new Date(Date.parse(last.hour) + HOUR_MS).toISOString() : '-infinity'
    const hours = await tx.any(sql.prepared(Hour)`
      select date_trunc('hour', e.created_at) as hour, string_agg(encode(plane.audit_leaf(e), 'hex'), '' order by e.created_at, e.id) as leaves
      from plane.audit_events e where e.tenant_id = ${tenantId} and e.created_at >= ${from}::timestamptz and e.created_at < ${until}::timestamptz
      group by 1 order by 1 limit ${MAX_HOURS}`)
    let previous = bytes(last?.root ?? null)
    for (const { hour, leaves } of hours) {
      const own = split(Buffer.from(leaves, 'hex'))
      const root = sealOf(key, previous, hour, own)
      await tx.query(sql.run`
        insert into plane.audit_seals (tenant_id, hour, rows, root, previous, leaves)
        values (${tenantId}, ${hour}, ${own.length}, decode(${root.toString('hex')}, 'hex'), decode(${previous?.toString('hex') ?? null}, 'hex'), decode(${leaves}, 'hex'))`)
      previous = root
    }
    return hours.length
  })
}

export const Problem = Type.Object({
  hour: Timestamp,
  kind: oneOf(['changed_or_added', 'removed', 'seal_forged', 'seal_missing'], {
    description: 'changed_or_added: an entry that was not sealed so; removed: sealed entries that are not there; seal_*: the chain itself',
  }),
  entries: Type.Array(Uuid, { description: 'The entries that were not sealed so, at most a hundred' }),
  missing: Type.Integer({ description: 'How many sealed entries are not there' }),
})
export const Verification = Type.Object({
  sealed_until: nullable(Timestamp),
  hours: Type.Integer(),
  entries: Type.Integer(),
  problems: Type.Array(Problem),
})
export type Verification = Static<typeof Verification>

const Seal = Type.Object(
  { hour: Timestamp, root: Type.String(), previous: nullable(Type.String()), leaves: Type.String() },
  { additionalProperties: false },
)
const Entry = Type.Object({ hour: Timestamp, ids: Type.Array(Uuid), leaves: Type.String() }, { additionalProperties: false })

/** Recomputes the seals of the bound tenant and compares: everything that differs, hour by hour. An entry that was changed is one added and one removed. */
export async function verifyTrail(tx: Tx, key: KeyObject): Promise<Verification> {
  const seals = await tx.any(sql.prepared(Seal)`
    select hour, encode(root, 'hex') as root, encode(previous, 'hex') as previous, encode(leaves, 'hex') as leaves
    from plane.audit_seals where tenant_id = ${tx.tenantId} order by hour`)
  const last = seals.at(-1)
  const problems: Static<typeof Problem>[] = []
  const result: Verification = { sealed_until: last?.hour ?? null, hours: seals.length, entries: 0, problems }
  if (!last) return result
  const found = await tx.any(sql.prepared(Entry)`
    select date_trunc('hour', e.created_at) as hour, array_agg(e.id order by e.created_at, e.id) as ids,
      string_agg(encode(plane.audit_leaf(e), 'hex'), '' order by e.created_at, e.id) as leaves
    from plane.audit_events e where e.tenant_id = ${tx.tenantId} and e.created_at < ${last.hour}::timestamptz + interval '1 hour' group by 1`)
  const byHour = new Map(found.map((entry) => [entry.hour, entry]))
  let previous: string | null = null
  for (const seal of seals) {
    const sealed = split(Buffer.from(seal.leaves, 'hex'))
    const genuine = sealOf(key, bytes(seal.previous), seal.hour, sealed).toString('hex') === seal.root
    if (!genuine) problems.push({ hour: seal.hour, kind: 'seal_forged', entries: [], missing: 0 })
    else if (seal.previous !== previous) problems.push({ hour: seal.hour, kind: 'seal_missing', entries: [], missing: 0 })
    previous = seal.root
    const there = byHour.get(seal.hour)
    byHour.delete(seal.hour)
    result.entries += there?.ids.length ?? 0
    if ((there?.leaves ?? '') === seal.leaves) continue
    const known = new Set(sealed.map((leaf) => leaf.toString('hex')))
    const leaves = split(Buffer.from(there?.leaves ?? '', 'hex')).map((leaf) => leaf.toString('hex'))
    const strange = leaves.flatMap((leaf, at) => (known.has(leaf) ? [] : [there!.ids[at]!]))
    const missing = known.size - leaves.filter((leaf) => known.has(leaf)).length
    if (strange.length > 0) problems.push({ hour: seal.hour, kind: 'changed_or_added', entries: strange.slice(0, 100), missing })
    else problems.push({ hour: seal.hour, kind: 'removed', entries: [], missing })
  }
  // An hour that had no entries has no seal: whatever stands there now was put there afterwards.
  for (const { hour, ids } of byHour.values()) problems.push({ hour, kind: 'changed_or_added', entries: ids.slice(0, 100), missing: 0 })
  problems.sort((a, b) => (a.hour < b.hour ? -1 : 1))
  return result
}
