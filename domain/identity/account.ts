// A user as sign-in sees them.
import { type Static, Type } from 'typebox'
import { type Fragment, nullable, oneOf, sql, Timestamp, type Tx, Uuid } from '../kernel/index.ts'

export const Account = Type.Object(
  {
    id: Uuid,
    email: Type.String(),
    name: Type.String(),
    kind: oneOf(['worker', 'client', 'service']),
    status: oneOf(['invited', 'active', 'locked', 'disabled', 'deleted']),
    password_hash: nullable(Type.String()),
    verified_at: nullable(Timestamp),
    locale: nullable(Type.String()),
    /** Where they worked last. */
    last_organization_id: nullable(Uuid),
    last_workspace_id: nullable(Uuid),
    /** Has a second factor that works. */
    mfa: Type.Boolean(),
  },
  { additionalProperties: false },
)
export type Account = Static<typeof Account>

const selectAccount = (tx: Tx, condition: Fragment, locking = sql.fragment``): Promise<Account | null> =>
  tx.maybeOne(sql.prepared(Account)`
    select id, email, name, kind, status, password_hash, verified_at, locale, last_organization_id, last_workspace_id,
      exists (select from res_user_mfa f where f.tenant_id = u.tenant_id and f.user_id = u.id and f.kind <> 'recovery' and f.confirmed_at is not null) as mfa
    from res_users u where tenant_id = ${tx.tenantId} and ${condition} and deleted_at is null ${locking}`)

export const accountByEmail = (tx: Tx, email: string): Promise<Account | null> => selectAccount(tx, sql.fragment`lower(email) = ${email}`)
export const accountById = (tx: Tx, id: string): Promise<Account | null> => selectAccount(tx, sql.fragment`id = ${id}`)
/** The same, locked until the transaction ends: two changes of one account happen one after the other. */
export const lockAccount = (tx: Tx, id: string): Promise<Account | null> =>
  selectAccount(tx, sql.fragment`id = ${id}`, sql.fragment`for update of u`)

/** May sign in: neither invited, locked, disabled nor unverified. */
export const mayEnter = (account: Account): boolean => account.status === 'active' && account.verified_at !== null
