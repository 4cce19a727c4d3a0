// The tip of the seals, kept outside of the database: whoever has the database alone cannot cut the trail's end unseen.
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { type Database, sql, systemScope, Timestamp, Uuid } from '../kernel/index.ts'
import { chainTo, sealTrail } from './seals.ts'

export type AuditPlane = 'control' | 'data' | 'telemetry'

/** The newest seal of a tenant's trail in one plane, and how many there are up to it. */
export const SealTip = Type.Object(
  {
    tenant_id: Uuid,
    plane: Type.String(),
    hour: Timestamp,
    seals: Type.Integer(),
    /** The seal of the hour, in hex: it binds all hours before. */
    root: Type.String(),
    signature: Type.String(),
  },
  { additionalProperties: false },
)
export type SealTip = Static<typeof SealTip>

/** Where tips are kept, outside of the database. */
export interface TipStore {
  /** Null where there is none yet. */
  readNote(tenantId: string, name: string): Promise<Buffer | null>
  writeNote(tenantId: string, name: string, bytes: Buffer): Promise<void>
}

const noteOf = (plane: AuditPlane) => `audit-seals-${plane}.json`

const signatureOf = (key: KeyObject, { tenant_id, plane, hour, seals, root }: Omit<SealTip, 'signature'>): Buffer =>
  createHmac('sha256', key)
    .update(JSON.stringify(['seal tip', tenant_id, plane, hour, seals, root]))
    .digest()

/** Whether a tip was made with the key, for this tenant and plane. */
export const isTipGenuine = (key: KeyObject, tip: SealTip, tenantId: string, plane: AuditPlane): boolean => {
  const signature = Buffer.from(tip.signature, 'hex')
  const right = signatureOf(key, tip)
  return tip.tenant_id === tenantId && tip.plane === plane && signature.length === right.length && timingSafeEqual(signature, right)
}

/** The tip that is kept of a tenant's trail; null where there is none, or none that can be read as one. */
export async function keptTip(store: TipStore, tenantId: string, plane: AuditPlane): Promise<SealTip | null> {
  const bytes = await store.readNote(tenantId, noteOf(plane))
  if (!bytes) return null
  try {
    const tip: unknown = JSON.parse(bytes.toString())
    return Value.Check(SealTip, tip) ? tip : null
  } catch {
    return null
  }
}

const Last = Type.Object({ hour: Timestamp, root: Type.String(), seals: Type.Integer() }, { additionalProperties: false })

export interface Sealed {
  /** Hours that were sealed now. */
  hours: number
  /** The tip that is kept now; null for a trail without a seal. */
  tip: SealTip | null
  /** The kept tip that the chain does not lead to: the trail was cut, and nothing is sealed until that is looked at. */
  cut: SealTip | null
}

/**
 * Seals what has ended, and keeps the new tip. Where the chain does not lead to the tip that was kept before, nothing is
 * sealed, so that a forged end does not become a genuine one, and the kept tip stays as evidence. Written after the seals are
 * committed: a process that stops in between leaves an older tip, which the next run replaces.
 */
export async function sealAndKeepTip(
  database: Database,
  store: TipStore,
  { tenantId, plane, key }: { tenantId: string; plane: AuditPlane; key: KeyObject },
  now = Date.now(),
): Promise<Sealed> {
  const kept = await keptTip(store, tenantId, plane)
  const scope = systemScope(tenantId, 'audit seals', '')
  if (kept && isTipGenuine(key, kept, tenantId, plane)) {
    const chain = await database.read(scope, (tx) => chainTo(tx, kept))
    if (!chain.leads || chain.seals !== kept.seals) return { hours: 0, tip: kept, cut: kept }
  }
  const hours = await sealTrail(database, tenantId, key, now, (tx, last) => {
    tx.emit({ type: 'audit.event.sealed', entity_id: tenantId, version: 1, data: { plane, ...last } })
  })
  const last = await database.read(scope, (tx) =>
    tx.maybeOne(sql.prepared(Last)`
      select hour, encode(root, 'hex') as root, (select count(*) from plane.audit_seals where tenant_id = ${tenantId}) as seals
      from plane.audit_seals where tenant_id = ${tenantId} order by hour desc limit 1`),
  )
  if (!last) return { hours, tip: null, cut: null }
  const unsigned = { tenant_id: tenantId, plane, ...last }
  const tip = { ...unsigned, signature: signatureOf(key, unsigned).toString('hex') }
  if (tip.signature !== kept?.signature) await store.writeNote(tenantId, noteOf(plane), Buffer.from(JSON.stringify(tip)))
  return { hours, tip, cut: null }
}
