// Feature flags: on for all users of a tenant, for a share of them, or for some by name.
import { createHash } from 'node:crypto'
import { failure, newId, sql, type Tx } from '../kernel/index.ts'
import type { Flag, Tenant } from '../tenancy/index.ts'

/**
 * Where a user falls among a hundred, for one flag: always the same place, so that whoever has a feature at 10 per cent
 * has it at 20, and another place for another flag, so that it is not always the same who try everything.
 */
function placeOf(flag: string, userId: string): number {
  return (createHash('sha256').update(`${flag} ${userId}`).digest().readUInt32BE() / 2 ** 32) * 100
}

const isOn = (name: string, flag: Flag, userId: string | null, now: number): boolean => {
  if (flag.expires_at !== null && Date.parse(flag.expires_at) <= now) return false
  if (userId !== null && flag.user_ids.includes(userId)) return true
  if (flag.percentage === null) return flag.user_ids.length === 0
  return userId !== null && placeOf(name, userId) < flag.percentage
}

/** The flags that are on for a user, with their values. One that is off is not there. */
export const flagsFor = ({ flags }: Tenant, userId: string | null, now: number): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(flags)
      .filter(([name, flag]) => isOn(name, flag, userId, now))
      .map(([name, { value }]) => [name, value]),
  )

/** Whether one is on; `false` and null as its value are off. */
export function hasFlag({ flags }: Tenant, name: string, userId: string | null, now: number): boolean {
  const flag = flags[name]
  return flag !== undefined && flag.value !== false && flag.value !== null && isOn(name, flag, userId, now)
}

/** Sets a flag for the tenant of the unit of work. Effective at the next request. */
export async function setFlag(tx: Tx, name: string, { value, percentage, user_ids, expires_at }: Flag): Promise<void> {
  await tx.query(sql.run`
    insert into tenant_feature_flags as f (id, tenant_id, flag, value, percentage, user_ids, expires_at, set_by)
    values (${newId()}, ${tx.tenantId}, ${name}, ${JSON.stringify(value)}::jsonb, ${percentage}, ${sql.array(user_ids, 'uuid')}, ${expires_at}, ${tx.actor.userId})
    on conflict (tenant_id, flag) do update set value = excluded.value, percentage = excluded.percentage, user_ids = excluded.user_ids,
      expires_at = excluded.expires_at, set_by = excluded.set_by, version = f.version + 1, updated_at = ${tx.now.toISOString()}`)
}

/** Throws `not_found`. */
export async function removeFlag(tx: Tx, name: string): Promise<void> {
  const { rowCount } = await tx.query(sql.run`delete from tenant_feature_flags where tenant_id = ${tx.tenantId} and flag = ${name}`)
  if (rowCount === 0) throw failure('not_found')
}
