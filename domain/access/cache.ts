// Grants, live sessions and API keys in memory, never stale: the database announces every change.

import { type Static, Type } from 'typebox'
import { type Context, type Database, jsonTime, type Listener, nullable, sql, systemScope, Timestamp, Uuid } from '../kernel/index.ts'
import { covers } from './evaluate.ts'
import { type Grants, loadGrants } from './grants.ts'
import { Presence } from './presence.ts'

const MAX_TENANTS = 5_000

interface TenantEntry {
  users: Map<string, Grants>
  sessions: Map<string, Session>
  keys: Map<string, ApiKey>
}

/** Who asks, as far as the control plane knows. */
export interface Caller {
  /** Null for one that was revoked, has expired or lay idle too long. */
  session: Session | null
  /** Null for a user that is not there. */
  grants: Grants | null
}

/** Milliseconds since 1970. */
const Instant = Type.Number()
/** The tenant's consent that platform staff changes data in a scope, until it expires or is withdrawn. */
const Consent = Type.Object(
  { organization_id: nullable(Uuid), workspace_id: nullable(Uuid), expires_at: Timestamp },
  { additionalProperties: false },
)
type Consent = Static<typeof Consent>

/** Whether a live consent covers a context. */
export const consentCovers = (consents: readonly Consent[], context: Context, now: number): boolean =>
  consents.some((consent) => Date.parse(consent.expires_at) > now && covers(consent, context))

const Session = Type.Object(
  {
    expires_at: Instant,
    last_seen_at: Instant,
    authenticated_at: nullable(Instant),
    methods: Type.Array(Type.String()),
    /** The platform's staff member who acts in the user's place. */
    impersonated_by: nullable(Uuid),
    /** The tenant's consents to changes by staff. */
    consents: Type.Array(Consent),
  },
  { additionalProperties: false },
)
export type Session = Static<typeof Session>

const ApiKey = Type.Object(
  {
    id: Uuid,
    user_id: Uuid,
    prefix: Type.String(),
    /** SHA-256 of the secret, in hex. */
    secret_hash: Type.String(),
    permissions: Type.Array(Type.String()),
    organization_id: nullable(Uuid),
    workspace_id: nullable(Uuid),
    allowed_addresses: Type.Array(Type.String()),
    expires_at: nullable(Instant),
  },
  { additionalProperties: false },
)
export type ApiKey = Static<typeof ApiKey>

const narrowed = new WeakMap<ApiKey, { of: Grants; grants: Grants }>()

/** The grants of a request by API key: the maker's, narrowed to the key's permissions and scope. */
export function grantsOfKey(key: ApiKey, grants: Grants): Grants {
  const known = narrowed.get(key)
  if (known?.of === grants) return known.grants
  const { permissions, organization_id, workspace_id } = key
  const expires_at = key.expires_at === null ? null : new Date(key.expires_at).toISOString()
  const made = { ...grants, restriction: { permissions, scopes: [{ organization_id, workspace_id, expires_at }] } }
  narrowed.set(key, { of: grants, grants: made })
  return made
}

/** The grants of a change by staff in a user's place: the user's, in the scopes that the tenant consented to. */
export const grantsByConsent = (grants: Grants, consents: readonly Consent[]): Grants => ({
  ...grants,
  restriction: { permissions: ['*'], scopes: consents },
})

const instant = (column: string) => sql.fragment`(extract(epoch from ${sql.identifier([column])}) * 1000)::float8`

/**
 * What is known of users and sessions, by tenant. A tenant's entry is dropped when the database announces a change of
 * its access epoch (by trigger, in the changing transaction). While the listener is down every question goes to the
 * database. An answer that was read while a change was announced is used once and not kept.
 */
export class AccessCache {
  readonly #control: Database
  readonly #listener: Listener
  readonly #tenants = new Map<string, TenantEntry>()
  readonly #presence: Presence
  readonly #watchers: ((tenantId: string) => void)[] = []
  #generation = 0

  constructor(control: Database, listener: Listener) {
    this.#control = control
    this.#presence = new Presence(control)
    this.#listener = listener
    listener.on('tenantry_access', (tenantId) => {
      this.#generation++
      this.#tenants.delete(tenantId)
      for (const told of this.#watchers) told(tenantId)
    })
    listener.onReconnect(() => {
      this.#generation++
      this.#tenants.clear()
    })
  }

  /** Tells of each change of a tenant's rights, sessions or keys, once what was in memory of them is gone. */
  onChange(told: (tenantId: string) => void): void {
    this.#watchers.push(told)
  }

  /**
   * Whether the session lives, and what its user may do. At once when both are in memory.
   * @param using whether it counts as used now; somebody who only goes on watching does not use it
   */
  caller(tenantId: string, userId: string, sessionId: string, idleMs: number, using = true): Caller | Promise<Caller> {
    const now = Date.now()
    if (this.#listener.up) {
      const tenant = this.#tenants.get(tenantId)
      const session = tenant?.sessions.get(sessionId)
      const grants = tenant?.users.get(userId)
      if (session && grants && alive(session, now, idleMs)) {
        if (using) this.#seen(tenantId, sessionId, session, now)
        return { session, grants }
      }
    }
    return this.#load(tenantId, userId, sessionId, idleMs, using)
  }

  async #load(tenantId: string, userId: string, sessionId: string, idleMs: number, using: boolean): Promise<Caller> {
    const [session, grants] = await Promise.all([this.#session(tenantId, sessionId), this.grants(tenantId, userId)])
    const now = Date.now()
    const lives = session !== null && alive(session, now, idleMs)
    if (lives && using) this.#seen(tenantId, sessionId, session, now)
    return { session: lives ? session : null, grants }
  }

  #seen(tenantId: string, sessionId: string, session: Session, now: number): void {
    session.last_seen_at = now
    this.#presence.session(tenantId, sessionId, now)
  }

  /** Asked of the database each time it is not in memory or seems idle there: another process may have seen it since. */
  async #session(tenantId: string, sessionId: string): Promise<Session | null> {
    const generation = this.#generation
    const session = await this.#control.read(systemScope(tenantId, 'access', ''), (tx) =>
      tx.maybeOne(sql.prepared(Session)`
      select ${instant('expires_at')} as expires_at, ${instant('last_seen_at')} as last_seen_at, ${instant('authenticated_at')} as authenticated_at, methods,
        impersonated_by, coalesce((
          select jsonb_agg(jsonb_build_object('organization_id', c.organization_id, 'workspace_id', c.workspace_id, 'expires_at', ${jsonTime('c.expires_at')}))
          from res_support_consents c
          where c.tenant_id = s.tenant_id and s.impersonated_by is not null and c.revoked_at is null and c.expires_at > now()), '[]') as consents
      from res_sessions s where tenant_id = ${tenantId} and id = ${sessionId} and revoked_at is null`),
    )
    if (session && generation === this.#generation && this.#listener.up) this.#tenant(tenantId).sessions.set(sessionId, session)
    return session
  }

  /** A key that is neither revoked nor expired nor barred by an enforced sign-in, by the part of it that is no secret. */
  async key(tenantId: string, prefix: string): Promise<ApiKey | null> {
    const known = this.#listener.up ? this.#tenants.get(tenantId)?.keys.get(prefix) : undefined
    const key = known ?? (await this.#loadKey(tenantId, prefix))
    return key && (key.expires_at === null || key.expires_at > Date.now()) ? key : null
  }

  async #loadKey(tenantId: string, prefix: string): Promise<ApiKey | null> {
    const generation = this.#generation
    const key = await this.#control.read(systemScope(tenantId, 'access', ''), (tx) =>
      tx.maybeOne(sql.prepared(ApiKey)`
      select id, user_id, prefix, encode(secret_hash, 'hex') as secret_hash, permissions, organization_id, workspace_id,
        allowed_addresses::text[] as allowed_addresses, ${instant('expires_at')} as expires_at
      from res_api_keys where tenant_id = ${tenantId} and prefix = ${prefix} and revoked_at is null and not plane.sso_bars_keys(tenant_id, user_id)`),
    )
    if (key && generation === this.#generation && this.#listener.up) this.#tenant(tenantId).keys.set(prefix, key)
    return key
  }

  /** Notes that a key was used. */
  keySeen(tenantId: string, keyId: string): void {
    this.#presence.key(tenantId, keyId, Date.now())
  }

  /** Writes what is not written yet of who was seen when. */
  close(): Promise<void> {
    return this.#presence.close()
  }

  /** What a user was given; null for one that is not there. */
  async grants(tenantId: string, userId: string): Promise<Grants | null> {
    const known = this.#listener.up ? this.#tenants.get(tenantId)?.users.get(userId) : undefined
    if (known) return known
    const generation = this.#generation
    const grants = await loadGrants(this.#control, tenantId, userId)
    if (grants && generation === this.#generation && this.#listener.up) this.#tenant(tenantId).users.set(userId, grants)
    return grants
  }

  #tenant(tenantId: string): TenantEntry {
    let entry = this.#tenants.get(tenantId)
    if (!entry) {
      if (this.#tenants.size >= MAX_TENANTS) this.#tenants.clear()
      entry = { users: new Map(), sessions: new Map(), keys: new Map() }
      this.#tenants.set(tenantId, entry)
    }
    return entry
  }
}

const alive = (session: Session, now: number, idleMs: number): boolean => session.expires_at > now && session.last_seen_at + idleMs > now
