// Events to those who watch, as they commit: one look for all who watch a tenant in this process.
import { type Database, systemScope } from '../kernel/index.ts'
import { databaseOf, type Planes, type Tenant, type TenantDirectory } from '../tenancy/index.ts'
import type { Announcements } from './announcements.ts'
import { eventsBetween, homeMark, type Place, readPlace, type StreamedEvent, snapshotOf, writePlace } from './stream.ts'

/** Somebody who watches. */
export interface Watcher {
  /** What has happened, and the id by which it is gone on from. Whoever cannot take it leaves by himself. */
  tell(events: readonly StreamedEvent[], id: string): void
  /** Too much has happened, or it is not known what: he must look for himself. */
  reset(id: string): void
  /** There are new readings. */
  readings(): void
}

/** More at once is not told one by one: an import makes a hundred thousand. */
const MOST_AT_ONCE = 1_000
/** How often is looked without news: one may have been lost. */
const LOOK_MS = 5_000

/** Those who watch one tenant, and how far they have seen. */
class Feed {
  readonly watchers = new Set<Watcher>()
  /** By those who watch and those who are about to. */
  needed = 0
  place: Place | null = null
  #looking: Promise<void> | null = null
  #again = false
  readonly #look: () => Promise<void>

  constructor(look: (feed: Feed) => Promise<void>) {
    this.#look = () => look(this)
  }

  /** Looks, once more if somebody asks while it does. */
  look(): Promise<void> {
    if (this.#looking) {
      this.#again = true
      return this.#looking
    }
    this.#looking = (async () => {
      do {
        this.#again = false
        await this.#look()
      } while (this.#again)
    })().finally(() => {
      this.#looking = null
    })
    return this.#looking
  }
}

export class LiveEvents {
  readonly #planes: Planes
  readonly #tenants: TenantDirectory
  readonly #announcements: Announcements
  readonly #feeds = new Map<string, Feed>()
  #timer: NodeJS.Timeout | undefined

  constructor(planes: Planes, tenants: TenantDirectory, announcements: Announcements) {
    this.#planes = planes
    this.#tenants = tenants
    this.#announcements = announcements
  }

  /**
   * Tells a watcher of what happens from now on, or from where he left (`lastId`), whereupon he is told first what he
   * missed. Returns how to leave. Throws `tenant_migrating`, `database_unavailable`.
   */
  async watch(tenant: Tenant, watcher: Watcher, lastId: string | null): Promise<() => void> {
    const feed = this.#feedOf(tenant.id)
    feed.needed++
    const leave = () => {
      feed.watchers.delete(watcher)
      if (--feed.needed === 0) this.#feeds.delete(tenant.id)
      if (this.#feeds.size === 0) this.#rest()
    }
    try {
      const place = feed.place ?? (await this.#placeOf(tenant))
      feed.place ??= place // another one may have begun meanwhile, and was told from there
      if (lastId !== null) await this.#catchUp(tenant, feed, watcher, lastId)
    } catch (error) {
      leave()
      throw error
    }
    feed.watchers.add(watcher)
    if (lastId === null) watcher.tell([], writePlace(feed.place))
    return leave
  }

  /** Tells a watcher what he missed, until he has seen what the feed has, and nothing was awaited since. */
  async #catchUp(tenant: Tenant, feed: Feed, watcher: Watcher, lastId: string): Promise<void> {
    await feed.look() // he may have watched where more had been seen
    for (let from = readPlace(lastId, feed.place!.home); from !== feed.place; ) {
      const until = feed.place!
      const seen = from?.home === until.home ? await this.#read(tenant, from, until) : null
      if (seen) watcher.tell(seen.events, writePlace(until))
      else watcher.reset(writePlace(until))
      from = until
    }
  }

  #feedOf(tenantId: string): Feed {
    if (this.#feeds.size === 0) this.#wake()
    let feed = this.#feeds.get(tenantId)
    if (!feed) {
      feed = new Feed((one) => this.#tellAll(tenantId, one))
      this.#feeds.set(tenantId, feed)
    }
    return feed
  }

  #isAwake = false
  #wake(): void {
    if (!this.#isAwake)
      this.#announcements.onNews((what, tenantId) => {
        const feed = this.#feeds.get(tenantId)
        if (!feed) return
        if (what === 'events') void feed.look().catch(() => {})
        else for (const watcher of feed.watchers) watcher.readings()
      })
    this.#isAwake = true
    this.#timer ??= setInterval(() => {
      for (const feed of this.#feeds.values()) void feed.look().catch(() => {})
    }, LOOK_MS).unref()
  }

  #rest(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #tellAll(tenantId: string, feed: Feed): Promise<void> {
    const tenant = await this.#tenants.byId(tenantId)
    if (!tenant || !feed.place) return
    const seen = feed.place.home === homeOf(tenant) ? await this.#read(tenant, feed.place) : null
    feed.place = seen?.place ?? (await this.#placeOf(tenant))
    const id = writePlace(feed.place)
    for (const watcher of feed.watchers) {
      if (!seen) watcher.reset(id)
      else if (seen.events.length > 0) watcher.tell(seen.events, id)
    }
  }

  #databases(tenant: Tenant): Database[] {
    return (['control', 'data', 'telemetry'] as const).map((plane) => databaseOf(this.#planes, plane, tenant))
  }

  async #placeOf(tenant: Tenant): Promise<Place> {
    const scope = systemScope(tenant.id, 'events', 'events')
    const snapshots = await Promise.all(this.#databases(tenant).map((database) => database.read(scope, snapshotOf)))
    return { home: homeOf(tenant), snapshots, at: Date.now() }
  }

  /** What has happened since a place, until another one or now, in all databases of a tenant; null where that is too much. */
  async #read(tenant: Tenant, { home, snapshots }: Place, until?: Place): Promise<{ place: Place; events: StreamedEvent[] } | null> {
    const scope = systemScope(tenant.id, 'events', 'events')
    const parts = await Promise.all(
      this.#databases(tenant).map((database, n) =>
        database.read(scope, (tx) => eventsBetween(tx, snapshots[n]!, until?.snapshots[n] ?? null, MOST_AT_ONCE + 1)),
      ),
    )
    // Planes may share a database, and then they tell the same.
    const events = [...new Map(parts.flatMap((part) => part.events).map((event) => [event.event_id, event])).values()]
    if (events.length > MOST_AT_ONCE) return null
    events.sort((a, b) => (a.occurred_at < b.occurred_at ? -1 : a.occurred_at > b.occurred_at ? 1 : 0))
    return { place: { home, snapshots: parts.map(({ now }) => now), at: Date.now() }, events }
  }

  close(): void {
    this.#rest()
    this.#feeds.clear()
  }
}

const homeOf = ({ mode, catalog_key, telemetry_key, database_name }: Tenant): string =>
  homeMark([mode, catalog_key, telemetry_key, database_name])
