import { newId, sql, type Tx } from '../kernel/index.ts'
import { hashPassword } from './passwords.ts'

export interface NewUser {
  email: string
  name: string
  password: string
  kind?: 'worker' | 'client' | 'service'
}

/** Hash first, outside the transaction; then `createUser`. */
export const hashed = async (user: NewUser): Promise<NewUser & { hash: string }> => ({ ...user, hash: await hashPassword(user.password) })

/** An active, verified user. Throws `already_exists` for a taken email. */
export async function createUser(tx: Tx, user: NewUser & { hash: string }): Promise<string> {
  const id = newId()
  await tx.query(sql.run`
    insert into res_users (id, tenant_id, email, name, kind, status, password_hash, password_changed_at, verified_at)
    values (${id}, ${tx.tenantId}, ${user.email}, ${user.name}, ${user.kind ?? 'worker'}, 'active', ${user.hash}, ${tx.now.toISOString()}, ${tx.now.toISOString()})`)
  return id
}

/** Switches a user off; sessions stop at the next request. */
export async function disableUser(tx: Tx, userId: string): Promise<void> {
  await tx.query(sql.run`
    update res_users set status = 'disabled', version = version + 1, updated_at = ${tx.now.toISOString()}
    where tenant_id = ${tx.tenantId} and id = ${userId}`)
}
