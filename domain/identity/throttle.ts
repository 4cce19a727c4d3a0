// Failed sign-ins make the next ones wait, by account and by address; never for ever. Shared by all processes: the
// counters are rows of the control plane.
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { failure, nullable, prepared, sql, Timestamp, type Tx } from '../kernel/index.ts'

/** Failures that cost nothing: people mistype, and many people share one address. */
const FREE = { account: 5, address: 20 } as const
const MAX_DELAY_SECONDS = 900
/** After this long without a failure the count starts anew. */
const FORGET_MINUTES = 60

/** Accounts are counted by the address as typed, so one that does not exist waits like one that does. */
const keyOf = (kind: keyof typeof FREE, value: string): string => createHash('sha256').update(`${kind} ${value}`).digest('hex')

const Row = Type.Object({ blocked_until: nullable(Timestamp) }, { additionalProperties: false })

/** What is added with a failure: from the last free one on a wait that doubles each time. */
const counted = (free: number, now: string) => {
  const n = sql.fragment`case when t.updated_at < ${now}::timestamptz - make_interval(mins => ${FORGET_MINUTES}) then 1 else t.failures + 1 end`
  return sql.fragment`
    failures = ${n}, updated_at = ${now},
    blocked_until = case when ${n} >= ${free} then ${now}::timestamptz + make_interval(secs => least(${MAX_DELAY_SECONDS}, power(2, least(${n} - ${free}, 20)))) end`
}

/**
 * Takes a try for this account from this address before the password is looked at. The try counts as failed until
 * `clearAttempts`: of many at once, the row's lock lets them in one by one, and whoever comes after the last free one
 * waits. Returns until when the account waits should this try fail too. A crash that forgets a try costs nothing, so its
 * commit does not wait for the disk. Throws `rate_limited` with `retry_after_seconds`.
 */
export async function takeAttempt(tx: Tx, account: string, address: string): Promise<string | null> {
  const now = tx.now.toISOString()
  const [accountKey, addressKey] = [keyOf('account', account), keyOf('address', address)]
  const taken = await tx.maybeOne(sql.prepared(Row)`
    insert into res_login_throttle as t (tenant_id, key, failures, updated_at)
    select ${tx.tenantId}, decode(${accountKey}, 'hex'), 1, ${now}
    from (select set_config('synchronous_commit', 'off', true)) as hurry
    where not exists (
      select from res_login_throttle where tenant_id = ${tx.tenantId} and key = decode(${addressKey}, 'hex') and blocked_until > ${now})
    on conflict (tenant_id, key) do update set ${counted(FREE.account, now)}
    where t.blocked_until is null or t.blocked_until <= ${now}
    returning blocked_until`)
  if (taken) return taken.blocked_until
  const { blocked_until } = await tx.one(sql.prepared(Row)`
    select max(blocked_until) as blocked_until from res_login_throttle
    where tenant_id = ${tx.tenantId} and key in (decode(${accountKey}, 'hex'), decode(${addressKey}, 'hex'))`)
  const seconds = Math.max(1, Math.ceil((Date.parse(blocked_until ?? now) - tx.now.getTime()) / 1000))
  throw failure('rate_limited', { retry_after_seconds: seconds })
}

/** Counts a failure against the address too. */
export async function countAddress(tx: Tx, address: string): Promise<void> {
  const now = tx.now.toISOString()
  await tx.query(
    prepared(sql.run`
    insert into res_login_throttle as t (tenant_id, key, failures, updated_at)
    values (${tx.tenantId}, decode(${keyOf('address', address)}, 'hex'), 1, ${now})
    on conflict (tenant_id, key) do update set ${counted(FREE.address, now)}`),
  )
}

/** Forgets the failures of an account that has signed in. */
export async function clearAttempts(tx: Tx, account: string): Promise<void> {
  await tx.query(
    prepared(
      sql.run`delete from res_login_throttle where tenant_id = ${tx.tenantId} and key = decode(${keyOf('account', account)}, 'hex')`,
    ),
  )
}
