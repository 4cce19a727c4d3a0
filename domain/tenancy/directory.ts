// Finds tenants. Warm answers come from memory, under the rule of the listener.
import type { Database, Listener } from '../kernel/index.ts'
import { sql } from '../kernel/index.ts'
import { selectTenant, Tenant } from './tenant.ts'

/** A tenant's record is read again after this long even if nothing was announced. What ends by the clock is read again then. */
const MAX_AGE_MS = 30_000
const MAX_ENTRIES = 20_000

interface Entry {
  tenant: Tenant | null
  until: number
}

/**
 * Tenants by host name and by id. An entry lives until the database announces a change of that tenant; while the
 * listener is down nothing is served from memory.
 */
export class TenantDirectory {
  readonly #control: Database
  readonly #listener: Listener
  readonly #baseDomain: string
  readonly #byKey = new Map<string, Entry>()
  /** Loads under way, so that a thousand cold requests cost one query. */
  readonly #loading = new Map<string, Promise<Tenant | null>>()
  #generation = 0

  constructor(control: Database, listener: Listener, baseDomain: string) {
    this.#control = control
    this.#listener = listener
    this.#baseDomain = baseDomain
    listener.on('tenantry_access', (tenantId) => this.#forget(tenantId))
    listener.on('tenantry_catalogue', () => this.#forgetAll())
    listener.onReconnect(() => this.#forgetAll())
  }

  /** The tenant that answers to `slug.<base domain>` or to a verified domain of its own; null when there is none. */
  byHost(host: string): Promise<Tenant | null> | Tenant | null {
    const name = host.toLowerCase().replace(/:\d+$/, '').replace(/\.$/, '')
    const slug = name.endsWith(`.${this.#baseDomain}`) ? name.slice(0, -this.#baseDomain.length - 1) : null
    return slug !== null
      ? this.bySlug(slug)
      : this.#find(
          `domain:${name}`,
          sql.fragment`
      where t.id = (select d.tenant_id from tenant_domains d where d.domain = ${name} and d.verified_at is not null)`,
        )
  }

  bySlug(slug: string): Promise<Tenant | null> | Tenant | null {
    return this.#find(`slug:${slug}`, sql.fragment`where t.slug = ${slug}`)
  }

  byId(id: string): Promise<Tenant | null> | Tenant | null {
    return this.#find(`id:${id}`, sql.fragment`where t.id = ${id}`)
  }

  /** Ids of the tenants that work now, for fan-out: one job a tenant. */
  async active(): Promise<readonly Tenant[]> {
    return this.#control.platform((connection) => connection.any(sql.type(Tenant)`${selectTenant} where t.status = 'active' order by t.id`))
  }

  /** Tenants whose data is kept, suspended ones among them: what expires, expires for them, too. */
  async kept(): Promise<readonly Tenant[]> {
    return this.#control.platform((connection) =>
      connection.any(sql.type(Tenant)`${selectTenant} where t.status in ('active', 'suspended') order by t.id`),
    )
  }

  /** Tenants with a database of their own that are served, by their ids; `after` is the last id of the page before. */
  async ownDatabases(limit: number, after: string | null): Promise<readonly Tenant[]> {
    return this.#control.platform((connection) =>
      connection.any(sql.type(Tenant)`
        ${selectTenant} where p.mode = 'database' and p.state in ('ready', 'moving') and t.status in ('active', 'suspended')
          and (${after}::uuid is null or t.id > ${after}::uuid) order by t.id limit ${limit}`),
    )
  }

  #find(key: string, condition: ReturnType<typeof sql.fragment>): Promise<Tenant | null> | Tenant | null {
    const known = this.#byKey.get(key)
    if (known && this.#listener.up && Date.now() < known.until) return known.tenant
    let loading = this.#loading.get(key)
    if (!loading) {
      loading = this.#load(key, condition).finally(() => this.#loading.delete(key))
      this.#loading.set(key, loading)
    }
    return loading
  }

  async #load(key: string, condition: ReturnType<typeof sql.fragment>): Promise<Tenant | null> {
    const generation = this.#generation
    const tenant = await this.#control.platform((connection) => connection.maybeOne(sql.prepared(Tenant)`${selectTenant} ${condition}`))
    // A change announced while this was being read may or may not be in it: then it is not kept.
    if (generation === this.#generation && this.#listener.up) {
      if (this.#byKey.size >= MAX_ENTRIES) this.#byKey.clear()
      const changesAt = tenant?.changes_at ? Date.parse(tenant.changes_at) : Infinity
      this.#byKey.set(key, { tenant, until: Math.min(Date.now() + MAX_AGE_MS, changesAt) })
    }
    return tenant
  }

  #forget(tenantId: string): void {
    this.#generation++
    // A tenant's keys, and every "no such tenant", which may have become one.
    for (const [key, entry] of this.#byKey) if (!entry.tenant || entry.tenant.id === tenantId) this.#byKey.delete(key)
  }

  #forgetAll(): void {
    this.#generation++
    this.#byKey.clear()
  }
}
