// Grants and live sessions in memory, never stale: the database announces every change.

import { Type } from 'typebox'
import { type Context, type Database, type Listener, sql, systemScope } from '../kernel/index.ts'
import { type Decision, evaluate } from './evaluate.ts'
import { type Grants, loadGrants } from './grants.ts'

const MAX_TENANTS = 5_000
const MAX_DECISIONS = 2_000
/** Assignments and overrides expire by the clock; a remembered decision is at most this old. */
const DECISION_MS = 1_000

interface UserEntry {
  grants: Grants
  decisions: Map<string, { decision: Decision; at: number }>
}
interface TenantEntry {
  users: Map<string, UserEntry>
  sessions: Map<string, boolean>
}

/** Who asks, as far as the control plane knows. */
export interface Caller {
  /** The session is neither revoked nor expired. */
  live: boolean
  /** Null for a user that is not there. */
  grants: Grants | null
}

const Live = Type.Object({ live: Type.Boolean() })

/**
 * What is known of users and sessions, by tenant. A tenant's entry is dropped when the database announces a change of
 * its access epoch (by trigger, in the changing transaction). While the listener is down every question goes to the
 * database. An answer that was read while a change was announced is used once and not kept.
 */
export class AccessCache {
  readonly #control: Database
  readonly #listener: Listener
  readonly #tenants = new Map<string, TenantEntry>()
  #generation = 0

  constructor(control: Database, listener: Listener) {
    this.#control = control
    this.#listener = listener
    listener.on('tenantry_access', (tenantId) => this.forget(tenantId))
    listener.onReconnect(() => {
      this.#generation++
      this.#tenants.clear()
    })
  }

  /** Drops what is known of a tenant; called at once by the process that made a change, by announcement in the others. */
  forget(tenantId: string): void {
    this.#generation++
    this.#tenants.delete(tenantId)
  }

  async grants(tenantId: string, userId: string): Promise<Grants | null> {
    return (await this.#user(tenantId, userId))?.grants ?? null
  }

  /** Whether the session lives, and what its user may do. */
  async caller(tenantId: string, userId: string, sessionId: string): Promise<Caller> {
    const [live, user] = await Promise.all([this.#sessionLives(tenantId, sessionId), this.#user(tenantId, userId)])
    return { live, grants: user?.grants ?? null }
  }

  async #sessionLives(tenantId: string, sessionId: string): Promise<boolean> {
    const known = this.#listener.up ? this.#tenants.get(tenantId)?.sessions.get(sessionId) : undefined
    if (known !== undefined) return known
    const generation = this.#generation
    const found = await this.#control.read(systemScope(tenantId, 'access', ''), (tx) =>
      tx.maybeOne(sql.prepared(Live)`
      select revoked_at is null and expires_at > now() as live from res_sessions where tenant_id = ${tenantId} and id = ${sessionId}`),
    )
    const live = found?.live ?? false
    if (generation === this.#generation && this.#listener.up) this.#tenant(tenantId).sessions.set(sessionId, live)
    return live
  }

  /** Answers at once, by two look-ups in maps, when the user is in memory. */
  decide(tenantId: string, userId: string, permission: string, context: Context, now: number): Decision | Promise<Decision> {
    const user = this.#listener.up ? this.#tenants.get(tenantId)?.users.get(userId) : undefined
    if (user) return decideWarm(user, permission, context, now)
    return this.#user(tenantId, userId).then((loaded) =>
      loaded ? decideWarm(loaded, permission, context, now) : { allowed: false, decided_by: { kind: 'none' } },
    )
  }

  async #user(tenantId: string, userId: string): Promise<UserEntry | null> {
    const known = this.#listener.up ? this.#tenants.get(tenantId)?.users.get(userId) : undefined
    if (known) return known
    const generation = this.#generation
    const grants = await loadGrants(this.#control, tenantId, userId)
    if (!grants) return null
    const entry: UserEntry = { grants, decisions: new Map() }
    if (generation === this.#generation && this.#listener.up) this.#tenant(tenantId).users.set(userId, entry)
    return entry
  }

  #tenant(tenantId: string): TenantEntry {
    let entry = this.#tenants.get(tenantId)
    if (!entry) {
      if (this.#tenants.size >= MAX_TENANTS) this.#tenants.clear()
      entry = { users: new Map(), sessions: new Map() }
      this.#tenants.set(tenantId, entry)
    }
    return entry
  }
}

function decideWarm(user: UserEntry, permission: string, context: Context, now: number): Decision {
  const key = `${permission} ${context.organizationId} ${context.workspaceId}`
  const known = user.decisions.get(key)
  if (known && now - known.at < DECISION_MS) return known.decision
  const decision = evaluate(user.grants, permission, context, now)
  if (user.decisions.size >= MAX_DECISIONS) user.decisions.clear()
  user.decisions.set(key, { decision, at: now })
  return decision
}
