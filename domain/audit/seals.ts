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

/**
 * The Merkle tree hash of RFC 6962, 2.1, of leaves that are added one after the other: leaves and nodes are marked, so that
 * neither can pass for the other. It holds one node for each level of the tree and no leaf.
 */
export class MerkleTree {
  /** Roots of whole subtrees, each half as large as the one before, at most; by level. */
  readonly #subtrees: { level: number; hash: Buffer }[] = []

  add(leaf: Buffer): void {
    let node = { level: 0, hash: sha256(LEAF, leaf) }
    for (let left = this.#subtrees.at(-1); left?.level === node.level; left = this.#subtrees.at(-1)) {
      this.#subtrees.pop()
      node = { level: node.level + 1, hash: sha256(NODE, left.hash, node.hash) }
    }
    this.#subtrees.push(node)
  }

  /** The root of what was added. */
  root(): Buffer {
    const [last, ...before] = this.#subtrees.map(({ hash }) => hash).reverse()
    if (!last) return createHash('sha256').digest()
    return before.reduce((right, left) => sha256(NODE, left, right), last)
  }
}

export function merkleRoot(leaves: readonly Buffer[]): Buffer {
  const tree = new MerkleTree()
  for (const leaf of leaves) tree.add(leaf)
  return tree.root()
}

/** The seal of an hour: it binds the hour to all hours before it. */
const sealOf = (key: KeyObject, previous: Buffer | null, hour: string, root: Buffer): Buffer =>
  createHmac('sha256', key)
    .update(Buffer.concat([previous ?? Buffer.alloc(0), Buffer.from(hour), root]))
    .digest()

const bytes = (hex: string | null): Buffer | null => (hex === null ? null : Buffer.from(hex, 'hex'))
const split = (leaves: Buffer): Buffer[] =>
  Array.from({ length: leaves.length / LEAF_BYTES }, (_, at) => leaves.subarray(at * LEAF_BYTES, (at + 1) * LEAF_BYTES))

const Count = Type.Object({ n: Type.Integer() }, { additionalProperties: false })
const Hour = Type.Object({ hour: Timestamp, leaves: Type.String() }, { additionalProperties: false })
const Last = Type.Object({ hour: Timestamp, root: Type.String() }, { additionalProperties: false })

/**
 * Seals the hours of a tenant that have ended and are not sealed; empty ones need no seal. Reads, and adds rows of its
 * own: no writer of the trail waits for it. Of two that seal at once the primary key lets one.
 * @param told hears of the newest seal, in the same transaction
 */
export async function sealTrail(
  database: Database,
  tenantId: string,
  key: KeyObject,
  now = Date.now(),
  told: (tx: Tx, last: { hour: string; root: string; seals: number }) => void = () => {},
): Promise<number> {
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
      const root = sealOf(key, previous, hour, merkleRoot(own))
      await tx.query(sql.run`
        insert into plane.audit_seals (tenant_id, hour, rows, root, previous, leaves)
        values (${tenantId}, ${hour}, ${own.length}, decode(${root.toString('hex')}, 'hex'), decode(${previous?.toString('hex') ?? null}, 'hex'), decode(${leaves}, 'hex'))`)
      previous = root
    }
    const newest = hours.at(-1)
    if (newest) {
      const { n } = await tx.one(sql.prepared(Count)`select count(*) as n from plane.audit_seals where tenant_id = ${tenantId}`)
      told(tx, { hour: newest.hour, root: previous!.toString('hex'), seals: n })
    }
    return hours.length
  })
}

export const Problem = Type.Object({
  hour: Timestamp,
  kind: oneOf(['changed_or_added', 'removed', 'seal_forged', 'seal_missing', 'tail_missing', 'tip_forged'], {
    description:
      'changed_or_added: an entry that was not sealed so; removed: sealed entries that are not there; seal_*: the chain itself; tail_missing: the chain does not lead to the tip that is kept outside of the database, `missing` hours up to it are not there or were replaced; tip_forged: the kept tip was not made with the key',
  }),
  entries: Type.Array(Uuid, { description: 'The entries that were not sealed so, at most a hundred' }),
  missing: Type.Integer({ description: 'How many sealed entries are not there; of tail_missing, sealed hours' }),
})
export const Verification = Type.Object({
  sealed_until: nullable(Timestamp),
  /** The hour of the newest seal that is kept outside of the database, in the object store; null before the first one. */
  kept_until: nullable(Timestamp),
  hours: Type.Integer(),
  entries: Type.Integer(),
  problems: Type.Array(Problem),
})
export type Verification = Static<typeof Verification>

const Seal = Type.Object(
  {
    hour: Timestamp,
    root: Type.String(),
    previous: nullable(Type.String()),
    leaves: Type.Integer(),
    entries: Type.Integer(),
    same: Type.Boolean(),
  },
  { additionalProperties: false },
)
type Seal = Static<typeof Seal>
const Leaves = Type.Object({ leaves: Type.String() }, { additionalProperties: false })
const Difference = Type.Object({ added: Type.Array(Uuid), missing: Type.Integer() }, { additionalProperties: false })
const Unsealed = Type.Object({ hour: Timestamp, entries: Type.Array(Uuid) }, { additionalProperties: false })

/** Hours that are compared in one statement; bytes of leaves that are hashed before other work of the process has its turn. */
const HOURS_AT_ONCE = 24
const LEAVES_AT_ONCE = 4_096
/** Entries of an hour that are named, and hours without a seal. */
const NAMED = 100
const MAX_UNSEALED = 1_000

/**
 * Recomputes the seals of the bound tenant and compares: everything that differs, hour by hour. An entry that was changed is
 * one added and one removed. The database compares the entries of an hour with its sealed leaves; of the leaves this process
 * sees a few thousand at a time, for the hash of the seal, so memory does not grow with the trail.
 * @param kept the tip that is kept outside of the database
 */
export async function verifyTrail(tx: Tx, key: KeyObject, kept: KeptTip | null = null): Promise<Verification> {
  const problems: Static<typeof Problem>[] = await problemsOfTip(tx, kept)
  const result: Verification = { sealed_until: null, kept_until: kept?.tip.hour ?? null, hours: 0, entries: 0, problems }
  let previous: string | null = null
  for await (const seal of sealsOf(tx)) {
    const { hour } = seal
    const root = sealOf(key, bytes(seal.previous), hour, await rootOf(tx, seal)).toString('hex')
    if (root !== seal.root) problems.push({ hour, kind: 'seal_forged', entries: [], missing: 0 })
    else if (seal.previous !== previous) problems.push({ hour, kind: 'seal_missing', entries: [], missing: 0 })
    previous = seal.root
    result.sealed_until = hour
    result.hours++
    result.entries += seal.entries
    if (seal.same) continue
    const { added, missing } = await differenceOf(tx, hour)
    problems.push({ hour, kind: added.length > 0 ? 'changed_or_added' : 'removed', entries: added, missing })
  }
  if (!result.sealed_until) return result
  // An hour that had no entries has no seal: whatever stands there now was put there afterwards.
  for (const { hour, entries } of await unsealedHours(tx, result.sealed_until))
    problems.push({ hour, kind: 'changed_or_added', entries, missing: 0 })
  problems.sort((a, b) => (a.hour < b.hour ? -1 : 1))
  return result
}

/** A kept tip, and whether it was made with the key. */
export interface KeptTip {
  tip: { hour: string; seals: number; root: string }
  genuine: boolean
}

const Chain = Type.Object({ seals: Type.Integer(), leads: Type.Boolean() }, { additionalProperties: false })

/** How many seals lie up to the hour of a tip, and whether the chain leads to it. */
export const chainTo = (tx: Tx, { hour, root }: KeptTip['tip']): Promise<Static<typeof Chain>> =>
  tx.one(sql.prepared(Chain)`
    select count(*) as seals, coalesce(bool_or(hour = ${hour}::timestamptz and encode(root, 'hex') = ${root}), false) as leads
    from plane.audit_seals where tenant_id = ${tx.tenantId} and hour <= ${hour}::timestamptz`)

async function problemsOfTip(tx: Tx, kept: KeptTip | null): Promise<Static<typeof Problem>[]> {
  if (!kept) return []
  const { hour, seals } = kept.tip
  if (!kept.genuine) return [{ hour, kind: 'tip_forged', entries: [], missing: 0 }]
  const chain = await chainTo(tx, kept.tip)
  if (chain.leads && chain.seals === seals) return []
  return [{ hour, kind: 'tail_missing', entries: [], missing: Math.max(1, seals - chain.seals) }]
}

/** The seals in their order, each with the number of entries in its hour and whether they are those that were sealed. */
async function* sealsOf(tx: Tx): AsyncGenerator<Seal> {
  for (let after = '-infinity'; ; ) {
    const seals: readonly Seal[] = await tx.any(sql.prepared(Seal)`
      select s.hour, encode(s.root, 'hex') as root, encode(s.previous, 'hex') as previous, length(s.leaves) / ${LEAF_BYTES}::int as leaves,
        found.entries, found.leaves = s.leaves as same
      from plane.audit_seals s
      cross join lateral (
        select count(*) as entries, coalesce(string_agg(plane.audit_leaf(e), ''::bytea order by e.created_at, e.id), ''::bytea) as leaves
        from plane.audit_events e
        where e.tenant_id = ${tx.tenantId} and e.created_at >= s.hour and e.created_at < s.hour + interval '1 hour') as found
      where s.tenant_id = ${tx.tenantId} and s.hour > ${after}::timestamptz order by s.hour limit ${HOURS_AT_ONCE}`)
    yield* seals
    if (seals.length < HOURS_AT_ONCE) return
    after = seals.at(-1)!.hour
  }
}

/** The Merkle root of the leaves of a seal, read in pieces. */
async function rootOf(tx: Tx, { hour, leaves: count }: Seal): Promise<Buffer> {
  const tree = new MerkleTree()
  for (let first = 0; first < count; first += LEAVES_AT_ONCE) {
    const { leaves } = await tx.one(sql.prepared(Leaves)`
      select encode(substring(leaves from ${first * LEAF_BYTES + 1}::int for ${LEAVES_AT_ONCE * LEAF_BYTES}::int), 'hex') as leaves
      from plane.audit_seals where tenant_id = ${tx.tenantId} and hour = ${hour}::timestamptz`)
    for (const leaf of split(Buffer.from(leaves, 'hex'))) tree.add(leaf)
  }
  return tree.root()
}

/** Entries of an hour that were not sealed so, and how many sealed ones are not there. */
const differenceOf = (tx: Tx, hour: string): Promise<Static<typeof Difference>> =>
  tx.one(sql.prepared(Difference)`
    with sealed as (
      select distinct substring(s.leaves from n * ${LEAF_BYTES}::int + 1 for ${LEAF_BYTES}::int) as leaf
      from plane.audit_seals s cross join generate_series(0, length(s.leaves) / ${LEAF_BYTES}::int - 1) as n
      where s.tenant_id = ${tx.tenantId} and s.hour = ${hour}::timestamptz),
    found as (
      select e.id, e.created_at, plane.audit_leaf(e) as leaf from plane.audit_events e
      where e.tenant_id = ${tx.tenantId} and e.created_at >= ${hour}::timestamptz and e.created_at < ${hour}::timestamptz + interval '1 hour')
    select
      array(select f.id from found f where not exists (select from sealed s where s.leaf = f.leaf) order by f.created_at, f.id limit ${NAMED}) as added,
      (select count(*) from sealed s where not exists (select from found f where f.leaf = s.leaf)) as missing`)

/** Hours until the last seal that have entries and no seal. */
const unsealedHours = (tx: Tx, last: string): Promise<readonly Static<typeof Unsealed>[]> =>
  tx.any(sql.prepared(Unsealed)`
    select date_trunc('hour', e.created_at) as hour, (array_agg(e.id order by e.created_at, e.id))[1:${NAMED}::int] as entries
    from plane.audit_events e
    where e.tenant_id = ${tx.tenantId} and e.created_at < ${last}::timestamptz + interval '1 hour'
      and not exists (select from plane.audit_seals s where s.tenant_id = ${tx.tenantId} and s.hour = date_trunc('hour', e.created_at))
    group by 1 order by 1 limit ${MAX_UNSEALED}`)
