// Failed proofs make the next ones wait, never for ever. Shared by all processes: the counters are rows of the control plane.
//
// The grouping of failures decides who can keep a user out. A sign-in from a device that has signed in to the account
// before is counted by account and device alone, so that failures from elsewhere do not touch it. Any other sign-in is
// counted by account and network, by network, and, far more generously, by account. The code of a second step is counted
// apart, and so are proofs within a live session, which no one without the session can fail.
import { createHash } from 'node:crypto'
import { Type } from 'typebox'
import { failure, networkOf, nullable, prepared, sql, Timestamp, type Tx } from '../kernel/index.ts'
import type { Client } from './sessions.ts'

/** Failures that cost nothing: people mistype, many share one address, and many networks may try one account. */
const FREE = { own: 5, network: 20, account: 50 } as const
const MAX_DELAY_SECONDS = 900
/** After this long without a failure the count starts again. */
const FORGET_MINUTES = 60

/** Names the row of a counter. Accounts are named by the address as typed, so one that does not exist waits like one that does. */
const keyOf = (...parts: readonly string[]): string => createHash('sha256').update(parts.join(' ')).digest('hex')

/** The counters that a proof is held against. */
export interface Counters {
  /** Raised before the proof is looked at, and forgotten when it was right. */
  own: string
  /** Raised when the proof was wrong; a wait of one of them holds this proof too. */
  shared: readonly { key: string; free: number }[]
}

const Known = Type.Object({ known: Type.Boolean() }, { additionalProperties: false })

/** Whether the device's mark has opened a session of the account that this address names. */
async function isKnownDevice(tx: Tx, email: string, device: string): Promise<boolean> {
  const hash = createHash('sha256').update(device).digest('hex')
  const { known } = await tx.one(sql.prepared(Known)`
    select exists (
      select from res_users u join res_sessions s on s.tenant_id = u.tenant_id and s.user_id = u.id and s.device_hash = decode(${hash}, 'hex')
      where u.tenant_id = ${tx.tenantId} and lower(u.email) = ${email} and u.deleted_at is null) as known`)
  return known
}

/** Counters of a password that is sent to sign in. */
export async function signInCounters(tx: Tx, email: string, client: Client): Promise<Counters> {
  if (await isKnownDevice(tx, email, client.device)) return { own: keyOf('device', email, client.device), shared: [] }
  const network = networkOf(client.address)
  return {
    own: keyOf('account', email, network),
    shared: [
      { key: keyOf('address', network), free: FREE.network },
      { key: keyOf('account', email), free: FREE.account },
    ],
  }
}

/** Counters of the code of a second step, which only a client that sent the right password can fail. */
export async function secondStepCounters(tx: Tx, email: string, client: Client): Promise<Counters> {
  const known = await isKnownDevice(tx, email, client.device)
  return { own: known ? keyOf('second step', email, client.device) : keyOf('second step', email), shared: [] }
}

/** Counters of a password or code that is asked for within a session. */
export const sessionCounters = (sessionId: string): Counters => ({ own: keyOf('session', sessionId), shared: [] })

const Row = Type.Object({ blocked_until: nullable(Timestamp) }, { additionalProperties: false })

/** What is added with a failure: from the last free one on a wait that doubles each time. */
const counted = (free: number, now: string) => {
  const n = sql.fragment`case when t.updated_at < ${now}::timestamptz - make_interval(mins => ${FORGET_MINUTES}) then 1 else t.failures + 1 end`
  return sql.fragment`
    failures = ${n}, updated_at = ${now},
    blocked_until = case when ${n} >= ${free} then ${now}::timestamptz + make_interval(secs => least(${MAX_DELAY_SECONDS}, power(2, least(${n} - ${free}, 20)))) end`
}

const hex = (keys: readonly string[]) => sql.fragment`(select decode(k, 'hex') from unnest(${sql.array([...keys], 'text')}) as k)`

/**
 * Takes a try before the proof is looked at. The try counts as failed until `clearAttempts`: of many at once, the row's
 * lock lets them in one by one, and those after the last free one wait. Returns until when the counter waits should this
 * try fail too. A crash that forgets a try costs nothing, so its commit does not wait for the disk. Throws `rate_limited`
 * with `retry_after_seconds`.
 */
export async function takeAttempt(tx: Tx, { own, shared }: Counters): Promise<string | null> {
  const now = tx.now.toISOString()
  const others = shared.map(({ key }) => key)
  const taken = await tx.maybeOne(sql.prepared(Row)`
    insert into res_login_throttle as t (tenant_id, key, failures, updated_at)
    select ${tx.tenantId}, decode(${own}, 'hex'), 1, ${now}
    from (select set_config('synchronous_commit', 'off', true)) as hurry
    where not exists (
      select from res_login_throttle where tenant_id = ${tx.tenantId} and key in ${hex(others)} and blocked_until > ${now})
    on conflict (tenant_id, key) do update set ${counted(FREE.own, now)}
    where t.blocked_until is null or t.blocked_until <= ${now}
    returning blocked_until`)
  if (taken) return taken.blocked_until
  const { blocked_until } = await tx.one(sql.prepared(Row)`
    select max(blocked_until) as blocked_until from res_login_throttle
    where tenant_id = ${tx.tenantId} and key in ${hex([own, ...others])}`)
  const seconds = Math.max(1, Math.ceil((Date.parse(blocked_until ?? now) - tx.now.getTime()) / 1000))
  throw failure('rate_limited', { retry_after_seconds: seconds })
}

/** Counts a failure against the counters that are shared. */
export async function countFailure(tx: Tx, { shared }: Counters): Promise<void> {
  const now = tx.now.toISOString()
  for (const { key, free } of shared) {
    await tx.query(
      prepared(sql.run`
      insert into res_login_throttle as t (tenant_id, key, failures, updated_at)
      values (${tx.tenantId}, decode(${key}, 'hex'), 1, ${now})
      on conflict (tenant_id, key) do update set ${counted(free, now)}`),
    )
  }
}

/** Forgets the failures of a proof that was right. Those that are shared are forgotten by time alone. */
export async function clearAttempts(tx: Tx, { own }: Counters): Promise<void> {
  await tx.query(prepared(sql.run`delete from res_login_throttle where tenant_id = ${tx.tenantId} and key = decode(${own}, 'hex')`))
}

const Taken = Type.Object({ wait: Type.Integer() }, { additionalProperties: false })

/**
 * Takes the turn of a mail to an account: zero when it may be sent now, otherwise the seconds until it may. Of many at
 * once the row's lock gives the turn to one.
 * @param account what is counted: a user's id, or an address as typed
 */
export async function takeMailTurn(tx: Tx, kind: string, account: string, intervalSeconds: number): Promise<number> {
  if (intervalSeconds === 0) return 0
  const now = tx.now.toISOString()
  const key = keyOf('mail', kind, account)
  const taken = await tx.maybeOne(sql.prepared(Taken)`
    insert into res_login_throttle as t (tenant_id, key, failures, blocked_until, updated_at)
    values (${tx.tenantId}, decode(${key}, 'hex'), 1, ${now}::timestamptz + make_interval(secs => ${intervalSeconds}), ${now})
    on conflict (tenant_id, key) do update set blocked_until = excluded.blocked_until, updated_at = excluded.updated_at
    where t.blocked_until is null or t.blocked_until <= ${now}
    returning 0 as wait`)
  if (taken) return 0
  const { wait } = await tx.one(sql.prepared(Taken)`
    select greatest(1, ceil(extract(epoch from blocked_until - ${now}::timestamptz)))::int as wait from res_login_throttle
    where tenant_id = ${tx.tenantId} and key = decode(${key}, 'hex')`)
  return wait
}
